"""The mirror table of any mesh: which vertex lies nearest to the mirror image of each one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...geometry.laplacian import vertex_normals

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FLIP = np.array([-1.0, 1.0, 1.0])
NORMAL_REACH = 3.0  # mm that a normal turned by 60 degrees counts: keeps lids apart from eyeballs


def mirror_gap(points: Array, table: Index) -> float:
    """Median distance, mm, between the mirror images of vertices and the vertices a table gives for them.

    The plane of symmetry is where it suits the table best, parallel to x = 0.
    """
    gap = points[table] * FLIP - points
    gap[:, 0] -= np.median(gap[:, 0])
    return float(np.median(np.linalg.norm(gap, axis=1)))


def mirror_table(points: Array, faces: Index, uv: Array) -> Index:
    """(V,) mirror image of each vertex in the mesh's middle plane. uv (V, 2) tells copies at seams apart.

    Meshes that are symmetric give a table that is its own inverse; others come back to a vertex near by.
    """
    normals = vertex_normals(points, faces)
    used = np.unique(faces)
    points = points - [0.5 * (points[used, 0].max() + points[used, 0].min()), 0, 0]
    here = np.c_[points, NORMAL_REACH * normals, 1e-3 * uv]
    there = np.c_[points * FLIP, NORMAL_REACH * normals * FLIP, 1e-3 * (uv * [-1, 1] + [1, 0])]
    return np.asarray(cKDTree(here).query(there)[1], np.int64)
