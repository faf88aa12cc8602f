"""A texture layout for meshes that have none, and a tidy one for those whose islands overlap."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg
from numpy.typing import NDArray

from ...geometry.laplacian import face_normals
from .meshes import boundary_loops, pieces

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MARGIN = 0.012
STRIP = 0.17  # height of the row of small islands below the face
FRONT_SHARE = 0.35  # mean z of a piece's normals from which one island holds all of it


def unwrap(points: Array, faces: Index, cover: Array) -> Array:
    """Texture coordinates of the triangles' corners (F, 3, 2), without overlaps, for a mesh without any.

    cover (V,): 1 on the face. The piece with the face becomes one large round island (or that and another one
    with the back of the head); all other pieces are islands in a row below.
    """
    label = pieces(faces, len(points))[faces[:, 0]]
    areas = np.linalg.norm(face_normals(points, faces), axis=1) / 2
    covered = areas * (cover[faces].min(1) > 0)
    main = np.bincount(label, weights=covered).argmax()
    island = np.where(label == main, -1, label)
    piece = label == main
    mean_normal = face_normals(points, faces[piece]).sum(0) / (2 * areas[piece].sum())
    if mean_normal[2] < FRONT_SHARE:
        front = np.nonzero(piece & (cover[faces].min(1) > 0))[0]
        part = pieces(faces[front], len(points))[faces[front, 0]]
        keep = front[part == np.bincount(part, weights=areas[front]).argmax()]
        back = piece.copy()
        back[keep] = False
        island[back] = label.max() + 1 + pieces(faces[back], len(points))[faces[back, 0]]
    names = [-1, *np.unique(island[island >= 0]).tolist()]
    out = np.zeros((len(faces), 3, 2))
    boxes = _boxes(len(names))
    for name, (corner, size) in zip(names, boxes, strict=True):
        rows = np.nonzero(island == name)[0]
        used, local = np.unique(faces[rows], return_inverse=True)
        flat = disc_map(points[used], local.reshape(-1, 3))
        out[rows] = corner + size * (0.5 + 0.5 * flat[local.reshape(-1, 3)])
    return out


def pack(corner_uv: Array, group: Index) -> Array:
    """Islands side by side: corner_uv (F, 3, 2) of groups (F,) of triangles, group 0 being the face.

    Layouts that lie in the unit square already, each group in a box of its own, stay as they are.
    """
    names = np.unique(group)
    lows = {int(g): corner_uv[group == g].reshape(-1, 2).min(0) for g in names}
    highs = {int(g): corner_uv[group == g].reshape(-1, 2).max(0) for g in names}
    inside = all((lows[g] >= 0).all() and (highs[g] <= 1).all() for g in lows)
    if inside and not _overlapping(corner_uv, group):
        return corner_uv
    out = np.zeros_like(corner_uv)
    for name, (corner, size) in zip(names, _boxes(len(names)), strict=True):
        low, extent = lows[int(name)], float((highs[int(name)] - lows[int(name)]).max())
        rows = group == name
        out[rows] = corner + size * (corner_uv[rows] - low) / max(extent, 1e-9)
    return out


def _overlapping(corner_uv: Array, group: Index, cells: int = 128) -> bool:
    """Whether more than a few cells of a grid hold triangles of two groups."""
    cell = np.clip((corner_uv.mean(1) * cells).astype(np.int64), 0, cells - 1)
    key = np.unique(np.c_[cell[:, 0] * cells + cell[:, 1], group], axis=0)
    shared = len(key) - len(np.unique(key[:, 0]))
    return shared > 0.02 * len(np.unique(key[:, 0]))


def _boxes(count: int) -> list[tuple[Array, float]]:
    """Lower left corner and side of `count` square islands, the first one large."""
    if count == 1:
        return [(np.array([MARGIN, MARGIN]), 1 - 2 * MARGIN)]
    side = 1 - STRIP - MARGIN
    boxes = [(np.array([0.5 - side / 2, STRIP]), side)]
    rows = 1
    while (count - 1) > rows * rows * int(1 / STRIP):
        rows += 1
    cell = STRIP / rows
    columns = int(1 / cell)
    for k in range(count - 1):
        corner = np.array([(k % columns) * cell, (k // columns) * cell])
        boxes.append((corner + 0.05 * cell, 0.88 * cell))
    return boxes


def disc_map(points: Array, faces: Index) -> Array:
    """Coordinates (V, 2) in the unit disc of a mesh in one piece, as seen from outside, y up.

    The longest rim becomes the circle, by arc length; inside, mean value coordinates (Floater 2003), which
    cannot fold a disc. Holes are bridged. Pieces without a rim are laid out around their +z pole.
    """
    loops = boundary_loops(faces)
    if not loops:
        return _around_pole(points)
    rim = loops[0]
    count = len(points)
    extra_points, extra_faces = [points], [faces]
    for number, loop in enumerate(loops[1:]):
        centre = count + number
        extra_points.append(points[loop].mean(0, keepdims=True))
        extra_faces.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), centre)], 1))
    everything, all_faces = np.concatenate(extra_points), np.concatenate(extra_faces)
    steps = np.linalg.norm(points[np.roll(rim, -1)] - points[rim], axis=1) + 1e-6
    angle = 2 * np.pi * np.r_[0, np.cumsum(steps)[:-1]] / steps.sum()
    across = points[rim] - points[rim].mean(0)
    seen = across[:, 0] + 1j * across[:, 1]
    angle += np.angle((np.exp(-1j * angle) * seen / np.maximum(np.abs(seen), 1e-9)).sum())
    fixed = np.stack([np.cos(angle), np.sin(angle)], 1)
    weights = _mean_value_weights(everything, all_faces)
    free = np.ones(len(everything), bool)
    free[rim] = False
    laplacian = (sp.diags(np.asarray(weights.sum(1)).ravel() + 1e-12) - weights).tocsr()
    out = np.zeros((len(everything), 2))
    out[rim] = fixed
    if free.any():
        right = -laplacian[free][:, rim] @ fixed
        out[free] = sparse_linalg.splu(laplacian[free][:, free].tocsc()).solve(right)
    return out[:count]


def _mean_value_weights(points: Array, faces: Index) -> sp.csr_matrix:
    rows, columns, values = [], [], []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        a, b, c = (points[faces[:, s]] for s in (i, j, k))
        ab, ac = b - a, c - a
        lengths = np.maximum(np.linalg.norm(ab, axis=1), 1e-6), np.maximum(np.linalg.norm(ac, axis=1), 1e-6)
        cosine = np.clip((ab * ac).sum(1) / (lengths[0] * lengths[1]), -1, 1)
        half = np.sqrt((1 - cosine) / np.maximum(1 + cosine, 1e-4))  # tan(angle / 2)
        for other, length in zip((j, k), lengths, strict=True):
            rows.append(faces[:, i])
            columns.append(faces[:, other])
            values.append(np.clip(half / length, 1e-4, 1e4))
    count = len(points)
    return sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count)
    )


def _around_pole(points: Array) -> Array:
    away = points - 0.5 * (points.max(0) + points.min(0))
    away = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    angle = np.arccos(np.clip(away[:, 2], -1, 1)) / np.pi
    flat = away[:, :2] / np.maximum(np.linalg.norm(away[:, :2], axis=1, keepdims=True), 1e-9)
    return angle[:, None] * flat
