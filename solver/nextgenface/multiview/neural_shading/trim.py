"""Cuts away what no picture has seen: a closed surface goes on there, but nothing is known about it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...rendering.raster import visible_faces
from .optimise import NeuralMesh, Target
from .topology import Edges, compact, defect, edges_of, face_areas, largest_piece

LARGE = 0.01
"""Unseen patches up to this share of the area stay: nostrils, the back of an ear."""

RINGS = 2
"""Rings of unseen faces that stay along the border of what is seen."""


@torch.no_grad()
def seen_faces(mesh: NeuralMesh, targets: list[Target]) -> NDArray[np.bool_]:
    """(F,) whether a face is visible inside the mask of some view."""
    seen = torch.zeros(len(mesh.faces), dtype=torch.bool, device=mesh.device)
    for target in targets:
        screen, depth = target.project(mesh.vertices)
        owner = visible_faces(screen, depth, mesh.connectivity.faces, target.height, target.width).view(-1)
        seen[owner[(owner >= 0) & (target.mask > 0.5)]] = True
    return seen.cpu().numpy()


def trim_unseen(mesh: NeuralMesh, targets: list[Target]) -> str | None:
    """Remove large parts that no view sees from a mesh; returns what was done, None for nothing.

    The mesh stays one clean piece, else nothing is removed.
    """
    edges = edges_of(mesh.faces)
    kept = ~_large_patches(mesh, ~_grown(_closed(seen_faces(mesh, targets), edges), edges), edges)
    if kept.all():
        return None
    vertices = mesh.vertices.detach().cpu().double().numpy()
    whole = face_areas(vertices, mesh.faces)
    if whole[kept].sum() < 0.2 * whole.sum():
        return None
    part, part_faces, _ = largest_piece(*compact(vertices, mesh.faces[kept]))
    if defect(part, part_faces) is not None:
        return None
    mesh.set_mesh(part, part_faces)
    share = 1 - face_areas(part, part_faces).sum() / whole.sum()
    return f"{share:.0%} of the surface is seen in no view and was cut away (keep_unseen keeps it)"


def _closed(seen: NDArray[np.bool_], edges: Edges) -> NDArray[np.bool_]:
    """Single unseen faces among seen ones count as seen: a face may fall between the pixels."""
    around = np.zeros(len(seen))
    for k in (0, 1):
        np.add.at(around, edges.pairs[:, k], seen[edges.pairs[:, 1 - k]])
    return np.asarray(seen | (around >= 2))


def _grown(seen: NDArray[np.bool_], edges: Edges) -> NDArray[np.bool_]:
    for _ in range(RINGS):
        a, b = edges.pairs.T
        grown = seen.copy()
        grown[a[seen[b]]] = True
        grown[b[seen[a]]] = True
        seen = grown
    return seen


def _large_patches(mesh: NeuralMesh, unseen: NDArray[np.bool_], edges: Edges) -> NDArray[np.bool_]:
    """(F,) faces of connected unseen patches that are more than `LARGE` of the area."""
    areas = face_areas(mesh.vertices.detach().cpu().double().numpy(), mesh.faces)
    pairs = edges.pairs[unseen[edges.pairs].all(1)]
    count = len(unseen)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    size = np.bincount(label[unseen], areas[unseen], minlength=int(label.max()) + 1)
    return np.asarray(unseen & (size[label] > LARGE * areas.sum()))
