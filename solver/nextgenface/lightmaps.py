"""The solved light as maps: the float map that Blender's world shader takes, and the guide's picture."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .colour import encode_8bit
from .rendering.light import lobe_weights
from .rendering.sh import sh_to_environment, smoothing_window

BLENDER_FROM_MODEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""(x, y, z) -> (x, -z, y): a face looks along -Y in Blender."""

LIGHT_FROM_CAMERA = np.diag([1.0, -1.0, -1.0])

BLENDER_MAP_HEIGHT = 128
"""Rows of envMap_i.exr. The light lobes are 20 degrees wide, so finer maps would hold nothing more."""


def blender_directions(height: int) -> NDArray[np.float64]:
    """Directions (height, 2*height, 3) in Blender world axes of the pixels of an environment texture.

    Blender's equirectangular mapping: u = 0.5 - atan2(y, x) / 2 pi, v (from the bottom) = 0.5 + asin(z) / pi.
    """
    u = (np.arange(2 * height) + 0.5) / (2 * height)
    up = 1.0 - (np.arange(height) + 0.5) / height
    azimuth = (0.5 - u) * 2 * np.pi
    elevation = (up - 0.5) * np.pi
    across = np.cos(elevation)[:, None]
    parts = (across * np.cos(azimuth), across * np.sin(azimuth), np.sin(elevation)[:, None] + 0 * azimuth)
    return np.stack(np.broadcast_arrays(*parts), -1)


def blender_environment(
    environment: Tensor, rotation: NDArray[np.float64], height: int = BLENDER_MAP_HEIGHT
) -> NDArray[np.float32]:
    """Linear radiance map (height, 2*height, 3) in Blender's mapping and world axes.

    `environment` (D, 3): lobes in the light frame of a photo; `rotation` (3, 3): R of that photo, model to
    camera. Blender's world shows the head at rest, so the light turns with the inverse of the head's pose.
    """
    light_from_blender = LIGHT_FROM_CAMERA @ np.asarray(rotation, np.float64) @ BLENDER_FROM_MODEL.T
    directions = blender_directions(height).reshape(-1, 3) @ light_from_blender.T
    weights = lobe_weights(torch.from_numpy(directions).float())
    radiance = weights @ environment.detach().cpu().float()
    return radiance.reshape(height, 2 * height, 3).numpy()


def sh_environment(sh: Tensor, size: int, *, bands: int = 9, smooth: bool = False) -> NDArray[np.float32]:
    """The guide's square map (size, size, 3) >= 0 of SH radiance (B^2, 3): light frame, rows +y to -y.

    `bands` cuts the series; `smooth` blurs the light with a Gaussian on the sphere, which takes the ringing
    away.
    """
    used = min(bands, math.isqrt(sh.shape[0]))
    coefficients = sh.detach().cpu().float()[: used * used]
    if smooth:
        coefficients = coefficients * smoothing_window(used)[:, None]
    return sh_to_environment(coefficients, size, size).numpy()


def tone_mapped(radiance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """8-bit sRGB of radiance: linear in the dark, white at the brightest (Reinhard et al. 2002, eq. 4)."""
    white = max(float(radiance.max()), 1.0)
    return encode_8bit(radiance * (1.0 + radiance / white**2) / (1.0 + radiance))
