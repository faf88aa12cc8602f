"""Relief: smooth, small, and only where the surface may move."""

from __future__ import annotations

import pytest
import torch
from nextgenface.fitting.relief import SPREAD, Relief
from nextgenface.fitting.whitened import soft_range, soft_range_slope, whiten

from tests.solver.small_face import small_model

pytestmark = pytest.mark.usefixtures("one_thread")


def _count() -> int:
    return small_model().vertex_count


def _relief(movable: torch.Tensor) -> Relief:
    return Relief(torch.tensor(small_model().faces), _count(), movable)


def test_nothing_moves_at_the_start() -> None:
    relief = _relief(torch.ones(_count()))
    assert relief.raw.requires_grad
    assert relief.displacement().shape == (_count(),) and relief.displacement().abs().max() == 0
    assert relief.prior().item() == 0


def test_smoothing_keeps_constants_and_spreads_peaks() -> None:
    relief = _relief(torch.ones(_count()))
    with torch.no_grad():
        relief.raw.fill_(2.0)
        assert torch.allclose(relief.displacement(), torch.full((_count(),), 2.0), atol=1e-4)
        assert relief.prior().item() == pytest.approx(0.5 * (2.0 / SPREAD) ** 2)
        relief.raw.zero_()
        nose = int(small_model().landmarks["mediapipe"][4])
        relief.raw[nose] = 1.0
        bump = relief.displacement()
        assert int(bump.argmax()) == nose and 0 < bump.max() < 0.3
        place = torch.tensor(small_model().shape_mean)
        far = (place - place[nose]).norm(dim=1) > 60
        assert bump[far].abs().max() < 1e-3 and bump.min() >= 0


def test_what_may_not_move_stays() -> None:
    movable = (torch.tensor(small_model().shape_mean)[:, 1] > 0).float()
    relief = _relief(movable)
    with torch.no_grad():
        relief.raw.fill_(1.0)
    moved = relief.displacement()
    assert (moved[movable == 0] == 0).all() and (moved[movable > 0] > 0.9).all()


def test_gradients_reach_the_raw_values() -> None:
    relief = _relief(torch.ones(_count()))
    g = torch.randn(_count(), generator=torch.Generator().manual_seed(0))
    (relief.displacement() * g).sum().backward()
    slope = relief.raw.grad
    assert slope is not None
    # smooth pulls lead to smooth moves: the gradient is itself an average of neighbours
    assert 0 < slope.std() < 0.6 * g.std()


def test_whitened_coefficients_are_in_standard_deviations() -> None:
    w = whiten(small_model(), "cpu")
    z = torch.zeros(len(w.shape_sd))
    z[1] = 2.0
    moved = w.vertices(z, torch.zeros(len(w.expression_sd))) - w.neutral
    expected = 2.0 * small_model().shape_variance[1] ** 0.5 * small_model().shape_basis[1]
    assert torch.allclose(moved, torch.tensor(expected), atol=1e-3)
    lifted = w.vertices(z * 0, torch.zeros(len(w.expression_sd)), torch.ones(_count(), 3))
    assert torch.allclose(lifted, w.neutral + 1)
    grey = w.colour(torch.zeros(len(w.diffuse_sd)))
    assert torch.allclose(grey, w.diffuse_mean.clamp(0.004, 0.96), atol=2e-3)
    wild = torch.full((len(w.diffuse_sd),), 8.0)
    assert w.colour(wild).min() > 0 and w.colour(wild).max() <= 1 and w.level(wild).min() >= 0


def test_soft_range_bends_outside_and_its_slope_is_its_derivative() -> None:
    x = torch.tensor([-0.5, 0.001, 0.3, 0.97, 1.5], dtype=torch.float64, requires_grad=True)
    y = soft_range(x, 0.004, 0.96)
    assert y[2] == x[2] and y.min() > 0 and y.max() <= 1
    y.sum().backward()
    assert x.grad is not None
    assert (
        x.grad.tolist() == soft_range_slope(x.detach(), 0.004, 0.96).tolist() == [0.0, 0.25, 1.0, 0.25, 0.0]
    )
