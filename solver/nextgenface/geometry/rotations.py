"""Rotations: the Euler angles of the public API and small turns for optimisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def euler_to_matrix(angles: Tensor) -> Tensor:
    """R = Rz Ry Rx for angles (..., 3) = (rx, ry, rz) in radians -> (..., 3, 3)."""
    rx, ry, rz = angles.unbind(-1)
    cx, sx, cy, sy, cz, sz = rx.cos(), rx.sin(), ry.cos(), ry.sin(), rz.cos(), rz.sin()
    rows = [
        cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx,
        sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx,
        -sy, cy * sx, cy * cx,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """The inverse of `euler_to_matrix`, (..., 3, 3) -> (..., 3); rx is in [0, 2 pi), as in the guide."""
    rx = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    ry = torch.atan2(-matrix[..., 2, 0], torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))
    rz = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    rx = torch.where(rx < 0, rx + 2 * math.pi, rx)
    return torch.stack([rx, ry, rz], -1)


def small_rotation(vector: Tensor) -> Tensor:
    """Rotation matrices exp([w]x) of rotation vectors (..., 3), differentiable at zero (Rodrigues)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    # sin(t)/t and (1 - cos t)/t^2 without a division; the root's own slope is infinite at 0 alone
    angle = ((vector**2).sum(-1) + torch.finfo(vector.dtype).tiny).sqrt()[..., None, None]
    half = torch.sinc(angle / (2 * math.pi))
    one = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return one + torch.sinc(angle / math.pi) * cross + 0.5 * half**2 * (cross @ cross)
