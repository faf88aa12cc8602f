"""Spherical harmonics and equirectangular maps: orthonormality, frame, rotation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nextgenface.rendering import sh
from scipy.spatial.transform import Rotation


def _random_directions(count: int, seed: int = 0) -> torch.Tensor:
    directions = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(directions, dim=-1)


def test_basis_is_orthonormal() -> None:
    height, width = 96, 192
    basis = sh.sh_basis(sh.equirect_directions(height, width, dtype=torch.float64).reshape(-1, 3), 9)
    weights = sh.solid_angles(height, width, dtype=torch.float64).repeat_interleave(width)
    assert weights.sum().item() == pytest.approx(4 * math.pi, rel=1e-12)
    gram = basis.T @ (basis * weights[:, None])
    assert torch.allclose(gram, torch.eye(81, dtype=torch.float64), atol=2e-3)


def test_first_bands_have_the_documented_axes_and_signs() -> None:
    d = _random_directions(50)
    x, y, z = d.unbind(-1)
    basis = sh.sh_basis(d, 3)
    k1 = math.sqrt(3 / (4 * math.pi))
    expected = {
        0: torch.full_like(x, math.sqrt(1 / (4 * math.pi))),
        1: k1 * x,  # m = -1: sin phi sin theta, phi = atan2(x, z)
        2: k1 * y,
        3: k1 * z,
        4: math.sqrt(15 / (4 * math.pi)) * x * z,
        5: math.sqrt(15 / (4 * math.pi)) * x * y,
        6: math.sqrt(5 / (16 * math.pi)) * (3 * y * y - 1),
        7: math.sqrt(15 / (4 * math.pi)) * y * z,
        8: math.sqrt(15 / (16 * math.pi)) * (z * z - x * x),
    }
    for index, value in expected.items():
        assert torch.allclose(basis[:, index], value, atol=1e-12), index


def test_basis_agrees_with_scipy_in_high_bands() -> None:
    from scipy.special import lpmv

    d = _random_directions(40, 3)
    theta, phi = torch.acos(d[:, 1]).numpy(), torch.atan2(d[:, 0], d[:, 2]).numpy()
    basis = sh.sh_basis(d, 9).numpy()
    for degree in range(9):
        for m in range(-degree, degree + 1):
            n = abs(m)
            norm = math.sqrt(
                (2 * degree + 1) / (4 * math.pi) * math.factorial(degree - n) / math.factorial(degree + n)
            )
            legendre = (-1) ** n * lpmv(n, degree, np.cos(theta))  # scipy has the Condon-Shortley sign
            angular = 1.0 if m == 0 else math.sqrt(2) * (np.cos(n * phi) if m > 0 else np.sin(n * phi))
            assert np.allclose(basis[:, degree * (degree + 1) + m], norm * legendre * angular, atol=1e-10)


def test_map_directions() -> None:
    directions = sh.equirect_directions(128, 256)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(128, 256), atol=1e-6)
    assert directions[0, :, 1].min() > 0.99  # row 0 is up
    assert directions[64, 128, 2] > 0.99  # centre column is +z
    assert directions[64, 64, 0] > 0.99  # column 64 is +x
    assert directions[64, 192, 0] < -0.99


def test_projection_and_evaluation_are_inverse() -> None:
    coefficients = torch.randn(25, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = sh.sh_to_environment(coefficients, 64, 128, clamp=False)
    assert torch.allclose(sh.project_to_sh(values, 5), coefficients, atol=5e-3)
    assert sh.sh_to_environment(coefficients, 16, 32).min() == 0.0
    with pytest.raises(ValueError, match="bands"):
        sh.sh_to_environment(coefficients[:24], 8, 16)


def test_lookup_reproduces_the_map_and_rotation_moves_the_light() -> None:
    environment = torch.rand(32, 64, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    directions = sh.equirect_directions(32, 64, dtype=torch.float64)
    assert torch.allclose(sh.sample_environment(environment, directions), environment, atol=1e-8)

    rotation = torch.tensor(Rotation.from_euler("xyz", [25, -40, 60], degrees=True).as_matrix())
    lamp = torch.nn.functional.normalize(torch.tensor([0.4, 0.5, 0.7], dtype=torch.float64), dim=0)
    fine = sh.equirect_directions(128, 256, dtype=torch.float64)
    light = torch.exp(20 * (fine @ lamp - 1))[..., None]
    turned = sh.rotate_environment(light, rotation)
    expected = torch.exp(20 * (fine @ (rotation @ lamp) - 1))[..., None]
    # Bilinear look-up of a lobe with curvature 20 in pixels of pi/128: 2 * 20 * (pi/128)^2 / 8.
    assert (turned - expected).abs().max() < 3.1e-3


def test_smoothing_keeps_the_mean_and_removes_ringing() -> None:
    environment = torch.zeros(64, 128, 1, dtype=torch.float64)
    environment[20:24, 60:68] = 100.0
    coefficients = sh.project_to_sh(environment, 9)
    window = sh.smoothing_window(9, dtype=torch.float64)
    sharp = sh.sh_to_environment(coefficients, 64, 128, clamp=False)
    soft = sh.sh_to_environment(coefficients * window[:, None], 64, 128, clamp=False)
    assert window[0] == 1.0 and torch.all(window > 0)
    assert soft.min() / soft.max() > 0.5 * sharp.min() / sharp.max()  # less negative, relative to the peak
    lanczos = sh.smoothing_window(9, "sinc", 4.0)
    assert lanczos[0] == 1.0 and torch.all(lanczos[16:] == 0)
    with pytest.raises(ValueError, match="gaussian"):
        sh.smoothing_window(9, "box")


def test_legacy_light_has_the_values_recorded_from_the_old_program() -> None:
    coefficients = torch.zeros(81, 3)
    coefficients[0], coefficients[2] = 0.5, -0.5
    light = sh.legacy_environment(coefficients, 64, 64)
    assert light[:, 0].max() == 0.0
    assert light[:, 63].mean().item() == pytest.approx(0.385, abs=1e-3)
