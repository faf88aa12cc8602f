"""Light from skin to skin, against cavities whose exchange is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nextgenface.rendering.bounce import ORDERS, Bounce, trace_bounce
from nextgenface.rendering.light import quadrature
from nextgenface.rendering.visibility import vertex_visibility
from torch import Tensor

RADIUS = 80.0


def bowl(rings: int = 24, around: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """A half sphere, open towards +z: vertices (V, 3) mm, unit normals to its inside (V, 3), faces (F, 3)."""
    polar = np.linspace(0.02, math.pi / 2, rings)
    azimuth = np.arange(around) / around * 2 * math.pi
    p, a = np.meshgrid(polar, azimuth, indexing="ij")
    outward = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), -np.cos(p)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    k = (j + 1) % around
    one, two = i * around + j, i * around + k
    three, four = one + around, two + around
    faces = np.concatenate([np.stack([one, three, two], -1), np.stack([two, three, four], -1)]).reshape(-1, 3)
    unit = torch.tensor(outward, dtype=torch.float32)
    return RADIUS * unit, -unit, torch.tensor(faces)


@pytest.fixture(scope="module")
def in_bowl() -> tuple[Bounce, Tensor, Tensor]:
    """The exchange in a bowl, what arrives at its patches from a white sky, and at its vertices."""
    points, normals, faces = bowl()
    directions, _, solid_angle = quadrature()
    visible = vertex_visibility(points, normals, faces, directions)
    cosine = (normals @ directions.T).clamp(min=0)
    arriving = (visible * cosine).sum(1, keepdim=True) * solid_angle / math.pi
    openness = (visible * cosine).sum(1) / cosine.sum(1)
    bounce = trace_bounce(points, normals, faces, visible, openness, torch.arange(len(points)))
    return bounce, arriving[bounce.patches], arriving


@pytest.mark.parametrize("albedo", [0.2, 0.5, 0.8])
def test_a_bowl_under_a_white_sky_has_its_known_irradiance(
    in_bowl: tuple[Bounce, Tensor, Tensor], albedo: float
) -> None:
    """Parts of a sphere see each other by their share of its area: E = 1/2 + albedo/2 E in a half one."""
    bounce, at_patches, direct = in_bowl
    total = direct + bounce.gathered(at_patches, torch.full((len(at_patches), 1), albedo))
    expected = 0.5 * sum((albedo / 2) ** k for k in range(ORDERS + 2))
    inner = slice(64 * 4, -64 * 4)  # the rim and the pole of a coarse mesh are not a sphere's
    assert float(total[inner].mean()) == pytest.approx(expected, rel=0.03)
    assert float(total[inner].std()) < 0.06


def test_light_is_linear_and_takes_the_colour_of_what_sends_it(
    in_bowl: tuple[Bounce, Tensor, Tensor],
) -> None:
    bounce, at_patches, _ = in_bowl
    red = torch.tensor([[0.8, 0.2, 0.1]]).expand(len(at_patches), 3)
    white = at_patches.expand(-1, 3)
    gathered = bounce.gathered(white, red)
    assert (gathered[:, 0] > 3 * gathered[:, 1]).float().mean() > 0.95
    assert torch.allclose(bounce.gathered(2 * white, red), 2 * gathered, atol=1e-6)


def test_a_wall_lights_the_floor_next_to_it_but_not_the_one_behind_it() -> None:
    """A lit wall (y = 0, facing +y) and a floor on both of its sides: only the floor it faces gets light."""
    side = torch.linspace(-60, 60, 25)
    x, y = torch.meshgrid(side, side, indexing="ij")
    floor = torch.stack([x, y, torch.zeros_like(x)], -1).view(-1, 3)
    height = torch.linspace(1, 61, 25)
    x, z = torch.meshgrid(side, height, indexing="ij")
    wall = torch.stack([x, torch.zeros_like(x), z], -1).view(-1, 3)
    i = torch.arange(24)
    base = (i[:, None] * 25 + i).view(-1)
    quad = torch.cat(
        [torch.stack([base, base + 25, base + 1], 1), torch.stack([base + 1, base + 25, base + 26], 1)]
    )
    points = torch.cat([floor, wall])
    normals = torch.cat(
        [torch.tensor([0.0, 0, 1]).expand(len(floor), 3), torch.tensor([0.0, 1, 0]).expand(len(wall), 3)]
    )
    faces = torch.cat([quad, quad + len(floor)])
    openness = torch.full((len(points),), 0.7)
    visible = torch.ones(len(points), 4)
    bounce = trace_bounce(points, normals, faces, visible, openness, torch.arange(len(floor)))
    lit = (bounce.patches >= len(floor)).float()[:, None]  # the wall only
    gathered = bounce.gathered(lit, torch.ones_like(lit))[:, 0]
    ahead, behind = floor[:, 1] > 5, floor[:, 1] < -5
    assert float(gathered[behind].abs().max()) == 0
    near = ahead & (floor[:, 1] < 15) & (floor[:, 0].abs() < 30)
    far = (floor[:, 1] > 45) & (floor[:, 0].abs() < 30)
    assert float(gathered[near].min()) > 0.2
    # Of the blocked 0.3 of the sky comes the wall's light, and what floor and wall send to and fro.
    assert 0.3 - 1e-5 <= float(gathered[far].min()) <= float(gathered[far].max()) <= 0.3 / (1 - 0.3**2)
