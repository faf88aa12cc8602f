"""Lens distortion: pictures are straightened when they are read, everything after is a pinhole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...views import View


def straightened(view: View, coefficients: NDArray[np.float64]) -> View:
    """The view without the distortion that OpenCV's coefficients (k1, k2, p1, p2, k3, ...) describe.

    Where the straight picture reaches beyond the old one, the mask is 0.
    """
    if not np.any(coefficients):
        return view
    import cv2

    K = view.camera.K.copy()
    K[:2, 2] -= 0.5  # OpenCV puts the centre of the first pixel at 0
    image = cv2.undistort(view.image, K, coefficients)
    inside = np.ones(view.image.shape[:2], np.float32) if view.mask is None else view.mask
    mask = cv2.undistort(inside, K, coefficients)
    return replace(view, image=image, mask=None if view.mask is None and mask.min() > 0.99 else mask)
