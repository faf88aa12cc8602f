"""Cotangent Laplacian, vertex areas and normals, and smooth (biharmonic) interpolation of handles."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg
from numpy.typing import NDArray


def face_normals(vertices: NDArray, faces: NDArray) -> NDArray:
    """Cross products (F, 3) of two triangle sides: twice the area along the outward normal."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: NDArray, faces: NDArray) -> NDArray:
    """Area-weighted unit normals (V, 3)."""
    normals = np.zeros_like(vertices)
    crosses = face_normals(vertices, faces)
    for k in range(3):
        np.add.at(normals, faces[:, k], crosses)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def vertex_areas(vertices: NDArray, faces: NDArray) -> NDArray:
    """A third of the area of the triangles around each vertex (V,), mm^2."""
    third = np.linalg.norm(face_normals(vertices, faces), axis=1) / 6
    return np.bincount(faces.ravel(), weights=np.repeat(third, 3), minlength=len(vertices))


def cotangent_laplacian(vertices: NDArray, faces: NDArray) -> sp.csr_matrix:
    """Positive semi-definite cotangent Laplacian (V, V); cotangents are clamped, so slivers are harmless."""
    count = len(vertices)
    rows, cols, values = [], [], []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        a = vertices[faces[:, i]] - vertices[faces[:, k]]
        b = vertices[faces[:, j]] - vertices[faces[:, k]]
        sine = np.maximum(np.linalg.norm(np.cross(a, b), axis=1), 1e-9)
        half_cotangent = np.clip(0.5 * (a * b).sum(1) / sine, 0.02, 5.0)
        rows += [faces[:, i], faces[:, j]]
        cols += [faces[:, j], faces[:, i]]
        values += [half_cotangent, half_cotangent]
    weights = sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(count, count)
    )
    return (sp.diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()


class SmoothField:
    """Interpolates values given at some vertices by minimising the bending energy |L x|^2 / area.

    (The standard biharmonic deformation, e.g. Botsch and Sorkine 2008, "On Linear Variational Surface
    Deformation Methods".) A small membrane term keeps far-away free regions from drifting.
    """

    def __init__(self, vertices: NDArray, faces: NDArray, membrane: float = 1e-4) -> None:
        laplacian = cotangent_laplacian(vertices, faces)
        areas = np.maximum(vertex_areas(vertices, faces), 1e-3)
        self.count = len(vertices)
        self.energy = (laplacian.T @ sp.diags(1 / areas) @ laplacian + membrane * laplacian).tocsc()

    def solve(self, known: NDArray[np.bool_], values: NDArray) -> NDArray:
        """values (V, D) with rows valid where `known`; returns the completed field (V, D)."""
        result = np.where(known[:, None], values, 0.0)
        free = ~known
        if free.any() and known.any():
            right = -(self.energy[free][:, known] @ result[known])
            result[free] = sparse_linalg.splu(self.energy[free][:, free].tocsc()).solve(right)
        return result


def distance_to_polyline(points: NDArray, line: NDArray, closed: bool = False) -> NDArray:
    """Distance (N,) of points (N, D) to a polyline (L, D)."""
    ends = np.concatenate([line, line[:1]]) if closed else line
    best = np.full(len(points), np.inf)
    for a, b in zip(ends[:-1], ends[1:], strict=True):
        side = b - a
        t = np.clip(((points - a) @ side) / max(float(side @ side), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * side, axis=1))
    return best


def inside_polygon(points: NDArray, polygon: NDArray) -> NDArray[np.bool_]:
    """Even-odd test of points (N, 2) against a closed polygon (L, 2)."""
    inside = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        crosses = (ay > y) != (by > y)
        if ay != by:
            inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return inside
