"""Pinhole cameras and square crops of photos.

Pixels: the centre of the top-left one is (0.5, 0.5). Camera space is OpenCV's: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MODEL_TO_BLENDER = np.array(((1.0, 0, 0), (0, 0, -1.0), (0, 1.0, 0)))
"""Axes of model space in Blender's world (docs/conventions.md); lengths become metres."""

_FLIP = np.diag((1.0, -1.0, -1.0))  # OpenCV's camera axes to Blender's and OpenGL's: y up, z backward

_METRES = 0.001


@dataclass(frozen=True)
class BlenderCamera:
    """What Blender says about a camera and the picture it renders.

    `matrix_world` (4, 4) without scale, lengths in metres; `lens` and `sensor_width` in mm, for a horizontal
    sensor fit; `shift_x`, `shift_y` in units of the picture's width; `aspect` the ratio
    pixel height / pixel width.
    """

    matrix_world: NDArray[np.float64]
    lens: float
    sensor_width: float
    shift_x: float
    shift_y: float
    aspect: float
    width: int
    height: int


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

    @staticmethod
    def from_blender(seen: BlenderCamera) -> Camera:
        """The camera in model space (mm) of a camera in Blender's world (m)."""
        turn = np.asarray(seen.matrix_world, dtype=np.float64)
        turn, place = turn[:3, :3], turn[:3, 3]
        R = _FLIP @ turn.T @ MODEL_TO_BLENDER
        fx = seen.lens / seen.sensor_width * seen.width
        cx = seen.width / 2 - seen.shift_x * seen.width
        cy = seen.height / 2 + seen.shift_y * seen.width / seen.aspect
        K = np.array(((fx, 0, cx), (0, fx / seen.aspect, cy), (0, 0, 1.0)))
        return Camera(K, R, -_FLIP @ turn.T @ place / _METRES, seen.width, seen.height)

    def to_blender(self, sensor_width: float = 36.0) -> BlenderCamera:
        """The same camera as Blender describes it; skew, which Blender does not know, is left out."""
        matrix = np.eye(4)
        matrix[:3, :3] = MODEL_TO_BLENDER @ self.R.T @ _FLIP
        matrix[:3, 3] = MODEL_TO_BLENDER @ self.centre * _METRES
        fx, fy, aspect = self.K[0, 0], self.K[1, 1], self.K[0, 0] / self.K[1, 1]
        return BlenderCamera(
            matrix,
            fx * sensor_width / self.width,
            sensor_width,
            (self.width / 2 - self.K[0, 2]) / self.width,
            (self.K[1, 2] - self.height / 2) * fx / fy / self.width,
            aspect,
            self.width,
            self.height,
        )

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
