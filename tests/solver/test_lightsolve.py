"""The closed-form light: it recovers what lit a surface, and is never negative."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nextgenface.fitting.lightsolve import LinearPicture, solve_light
from nextgenface.rendering.light import LOBE_COUNT, fibonacci_sphere, frontal_environment, quadrature

from tests.solver.small_face import lamp

pytestmark = pytest.mark.usefixtures("one_thread")


def _irradiance(normals: torch.Tensor) -> torch.Tensor:
    """Irradiance/pi of each normal per lobe (P, D)."""
    directions, weights, solid_angle = quadrature()
    return (normals @ directions.T).clamp(min=0) @ weights * (solid_angle / math.pi)


def _ball(environment: torch.Tensor, noise: float = 0.0) -> tuple[LinearPicture, torch.Tensor]:
    """What is seen of a matte ball: normals towards the viewer."""
    normals = fibonacci_sphere(800)
    normals = normals[normals[:, 2] > 0.1]
    g = torch.Generator().manual_seed(0)
    base = 0.2 + 0.5 * torch.rand(len(normals), 3, generator=g)
    diffuse = _irradiance(normals)
    target = base * (diffuse @ environment) * (1 + noise * torch.randn(len(normals), 3, generator=g))
    ones = torch.ones(len(normals), 3)
    return LinearPicture(base, diffuse, torch.zeros_like(diffuse), target, ones), normals


COLOURED = lamp((0.7, 0.5, 0.5)) * torch.tensor([1.0, 0.8, 0.6]) + lamp(
    (-0.9, 0.0, 0.3), 0.0, 1.0
) * torch.tensor([0.1, 0.2, 0.5])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_irradiance_of_a_known_light_comes_back(noise: float) -> None:
    picture, normals = _ball(COLOURED, noise)
    found = solve_light(picture, frontal_environment())
    assert found.shape == (LOBE_COUNT, 3) and found.min() >= 0
    truth, again = _irradiance(normals) @ COLOURED, _irradiance(normals) @ found
    relative = ((again - truth).abs() / truth).mean()
    assert relative < (0.03 if noise == 0 else 0.05)
    # and its colours stay apart
    cast = (again / again.mean(1, keepdim=True)) - (truth / truth.mean(1, keepdim=True))
    assert cast.abs().mean() < 0.03


def test_a_glossy_part_is_explained_too() -> None:
    plain, _ = _ball(COLOURED)
    g = torch.Generator().manual_seed(1)
    glossy = 0.05 * torch.rand(len(plain.base), LOBE_COUNT, generator=g) / LOBE_COUNT * 8
    target = plain.target + glossy @ COLOURED
    picture = LinearPicture(plain.base, plain.diffuse, glossy, target, plain.weight)
    found = solve_light(picture, frontal_environment())
    again = plain.base * (plain.diffuse @ found) + glossy @ found
    assert ((again - target).abs() / target).mean() < 0.03


def test_light_that_red_skin_sends_on_is_not_taken_for_red_light() -> None:
    """A grey light, a third of which comes by way of skin that returns red: the light found is grey."""
    grey = lamp((0.7, 0.5, 0.5)) + 0.2
    plain, normals = _ball(grey)
    tint = torch.tensor([1.6, 0.8, 0.6])
    indirect = 0.5 * _irradiance(-normals)
    target = plain.base * (plain.diffuse @ grey + tint * (indirect @ grey))
    told = replace(plain, target=target, indirect=indirect, tint=tint)
    found, misled = (solve_light(p, frontal_environment()) for p in (told, replace(plain, target=target)))
    lit = [_irradiance(normals) @ e for e in (found, misled)]
    cast = [float((e / e.mean(1, keepdim=True) - 1).abs().mean()) for e in lit]
    assert cast[0] < 0.045
    assert cast[1] > 0.09
    again = told.base * (told.diffuse @ found + tint * (indirect @ found))
    assert ((again - target).abs() / target).mean() < 0.03


def test_what_would_need_negative_light_stays_at_zero() -> None:
    picture, _ = _ball(COLOURED)
    inverted = LinearPicture(picture.base, picture.diffuse, picture.glossy, -picture.target, picture.weight)
    found = solve_light(inverted, frontal_environment())
    assert found.min() >= 0 and found.max() < 1e-3


def test_samples_without_weight_do_not_count() -> None:
    picture, _ = _ball(COLOURED)
    weight, target = picture.weight.clone(), picture.target.clone()
    weight[::3] = 0.0
    target[::3] = 50.0
    masked = LinearPicture(picture.base, picture.diffuse, picture.glossy, target, weight)
    kept = torch.ones(len(weight), dtype=torch.bool)
    kept[::3] = False
    only = LinearPicture(*(t[kept] for t in (picture.base, picture.diffuse, picture.glossy, target, weight)))
    a, b = solve_light(masked, frontal_environment()), solve_light(only, frontal_environment())
    assert torch.allclose(a, b, atol=1e-3)


def test_lobes_that_nothing_sees_take_after_the_rest() -> None:
    """Light from behind the head is unknown: it is near its neighbours', not zero, not wild."""
    picture, _ = _ball(torch.full((LOBE_COUNT, 3), 0.8))
    found = solve_light(picture, torch.full((LOBE_COUNT, 3), 0.1))
    assert found.min() > 0.4 and found.max() < 1.2


def test_the_start_does_not_decide_and_nothing_is_changed_in_place() -> None:
    picture, normals = _ball(COLOURED)
    start = frontal_environment()
    kept = start.clone()
    a, b = solve_light(picture, start), solve_light(picture, torch.full((LOBE_COUNT, 3), 2.0))
    assert torch.equal(start, kept)
    one, two = _irradiance(normals) @ a, _irradiance(normals) @ b
    assert ((one - two).abs() / one).mean() < 0.01
