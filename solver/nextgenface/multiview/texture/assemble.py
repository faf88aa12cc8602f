"""The levels become one picture: band by band, unseen parts filled over the surface, seams dilated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .samples import Level, bilinear
from .uvmaps import Surface, texel_centres

BAND = 256
"""Rows of the texture in work at a time: what bounds the memory of large ones."""

SURE = 0.5
"""Pixels' weight on a texel of the coarsest level from which it counts as seen; below it fades out."""


class Stack:
    """The finished levels: a base that covers everything, and corrections at the texels that were seen.

    `base` (S0, S0, 3) and `weight` (S0, S0) of the coarsest level; `levels` with their `values` (A_l, 3).
    """

    def __init__(
        self,
        base: NDArray[np.float32],
        weight: NDArray[np.float32],
        levels: list[Level],
        values: list[NDArray[np.float32]],
    ) -> None:
        self.base, self.weight, self.levels, self.values = base, weight, levels, values

    def colours(self, uv: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N, 3) code values at uv (N, 2)."""
        texels, shares = bilinear(uv, len(self.base))
        total = np.einsum("nk,nkc->nc", shares, self.base.reshape(-1, 3)[texels])
        for level, values in zip(self.levels, self.values, strict=True):
            texels, shares = bilinear(uv, level.size)
            row = np.searchsorted(level.texels, texels).clip(max=max(len(level.texels) - 1, 0))
            known = level.texels[row] == texels
            total += np.einsum("nk,nkc->nc", shares * known, values[row])
        return total.astype(np.float32)

    def confidence(self, uv: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N,) 0 where no view shows the surface at uv (N, 2), 1 where one does."""
        texels, shares = bilinear(uv, len(self.base))
        return (shares * np.minimum(self.weight.ravel()[texels] / SURE, 1)).sum(1).astype(np.float32)

    def rows(self, first: int, last: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same for the texels of whole rows of a size x size texture, which is much faster.

        ((last - first, size, 3) code values, (last - first, size) confidence).
        """
        sure = np.minimum(self.weight / SURE, 1)[..., None]
        both = np.concatenate([self.base, sure], 2)
        total = _enlarged(len(both), lambda low, high: both[low:high], first, last, size)
        colours, confidence = total[..., :3], total[..., 3]
        for level, values in zip(self.levels, self.values, strict=True):
            colours = colours + _enlarged(level.size, partial(_dense, level, values), first, last, size)
        return colours, confidence


def _dense(level: Level, values: NDArray[np.float32], low: int, high: int) -> NDArray[np.float32]:
    """(high - low, size, 3) rows of a level, 0 where nothing is known."""
    begin, end = np.searchsorted(level.texels, (low * level.size, high * level.size))
    dense = np.zeros(((high - low) * level.size, 3), np.float32)
    dense[level.texels[begin:end] - low * level.size] = values[begin:end]
    return dense.reshape(high - low, level.size, 3)


def _enlarged(
    own: int, fetch: Callable[[int, int], NDArray[np.float32]], first: int, last: int, size: int
) -> NDArray[np.float32]:
    """Rows first..last-1 of a picture of side `own`, `fetch(low, high)` its rows, brought to `size`."""

    def places(start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        place = ((np.arange(start, stop) + 0.5) * own / size - 0.5).clip(0, own - 1)
        before = np.minimum(place.astype(np.int64), max(own - 2, 0))
        return before, np.minimum(before + 1, own - 1), (place - before).astype(np.float32)

    above, below, part = places(first, last)
    low, high = int(above[0]), int(below[-1]) + 1
    dense = fetch(low, high)
    lines = dense[above - low] * (1 - part)[:, None, None] + dense[below - low] * part[:, None, None]
    left, right, part = places(0, size)
    return lines[:, left] * (1 - part)[:, None] + lines[:, right] * part[:, None]


def vertex_colours(stack: Stack, surface: Surface) -> NDArray[np.float32]:
    """(V, 3) code values: of the texture where a vertex is seen, else spread over the surface from there.

    What has no seen vertex in its piece of the mesh gets the mean colour.
    """
    faces, uv_faces = surface.faces.cpu().numpy(), surface.uv_faces.cpu().numpy()
    uv = surface.uv.cpu().numpy()
    count = len(surface.vertices)
    colours, sure = stack.colours(uv), stack.confidence(uv)
    total = np.bincount(faces.ravel(), sure[uv_faces].ravel(), count)
    mean = (
        np.stack(
            [np.bincount(faces.ravel(), (sure * colours[:, k])[uv_faces].ravel(), count) for k in range(3)], 1
        )
        / np.maximum(total, 1e-9)[:, None]
    )
    corners = np.bincount(faces.ravel(), minlength=count)
    known = total > 0.5 * np.maximum(corners, 1)
    if not known.any():
        return np.full((count, 3), stack.base.mean((0, 1)), np.float32)
    return spread(mean, known, faces).astype(np.float32)


def spread(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], faces: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Known vertex values (V, C) kept, the others the mean of their neighbours (harmonic)."""
    count = len(values)
    one, other = (faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel())
    links = sp.coo_matrix((np.ones(len(one)), (one, other)), shape=(count, count)).tocsr()
    links = links + links.T
    links.data[:] = 1.0
    # pieces of the surface that nobody has seen have no neighbour to learn from
    pieces, piece = sp.csgraph.connected_components(links, directed=False)
    reached = np.bincount(piece, known, pieces)[piece] > 0
    result = np.where(known[:, None], values, values[known].mean(0)).astype(np.float64)
    open_ones = np.flatnonzero(~known & reached)
    if len(open_ones):
        degree = np.asarray(links.sum(1)).ravel()[open_ones]
        matrix = (sp.diags(degree) - links[open_ones][:, open_ones]).tocsc()
        right = links[open_ones] @ np.where(known[:, None], values, 0.0)
        result[open_ones] = sparse_linalg.splu(matrix).solve(np.ascontiguousarray(right))
    return result


def assembled(
    stack: Stack, size: int, surface: Surface | None, padding: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """((size, size, 3) sRGB code values, (size, size) confidence 0..255), top row first.

    On the layout, what no view shows is filled from `vertex_colours`; off it, texels within `padding` repeat
    the nearest one on it, those beyond have the coarse average. Without a surface (a data set of UV maps
    only) the coarse average is all that fills holes.
    """
    picture = np.empty((size, size, 3), np.uint8)
    sure = np.empty((size, size), np.uint8)
    spare = None if surface is None else torch.from_numpy(vertex_colours(stack, surface))
    for first in range(0, size, BAND):
        last = min(first + BAND, size)
        low, high = max(first - padding, 0), min(last + padding, size)
        grid, known = stack.rows(low, high, size)
        colours, confidence = grid.reshape(-1, 3), known.ravel()
        if surface is not None and spare is not None:
            pixel, face, weights = texel_centres(surface, size, low, high)
            corners = surface.faces[face].cpu()
            fill = (weights.cpu()[..., None] * spare[corners]).sum(1).numpy()
            on = np.zeros(len(colours), bool)
            number = pixel.cpu().numpy()
            on[number] = True
            share = confidence[number, None]
            colours[number] = share * colours[number] + (1 - share) * fill
            confidence *= on
            if padding and not on.all() and on.any():
                shape = (high - low, size)
                distance, nearest = distance_transform_edt(~on.reshape(shape), return_indices=True)
                near = (distance > 0) & (distance <= padding)
                source = nearest[0][near] * size + nearest[1][near]
                colours[near.ravel()] = colours[source]
        keep = slice((first - low) * size, (last - low) * size)
        codes = (colours[keep].clip(0, 1) * 255 + 0.5).astype(np.uint8)
        picture[first:last] = codes.reshape(last - first, size, 3)
        sure[first:last] = (confidence[keep] * 255 + 0.5).astype(np.uint8).reshape(last - first, size)
    return picture, sure
