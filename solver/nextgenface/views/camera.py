"""Pinhole cameras and square crops of photos.

Pixels: the centre of the top-left one is (0.5, 0.5). Camera space is OpenCV's: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: X_cam = R X + t (mm), pixel = K X_cam / z. float64 NumPy arrays.

    `K` (3, 3) pixels of a picture of `width` x `height`, `R` (3, 3), `t` (3,).
    """

    K: NDArray[np.float64]
    R: NDArray[np.float64]
    t: NDArray[np.float64]
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64).reshape(shape))

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, 3) points in mm to (N, 2) pixels and (N,) depth in mm (negative: behind the camera)."""
        in_camera = np.asarray(points, dtype=np.float64) @ self.R.T + self.t
        homogeneous = in_camera @ self.K.T
        return homogeneous[:, :2] / homogeneous[:, 2:], in_camera[:, 2]

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) place of the camera in the space of the points, mm."""
        return -self.R.T @ self.t

    def scaled(self, factor: float) -> Camera:
        """The camera of the same picture at `factor` times its resolution."""
        width, height = max(1, round(self.width * factor)), max(1, round(self.height * factor))
        change = np.diag((width / self.width, height / self.height, 1.0))
        return Camera(change @ self.K, self.R, self.t, width, height)

    def cropped(self, crop: Crop) -> Camera:
        """The camera of the fitted picture cut out of this one's by `crop`."""
        return Camera(crop.K_to_fit(self.K), self.R, self.t, crop.size, crop.size)


@dataclass(frozen=True)
class Crop:
    """A square cut out of a photo: pixel_fit = (pixel_photo - (x0, y0)) * scale, `size` pixels a side."""

    x0: float
    y0: float
    scale: float
    size: int

    def to_fit(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) pixels of the photo to pixels of the fitted picture."""
        return np.asarray((points - np.array((self.x0, self.y0))) * self.scale)

    def to_photo(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) pixels of the fitted picture to pixels of the photo."""
        return np.asarray(points / self.scale + np.array((self.x0, self.y0)))

    def K_to_fit(self, K: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3, 3) intrinsics of the photo to those of the fitted picture."""
        s = self.scale
        return np.array(((s, 0, -s * self.x0), (0, s, -s * self.y0), (0, 0, 1.0))) @ K

    def K_to_photo(self, K: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3, 3) intrinsics of the fitted picture to those of the photo."""
        s = self.scale
        return np.array(((1 / s, 0, self.x0), (0, 1 / s, self.y0), (0, 0, 1.0))) @ K
