"""Reads Wavefront OBJ meshes: positions, texture coordinates, polygons, and the material of each polygon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError

LARGEST = 200_000_000


@dataclass(frozen=True)
class ObjMesh:
    """V vertices, F triangles (polygons are split into fans)."""

    vertices: NDArray[np.float64]  # (V, 3)
    faces: NDArray[np.int64]  # (F, 3)
    corner_uv: NDArray[np.float64] | None  # (F, 3, 2)
    materials: tuple[str, ...]  # names
    material: NDArray[np.int64]  # (F,) index into `materials`, -1 = none


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path} is too large for a face model.")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}).") from error


def read_vertices(path: Path, text: str | None = None) -> NDArray[np.float64]:
    """Positions (V, 3) of an OBJ file. Raises ModelError."""
    lines = [line[2:] for line in (text or _text(path)).splitlines() if line.startswith("v ")]
    if not lines:
        raise ModelError(f"{path} holds no vertices; is it an OBJ file?")
    try:
        rows = np.array(" ".join(lines).split(), dtype=np.float64)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}.") from None
    width = rows.size // len(lines)
    if rows.size != width * len(lines) or width < 3:
        raise ModelError(f"{path} is damaged: its vertices do not all have the same number of values.")
    if not np.isfinite(rows).all():
        raise ModelError(f"{path} is damaged: it holds numbers that are not finite. Get it again.")
    return rows.reshape(-1, width)[:, :3]


def read_obj(path: Path) -> ObjMesh:
    """A whole OBJ file. Raises ModelError for damaged lines and indices that point nowhere."""
    text = _text(path)
    vertices = read_vertices(path, text)
    coordinates: list[tuple[float, float]] = []
    corners: list[tuple[int, int]] = []
    material: list[int] = []
    names: list[str] = []
    current, number = -1, 0
    try:
        for line in text.splitlines():
            number += 1
            if line.startswith("vt "):
                parts = line.split()
                coordinates.append((float(parts[1]), float(parts[2])))
            elif line.startswith("usemtl "):
                name = line[7:].strip()
                if name not in names:
                    names.append(name)
                current = names.index(name)
            elif line.startswith("f "):
                polygon = [_corner(word, len(vertices), len(coordinates)) for word in line.split()[1:]]
                for k in range(1, len(polygon) - 1):
                    corners += [polygon[0], polygon[k], polygon[k + 1]]
                    material.append(current)
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}:{number} is damaged ({error}).") from None
    if not corners:
        raise ModelError(f"{path} holds no polygons.")
    table = np.array(corners, np.int64).reshape(-1, 3, 2)
    if (
        table[..., 0].min() < 0
        or table[..., 0].max() >= len(vertices)
        or table[..., 1].max() >= len(coordinates)
    ):
        raise ModelError(f"{path} is damaged: its polygons point to vertices that do not exist.")
    uv = None
    if coordinates and table[..., 1].min() >= 0:
        uv = np.array(coordinates)[table[..., 1]]
    return ObjMesh(vertices, table[..., 0], uv, tuple(names), np.array(material, np.int64))


def _corner(word: str, vertices: int, coordinates: int) -> tuple[int, int]:
    """0-based (vertex, texture coordinate or -1); negative numbers count from the end."""
    parts = word.split("/")
    vertex = int(parts[0])
    vertex = vertex - 1 if vertex > 0 else vertices + vertex
    if len(parts) < 2 or not parts[1]:
        return vertex, -1
    texture = int(parts[1])
    return vertex, texture - 1 if texture > 0 else coordinates + texture
