"""Wavefront OBJ and MTL export."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextgenface.files import write_text


def saveObj(
    path: str | os.PathLike[str],
    materialFileName: str,
    vertices: Any,
    faces: Any,
    normals: Any,
    textureCoordinates: Any,
    textureFileName: str,
) -> None:
    """Write a textured mesh as `path` (.obj) and `materialFileName` (.mtl) beside it.

    vertices (V, 3) in any unit and frame; faces (F, 3) zero-based; normals (V, 3); textureCoordinates
    (V, 2), origin bottom left as OBJ wants it; textureFileName: the picture that the material names
    (not copied). Tensors on any device or arrays. Raises OutputError when a file cannot be written,
    ValueError when the shapes do not fit together.
    """
    points, triangles = _array(vertices), _array(faces)
    directions, uv = _array(normals), _array(textureCoordinates)
    for name, value, columns in (
        ("vertices", points, 3),
        ("faces", triangles, 3),
        ("normals", directions, 3),
        ("textureCoordinates", uv, 2),
    ):
        if value.ndim != 2 or value.shape[1] != columns:
            raise ValueError(f"saveObj: {name} must have shape (N, {columns}), not {value.shape}")
    if not len(points) == len(directions) == len(uv):
        raise ValueError(
            f"saveObj: {len(points)} vertices, {len(directions)} normals and {len(uv)} texture coordinates; "
            "each vertex needs one of each"
        )
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(points)):
        raise ValueError("saveObj: faces name vertices that do not exist")
    target = Path(path)
    text = io.StringIO()
    text.write(f"# NextGenFace\nmtllib {materialFileName}\n")
    _write_rows(text, "v %.6g %.6g %.6g", points)
    _write_rows(text, "vt %.7g %.7g", uv)
    _write_rows(text, "vn %.6g %.6g %.6g", directions)
    text.write("usemtl face\ns 1\n")
    corners = np.repeat(triangles.astype(np.int64) + 1, 3, axis=1)
    _write_rows(text, "f %d/%d/%d %d/%d/%d %d/%d/%d", corners)
    material = f"newmtl face\nKd 1 1 1\nKa 0 0 0\nKs 0 0 0\nillum 1\nmap_Kd {textureFileName}\n"
    write_text(target.with_name(materialFileName), material)
    write_text(target, text.getvalue())


def _array(value: Any) -> NDArray[Any]:
    """A numpy array from an array-like or a tensor on any device."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _write_rows(text: io.StringIO, row: str, values: NDArray[Any]) -> None:
    """One formatted line a row; a single % over the whole table is several times faster than a loop."""
    if len(values):
        text.write(((row + "\n") * len(values)) % tuple(values.ravel().tolist()))
