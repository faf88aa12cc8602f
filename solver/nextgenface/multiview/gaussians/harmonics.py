"""Colour by direction as the files of Gaussian splats store it: real spherical harmonics, degree 0 to 3.

Polar axis z, order l(l+1)+m, with the Condon-Shortley sign: not as our lights are kept (`rendering.sh`).
colour = 0.5 + sum of coefficient x basis, display-referred (sRGB code values), cut at 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BAND0 = 0.5 / math.sqrt(math.pi)
HIGHEST_DEGREE = 3


def coefficient_count(degree: int) -> int:
    """Number of coefficients per channel of degrees 0 to `degree`."""
    return (degree + 1) ** 2


def degree_of(count: int) -> int:
    """The inverse of `coefficient_count`."""
    return math.isqrt(count) - 1


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values (N, (degree + 1)^2) at unit directions (N, 3); `degree` at most 3."""
    x, y, z = directions.unbind(-1)
    columns = [torch.full_like(x, BAND0)]
    if degree >= 1:
        k = math.sqrt(3 / (4 * math.pi))
        columns += [-k * y, k * z, -k * x]
    if degree >= 2:
        k = math.sqrt(15 / (4 * math.pi))
        columns += [
            k * x * y,
            -k * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -k * x * z,
            k / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        outer, middle = math.sqrt(35 / (32 * math.pi)), math.sqrt(21 / (32 * math.pi))
        inner = math.sqrt(105 / (4 * math.pi))
        columns += [
            -outer * y * (3 * x * x - y * y),
            inner * x * y * z,
            -middle * y * (5 * z * z - 1),
            math.sqrt(7 / (16 * math.pi)) * z * (5 * z * z - 3),
            -middle * x * (5 * z * z - 1),
            inner / 2 * z * (x * x - y * y),
            -outer * x * (x * x - 3 * y * y),
        ]
    return torch.stack(columns, -1)


def colours(coefficients: Tensor, directions: Tensor, degree: int) -> Tensor:
    """Colours (N, 3) >= 0 of coefficients (N, K, 3) along unit directions (N, 3), bands up to `degree`."""
    degree = min(degree, degree_of(coefficients.shape[1]))
    values = basis(directions, degree)
    used = coefficients[:, : values.shape[1]]
    return (0.5 + (values[:, :, None] * used).sum(1)).clamp_min(0)
