"""Triangle meshes with texture coordinates: read (OBJ, PLY, OFF, our own results), written, unwrapped.

Texture coordinates have their own indices, as OBJ has them, so that a seam does not tear the surface.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import NextGenFaceError
from ..files import write_text
from ..geometry.ply import read_ply
from ..results import RESULT


class MeshError(NextGenFaceError):
    """A mesh file cannot be read or used."""


@dataclass(frozen=True)
class Mesh:
    """vertices (V, 3) float64; faces (F, 3) int64; uv (U, 2) float64, origin bottom left, and uv_faces (F, 3)
    int64, the texture coordinate of every corner; both None without a layout.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64] | None = None
    uv_faces: NDArray[np.int64] | None = None

    @property
    def layout(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(uv, uv_faces). Raises MeshError without a layout."""
        if self.uv is None or self.uv_faces is None:
            raise MeshError("The mesh has no texture coordinates.")
        return self.uv, self.uv_faces


def read_mesh(path: Path) -> Mesh:
    """A mesh file (.obj, .ply, .off) or a results folder. Raises MeshError, NextGenFaceError."""
    path = Path(path).expanduser()
    if path.is_dir() or path.name == RESULT:
        return _from_results(path if path.is_dir() else path.parent)
    readers = {".obj": _read_obj, ".ply": _read_ply, ".off": _read_off, ".stoff": _read_off}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise MeshError(f"{path}: meshes are read from {', '.join(readers)} files and results folders.")
    try:
        mesh = reader(path)
    except OSError as problem:
        raise MeshError(f"Cannot read the mesh {path}: {problem.strerror or problem}.") from problem
    except (ValueError, IndexError) as problem:
        raise MeshError(f"{path} is damaged or not a mesh of this kind ({problem}).") from problem
    return checked(mesh, str(path))


def checked(mesh: Mesh, name: str) -> Mesh:
    """The mesh itself. Raises MeshError when it is empty, not finite, or names what does not exist."""
    tables = [("vertices", mesh.vertices, mesh.faces)]
    if mesh.uv is not None and mesh.uv_faces is not None:
        tables.append(("texture coordinates", mesh.uv, mesh.uv_faces))
    for what, table, indices in tables:
        if len(table) == 0 or len(indices) == 0:
            raise MeshError(f"{name} holds no faces or no {what}.")
        if not np.isfinite(table).all():
            raise MeshError(f"{name}: some {what} are not finite numbers.")
        if indices.min() < 0 or indices.max() >= len(table):
            raise MeshError(f"{name}: faces name {what} that do not exist.")
    return mesh


def unwrap(mesh: Mesh, size: int = 2048, padding: int = 4) -> Mesh:
    """The same mesh with a new layout by xatlas, its charts `padding` texels apart in a texture of `size`."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.bilinear = size, padding, True
    atlas.generate(xatlas.ChartOptions(), pack)
    origin, uv_faces, uv = atlas[0]
    corners = origin[uv_faces]
    if not np.array_equal(np.sort(corners, 1), np.sort(mesh.faces, 1)):
        raise MeshError("xatlas could not lay this mesh out: faces are missing. Unwrap it in Blender.")
    return Mesh(mesh.vertices, corners.astype(np.int64), uv.astype(np.float64), uv_faces.astype(np.int64))


def write_obj(path: Path, mesh: Mesh, texture: str | None = None) -> None:
    """Write OBJ (and an MTL beside it when the name of a texture file is given). Raises OutputError."""
    text = io.StringIO()
    text.write("# NextGenFace\n")
    if texture is not None:
        material = path.with_suffix(".mtl")
        write_text(material, f"newmtl texture\nKd 1 1 1\nillum 1\nmap_Kd {texture}\n")
        text.write(f"mtllib {material.name}\nusemtl texture\n")
    _rows(text, "v %.7g %.7g %.7g\n", mesh.vertices)
    if mesh.uv is None or mesh.uv_faces is None:
        _rows(text, "f %d %d %d\n", mesh.faces + 1)
    else:
        _rows(text, "vt %.7g %.7g\n", mesh.uv)
        _rows(text, "f %d/%d %d/%d %d/%d\n", np.stack([mesh.faces, mesh.uv_faces], 2).reshape(-1, 6) + 1)
    write_text(path, text.getvalue())


def _rows(text: io.StringIO, row: str, values: NDArray[np.generic]) -> None:
    text.write((row * len(values)) % tuple(values.ravel().tolist()))


def _read_ply(path: Path) -> Mesh:
    found = read_ply(path)
    if found.faces is None:
        raise MeshError(f"{path} holds points without faces.")
    faces = found.faces.astype(np.int64)
    uv = None if found.uv is None else found.uv.astype(np.float64)
    return Mesh(found.vertices.astype(np.float64), faces, uv, None if uv is None else faces)


def _read_obj(path: Path) -> Mesh:
    """Positions, texture coordinates and faces of all groups; polygons become fans of triangles."""
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    uv_faces: list[tuple[int, int, int]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            uvs.append([float(word) for word in words[1:3]])
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            place = [_index(corner[0], len(vertices)) for corner in corners]
            texture = [
                _index(corner[1], len(uvs)) if len(corner) > 1 and corner[1] else -1 for corner in corners
            ]
            for k in range(1, len(corners) - 1):
                faces.append((place[0], place[k], place[k + 1]))
                uv_faces.append((texture[0], texture[k], texture[k + 1]))
    points, triangles = np.array(vertices, np.float64), np.array(faces, np.int64).reshape(-1, 3)
    uv_triangles = np.array(uv_faces, np.int64).reshape(-1, 3)
    if not uvs or not len(uv_triangles) or (uv_triangles < 0).all():
        return Mesh(points, triangles)
    if (uv_triangles < 0).any():
        raise MeshError(f"{path}: some faces have texture coordinates and others have none.")
    return Mesh(points, triangles, np.array(uvs, np.float64), uv_triangles)


def _index(word: str, count: int) -> int:
    """OBJ counts from 1, or backwards from the last one with negative numbers."""
    number = int(word)
    return number - 1 if number > 0 else count + number


def _read_off(path: Path) -> Mesh:
    """OFF, and STOFF with `x y z u v` per vertex as NeuralTexGen's renderer takes it."""
    words = path.read_text(encoding="utf-8", errors="replace").split()
    kind = words[0].upper() if words else ""
    if not kind.endswith("OFF") or "BINARY" in (w.upper() for w in words[:3]):
        raise MeshError(f"{path} is no text OFF file.")
    if kind not in ("OFF", "STOFF"):
        raise MeshError(f"{path}: of the kinds of OFF only OFF and STOFF are read, not {kind}.")
    vertex_count, face_count = int(words[1]), int(words[2])
    columns = 5 if kind == "STOFF" else 3
    end = 4 + vertex_count * columns
    table = np.array(words[4:end], np.float64).reshape(vertex_count, columns)
    faces = []
    for _ in range(face_count):
        corners = int(words[end])
        row = [int(word) for word in words[end + 1 : end + 1 + corners]]
        faces += [(row[0], row[k], row[k + 1]) for k in range(1, corners - 1)]
        end += 1 + corners
    triangles = np.array(faces, np.int64).reshape(-1, 3)
    uv = table[:, 3:5] if columns == 5 else None
    return Mesh(table[:, :3], triangles, uv, None if uv is None else triangles)


def _from_results(folder: Path) -> Mesh:
    """The head of a results folder, with the expression of its first photo."""
    path = folder / "geometry.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            vertices = np.asarray(stored["neutral_vertices"], np.float64)
            offsets = np.asarray(stored["expression_offsets"], np.float64)
            faces, uv = np.asarray(stored["faces"], np.int64), np.asarray(stored["uv"], np.float64)
    except (OSError, ValueError, KeyError) as problem:
        raise MeshError(f"{path} cannot be read ({problem}). Give the folder of a fitted face.") from problem
    vertices = vertices + offsets[0] if len(offsets) else vertices
    return checked(Mesh(vertices, faces, uv, faces), str(path))
