"""The lobes of the light: partition of unity, frames, and their interchange forms."""

from __future__ import annotations

import math

import pytest
import torch
from nextgenface.rendering import light
from nextgenface.rendering.sh import equirect_directions, sh_basis
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.usefixtures("one_thread")


def _random_directions(count: int = 200) -> torch.Tensor:
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(directions, dim=1)


def _one_lobe(index: int) -> torch.Tensor:
    environment = torch.zeros(light.LOBE_COUNT, 3)
    environment[index] = torch.tensor([1.0, 0.5, 0.25])
    return environment


def test_weights_are_non_negative_and_sum_to_one() -> None:
    weights = light.lobe_weights(_random_directions())
    assert weights.shape == (200, light.LOBE_COUNT) and weights.min() >= 0
    assert torch.allclose(weights.sum(1), torch.ones(200), atol=1e-5)
    # so equal radiances are a uniform light
    picture = light.lobes_to_map(torch.full((light.LOBE_COUNT, 3), 0.7), 16)
    assert picture.shape == (16, 32, 3) and torch.allclose(picture, torch.full_like(picture, 0.7), atol=1e-5)


def test_centres_are_spread_evenly_and_win_at_their_own_place() -> None:
    centres = light.lobe_centres()
    assert torch.allclose(centres.norm(dim=1), torch.ones(light.LOBE_COUNT), atol=1e-6)
    assert centres.mean(0).abs().max() < 0.02
    assert torch.equal(light.lobe_weights(centres).argmax(1), torch.arange(light.LOBE_COUNT))


def test_callers_cannot_change_the_shared_tables() -> None:
    light.lobe_centres().zero_()
    directions, weights, _ = light.quadrature()
    directions.zero_(), weights.zero_()
    assert light.lobe_centres().norm(dim=1).min() > 0.9
    assert light.quadrature()[0].norm(dim=1).min() > 0.9


def test_quadrature_integrates_over_the_sphere() -> None:
    directions, weights, solid_angle = light.quadrature()
    assert len(directions) * solid_angle == pytest.approx(4 * math.pi)
    assert torch.allclose(weights, light.lobe_weights(directions))
    for axis in _random_directions(20):
        assert float((directions @ axis).clamp(min=0).sum() * solid_angle) == pytest.approx(math.pi, rel=0.02)


@pytest.mark.parametrize("index", [3, 40, 64, 99, 124])
def test_a_lobe_is_brightest_in_the_map_where_its_centre_points(index: int) -> None:
    """Maps have +y in the first row, +z (the viewer) in the centre column, +x (right) left of it."""
    picture = light.lobes_to_map(_one_lobe(index), 64)
    row, column = divmod(int(picture[..., 0].argmax()), 128)
    found = equirect_directions(64, 128)[row, column]
    assert torch.rad2deg(torch.acos(found @ light.lobe_centres()[index])) < 6.0
    assert torch.allclose(picture[..., 2] * 4, picture[..., 0], atol=1e-5)


def test_light_from_above_right_and_front_lies_there_in_the_map() -> None:
    centres = light.lobe_centres()
    v, u = (torch.arange(32) + 0.5) / 32, (torch.arange(64) + 0.5) / 64

    def place(axis: int) -> tuple[float, float]:
        """Centre of gravity (row, column), 0..1, of light from one axis."""
        glow = (centres[:, axis] > 0.9).float()[:, None].expand(-1, 3)
        picture = light.lobes_to_map(glow, 32)[..., 0]
        return float((picture.sum(1) * v).sum() / picture.sum()), float(
            (picture.sum(0) * u).sum() / picture.sum()
        )

    assert place(1)[0] < 0.2
    assert place(0) == pytest.approx((0.5, 0.25), abs=0.03)
    assert place(2) == pytest.approx((0.5, 0.5), abs=0.03)


def test_a_rotation_takes_the_light_frame_to_that_of_the_map() -> None:
    turn = torch.tensor(Rotation.from_euler("xyz", [30, -50, 70], degrees=True).as_matrix()).float()
    picture = light.lobes_to_map(_one_lobe(40), 64, turn)
    row, column = divmod(int(picture[..., 0].argmax()), 128)
    found = equirect_directions(64, 128)[row, column]
    assert torch.rad2deg(torch.acos(found @ (turn @ light.lobe_centres()[40]))) < 6.0


def test_spherical_harmonics_hold_what_the_lobes_hold() -> None:
    centres = light.lobe_centres()
    environment = (
        (0.6 + 0.3 * centres[:, 1:2] + 0.2 * centres[:, :1] * centres[:, 2:]).expand(-1, 3).contiguous()
    )
    sh = light.lobes_to_sh(environment, 9)
    assert sh.shape == (81, 3)
    directions = _random_directions()
    again = sh_basis(directions, 9) @ sh
    assert (again - light.lobe_weights(directions) @ environment).abs().max() < 0.02
    # band 0 is the mean radiance times sqrt(4 pi); band 1 points at the light: index 1 + m is (x, y, z)
    assert sh[0, 0].item() == pytest.approx(0.6 * math.sqrt(4 * math.pi), rel=0.02)
    for axis, index in enumerate((1, 2, 3)):
        glow = (centres[:, axis] > 0.9).float()[:, None].expand(-1, 3)
        band = light.lobes_to_sh(glow, 2)[1:, 0]
        assert int(band.argmax()) == index - 1 and band[index - 1] > 3 * band.abs().sum() / 4
    stack = torch.stack([environment, 2 * environment])
    assert torch.allclose(light.lobes_to_sh(stack, 9)[1], 2 * sh, atol=1e-5)


def test_lobes_from_harmonics_are_non_negative_and_near_the_light() -> None:
    harsh = light.lobes_to_sh(_one_lobe(64), 3)  # rings below zero
    assert (sh_basis(light.lobe_centres(), 3) @ harsh).min() < 0
    back = light.sh_to_lobes(harsh)
    assert back.shape == (light.LOBE_COUNT, 3) and back.min() >= 0
    assert int(back[:, 0].argmax()) == 64
    smooth = light.frontal_environment()
    again = light.sh_to_lobes(light.lobes_to_sh(smooth, 9)[None])[0]
    assert (again - smooth).abs().mean() < 0.05 * smooth.mean()


def test_start_light_is_positive_grey_and_from_the_front() -> None:
    start = light.frontal_environment()
    assert start.shape == (light.LOBE_COUNT, 3) and start.min() > 0 and torch.equal(start[:, 0], start[:, 2])
    direction = (light.lobe_centres() * start[:, :1]).sum(0)
    assert direction[2] > 0 and direction[1] > 0 and direction[0].abs() < 0.1 * direction[2]
