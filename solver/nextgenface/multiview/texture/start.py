"""The closed-form start: pixels splatted into the texture, averaged, holes filled from coarser levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .samples import bilinear

SHRINK = 1.0
"""Pixels' worth of doubt about a texel's detail: what one pixel alone says is halved."""

LEAST = 0.02
"""Total weight from which a texel has a colour of its own."""


def splat(
    uv: NDArray[np.floating[Any]],
    colours: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(size, size, 3) bilinear average of colours (N, 3) at uv (N, 2), and (size, size) their total weight.

    Texels that nothing fell on have the average of the finest coarser level that has one.
    """
    texels, shares = bilinear(uv, size)
    shares = shares * weights[:, None].astype(np.float32)
    flat = texels.ravel()
    total = np.bincount(flat, shares.ravel(), size * size).astype(np.float32).reshape(size, size)
    sums = np.empty((size, size, 3), np.float32)
    for k in range(3):
        column = (shares * colours[:, k, None]).ravel()
        sums[..., k] = np.bincount(flat, column, size * size).reshape(size, size)
    return filled(sums, total), total


def filled(sums: NDArray[np.float32], total: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) weighted sums and (H, W) weights -> averages, holes from the averages of 2 x 2 blocks."""
    height, width = total.shape
    if (total >= LEAST).all() or max(height, width) == 1:
        return sums / np.maximum(total, 1e-9)[..., None]
    even = ((0, height % 2), (0, width % 2))
    sums2, total2 = np.pad(sums, (*even, (0, 0))), np.pad(total, even)
    blocks = (total2.shape[0] // 2, 2, total2.shape[1] // 2, 2)
    coarse = filled(sums2.reshape(*blocks, 3).sum((1, 3)), total2.reshape(blocks).sum((1, 3)))
    finer = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where((total >= LEAST)[..., None], sums / np.maximum(total, 1e-9)[..., None], finer)


def residual_levels(
    matrices: list[Any], residual: NDArray[np.float32], weights: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """What the coarser levels leave, splatted level by level: (A_l, 3) for each matrix (N, A_l).

    `residual` (N, 3) of the pixels, `weights` (N,). Every level takes the average of the pixels at a texel,
    shrunk by `SHRINK`.
    """
    found = []
    for matrix in matrices:
        total = matrix.T @ weights
        value = (matrix.T @ (residual * weights[:, None])) / (total + SHRINK)[:, None]
        found.append(value.astype(np.float32))
        residual = residual - matrix @ found[-1]
    return found
