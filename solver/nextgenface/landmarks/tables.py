"""The numberings of landmarks: which ones are used, and which mirror each other.

Two numberings are in use: MediaPipe's 468-point face mesh (468..477 are the irises) and the
68 points of iBUG 300-W, which FAN predicts; assets/landmarks/ibug68.txt relates the two. Of those the
guide uses 62, leaving out six jaw points between ear and chin, which slide along the cheek instead of
marking a place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nextgenface.paths import asset

MEDIAPIPE_COUNT = 468

IRIS_MIRROR: NDArray[np.int64] = np.array([5, 8, 7, 6, 9, 0, 3, 2, 1, 4], dtype=np.int64)
"""(10,) mirror image of each iris point; an iris is its centre, image right, top, image left, bottom."""

GUIDE62_IN_IBUG68: NDArray[np.int64] = np.array(
    [0, 1, 2, 3, 7, 8, 9, 13, 14, 15, 16, *range(17, 68)], dtype=np.int64
)
"""(62,) the iBUG landmarks the guide uses."""

IBUG68_MIRROR: NDArray[np.int64] = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
    dtype=np.int64,
)
"""(68,) index of each iBUG landmark's mirror image."""

EYE_CORNERS = {"mediapipe": (33, 263), "ibug68": (36, 45)}
"""Scheme -> outer corners of the right and the left eye (image left, image right on an upright head)."""

_MEDIAPIPE_EYES = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_MEDIAPIPE_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
_MEDIAPIPE_LIPS = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
)  # fmt: skip


def feature_points(scheme: str) -> NDArray[np.int64]:
    """Landmarks on lid edges, brows and lip contours, which a detector sees as edges in the picture."""
    if scheme == "ibug68":
        return np.array([*range(17, 27), *range(36, 68)], dtype=np.int64)
    one_side = np.array(_MEDIAPIPE_EYES + _MEDIAPIPE_BROWS, dtype=np.int64)
    return np.concatenate([one_side, mediapipe_mirror()[one_side], np.array(_MEDIAPIPE_LIPS, dtype=np.int64)])


@lru_cache(maxsize=1)
def mediapipe_mirror() -> NDArray[np.int64]:
    """(468,) index of each MediaPipe landmark's mirror image, itself on the mid-line.

    Read off the canonical face, which is exactly symmetric: left and right are the signs of x.
    """
    with np.load(asset("canonical_face.npz")) as template:
        places = np.asarray(template["V"], dtype=np.float64)
    differences = places[:, None] * (-1.0, 1.0, 1.0) - places[None]
    order = np.asarray(np.abs(differences).sum(axis=-1).argmin(axis=1), dtype=np.int64)
    order.setflags(write=False)
    return order
