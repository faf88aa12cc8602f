"""How bright each view is compared with the others, per colour channel, from the texels they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..datasets.neural_texgen import UvView

GRID = 128
"""Side of the coarse texture that views are compared in: it averages noise, edges and small misalignments."""

DARKEST, BRIGHTEST = 0.004, 0.95
"""Linear radiance outside of which a pixel is noise or clipped."""

ROUNDS = 8
SPREAD = 0.05
"""Log difference at which a texel begins to count less: highlights and occluders are larger."""

PRIOR = 0.01
"""Weight of "all views are alike", as a share of a view's evidence: decides where they share nothing."""

GLOSS = 0.05
"""Deviation of log gains that gloss alone brings about, because it brightens a whole side of an object for
the views on that side. Smaller ones are not corrected; on a set of equal exposures that cost 0.8 dB."""

TINT = 0.02
"""The same for the differences between a view's channels."""


def gains(views: Sequence[UvView], *, white_balance: bool = True) -> NDArray[np.float64]:
    """(n, 3) factors of linear light by which each view is brighter than their common scale.

    The model is log radiance = log texel + log gain, solved by iteratively reweighted least squares with the
    texels eliminated, so that views without common texels are tied by those between them. The gains'
    geometric mean is 1; all are 1 where they differ by no more than gloss explains.
    """
    logs, weights = _coarse(views)
    if not white_balance:
        logs = np.repeat(logs.mean(2, keepdims=True), 3, 2)
    count = len(views)
    found = np.zeros((count, 3))
    for channel in range(3):
        value, robust = logs[..., channel], weights.copy()
        for _ in range(ROUNDS):
            total = np.maximum(robust.sum(0), 1e-12)
            shared = (weights > 0).sum(0) > 1  # a texel of one view says nothing about its gain
            w = robust * shared
            matrix = np.diag(w.sum(1)) - (w / total) @ w.T
            right = (w * (value - (robust * value).sum(0) / total)).sum(1)
            matrix += PRIOR * max(np.trace(matrix) / count, 1e-12) * np.eye(count)
            gain = np.linalg.solve(matrix, right)
            gain -= gain.mean()
            texel = (robust * (value - gain[:, None])).sum(0) / total
            residual = value - gain[:, None] - texel
            robust = weights / (1 + (residual / SPREAD) ** 2)
        found[:, channel] = gain
    common = found.mean(1, keepdims=True)
    tint = found - common
    common = common if common.std() > GLOSS else np.zeros_like(common)
    tint = tint if tint.std() > TINT else np.zeros_like(tint)
    return np.exp(common + tint)


def _coarse(views: Sequence[UvView]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """((n, GRID**2, 3) mean log radiance of every view in every coarse texel, (n, GRID**2) weights)."""
    logs, weights = [], []
    for view in views:
        weight = view.valid.astype(np.float32) if view.weight is None else view.weight
        good = (weight > 0) & (view.image.min(2) > DARKEST) & (view.image.max(2) < BRIGHTEST)
        uv, w = view.uv[good], weight[good].astype(np.float64)
        column, row = np.minimum((uv * GRID).astype(np.int64), GRID - 1).T
        cell = row * GRID + column
        total = np.bincount(cell, w, GRID**2)
        values = np.log(view.image[good])
        means = [np.bincount(cell, w * values[:, k], GRID**2) / np.maximum(total, 1e-12) for k in range(3)]
        logs.append(np.stack(means, 1))
        weights.append(np.minimum(total, 1.0))
    return np.stack(logs), np.stack(weights)
