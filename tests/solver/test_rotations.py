"""Euler angles of the public API and small turns."""

from __future__ import annotations

import math

import pytest
import torch
from nextgenface.geometry.rotations import euler_to_matrix, matrix_to_euler, small_rotation
from scipy.spatial.transform import Rotation


def _angles(count: int = 50) -> torch.Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 2.9


def test_euler_angles_turn_about_x_then_y_then_z() -> None:
    angles = _angles()
    expected = Rotation.from_euler("xyz", angles.numpy()).as_matrix()  # extrinsic: R = Rz Ry Rx
    assert torch.allclose(euler_to_matrix(angles), torch.tensor(expected), atol=1e-12)
    assert euler_to_matrix(torch.zeros(2, 5, 3)).shape == (2, 5, 3, 3)


def test_a_frontal_face_has_half_a_turn_about_x() -> None:
    frontal = euler_to_matrix(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64))
    assert torch.allclose(frontal, torch.diag(torch.tensor([1.0, -1.0, -1.0]).double()), atol=1e-12)
    assert matrix_to_euler(frontal)[0].item() == pytest.approx(math.pi)


def test_matrix_to_euler_is_the_inverse() -> None:
    matrix = euler_to_matrix(_angles())
    angles = matrix_to_euler(matrix)
    assert torch.allclose(euler_to_matrix(angles), matrix, atol=1e-12)
    assert angles[:, 0].min() >= 0 and angles[:, 0].max() < 2 * math.pi


def test_small_rotations_are_the_exponential_map() -> None:
    vector = _angles()
    expected = torch.tensor(Rotation.from_rotvec(vector.numpy()).as_matrix())
    assert torch.allclose(small_rotation(vector), expected, atol=1e-10)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    turned = small_rotation(zero) @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(turned[0], zero)
    assert slope.tolist() == pytest.approx([0.0, 1.0, 0.0])  # z turns towards x about y
