"""Mesh and cameras of a scene become a data set, and a texture comes back to its object. Needs bpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_png

WIDTH, HEIGHT = 48, 32


@pytest.fixture
def scene(bpy: Any, tmp_path: Path) -> Any:
    """The startup scene with a photo behind its camera; its cube is turned, scaled and unwrapped."""
    import nextgenface_addon

    nextgenface_addon.register()
    write_png(tmp_path / "photo.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    camera = bpy.data.objects["Camera"]
    camera.data.background_images.new().image = bpy.data.images.load(str(tmp_path / "photo.png"))
    cube = bpy.data.objects["Cube"]
    cube.scale, cube.location, cube.rotation_euler = (0.1, 0.05, 0.08), (0.02, -0.03, 0.04), (0.1, 0.2, 0.7)
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = cube
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "szene.blend"))
    yield bpy.context.scene
    nextgenface_addon.unregister()


def read_obj(path: Path) -> tuple[np.ndarray, list[list[tuple[int, int]]], np.ndarray]:
    vertices, uvs, faces = [], [], []
    for line in path.read_text().splitlines():
        kind, *words = line.split()
        if kind == "v":
            vertices.append([float(word) for word in words])
        elif kind == "vt":
            uvs.append([float(word) for word in words])
        else:
            faces.append([tuple(int(n) - 1 for n in word.split("/")) for word in words])
    return np.array(vertices), faces, np.array(uvs)  # type: ignore[return-value]


def test_what_is_written_projects_where_blender_sees_it(bpy: Any, scene: Any, tmp_path: Path) -> None:
    from bpy_extras.object_utils import world_to_camera_view

    assert bpy.ops.nextgenface.use_active_mesh() == {"FINISHED"}
    assert bpy.ops.nextgenface.use_scene_cameras() == {"FINISHED"}
    settings = scene.nextgenface
    vertices, faces, uvs = read_obj(Path(settings.mesh))
    assert len(faces) == 12 and len(vertices) == 8 and len(uvs) == 24
    place = Path(settings.dataset) / "views"
    (name,) = (path.stem for path in place.glob("*.png"))
    K, R, t = (np.loadtxt(place / f"{name}_{part}.txt") for part in "krt")
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    cube, camera = bpy.data.objects["Cube"], bpy.data.objects["Camera"]
    for fit, shift in (("AUTO", (0.0, 0.0)), ("VERTICAL", (0.1, -0.05)), ("HORIZONTAL", (-0.07, 0.1))):
        camera.data.sensor_fit, (camera.data.shift_x, camera.data.shift_y) = fit, shift
        assert bpy.ops.nextgenface.use_scene_cameras() == {"FINISHED"}
        K = np.loadtxt(place / f"{name}_k.txt")
        for vertex, point in zip(cube.data.vertices, vertices, strict=True):
            seen = world_to_camera_view(scene, camera, cube.matrix_world @ vertex.co)
            projected = K @ (R @ point + t)
            pixel = (seen.x * WIDTH, (1 - seen.y) * HEIGHT)
            np.testing.assert_allclose(projected[:2] / projected[2], pixel, atol=2e-3)
    a, b, c = (vertices[[face[k][0] for face in faces]] for k in range(3))
    outward = (np.cross(b - a, c - a) * (a - vertices.mean(0))).sum(1)
    assert (outward > 0).all()


def test_packed_pictures_and_empty_scenes(bpy: Any, scene: Any) -> None:
    camera = bpy.data.objects["Camera"]
    camera.data.background_images[0].image.pack()
    assert bpy.ops.nextgenface.use_scene_cameras() == {"FINISHED"}
    place = Path(scene.nextgenface.dataset) / "views"
    again = bpy.data.images.load(str(next(place.glob("*.png"))))
    assert tuple(again.size) == (WIDTH, HEIGHT)
    camera.data.background_images.clear()
    assert not bpy.ops.nextgenface.use_scene_cameras.poll()
    from nextgenface_addon.scene.scene_views import SceneViewsError, write_views

    with pytest.raises(SceneViewsError, match="background image"):
        write_views(scene, place.parent)
    assert place.is_dir()  # what was there stays


def result(folder: Path, mesh: str | None, shade: int = 120) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "texture.png", np.full((8, 8, 3), shade, np.uint8))
    write_png(folder / "photo_0.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    np.savez(
        folder / "mesh.npz",
        vertices=np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]], np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        uv=np.array([[0.0, 0], [1, 0], [0, 1]], np.float32),
        uv_faces=np.array([[0, 1, 2]], np.int32),
    )
    photo = {
        "name": "front", "width": WIDTH, "height": HEIGHT, "K": [[160.0, 0, 24], [0, 160, 16], [0, 0, 1]],
        "R": np.diag([1.0, -1, -1]).tolist(), "t": [0, 0, 1000.0], "files": {"photo": "photo_0.png"},
    }  # fmt: skip
    content = {
        "schema": 1, "method": "texture", "name": "cube", "version": "0", "config": {"mesh": mesh},
        "files": {"texture": "texture.png", "geometry": "mesh.npz"}, "photos": [photo], "warnings": [],
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_texture_comes_back_to_its_object(bpy: Any, scene: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.importer import import_result

    bpy.ops.nextgenface.use_active_mesh()
    cube = bpy.data.objects["Cube"]
    tree = cube.active_material.node_tree
    before = {node.name for node in tree.nodes}
    objects = set(bpy.data.objects.keys())
    folder = result(tmp_path / "out", scene.nextgenface.mesh)
    report = import_result(bpy.context, folder)
    assert report.heads == ["Cube"] and "shows the texture" in report.text()
    node = tree.nodes["NextGenFace Texture"]
    assert {n.name for n in tree.nodes} == before | {node.name}
    shader = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Base Color"].links[0].from_node == node
    assert shader.inputs["Roughness"].default_value == pytest.approx(0.5)  # the artist's own
    assert set(bpy.data.objects.keys()) == objects
    # again: the same node shows the new picture; a base colour of the artist's stays
    tree.links.clear()
    colour = tree.nodes.new("ShaderNodeRGB")
    tree.links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    result(folder, scene.nextgenface.mesh, 200)
    import_result(bpy.context, folder)
    assert node.image.pixels[0] == pytest.approx(200 / 255, abs=0.01)
    assert shader.inputs["Base Color"].links[0].from_node == colour


def test_a_texture_for_a_file_comes_with_its_mesh(bpy: Any, scene: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.importer import import_result

    report = import_result(bpy.context, result(tmp_path / "out", "/somewhere/else.obj"))
    item = bpy.data.objects[report.heads[0]]
    assert len(item.data.polygons) == 1 and len(report.cameras) == 1
    np.testing.assert_allclose(item.data.vertices[2].co, (0, 0, 0.1), atol=1e-6)
    assert item.active_material.node_tree.nodes["NextGenFace Texture"].image is not None
