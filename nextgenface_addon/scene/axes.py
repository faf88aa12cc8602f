"""Model space and camera space in Blender's axes. No bpy in here.

Blender world = M·X·0.001 with M·(x, y, z) = (x, −z, y): z out of the face becomes −Y, the front view.
Blender's camera looks along its own −z with y up, OpenCV's along +z with y down: C = diag(1, −1, −1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

METRES_PER_MM = 0.001
MODEL_TO_BLENDER = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
OPENCV_TO_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0])


def to_blender(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Model-space points or offsets (…,3) in mm to Blender axes in metres, float32."""
    turned = np.asarray(vectors, dtype=np.float64) @ MODEL_TO_BLENDER.T * METRES_PER_MM
    return np.ascontiguousarray(turned, dtype=np.float32)


def camera_matrix(R: NDArray[np.floating], t: NDArray[np.floating]) -> NDArray[np.float64]:
    """The 4×4 camera-to-world matrix of a Blender camera for X_cam = R·X_model + t (mm).

    From X_blendercam = C·X_cam·0.001 and X_model = Mᵀ·X_world·1000:
    rotation M·Rᵀ·C, position −M·Rᵀ·t·0.001.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = MODEL_TO_BLENDER @ R.T @ OPENCV_TO_BLENDER_CAMERA
    matrix[:3, 3] = -METRES_PER_MM * (MODEL_TO_BLENDER @ R.T @ t)
    return matrix


def lens_settings(
    K: NDArray[np.floating], width: int, height: int, sensor_width: float
) -> tuple[float, float, float, float, float]:
    """(lens mm, shift_x, shift_y, pixel_aspect_x, pixel_aspect_y) of a Blender camera with horizontal
    sensor fit.

    Blender's shifts are in units of the fitted side, which is the picture's width here. Pixels that are not
    square
    (fx ≠ fy) become Blender's pixel aspect, whose smaller number is always 1; its vertical unit is then one
    pixel height, aspect_y/aspect_x pixel widths.
    """
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    ratio = fx / fy  # pixel height / pixel width
    if abs(ratio - 1.0) < 1e-6:  # float32 noise, not a real aspect
        ratio = 1.0
    aspect_x, aspect_y = (1.0, ratio) if ratio >= 1.0 else (1.0 / ratio, 1.0)
    lens = fx * sensor_width / width
    shift_x = (width / 2 - cx) / width
    shift_y = (cy - height / 2) * ratio / width
    return lens, shift_x, shift_y, aspect_x, aspect_y
