"""Which edges and neighbours a triangle mesh has, and whether it is fit for remeshing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

FARTHEST = 1e12
"""Larger coordinates are damage; their squares would overflow soon."""

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]


@dataclass(frozen=True)
class Edges:
    """`ends` (E, 2) vertex pairs, smaller first; `count` (E,) faces at the edge; `pairs` (P, 2) faces that
    share an edge with exactly two faces."""

    ends: NDArray[np.int64]
    count: NDArray[np.int64]
    pairs: NDArray[np.int64]


def edges_of(faces: Faces) -> Edges:
    """The edges of faces (F, 3)."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(faces)), 3)
    ends, inverse, count = np.unique(np.sort(directed, 1), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    first = np.cumsum(count) - count
    two = count == 2
    pairs = np.stack([owner[order[first[two]]], owner[order[first[two] + 1]]], 1)
    return Edges(ends, count, pairs)


def face_areas(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """(F,) areas."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def components(vertex_count: int, faces: Faces) -> NDArray[np.int64]:
    """(F,) number of the connected piece each face belongs to; pieces hang together by shared vertices."""
    a, b, c = faces.T
    ones = np.ones(2 * len(faces))
    graph = sp.coo_matrix(
        (ones, (np.concatenate([a, b]), np.concatenate([b, c]))), shape=(vertex_count, vertex_count)
    )
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels[a], dtype=np.int64)


def compact(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """The mesh without vertices that no face uses."""
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(faces.shape).astype(np.int64)


def largest_piece(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces, int]:
    """The connected piece with the largest area, and how many pieces there were."""
    labels = components(len(vertices), faces)
    area = np.bincount(labels, face_areas(vertices, faces))
    pieces = len(np.unique(labels))
    return (*compact(vertices, faces[labels == area.argmax()]), pieces)


def defect(vertices: Vertices, faces: Faces) -> str | None:
    """What makes a mesh unfit for optimisation or remeshing, in words; None when nothing does.

    Fit: finite, faces of three different existing vertices, no duplicated face, at most two faces at an edge
    and these with opposite directions (so a boundary is allowed), one fan of faces at every vertex, no face
    without area.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        return "it is no triangle mesh"
    if len(faces) < 4:
        return f"it has only {len(faces)} faces"
    if not (np.abs(vertices) < FARTHEST).all():  # false for what is not a number, too
        return "a vertex is not a finite number, or absurdly far away"
    if faces.min() < 0 or faces.max() >= len(vertices):
        return "a face names a vertex that does not exist"
    a, b, c = faces.T
    if ((a == b) | (b == c) | (c == a)).any():
        return "a face uses a vertex twice"
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys = directed[:, 0] * len(vertices) + directed[:, 1]
    if len(np.unique(keys)) < len(keys):
        return "it is not a consistently oriented manifold (an edge is used twice in one direction)"
    if _pinched(faces, len(vertices)):
        return "two parts touch in a single vertex"
    size = float(np.ptp(vertices, axis=0).max())
    if face_areas(vertices, faces).min() <= 1e-14 * size**2:
        return "a face has no area"
    return None


def _pinched(faces: Faces, vertex_count: int) -> bool:
    """Whether the faces around some vertex form more than one fan."""
    # Two corners of a vertex belong to neighbouring faces when the edge v->u that one leaves by is the edge
    # u->v that the other arrives by.
    here, after, before = (np.roll(faces.T, k, axis=0).reshape(-1) for k in (0, -1, 1))
    leaving, arriving = here * vertex_count + after, here * vertex_count + before
    order = np.argsort(leaving)
    place = np.minimum(np.searchsorted(leaving[order], arriving), len(order) - 1)
    match = np.nonzero(leaving[order[place]] == arriving)[0]
    graph = sp.coo_matrix((np.ones(len(match)), (match, order[place[match]])), shape=(len(here), len(here)))
    fans = connected_components(graph, directed=False)[0]
    return bool(fans > len(np.unique(faces)))
