"""Checkpoints of the reference program: what their numbers mean, in our terms.

The reference evaluates spherical harmonics on an equirectangular map with the two angles exchanged (columns carry the
polar angle, rows the azimuth) and with the Condon-Shortley sign, in camera axes (x right, y down, z forward). Its
light is therefore the same numbers on another sphere; here it is evaluated as that program would have seen it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import lpmv
from torch import Tensor

from .rendering.light import lobe_centres, lobes_to_sh


def foreign_sh_radiance(sh: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radiance (N, 3) that the reference sees in directions (N, 3) of the light frame, from its `vShCoeffs` (B^2, 3).

    A direction of the light frame is (x, -y, -z) in the camera; the map has u = atan2(x, -z)/2 pi and
    v = acos(y)/pi there; the polar angle is pi u and the azimuth 2 pi v. Negative radiance is cut off.
    """
    x, y, z = directions[:, 0], -directions[:, 1], -directions[:, 2]
    theta = np.pi * np.mod(np.arctan2(x, -z) / (2 * np.pi), 1.0)
    phi = 2 * np.pi * np.arccos(np.clip(y, -1, 1)) / np.pi
    radiance = np.zeros((len(directions), 3))
    for degree in range(math.isqrt(sh.shape[0])):
        for order in range(-degree, degree + 1):
            m = abs(order)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            value = norm * lpmv(m, degree, np.cos(theta))
            if order:
                value = value * math.sqrt(2) * (np.cos(m * phi) if order > 0 else np.sin(m * phi))
            radiance += value[:, None] * sh[degree * (degree + 1) + order]
    return np.maximum(radiance, 0.0)


def lobes_from_foreign_sh(sh: Tensor) -> Tensor:
    """Our light lobes (n, D, 3) from the reference's coefficients (n, B^2, 3)."""
    centres = lobe_centres().double().numpy()
    lobes = [foreign_sh_radiance(one.double().numpy(), centres) for one in sh]
    return torch.from_numpy(np.stack(lobes)).float()


def to_standard_sh(environment: Tensor) -> Tensor:
    """Our SH coefficients (n, 81, 3) of light lobes (n, D, 3)."""
    from .fitting.state import SH_BANDS

    return lobes_to_sh(environment, SH_BANDS)
