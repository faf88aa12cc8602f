"""Soft vertex masks of the built-in face: where are skin, lips, brows, nostrils, …"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...geometry.laplacian import distance_to_polyline, inside_polygon
from . import indices as ix
from .template import FLIP


def sigmoid(x: NDArray) -> NDArray:
    """Logistic function, safe for large arguments."""
    return 1 / (1 + np.exp(np.clip(-x, -60, 60)))


def bump(points: NDArray, centre: NDArray, width: tuple[float, float, float]) -> NDArray:
    """Gaussian around a centre with standard deviations per axis in mm."""
    return np.exp(-0.5 * (((points - centre) / np.array(width)) ** 2).sum(1))


def both_sides(function: Callable[[NDArray], NDArray], points: NDArray) -> NDArray:
    """Largest of a mask and its mirror image: `function` describes the subject's right side."""
    return np.maximum(function(points), function(points * FLIP))


def signed_loop_distance(points: NDArray, loop: NDArray) -> NDArray:
    """Distance in mm to a closed loop, negative inside (frontal projection decides the side)."""
    distance = distance_to_polyline(points, loop, closed=True)
    return np.where(inside_polygon(points[:, :2], loop[:, :2]), -distance, distance)


def brow_mask(points: NDArray, landmarks: NDArray) -> NDArray:
    """Eyebrows: a tapered band between the two brow rows."""
    upper, lower = landmarks[list(ix.RIGHT_BROW_UPPER)], landmarks[list(ix.RIGHT_BROW_LOWER)]
    middle = 0.45 * upper + 0.55 * lower
    half_height = np.array([0.9, 2.3, 2.9, 3.1, 2.6])

    def side(p: NDArray) -> NDArray:
        best = np.full(len(p), np.inf)
        for i in range(len(middle) - 1):
            step = middle[i + 1] - middle[i]
            t = np.clip(((p - middle[i]) @ step) / (step @ step), 0, 1)
            gap = np.linalg.norm(p - middle[i] - t[:, None] * step, axis=1)
            best = np.minimum(best, gap - (half_height[i] * (1 - t) + half_height[i + 1] * t))
        return sigmoid(-best / 0.75)

    return both_sides(side, points)


def face_masks(points: NDArray, landmarks: NDArray, groups: dict[str, NDArray]) -> dict[str, NDArray]:
    """All masks (V,) in 0..1. points (V, 3) mm, landmarks (468, 3), groups: weights of what was built apart.

    groups holds "mouth", "border", "border_outer", "lid_rim", "nostrils", "eyes" as vertex weights (V,).
    """
    lm = landmarks
    eyes, mouth = groups["eyes"], groups["mouth"]
    open_skin = (1 - eyes) * (1 - mouth)
    right_eye = lm[list(ix.RIGHT_EYE)]
    masks: dict[str, NDArray] = {
        "eyes": eyes,
        "mouth": mouth,
        "teeth": groups["teeth"],
        "border": groups["border"],
        "lid_rim": groups["lid_rim"],
    }

    lips = signed_loop_distance(points, lm[list(ix.LIPS_OUTER)])
    masks["lips"] = sigmoid(-lips / 0.7) * (points[:, 2] > lm[61, 2] - 12) * open_skin
    masks["lip_seam"] = np.exp(
        -((distance_to_polyline(points, lm[list(ix.LIPS_INNER)], closed=True) / 0.8) ** 2)
    )
    masks["brows"] = brow_mask(points, lm) * open_skin

    masks["nostrils"] = groups["nostrils"]

    lid_distance = both_sides(lambda p: -signed_loop_distance(p, right_eye), points)
    masks["lids"] = np.exp(-((np.clip(-lid_distance, 0, None) / 4.0) ** 2)) * (1 - eyes)
    upper = right_eye[:9]
    lower = np.concatenate([right_eye[8:], right_eye[:1]])
    masks["lash_upper"] = both_sides(
        lambda p: np.exp(-((distance_to_polyline(p, upper) / 0.8) ** 2)), points
    ) * (1 - eyes)
    masks["lash_lower"] = both_sides(
        lambda p: np.exp(-((distance_to_polyline(p, lower) / 0.7) ** 2)), points
    ) * (1 - eyes)

    def pair(centre: NDArray, width: tuple[float, float, float]) -> NDArray:
        return both_sides(lambda p: bump(p, centre, width), points)

    masks["cheeks"] = pair(lm[50], (15, 13, 22))
    masks["nose"] = np.clip(bump(points, lm[4], (11, 11, 15)) + 0.45 * bump(points, lm[5], (9, 14, 14)), 0, 1)
    masks["chin"] = bump(points, lm[199], (15, 12, 20))
    masks["forehead"] = bump(points, lm[151], (34, 20, 40))
    masks["under_eye"] = pair(lm[[145, 230]].mean(0), (12, 5.5, 12))
    masks["upper_lid"] = pair(lm[[159, 27]].mean(0), (12, 4.5, 10))
    masks["alar"] = pair(lm[list(ix.RIGHT_ALAR_CREASE)].mean(0), (4, 6, 6))
    masks["ear_side"] = np.clip((np.abs(points[:, 0]) - 62) / 14, 0, 1) * np.clip((-points[:, 2]) / 30, 0, 1)

    jaw = lm[list(ix.JAW_LINE)]
    beard = both_sides(lambda p: np.clip(1 - distance_to_polyline(p, jaw) / 27, 0, 1), points)
    beard = beard + bump(points, lm[164], (19, 5, 14)) + bump(points, lm[200], (17, 13, 20))
    masks["beard"] = (
        np.clip(beard, 0, 1)
        * sigmoid((lm[164, 1] + 4 - points[:, 1]) / 2.0)
        * (1 - masks["lips"])
        * open_skin
    )

    # Skin that a photo can be compared with: frontal, not inside of anything, fading into the border.
    skin = open_skin * (1 - np.clip(groups["border_outer"], 0, 1)) * (1 - masks["nostrils"])
    skin = skin * (1 - np.clip(2 * groups["lid_rim"], 0, 1)) * (1 - masks["lash_upper"])
    masks["skin"] = skin
    return {name: np.clip(mask, 0, 1) for name, mask in masks.items()}


def nostril_centre(landmarks: NDArray) -> NDArray:
    """Middle (3,) of the subject's right nostril opening."""
    rim = landmarks[[79, 166, 60, 20]]
    return rim.mean(0)
