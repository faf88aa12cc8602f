"""A mesh from many views in Blender: right place, texture, vertex colours; a face keeps its shape keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_png

from nextgenface_addon.scene.results_folder import ResultsError

SIDE = 16
VERTICES = np.array([(0, 0, 0), (100, 0, 0), (0, 100, 0), (0, 0, 100)], float)  # mm
FACES = np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)], np.int32)


def write_result(folder: Path, *, texture: bool = True, **more: Any) -> Path:
    """A tetrahedron as the solver writes it, with a seam: every face has texture coordinates of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "vertices": VERTICES,
        "faces": FACES,
        "uv": np.random.default_rng(0).random((12, 2)).astype(np.float32),
        "uv_faces": np.arange(12, dtype=np.int32).reshape(4, 3),
        "colours": np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)], np.uint8),
    }
    arrays |= more
    np.savez(folder / "geometry.npz", **{k: v for k, v in arrays.items() if v is not None})
    write_png(folder / "photo_0.png", np.full((SIDE, SIDE, 3), 90, np.uint8))
    write_png(folder / "texture.png", np.full((8, 8, 3), 200, np.uint8))
    photo = {
        "name": "front", "width": SIDE, "height": SIDE, "K": [[40.0, 0, 8], [0, 40, 8], [0, 0, 1]],
        "R": np.diag([1.0, -1, -1]).tolist(), "t": [0, 0, 1000.0], "files": {"photo": "photo_0.png"},
    }  # fmt: skip
    content = {
        "schema": 1, "method": "mesh", "name": "büste", "version": "0", "warnings": ["careful"],
        "files": {"geometry": "geometry.npz", "texture": "texture.png" if texture else None},
        "photos": [photo],
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def import_folder(folder: Path) -> Any:
    from nextgenface_addon.scene.importer import import_result

    return import_result(None, folder)


def test_the_surface_stands_where_the_views_saw_it(bpy: Any, tmp_path: Path) -> None:
    report = import_folder(write_result(tmp_path / "büste"))
    item = bpy.data.objects[report.heads[0]]
    corners = np.array([v.co for v in item.data.vertices])
    assert np.allclose(corners, [(0, 0, 0), (0.1, 0, 0), (0, 0, 0.1), (0, -0.1, 0)], atol=1e-7)
    assert len(report.cameras) == 1 and bpy.data.objects[report.cameras[0]].parent == item
    assert report.warnings == ["careful"]
    uv = np.array([loop.vector for loop in item.data.uv_layers["UVMap"].uv])
    with np.load(tmp_path / "büste" / "geometry.npz") as stored:
        assert np.allclose(uv, stored["uv"][stored["uv_faces"].ravel()])
    colour = item.data.color_attributes["Color"].data[1].color_srgb
    assert np.allclose(colour, (0, 1, 0, 1), atol=1e-3)


def test_the_texture_is_the_base_colour_or_else_the_vertex_colours(bpy: Any, tmp_path: Path) -> None:
    for texture, kind in ((True, "TEX_IMAGE"), (False, "VERTEX_COLOR")):
        report = import_folder(write_result(tmp_path / str(texture), texture=texture))
        tree = bpy.data.objects[report.heads[0]].data.materials[0].node_tree
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        assert shader.inputs["Base Color"].links[0].from_node.type == kind


def test_importing_again_updates_the_same_object(bpy: Any, tmp_path: Path) -> None:
    first = import_folder(write_result(tmp_path / "b"))
    bpy.data.objects[first.heads[0]].location = (1, 2, 3)
    moved = np.concatenate([VERTICES, [(50, 50, 50)]])
    again = import_folder(write_result(tmp_path / "b", vertices=moved, colours=np.zeros((5, 3), np.uint8)))
    assert again.updated and again.heads == first.heads
    item = bpy.data.objects[again.heads[0]]
    assert len(item.data.vertices) == 5 and tuple(item.location) == (1, 2, 3)
    assert len(item.data.materials) == 1


def test_a_refined_face_keeps_its_shape_keys(bpy: Any, tmp_path: Path) -> None:
    smile = np.zeros((1, 4, 3), np.float32)
    smile[0, 1, 1] = 5
    folder = write_result(
        tmp_path / "face",
        uv=np.random.default_rng(1).random((4, 2)).astype(np.float32),
        uv_faces=FACES,
        neutral_vertices=VERTICES,
        expression_offsets=np.zeros((1, 4, 3), np.float32),
        blendshape_names=np.array(["mouthSmile_L"]),
        blendshape_deltas=smile,
    )
    item = bpy.data.objects[import_folder(folder).heads[0]]
    keys = item.data.shape_keys.key_blocks
    name = next(key.name for key in keys if key.name.startswith("mouthSmile"))
    assert np.allclose(keys[name].data[1].co - keys["Basis"].data[1].co, (0, 0, 0.005), atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        {"faces": FACES + 7},
        {"vertices": VERTICES * np.nan},
        {"colours": np.zeros((2, 3), np.uint8)},
        {"uv": None},
        {"uv_faces": np.zeros((1, 3), np.int32)},
    ],
)
def test_a_damaged_file_changes_nothing(bpy: Any, tmp_path: Path, damage: dict[str, Any]) -> None:
    folder = write_result(tmp_path / "bad", **damage)
    before = len(bpy.data.objects)
    with pytest.raises(ResultsError, match=r"geometry\.npz"):
        import_folder(folder)
    assert len(bpy.data.objects) == before
