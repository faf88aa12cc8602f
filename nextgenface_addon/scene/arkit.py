"""Apple's 52 face shapes: their names, a model's shapes under those names, and weights for an expression.

No bpy in here. Names are ARKit's own (`eyeBlinkLeft`); left and right are the subject's, as in the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ARKIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)  # fmt: skip

_KNOWN = {name.lower(): name for name in ARKIT_NAMES}
_SIDES = {"_l": "left", "_r": "right"}
_SWEEPS = 100  # of coordinate descent; 52 weights have settled to 1e-4 by then
_RIDGE = 1e-3


def arkit_name(name: str) -> str | None:
    """ARKit's spelling of a shape's name, or None: `eyeBlink_L` and `EyeBlinkLeft` are `eyeBlinkLeft`.

    Shapes that ARKit has for both sides at once lose their side: `cheekPuff_L` belongs to `cheekPuff`.
    """
    low = name.strip().lower()
    if low in _KNOWN:
        return _KNOWN[low]
    stem, side = low[:-2], _SIDES.get(low[-2:])
    if side is None:
        return None
    return _KNOWN.get(stem + side) or _KNOWN.get(stem)


def arkit_shapes(
    names: Sequence[str], deltas: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """A model's shapes under ARKit's names, in ARKit's order; what ARKit does not know follows as it is.

    `deltas` (B, V, 3). The halves of a shape that ARKit has for both sides at once are added up.
    """
    wanted = [arkit_name(name) or name for name in names]
    order = [name for name in ARKIT_NAMES if name in wanted]
    order += [name for name in dict.fromkeys(wanted) if name not in order]
    result = np.zeros((len(order), *deltas.shape[1:]), np.float32)
    for name, delta in zip(wanted, deltas, strict=True):
        result[order.index(name)] += delta
    return tuple(order), result


def detector_weights(scores: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """A detector's scores for the shapes that are there, 0..1, under the shapes' names."""
    known = {arkit_name(name) or name: float(score) for name, score in scores.items()}
    return {name: min(1.0, max(0.0, known[name])) for name in names if name in known}


def fitted_weights(
    offset: NDArray[np.floating], names: Sequence[str], deltas: NDArray[np.float32]
) -> dict[str, float]:
    """Weights 0..1 of shapes (B, V, 3) whose sum comes closest to an offset (V, 3).

    Least squares with a little ridge, which keeps opposite shapes from cancelling each other, solved by
    coordinate descent between the bounds.
    """
    if not len(names):
        return {}
    shapes = deltas.reshape(len(names), -1).astype(np.float64)
    normal = shapes @ shapes.T
    normal[np.diag_indices_from(normal)] *= 1.0 + _RIDGE
    target = shapes @ np.asarray(offset, np.float64).ravel()
    weights = np.zeros(len(names))
    diagonal = np.maximum(np.diag(normal), 1e-12)
    for _ in range(_SWEEPS):
        for k in range(len(names)):
            step = (target[k] - normal[k] @ weights) / diagonal[k]
            weights[k] = min(1.0, max(0.0, weights[k] + step))
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}
