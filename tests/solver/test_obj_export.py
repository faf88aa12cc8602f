"""OBJ and PLY files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nextgenface.errors import NextGenFaceError, OutputError
from nextgenface.geometry.normals import vertex_normals, vertex_normals_array
from nextgenface.geometry.obj_export import saveObj
from nextgenface.geometry.ply import read_ply, write_ply

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.5]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
UV = np.array([[0.0, 0.0], [1.0, 0.0], [0.25, 1.0], [0.5, 0.125]])


def _read_obj(path: Path) -> dict[str, list[list[str]]]:
    rows: dict[str, list[list[str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        rows.setdefault(words[0], []).append(words[1:])
    return rows


@pytest.mark.parametrize("tensors", [False, True])
def test_obj_holds_the_mesh(tmp_path: Path, tensors: bool) -> None:
    normals = vertex_normals_array(VERTICES, FACES)
    arrays: list[Any] = [VERTICES, FACES.astype(np.int32), normals, UV]
    if tensors:
        arrays = [torch.tensor(array) for array in arrays]
        arrays[0].requires_grad_(True)
    path = tmp_path / "gesicht äö.obj"
    saveObj(str(path), "material0.mtl", arrays[0], arrays[1], arrays[2], arrays[3], "diffuseMap_0.png")
    rows = _read_obj(path)
    assert rows["mtllib"] == [["material0.mtl"]]
    assert np.allclose(np.array(rows["v"], float), VERTICES)
    assert np.allclose(np.array(rows["vt"], float), UV)  # v is up, as OBJ wants it
    assert np.allclose(np.array(rows["vn"], float), normals, atol=1e-5)
    assert [[int(i) for i in corner.split("/")] for corner in rows["f"][1]] == [
        [1, 1, 1],
        [2, 2, 2],
        [4, 4, 4],
    ]
    assert len(rows["f"]) == 4
    assert "map_Kd diffuseMap_0.png" in (tmp_path / "material0.mtl").read_text()


def test_obj_refuses_what_does_not_fit(tmp_path: Path) -> None:
    normals = vertex_normals_array(VERTICES, FACES)
    with pytest.raises(ValueError, match="4 vertices, 4 normals and 3"):
        saveObj(tmp_path / "a.obj", "a.mtl", VERTICES, FACES, normals, UV[:3], "a.png")
    with pytest.raises(ValueError, match="do not exist"):
        saveObj(tmp_path / "a.obj", "a.mtl", VERTICES, FACES + 1, normals, UV, "a.png")
    with pytest.raises(OutputError, match="nowhere"):
        saveObj(tmp_path / "nowhere" / "a.obj", "a.mtl", VERTICES, FACES, normals, UV, "a.png")


def test_ply_round_trip(tmp_path: Path) -> None:
    colours = np.arange(12).reshape(4, 3).astype(np.uint8)
    write_ply(tmp_path / "a.ply", VERTICES, FACES, colours)
    mesh = read_ply(tmp_path / "a.ply")
    assert np.allclose(mesh.vertices, VERTICES)
    assert mesh.faces is not None and mesh.faces.tolist() == FACES.tolist()
    assert mesh.colours is not None and mesh.colours.tolist() == colours.tolist()
    write_ply(tmp_path / "points.ply", VERTICES, colours=np.full((4, 3), 0.5))
    cloud = read_ply(tmp_path / "points.ply")
    assert cloud.faces is None and cloud.colours is not None and cloud.colours[0, 0] == 128


def test_ply_reader_names_what_is_wrong(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", VERTICES, FACES)
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "short.ply").write_bytes(data[:-7])
    (tmp_path / "text.ply").write_bytes(data.replace(b"binary_little_endian", b"ascii"))
    (tmp_path / "other.ply").write_text("solid something")
    for name, words in (
        ("short", "damaged"),
        ("text", "text PLY"),
        ("other", "not a PLY"),
        ("gone", "Cannot read"),
    ):
        with pytest.raises(NextGenFaceError, match=words):
            read_ply(tmp_path / f"{name}.ply")


def test_normals_of_a_sphere_point_outwards() -> None:
    from scipy.spatial import ConvexHull

    directions = np.random.default_rng(0).normal(size=(800, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    faces = ConvexHull(directions).simplices.astype(np.int64)
    a, b, c = (directions[faces[:, k]] for k in range(3))
    inside = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inside] = faces[inside][:, ::-1]
    normals = vertex_normals_array(directions * 70, faces)
    assert (normals * directions).sum(1).min() > 0.97
    batch = vertex_normals(
        torch.tensor(directions * 70)[None].repeat(2, 1, 1), torch.tensor(faces, dtype=torch.int32)
    )
    assert np.allclose(batch[1].numpy(), normals, atol=1e-6)


def test_normals_are_differentiable() -> None:
    vertices = torch.tensor(VERTICES, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, torch.tensor(FACES)), (vertices,))
