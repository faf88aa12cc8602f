"""The light that is solved for: non-negative lobes on the sphere, and its interchange forms.

The environment is L(d) = sum_j e_j w_j(d), with D radiances e_j >= 0 and smooth weights w_j that are
non-negative and sum to one (a normalised von Mises-Fisher mixture around a Fibonacci sphere). So any
non-negative e gives a non-negative environment, and equal e give a uniform one. All directions are in the
light frame: x right, y up, z towards the viewer. Radiance is linear Rec.709.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

LOBE_COUNT = 128
QUADRATURE_COUNT = 320
_SHARPNESS = 55.0  # kappa; lobes of about 128 on the sphere overlap their neighbours at half height


def fibonacci_sphere(count: int) -> Tensor:
    """`count` nearly equal-area unit directions, (count, 3)."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    phi = i * math.pi * (3.0 - math.sqrt(5.0))
    y = 1.0 - 2.0 * i / count
    r = torch.sqrt(1.0 - y * y)
    return torch.stack([r * torch.sin(phi), y, r * torch.cos(phi)], 1).float()


def lobe_weights(directions: Tensor) -> Tensor:
    """w_j(d) for unit directions (N, 3) in the light frame -> (N, D), rows sum to one."""
    centres = _lobe_centres().to(directions)
    return torch.softmax(_SHARPNESS * directions @ centres.T, dim=1)


@lru_cache(maxsize=1)
def _lobe_centres() -> Tensor:
    return fibonacci_sphere(LOBE_COUNT)


def lobe_centres() -> Tensor:
    """Centre directions of the lobes, (D, 3), light frame."""
    return _lobe_centres().clone()


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Tensor, Tensor]:
    directions = fibonacci_sphere(QUADRATURE_COUNT)
    return directions, lobe_weights(directions)


def quadrature() -> tuple[Tensor, Tensor, float]:
    """Directions (Q, 3), their lobe weights (Q, D), and the solid angle of each sample (sr)."""
    directions, weights = _quadrature()
    return directions.clone(), weights.clone(), 4.0 * math.pi / QUADRATURE_COUNT


def frontal_environment() -> Tensor:
    """A start value (D, 3): soft grey light, brighter from the viewer's side and above."""
    d = _lobe_centres()
    brightness = 0.35 + 0.35 * (d[:, 2] * 0.8 + d[:, 1] * 0.6).clamp(min=0)
    return brightness[:, None].expand(LOBE_COUNT, 3).contiguous()


def lobes_to_map(environment: Tensor, height: int, rotation: Tensor | None = None) -> Tensor:
    """Equirectangular map (height, 2*height, 3) of an environment (D, 3).

    `rotation` (3, 3) takes the light frame to the frame of the map (solver convention, see
    docs/architecture.md); None keeps the light frame.
    """
    from .sh import equirect_directions

    directions = equirect_directions(height, 2 * height).reshape(-1, 3).to(environment)
    if rotation is not None:
        directions = directions @ rotation.to(environment)  # d_light = R^T d_map, as rows: d_map R
    return (lobe_weights(directions) @ environment).reshape(height, 2 * height, 3)


@lru_cache(maxsize=4)
def _sh_of_lobes(bands: int) -> Tensor:
    from .sh import sh_basis

    count = 8192
    directions = fibonacci_sphere(count)
    return sh_basis(directions, bands).T @ lobe_weights(directions) * (4.0 * math.pi / count)


def lobes_to_sh(environment: Tensor, bands: int) -> Tensor:
    """Radiance SH coefficients (..., bands^2, 3) of an environment (..., D, 3), light frame."""
    return torch.einsum("kd,...dc->...kc", _sh_of_lobes(bands).to(environment), environment)


def sh_to_lobes(sh: Tensor) -> Tensor:
    """The non-negative lobes (..., D, 3) nearest to SH radiance (..., B^2, 3): its value at the centres."""
    from .sh import sh_basis

    bands = math.isqrt(sh.shape[-2])
    basis = sh_basis(_lobe_centres(), bands).to(sh)
    return torch.einsum("dk,...kc->...dc", basis, sh).clamp(min=0)
