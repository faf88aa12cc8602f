"""Small operations on triangle meshes that come from anywhere: holes, seams, several parts, no symmetry."""

from __future__ import annotations

import gpytoolbox
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from ...geometry.laplacian import face_normals
from ...geometry.subdivision import edge_table

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def pieces(faces: Index, count: int) -> Index:
    """Number of the connected piece of each of `count` vertices (V,); unused vertices are pieces alone."""
    joined = sp.coo_matrix(
        (np.ones(3 * len(faces), bool), (faces.ravel(), np.roll(faces, 1, axis=1).ravel())), (count, count)
    )
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.int64)


def boundary_loops(faces: Index) -> list[Index]:
    """Closed rims of a mesh as vertex numbers in the direction of their triangles, the longest first."""
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    count = int(faces.max()) + 1
    free = sides[~np.isin(sides[:, 0] * count + sides[:, 1], sides[:, 1] * count + sides[:, 0])]
    following: dict[int, list[int]] = {}
    for a, b in free.tolist():
        following.setdefault(a, []).append(b)
    loops = []
    while following:
        start = next(iter(following))
        loop = [start]
        while following.get(loop[-1]):
            step = following[loop[-1]].pop()
            if not following[loop[-1]]:
                del following[loop[-1]]
            if step == start:
                loops.append(np.array(loop, np.int64))
                break
            loop.append(step)
            if len(loop) > len(free) + 1:
                break
        following.pop(start, None)
    return sorted(loops, key=len, reverse=True)


def split_seams(faces: Index, corner_uv: Array, count: int) -> tuple[Index, Index, Array]:
    """Give vertices that have several texture coordinates one copy for each.

    faces (F, 3), corner_uv (F, 3, 2). Returns the vertex that each new vertex copies (V',), the faces (F, 3)
    and uv (V', 2). The first `count` vertices keep their numbers; copies follow.
    """
    key = np.c_[faces.reshape(-1), np.round(corner_uv.reshape(-1, 2) * 2**16).astype(np.int64)]
    _, first, copy = np.unique(key, axis=0, return_index=True, return_inverse=True)
    owner = faces.reshape(-1)[first]
    # np.unique sorts by vertex first, so the first copy of a vertex is where the owner changes.
    keeps = np.r_[True, owner[1:] != owner[:-1]]
    number = np.where(keeps, owner, count - 1 + np.cumsum(~keeps))
    source = np.concatenate([np.arange(count), owner[~keeps]])
    uv = np.zeros((len(source), 2))
    uv[number] = corner_uv.reshape(-1, 2)[first]
    return source, number[copy.reshape(-1)].reshape(-1, 3), uv


def midpoint_step(faces: Index, count: int) -> tuple[sp.csr_matrix, Index]:
    """Split every triangle in four at the middles of its sides; the surface stays exactly the same.

    Returns the matrix (V + M, V) from old vertex values to new ones, and the faces (4F, 3).
    """
    edges, side, _ = edge_table(faces)
    rows = np.arange(len(edges))
    halves = sp.csr_matrix(
        (np.full(2 * len(edges), 0.5), (np.r_[rows, rows], np.r_[edges[:, 0], edges[:, 1]])),
        (len(edges), count),
    )
    matrix = sp.vstack([sp.identity(count, format="csr"), halves], format="csr")
    a, b, c = faces.T
    ab, bc, ca = (count + side).T
    corners = ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))
    return matrix, np.concatenate([np.stack(t, 1) for t in corners])


def closest_points(points: Array, vertices: Array, faces: Index) -> tuple[Index, Array, Array]:
    """Nearest points of a mesh to `points` (P, 3): face (P,), barycentric weights (P, 3), distance (P,)."""
    squared, face, weights = gpytoolbox.squared_distance(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(vertices, np.float64),
        F=np.ascontiguousarray(faces, np.int32),
        use_cpp=True,
    )
    weights = np.nan_to_num(np.asarray(weights), nan=1 / 3)
    return np.asarray(face, np.int64), weights, np.sqrt(np.maximum(squared, 0))


def unit_face_normals(vertices: Array, faces: Index) -> Array:
    """Unit normals (F, 3); zero for triangles without area."""
    crosses = face_normals(vertices, faces)
    return crosses / np.maximum(np.linalg.norm(crosses, axis=1, keepdims=True), 1e-12)


def mean_edge(vertices: Array, faces: Index) -> float:
    """Mean length of the triangles' sides."""
    return float(np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=2).mean())
