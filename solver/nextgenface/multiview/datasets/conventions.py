"""Recognises cameras that are written in another convention than the format says, and names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...views import Camera, ViewSet
from .errors import DataSetError

SEEN = 0.02
"""A view sees the object when at least this share of its points lies in the picture (and in its mask)."""

CONVINCING = 0.5
"""Share of the points in the masks, averaged over the views, above which nobody doubts the cameras."""

_FLIP = np.diag((1.0, -1.0, -1.0))


def _inverted(camera: Camera) -> Camera:
    return replace(camera, R=camera.R.T, t=camera.centre)


def _flipped(camera: Camera) -> Camera:
    return replace(camera, R=_FLIP @ camera.R, t=_FLIP @ camera.t)


MISTAKES: dict[str, Callable[[Camera], Camera]] = {
    "the cameras are camera-to-world matrices; world-to-camera ones (X_cam = R X + t) are needed": _inverted,
    "the cameras look along -z with y up, as OpenGL and Blender have it; OpenCV's x right, y down, z forward "
    "are needed": _flipped,
    "the cameras are camera-to-world matrices in OpenGL's axes (as in transforms.json); world-to-camera ones "
    "in OpenCV's axes are needed": lambda camera: _flipped(_inverted(camera)),
    "t holds the camera's place; -R times it is needed": lambda camera: replace(
        camera, t=-camera.R @ camera.t
    ),
}
"""What is said when this change of every camera puts things right."""


def check(views: ViewSet, points: NDArray[np.float64]) -> list[str]:
    """Names of the views that do not see the object of `points` (N, 3) (vertices, or corners of its box).

    Raises DataSetError when no view sees it, or when another convention explains the cameras much better.
    """
    sample = points[:: max(len(points) // 2000, 1)]
    seen = [_seen(views, index, view.camera, sample) for index, view in enumerate(views)]
    score = float(np.mean(seen))
    if score < CONVINCING:
        for explanation, change in MISTAKES.items():
            changed = [_seen(views, index, change(view.camera), sample) for index, view in enumerate(views)]
            if np.mean(changed) > max(2 * score, CONVINCING):
                raise DataSetError(f"The views hardly see the object: {explanation}.")
    if max(seen) >= SEEN:
        return [view.name for view, share in zip(views, seen, strict=True) if share < SEEN]
    behind = all((view.camera.project(sample)[1] <= 0).all() for view in views)
    where = "it lies behind all cameras" if behind else "nothing of it lands inside the pictures' masks"
    raise DataSetError(
        f"No view sees the object: {where}. Cameras and mesh (or bounding box) must be in one space, with "
        "X_cam = R X + t in OpenCV's axes: x right, y down, z forward."
    )


def _seen(views: ViewSet, index: int, camera: Camera, points: NDArray[np.float64]) -> float:
    """Share of the points that land in the picture and in its mask."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels, depth = camera.project(points)
    good = (depth > 0) & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
    mask = views[index].mask
    if mask is not None and mask.max() > 0.5:
        column, row = pixels[good].astype(int).T
        return float((mask[row, column] > 0.5).sum()) / max(len(points), 1)
    return float(good.mean()) if len(points) else 0.0
