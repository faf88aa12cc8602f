"""Gaussians are added and removed with the optimiser's state."""

from __future__ import annotations

import math

import pytest
import torch
from nextgenface.multiview.gaussians.density import (
    Limits,
    exchange,
    grown,
    inside_masks,
    make_optimizer,
    reset_opacity,
    visible_share,
    worth_keeping,
)
from nextgenface.multiview.gaussians.rendering import Pinhole
from nextgenface.multiview.gaussians.splats import Splats

from tests.solver.splat_ball import ANGLES, SIZE, ball, pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def limits(**changes: float) -> Limits:
    low, high = torch.full((3,), -60.0), torch.full((3,), 60.0)
    values = {"smallest": 0.1, "largest": 10.0, "split_above": 3.0, **changes}
    return Limits(low, high, **values)


def stepped(splats: Splats) -> torch.optim.Adam:
    """An optimiser with some momentum in every Gaussian."""
    optimizer = make_optimizer(splats, dict.fromkeys(splats.tensors(), 0.01))
    total = torch.stack([(value * torch.arange(1, len(value) + 1).view(-1, *[1] * (value.ndim - 1))).sum()
                         for value in splats.tensors().values()]).sum()  # fmt: skip
    total.backward()
    optimizer.step()
    return optimizer


def test_what_stays_keeps_its_momentum_and_what_is_new_has_none() -> None:
    splats = Splats.from_points(torch.eye(3) * 10, torch.rand(3, 3), scale=2.0)
    optimizer = stepped(splats)
    before = optimizer.state[splats.positions]["exp_avg"].clone()
    more, rows, fresh = grown(splats, torch.tensor([0.0, 2.0, 1.0]), 1, limits(), torch.Generator())
    exchange(optimizer, more, rows, fresh)
    after = optimizer.state[more.positions]["exp_avg"]
    assert len(more) == 4 and rows.tolist() == [0, 1, 2, 1]
    assert torch.equal(after[:3], before) and after[3].abs().max() == 0
    keep = torch.tensor([True, False, True, True])
    fewer = more.take(keep)
    exchange(optimizer, fewer, torch.nonzero(keep)[:, 0])
    assert torch.equal(optimizer.state[fewer.positions]["exp_avg"][:2], before[[0, 2]])
    assert optimizer.param_groups[0]["params"][0] is fewer.positions and fewer.positions.requires_grad


def test_small_gaussians_are_cloned_large_ones_split_and_opacity_stays() -> None:
    splats = Splats.from_points(
        torch.zeros(2, 3), torch.rand(2, 3), scale=torch.tensor([1.0, 8.0]), opacity=0.84
    )
    more, _, fresh = grown(splats, torch.ones(2), 2, limits(), torch.Generator().manual_seed(0))
    assert len(more) == 4
    clones, halves = more.take(torch.tensor([0, 2])), more.take(torch.tensor([1, 3]))
    assert clones.positions.abs().max() == 0 and torch.allclose(clones.scales, torch.ones(2, 3))
    assert halves.positions.abs().min() > 0 and torch.allclose(halves.scales, torch.full((2, 3), 5.0))
    assert torch.allclose(1 - (1 - more.opacities) ** 2, torch.full((4,), 0.84), atol=1e-5)
    assert fresh.tolist() == [False, True, True, True]


def test_faint_far_and_broken_gaussians_go() -> None:
    splats = Splats.from_points(torch.zeros(4, 3), torch.rand(4, 3), scale=1.0)
    splats.opacity_logits[0] = -9
    splats.positions[1, 2] = 61
    splats.log_scales[2, 0] = math.nan
    assert worth_keeping(splats, limits()).tolist() == [False, False, False, True]


def test_masks_and_views_say_what_may_stay() -> None:
    views = pictures(ANGLES)
    masks = [(Pinhole.of(v.camera), torch.as_tensor(v.mask)) for v in views if v.mask is not None]
    places = torch.tensor([[0.0, 0, 0], [0, 40, 0], [70, 0, 0], [400, 0, 0], [0, 0, 900]])
    assert inside_masks(places, masks).tolist() == [True, True, False, False, False]
    cut_off = [(masks[0][0], torch.ones(SIZE, SIZE))]
    assert inside_masks(places, cut_off).tolist() == [True, True, True, True, False]
    hidden = Splats.joined([ball(), Splats.from_points(torch.zeros(1, 3), torch.ones(1, 3), scale=3.0)])
    share = visible_share(hidden, [camera for camera, _ in masks])
    assert share[-1] < 0.1 * share[:-1].median()


def test_opacity_reset_caps_and_forgets() -> None:
    splats = Splats.from_points(torch.zeros(3, 3), torch.rand(3, 3), scale=1.0, opacity=0.9)
    optimizer = stepped(splats)
    reset_opacity(optimizer, splats, 0.1)
    assert torch.allclose(splats.opacities, torch.full((3,), 0.1), atol=1e-6)
    assert optimizer.state[splats.opacity_logits]["exp_avg"].abs().max() == 0
    assert optimizer.state[splats.positions]["exp_avg"].abs().max() > 0
