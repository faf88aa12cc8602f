"""Linear modes: how the vectors of a file become an orthonormal basis with variances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..builtin.build import (
    DEVIATIONS,
    EXPRESSION_DEVIATION,
    GAZE_DEVIATION,
    OPPOSITES,
    SIDE_CORRELATION,
    VERGENCE_DEVIATION,
)

Floats = NDArray[np.float32]
ORTHONORMAL_WITHIN = 1e-3
GAZE_SHAPES = {"eyeLookUp_R", "eyeLookUp_L", "eyeLookIn_R", "eyeLookIn_L", "eyeLookOut_L"}


@dataclass(frozen=True)
class Modes:
    """K vectors over V vertices with D numbers each, and the variance of each one's coefficient."""

    vectors: Floats  # (K, V, D)
    variance: Floats  # (K,)

    def __len__(self) -> int:
        return len(self.variance)


def orthonormal(modes: Modes) -> tuple[Modes, Floats | None]:
    """The same Gaussian with an orthonormal basis, and the matrix (K', K) from old to new coefficients.

    Modes that are orthonormal and sorted already come back as they are, with None.
    """
    if not len(modes):
        return modes, None
    rows = modes.vectors.reshape(len(modes), -1)
    gram = (rows @ rows.T).astype(np.float64)
    descending = bool((np.diff(modes.variance) <= 0).all())
    if descending and np.abs(gram - np.eye(len(rows))).max() < ORTHONORMAL_WITHIN:
        return modes, None
    deviation = np.sqrt(modes.variance.astype(np.float64))
    values, axes = np.linalg.eigh(gram * deviation[:, None] * deviation)
    keep = values > 1e-7 * max(float(values.max()), 1e-30)
    values, axes = values[keep][::-1], axes[:, keep][:, ::-1]
    # Row k of `mix` turns the file's vectors into basis vector k.
    mix = (axes / np.sqrt(values)).T * deviation
    basis = (mix.astype(np.float32) @ rows).astype(np.float32)
    # In 32 bits the last modes of a long series lose their angles; one pass of QR restores them.
    turned, triangle = np.linalg.qr(basis.T.astype(np.float32))
    basis = (turned * np.sign(np.diag(triangle))).T
    native = (basis @ rows.T).astype(np.float32)
    shape = (len(values), *modes.vectors.shape[1:])
    return Modes(np.ascontiguousarray(basis.reshape(shape)), values.astype(np.float32)), native


def from_blendshapes(names: tuple[str, ...], deltas: Floats) -> Floats:
    """Independent vectors (N, V, 3), one standard deviation each, for named shapes (B, V, 3) at weight 1.

    Shapes with ARKit's names have the spread that the built-in model gives them; the two sides of a pair move
    together for the most part. Shapes that mirror into their opposite are entered once.
    """
    together, apart = np.sqrt((1 + SIDE_CORRELATION) / 2), np.sqrt((1 - SIDE_CORRELATION) / 2)
    delta = dict(zip(names, deltas, strict=True))
    vectors = []
    if delta.keys() >= GAZE_SHAPES:
        # Both eyes look the same way, nearly.
        vectors += [
            GAZE_DEVIATION * (delta["eyeLookUp_R"] + delta["eyeLookUp_L"]),
            GAZE_DEVIATION * (delta["eyeLookIn_R"] + delta["eyeLookOut_L"]),
            VERGENCE_DEVIATION * (delta["eyeLookIn_R"] + delta["eyeLookIn_L"]),
        ]
        delta = {name: value for name, value in delta.items() if not name.startswith("eyeLook")}
    for name, offsets in delta.items():
        stem = name[:-2]
        if name in OPPOSITES and name.replace("Right", "Left") in delta:
            continue
        if name.endswith("_L") and stem + "_R" in delta:
            continue
        if name.endswith("_R") and stem + "_L" in delta:
            deviation = DEVIATIONS.get(stem, EXPRESSION_DEVIATION)
            left = delta[stem + "_L"]
            vectors += [deviation * together * (offsets + left), deviation * apart * (offsets - left)]
        else:
            vectors.append(DEVIATIONS.get(name, EXPRESSION_DEVIATION) * offsets)
    return np.asarray(vectors, np.float32).reshape(-1, *deltas.shape[1:])
