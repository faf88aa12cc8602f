"""Binary PLY files: vertices, triangles and vertex colours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import NextGenFaceError
from nextgenface.files import write_bytes

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class PlyMesh:
    """vertices (V, 3) in the file's unit; faces (F, 3) or None; colours (V, 3) 0..255 or None; uv (V, 2),
    origin bottom left, or None.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32] | None = None
    colours: NDArray[np.uint8] | None = None
    uv: NDArray[np.float32] | None = None


def write_ply(
    path: str | os.PathLike[str],
    vertices: NDArray[Any],
    faces: NDArray[Any] | None = None,
    colours: NDArray[Any] | None = None,
) -> None:
    """Write a little-endian binary PLY.

    vertices (V, 3), any unit; faces (F, 3); colours (V, 3), uint8 or float 0..1 (taken as they are:
    PLY viewers expect sRGB). Raises OutputError when the file cannot be written.
    """
    points = np.asarray(vertices, np.float32).reshape(-1, 3)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    fields: list[tuple[str, str]] = [(axis, "<f4") for axis in "xyz"]
    if colours is not None:
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.zeros(len(points), fields)
    for k, axis in enumerate("xyz"):
        rows[axis] = points[:, k]
    if colours is not None:
        values = np.asarray(colours)
        if values.dtype != np.uint8:
            values = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
        for k, name in enumerate(("red", "green", "blue")):
            rows[name] = values.reshape(-1, 3)[:, k]
    triangles = np.zeros(0, [("count", "u1"), ("index", "<i4", (3,))])
    if faces is not None:
        triangles = np.zeros(len(faces), triangles.dtype)
        triangles["count"] = 3
        triangles["index"] = faces
        header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    text = ("\n".join([*header, "end_header"]) + "\n").encode("ascii")
    write_bytes(Path(path), text + rows.tobytes() + triangles.tobytes())


def read_ply(path: str | os.PathLike[str]) -> PlyMesh:
    """Read a binary PLY of triangles (extra vertex properties are skipped).

    Raises NextGenFaceError, naming the file, when it is not a PLY this reader knows
    (ASCII files, polygons with more than three corners, truncated data).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NextGenFaceError(f"Cannot read the mesh {path}: {error.strerror or error}.") from error
    head, mark, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not mark or lines[0].strip() != "ply":
        raise NextGenFaceError(f"{path} is not a PLY mesh. Give a binary .ply file.")
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}
    byte_order = ""
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines[1:]:
        words = line.split()
        if words[:1] == ["format"]:
            byte_order = order.get(words[1], "")
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    if not byte_order:
        raise NextGenFaceError(f"{path} is a text PLY; save it as binary.")
    vertices = faces = colours = uv = None
    try:
        offset = 0
        for name, count, properties in elements:
            rows = np.frombuffer(body, _row_type(properties, byte_order), count, offset)
            offset += rows.nbytes
            if name == "vertex":
                vertices = np.stack([rows[axis] for axis in "xyz"], 1).astype(np.float32)
                if "red" in (rows.dtype.names or ()):
                    colours = np.stack([rows[c] for c in ("red", "green", "blue")], 1).astype(np.uint8)
                for pair in (("s", "t"), ("u", "v"), ("texture_u", "texture_v")):
                    if pair[0] in (rows.dtype.names or ()):
                        uv = np.stack([rows[axis] for axis in pair], 1).astype(np.float32)
            elif name == "face":
                if count and not (rows["list_count"] == 3).all():
                    raise NextGenFaceError(
                        f"{path} has polygons with more than three corners; triangulate it first."
                    )
                faces = rows["list_index"].astype(np.int32)
    except (ValueError, KeyError, IndexError) as error:
        raise NextGenFaceError(f"{path} is damaged or not a triangle mesh ({error}).") from error
    if vertices is None:
        raise NextGenFaceError(f"{path} holds no vertices.")
    return PlyMesh(vertices, faces, colours, uv)


def _row_type(properties: list[list[str]], byte_order: str) -> np.dtype[Any]:
    """The numpy row of one PLY element; a list property is read as a count and three indices."""
    fields: list[Any] = []
    for words in properties:
        if words[0] == "list":
            fields.append(("list_count", byte_order + _TYPES[words[1]]))
            fields.append(("list_index", byte_order + _TYPES[words[2]], (3,)))
        else:
            fields.append((words[-1], byte_order + _TYPES[words[0]]))
    return np.dtype(fields)
