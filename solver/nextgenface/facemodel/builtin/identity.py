"""Shape and residual-field statistics without scans: a Gaussian process over the template surface.

A face is the mean plus a smooth random displacement field (Luethi et al. 2018, "Gaussian Process Morphable
Models"; Sutherland, Egger and Tenenbaum 2021, "Building 3D Generative Models from Minimal Data"). The kernel
is a sum of squared exponentials with its own amplitude per axis, correlated with its mirror image:
k(x, y) + s a k(x, My), a = 0.95, s = -1 for the x axis. Such a kernel splits into an even and an odd part
that can be decomposed apart on one half of the face, which makes every mode exactly symmetric or
antisymmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from .template import FLIP

MIRROR_CORRELATION = 0.95


@dataclass(frozen=True)
class Scale:
    """Length scale in mm and standard deviation per axis (x, y, z) in mm (or in units of the field)."""

    length: float
    deviation: tuple[float, ...]


# Chosen so that 120 modes reach a population of scanned-based heads to 0.4 mm; the long scale carries size
# and proportion, 20-30 mm the features, 7 mm what is local to nose, lips and lids.
SHAPE_SCALES = (
    Scale(90.0, (2.0, 2.0, 2.0)),
    Scale(30.0, (0.0, 3.24, 0.0)),
    Scale(22.0, (0.0, 0.0, 2.96)),
    Scale(20.0, (2.38, 0.0, 0.0)),
    Scale(7.0, (1.19, 0.96, 0.99)),
)


def farthest_points(points: NDArray, count: int, start: int = 0) -> NDArray:
    """Indices of `count` well-spread points (greedy farthest-point sampling)."""
    chosen = [start]
    distance = np.linalg.norm(points - points[start], axis=1)
    for _ in range(min(count, len(points)) - 1):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def field_modes(
    points: NDArray,
    mirror: NDArray,
    weights: NDArray,
    scales: tuple[Scale, ...],
    signs: tuple[float, ...],
    count: int,
    samples: int = 650,
    correlation: float = MIRROR_CORRELATION,
    amplitude: Callable[[NDArray], NDArray] | None = None,
) -> tuple[NDArray, float]:
    """Leading modes of a mirror-correlated Gaussian process, Nystroem method on half of the surface.

    points (V, 3) mm, mirror (V,), weights (V,) area of each vertex in the inner product, signs: per channel
    how the mirror acts (-1 for x offsets). Returns modes (count, V, C), each scaled to one standard deviation
    and living in one channel, strongest first, and the share of the variance they hold.
    """
    half = np.flatnonzero(points[:, 0] <= 1e-6)
    surface = points[half]
    nodes = surface[farthest_points(surface, samples)]
    node_weights = np.bincount(cKDTree(nodes).query(surface)[1], weights=weights[half], minlength=len(nodes))
    node_weights = np.maximum(node_weights / node_weights.sum(), 1e-9)
    root = np.sqrt(node_weights)
    direct = {"nodes": cdist(nodes, nodes, "sqeuclidean"), "surface": cdist(surface, nodes, "sqeuclidean")}
    crossed = {
        "nodes": cdist(nodes, nodes * FLIP, "sqeuclidean"),
        "surface": cdist(surface, nodes * FLIP, "sqeuclidean"),
    }
    gain = {"nodes": np.ones(len(nodes)), "surface": np.ones(len(surface))}
    if amplitude is not None:
        gain = {"nodes": amplitude(nodes), "surface": amplitude(surface)}

    found: list[tuple[float, int, float, NDArray]] = []
    total = 0.0
    for channel, sign in enumerate(signs):
        for parity in (1.0, -1.0):
            share = (1 + parity * correlation) / (2 * (1 + correlation))

            factor = sign * parity

            def kernel(which: str) -> NDArray:
                value = np.zeros_like(direct[which])
                for scale in scales:
                    if scale.deviation[channel] > 0:  # noqa: B023 (used within this turn of the loop only)
                        rate = -0.5 / scale.length**2
                        both = np.exp(rate * direct[which]) + factor * np.exp(rate * crossed[which])  # noqa: B023
                        value += scale.deviation[channel] ** 2 * both  # noqa: B023
                return share * value * gain[which][:, None] * gain["nodes"][None]  # noqa: B023

            matrix = kernel("nodes")
            matrix = matrix * root[:, None] * root[None]
            values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
            total += float(np.maximum(values, 0).sum())
            order = np.argsort(-values)[:count]
            order = order[values[order] > 1e-9 * values.max()]
            extension = kernel("surface") @ (root[:, None] * vectors[:, order] / np.sqrt(values[order]))
            found += [(float(values[k]), channel, factor, extension[:, i]) for i, k in enumerate(order)]
    found.sort(key=lambda mode: -mode[0])
    found = found[:count]
    modes = np.zeros((len(found), len(points), len(signs)))
    for row, (_, channel, factor, values) in enumerate(found):
        modes[row, mirror[half], channel] = factor * values
        modes[row, half, channel] = values
        if factor < 0:
            modes[row, half[mirror[half] == half], channel] = 0.0
    return modes, sum(mode[0] for mode in found) / total


def principal_axes(vectors: NDArray, mirror: NDArray, flip: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Orthonormal basis and variances of the Gaussian spanned by scaled vectors (N, V, C).

    Each vector stands for one independent standard deviation. Even and odd parts are treated apart so that
    every result is exactly symmetric or antisymmetric. Returns basis (k, V, C) with the stacked rows
    orthonormal, and variances (k,), descending.
    """
    mirrored = vectors[:, mirror] * flip
    bases, variances = [], []
    for part, sign in ((0.5 * (vectors + mirrored), 1.0), (0.5 * (vectors - mirrored), -1.0)):
        rows = part.reshape(len(part), -1)
        values, axes = np.linalg.eigh(rows @ rows.T)
        keep = values > 1e-9 * max(float(values.max()), 1e-12)
        basis = (axes[:, keep].T @ rows) / np.sqrt(values[keep])[:, None]
        basis = np.linalg.qr(basis[::-1].T)[0].T.reshape(-1, *vectors.shape[1:])
        bases.append(0.5 * (basis + sign * basis[:, mirror] * flip))
        variances.append(values[keep][::-1])
    basis, variance = np.concatenate(bases), np.concatenate(variances)
    order = np.argsort(-variance)[:count]
    basis, variance = basis[order], variance[order]
    # The sign of an eigenvector is arbitrary; fix it, so that every machine builds the same model.
    flat = basis.reshape(len(basis), -1)
    peak = np.take_along_axis(flat, np.abs(flat).argmax(1)[:, None], 1)
    return basis * np.sign(peak)[:, :, None], variance
