"""Loop subdivision as a sparse matrix, so that one refinement serves positions, UVs and offsets alike."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def edge_table(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Unique edges of a triangle mesh.

    Returns edges (M, 2) with sorted ends, the edge index of each face side (F, 3) where side s joins
    corners s and s+1, and the number of faces at each edge (M,).
    """
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    edges, inverse, counts = np.unique(
        np.sort(sides, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    return edges, inverse.reshape(-1, 3), counts


def loop_step(faces: NDArray[np.int64], count: int) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """One step of Loop subdivision (Loop 1987, boundary rules of Hoppe et al. 1994).

    faces (F, 3), count = number of vertices n. Returns the matrix (n+M, n) that maps old values to new
    ones (old vertices keep their index) and the faces (4F, 3).
    """
    edges, side_edge, uses = edge_table(faces)
    edge_count = len(edges)
    boundary_edge = uses == 1
    boundary_vertex = np.zeros(count, bool)
    boundary_vertex[edges[boundary_edge].ravel()] = True

    rows: list[NDArray] = []
    cols: list[NDArray] = []
    values: list[NDArray] = []

    def add(row: NDArray, col: NDArray, value: NDArray | float) -> None:
        rows.append(row)
        cols.append(col)
        values.append(np.broadcast_to(np.asarray(value, float), row.shape))

    # New vertices on the edges: 3/8 of the ends and 1/8 of the two opposite corners, 1/2 at a border.
    edge_row = count + np.arange(edge_count)
    end_weight = np.where(boundary_edge, 0.5, 0.375)
    add(edge_row, edges[:, 0], end_weight)
    add(edge_row, edges[:, 1], end_weight)
    for side in range(3):
        inner = ~boundary_edge[side_edge[:, side]]
        add(count + side_edge[inner, side], faces[inner, (side + 2) % 3], 0.125)

    # Old vertices: Warren's weights inside, 3/4 and 1/8 along a border.
    valence = np.bincount(edges.ravel(), minlength=count)
    beta = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    for here, there in ((0, 1), (1, 0)):
        inner = ~boundary_vertex[edges[:, here]]
        add(edges[inner, here], edges[inner, there], beta[edges[inner, here]])
        add(edges[boundary_edge, here], edges[boundary_edge, there], 0.125)
    keep = np.where(boundary_vertex, 0.75, 1 - valence * beta)
    add(np.arange(count), np.arange(count), keep)

    matrix = sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))),
        shape=(count + edge_count, count),
    )
    a, b, c = faces.T
    ab, bc, ca = (count + side_edge).T
    refined = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return matrix, refined


def mirror_of_edges(faces: NDArray[np.int64], mirror: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mirror table of the vertices after `loop_step`: old vertices as before, then one row per edge."""
    edges, _, _ = edge_table(faces)
    count = len(mirror)
    key = edges[:, 0] * count + edges[:, 1]
    image = np.sort(mirror[edges], axis=1)
    where = np.searchsorted(key, image[:, 0] * count + image[:, 1])
    if where.max() >= len(key) or not np.array_equal(edges[where], image):
        raise ValueError("the triangulation is not mirror-symmetric")
    return np.concatenate([mirror, count + where])


def loop_subdivide(
    faces: NDArray[np.int64], mirror: NDArray[np.int64], levels: int
) -> tuple[sp.csr_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """`levels` Loop steps. Returns matrix (V, n), faces (F, 3) and mirror table (V,)."""
    matrix = sp.identity(len(mirror), format="csr")
    for _ in range(levels):
        step, refined = loop_step(faces, len(mirror))
        mirror = mirror_of_edges(faces, mirror)
        matrix, faces = (step @ matrix).tocsr(), refined
    return matrix, faces, mirror
