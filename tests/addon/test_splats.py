"""A Gaussian head in Blender: all attributes, the right place, a preview that renders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_png

from nextgenface_addon.scene.results_folder import ResultsError
from nextgenface_addon.scene.splat_file import read_splats

PLY_NAMES = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0", "opacity",
             "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]  # fmt: skip
SIDE = 64


def write_ply(path: Path, **columns: Any) -> None:
    """A PLY as the solver writes it: x right, y down, z forward, mm."""
    count = len(columns["x"])
    rows = np.zeros(count, [(name, "<f4") for name in PLY_NAMES])
    rows["rot_0"] = 1
    for name, values in columns.items():
        rows[name] = values
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    head += [f"property float {name}" for name in PLY_NAMES]
    path.write_bytes(("\n".join([*head, "end_header"]) + "\n").encode() + rows.tobytes())


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Two Gaussians before one camera: a long red one, 40 mm above the origin, and a faint green one."""
    folder = tmp_path / "Köpfe" / "kopf"
    folder.mkdir(parents=True)
    red, full = (1 - 0.5) / 0.28209479177387814, 4.0
    write_ply(
        folder / "points.ply",
        x=[0, 30], y=[-40, 0], z=[0, 0], opacity=[full, -3.0],
        f_dc_0=[red, -red], f_dc_1=[-red, red], f_dc_2=[-red, -red],
        scale_0=np.log([20, 5]), scale_1=np.log([4, 5]), scale_2=np.log([4, 5]), f_rest_0=[0.25, 0.5],
    )  # fmt: skip
    write_png(folder / "photo_0.png", np.full((SIDE, SIDE, 3), 90, np.uint8))
    photo = {
        "name": "front", "width": SIDE, "height": SIDE, "K": [[160.0, 0, 32], [0, 160, 32], [0, 0, 1]],
        "R": np.diag([1.0, -1, -1]).tolist(), "t": [0, 0, 1000.0],
        "files": {"photo": "photo_0.png", "render": None},
    }  # fmt: skip
    content = {
        "schema": 1, "method": "gaussians", "name": "kopf", "version": "0", "warnings": ["careful"],
        "files": {"points": "points.ply"}, "photos": [photo],
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def import_head(bpy: Any, folder: Path) -> Any:
    from nextgenface_addon.scene.importer import import_result

    return import_result(bpy.context, folder)


def values(cloud: Any, name: str, field: str, width: int) -> np.ndarray:
    data = cloud.data.attributes[name].data
    found = np.empty(len(data) * width, np.float32)
    data.foreach_get(field, found)
    return found.reshape(-1, width)


def test_points_become_a_cloud_with_every_attribute(bpy: Any, head: Path) -> None:
    report = import_head(bpy, head)
    cloud = bpy.data.objects[report.heads[0]]
    assert cloud.type == ("POINTCLOUD" if bpy.app.version >= (4, 5, 0) else "MESH")
    assert len(values(cloud, "position", "vector", 3)) == 2
    assert set(PLY_NAMES[3:]) <= {attribute.name for attribute in cloud.data.attributes}
    # Files have y down; Blender has z up and the face towards -y: 40 mm up.
    assert np.allclose(values(cloud, "position", "vector", 3)[0], (0, 0, 0.04), atol=1e-6)
    assert np.allclose(values(cloud, "splat_scale", "vector", 3)[0], (0.02, 0.004, 0.004), atol=1e-6)
    assert np.allclose(values(cloud, "splat_color", "color", 4), ((1, 0, 0, 1), (0, 1, 0, 1)), atol=1e-5)
    assert values(cloud, "f_rest_0", "value", 1).ravel().tolist() == [0.25, 0.5]
    assert report.warnings == ["careful"] and report.took_over
    assert len(report.cameras) == 1 and bpy.context.scene.camera.name == report.cameras[0]
    assert [item.name for item in bpy.data.objects if item.name.startswith("kopf")] == ["kopf"]


def test_importing_again_updates(bpy: Any, head: Path) -> None:
    first = import_head(bpy, head)
    cloud = bpy.data.objects[first.heads[0]]
    cloud.location.x = 3
    write_ply(head / "points.ply", x=[1, 2, 3], y=[0] * 3, z=[0] * 3)
    again = import_head(bpy, head)
    assert again.updated and again.heads == first.heads
    assert len(values(cloud, "position", "vector", 3)) == 3 and cloud.location.x == 3
    assert len(cloud.modifiers) == 1 and len(cloud.data.materials) == 1
    assert len(bpy.data.pointclouds) + len(bpy.data.meshes) <= 2  # with the startup cube
    assert len(again.cameras) == 1


def test_the_preview_draws_oriented_ellipsoids(bpy: Any, head: Path, tmp_path: Path) -> None:
    import_head(bpy, head)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 4, False
    scene.render.filepath = str(tmp_path / "picture.png")
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    pixels = np.array(image.pixels[:]).reshape(SIDE, SIDE, 4)[::-1]
    covered = pixels[..., 3] > 0.5
    rows, columns = np.nonzero(covered)
    # 40 mm up at 1 m with f = 160 pixels is 6.4 pixels above the middle; the other one is too faint.
    assert rows.mean() + 0.5 == pytest.approx(32 - 6.4, abs=0.5)
    assert columns.mean() + 0.5 == pytest.approx(32, abs=0.5)
    half = 20 * np.sqrt(2 * np.log(0.982 / 0.25)) * 0.16
    assert np.ptp(columns) + 1 == pytest.approx(2 * half, abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(2 * half / 5, abs=1.5)
    assert np.allclose(pixels[rows[len(rows) // 2], columns[len(rows) // 2]], (1, 0, 0, 1), atol=0.02)


def test_damaged_files_are_named(head: Path, tmp_path: Path) -> None:
    data = (head / "points.ply").read_bytes()
    for name, content in {
        "cut.ply": data[:-8],
        "text.ply": data.replace(b"binary_little_endian", b"ascii"),
        "mesh.ply": data.replace(b"rot_3", b"w_3"),
        "not.ply": b"hello",
        "nan.ply": data[: -18 * 4] + b"\xff" * 18 * 4,
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ResultsError, match=name):
            read_splats(path)


def test_a_result_without_points_changes_nothing(bpy: Any, head: Path) -> None:
    (head / "points.ply").unlink()
    before = len(bpy.data.objects), len(bpy.data.collections)
    with pytest.raises(ResultsError, match=r"points\.ply"):
        import_head(bpy, head)
    assert (len(bpy.data.objects), len(bpy.data.collections)) == before
