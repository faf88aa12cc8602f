"""Cuts away what no picture has seen: a closed surface goes on there, but nothing is known about it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...rendering.raster import visible_faces
from .optimise import NeuralMesh, Target
from .topology import Edges, Faces, Vertices, compact, defect, edges_of, face_areas, largest_piece

LARGE = 0.01
"""Unseen patches up to this share of the area stay: nostrils, the back of an ear."""

ROUNDS = 16
"""Rounds of averaging that make the border of what is seen a smooth line; its width in edges is the root."""

LEVEL = 0.2
"""Of the averaged share of seen faces: the cut lies about two edges beyond what is seen."""

NEAREST = 0.2
"""A cut edge keeps at least this share of its length, so that no slivers arise."""


@torch.no_grad()
def seen_faces(mesh: NeuralMesh, targets: list[Target]) -> NDArray[np.bool_]:
    """(F,) whether a face is visible inside the mask of some view."""
    vertices, faces = mesh.vertices, mesh.connectivity.faces
    seen = torch.zeros(len(mesh.faces), dtype=torch.bool, device=mesh.device)
    for target in targets:
        screen, depth = target.project(vertices)
        owner = visible_faces(screen, depth, faces, target.height, target.width).view(-1)
        seen[owner[(owner >= 0) & (target.mask > 0.5)]] = True
    return seen.cpu().numpy()


def trim_unseen(mesh: NeuralMesh, targets: list[Target]) -> str | None:
    """Remove large parts that no view sees from a mesh; returns what was done, None for nothing.

    The mesh stays one clean piece, else nothing is removed.
    """
    edges = edges_of(mesh.faces)
    vertices = mesh.vertices.detach().cpu().double().numpy()
    areas = face_areas(vertices, mesh.faces)
    unseen = _large_patches(~_closed(seen_faces(mesh, targets), edges), areas, edges)
    if not unseen.any() or areas[~unseen].sum() < 0.2 * areas.sum():
        return None
    field = _smoothed(~unseen, len(vertices), mesh.faces, edges)
    part, part_faces, _ = largest_piece(*cut(vertices, mesh.faces, field, LEVEL))
    if defect(part, part_faces) is not None:
        return None
    share = 1 - face_areas(part, part_faces).sum() / areas.sum()
    if share < LARGE:
        return None
    mesh.set_mesh(part, part_faces)
    return f"{share:.0%} of the surface is seen in no view and was cut away (keep_unseen keeps it)"


def cut(vertices: Vertices, faces: Faces, field: NDArray[np.float64], level: float) -> tuple[Vertices, Faces]:
    """The part of a mesh where a value at the vertices (V,) is above `level`, cut through its faces.

    A manifold stays one: every crossed edge gets one new vertex, which both its faces share.
    """
    inside = field > level
    ends = edges_of(faces).ends
    crossed = ends[inside[ends[:, 0]] != inside[ends[:, 1]]]
    a, b = crossed.T
    share = np.clip((level - field[a]) / (field[b] - field[a]), NEAREST, 1 - NEAREST)[:, None]
    key = a * len(vertices) + b
    order = np.argsort(key)

    def on_edge(p: NDArray[np.int64], q: NDArray[np.int64]) -> NDArray[np.int64]:
        wanted = np.minimum(p, q) * len(vertices) + np.maximum(p, q)
        return np.asarray(len(vertices) + order[np.searchsorted(key[order], wanted)])

    count = inside[faces].sum(1)
    parts = [faces[count == 3]]
    one = _turned(faces[count == 1], inside, True)
    parts.append(np.stack([one[:, 0], on_edge(*one[:, :2].T), on_edge(*one[:, ::2].T)], 1))
    two = _turned(faces[count == 2], inside, False)  # the first corner lies outside
    after, before = on_edge(*two[:, :2].T), on_edge(*two[:, ::2].T)
    parts += [np.stack([after, two[:, 1], two[:, 2]], 1), np.stack([after, two[:, 2], before], 1)]
    everything = np.concatenate([vertices, (1 - share) * vertices[a] + share * vertices[b]])
    return compact(everything, np.concatenate(parts))


def _turned(faces: Faces, inside: NDArray[np.bool_], first: bool) -> Faces:
    """Faces (n, 3) turned so that the first corner is the one that is inside (or not: `first` False)."""
    lead = np.argmax(inside[faces] == first, axis=1)
    return np.take_along_axis(faces, (lead[:, None] + np.arange(3)) % 3, axis=1)


def _closed(seen: NDArray[np.bool_], edges: Edges) -> NDArray[np.bool_]:
    """Single unseen faces among seen ones count as seen: a face may fall between the pixels."""
    around = np.zeros(len(seen))
    for k in (0, 1):
        np.add.at(around, edges.pairs[:, k], seen[edges.pairs[:, 1 - k]])
    return np.asarray(seen | (around >= 2))


def _smoothed(seen: NDArray[np.bool_], count: int, faces: Faces, edges: Edges) -> NDArray[np.float64]:
    """(V,) share of seen faces (F,) around each vertex, averaged over growing neighbourhoods."""
    number = np.bincount(faces.reshape(-1), minlength=count)
    field = np.bincount(faces.reshape(-1), np.repeat(seen, 3), minlength=count) / np.maximum(number, 1)
    a, b = edges.ends.T
    links = coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)).tocsr()
    links = links + links.T
    degree = np.maximum(np.asarray(links.sum(1)).ravel(), 1)
    for _ in range(ROUNDS):
        field = 0.5 * (field + links @ field / degree)
    return np.asarray(field)


def _large_patches(unseen: NDArray[np.bool_], areas: NDArray[np.float64], edges: Edges) -> NDArray[np.bool_]:
    """(F,) faces of connected unseen patches that are more than `LARGE` of the area."""
    pairs = edges.pairs[unseen[edges.pairs].all(1)]
    count = len(unseen)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    size = np.bincount(label[unseen], areas[unseen], minlength=int(label.max()) + 1)
    return np.asarray(unseen & (size[label] > LARGE * areas.sum()))
