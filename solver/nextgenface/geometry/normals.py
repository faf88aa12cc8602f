"""Vertex normals of triangle meshes, for numpy arrays and (differentiably) for torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def vertex_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Area-weighted unit normals, differentiable with respect to the vertices.

    vertices: (..., V, 3) any unit; faces: (F, 3) integer, counter-clockwise seen from outside.
    Returns (..., V, 3). The cross product of two edges is twice the triangle's area times its
    normal, so summing the unnormalised cross products weights each triangle by its area.
    A vertex of no triangle (or of degenerate ones only) gets the zero vector.
    """
    faces = faces.to(device=vertices.device, dtype=torch.long)
    corners = vertices[..., faces, :]  # (..., F, 3, 3)
    cross = torch.linalg.cross(
        corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :], dim=-1
    )
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(-2, faces[:, corner], cross)
    return torch.nn.functional.normalize(sums, dim=-1, eps=1e-20)


def vertex_normals_array(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.float32]:
    """The same for one numpy mesh: vertices (V, 3), faces (F, 3) -> (V, 3) float32."""
    points = np.asarray(vertices, np.float64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    sums = np.zeros_like(points)
    for axis in range(3):  # bincount adds repeated indices much faster than np.add.at
        for corner in range(3):
            sums[:, axis] += np.bincount(faces[:, corner], cross[:, axis], minlength=len(points))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
