"""Relief: smooth, small, and only where the surface may move."""

from __future__ import annotations

import pytest
import torch
from nextgenface.fitting.relief import LID_GAP, MOST_LIFT, SPREAD, Relief, lid_clearance
from nextgenface.fitting.whitened import soft_range, soft_range_slope, whiten
from nextgenface.rendering.light import fibonacci_sphere

from tests.solver.small_face import small_model, trimmed_model

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


RADIUS = 12.0
"""Of the eyeballs below, mm; they sit 30 mm left and right of the middle."""


def _eye_and_plate(height: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vertices, eye and skin flags of two eyeballs and a plate of 1 mm meshes at z = `height` across them."""
    ball = RADIUS * fibonacci_sphere(200)
    sides = [ball + torch.tensor([x, 0.0, 0.0]) for x in (-30.0, 30.0)]
    x, y = torch.meshgrid(torch.arange(-50.0, 51), torch.arange(-20.0, 21), indexing="ij")
    plate = torch.stack([x, y, torch.full_like(x, height)], -1).reshape(-1, 3)
    eyes = torch.cat([torch.ones(400), torch.zeros(len(plate))])
    return torch.cat([*sides, plate]), eyes, 1 - eyes


def _distance(vertices: torch.Tensor) -> torch.Tensor:
    """From the centre of the nearer eyeball (V,)."""
    folded = torch.cat([vertices[:, :1].abs(), vertices[:, 1:]], 1)
    return (folded - torch.tensor([30.0, 0.0, 0.0])).norm(dim=1)


def test_a_lid_is_lifted_off_the_eyeball() -> None:
    vertices, eyes, skin = _eye_and_plate(RADIUS - 1.0)
    lift = lid_clearance(vertices, eyes, skin)
    inside = (skin > 0) & (_distance(vertices) < RADIUS)
    assert inside[vertices[:, 0] > 0].sum() > 20 and inside[vertices[:, 0] < 0].sum() > 20
    # as far as it lacks to the surface and the gap, and nothing further out
    expected = (RADIUS + LID_GAP - _distance(vertices)).clamp(min=0) * skin
    assert torch.allclose(lift, expected, atol=1e-3)
    assert lift.max().item() == pytest.approx(1.0 + LID_GAP, abs=1e-3)
    moved = vertices + lift[:, None] * torch.tensor([0.0, 0.0, 1.0])
    assert _distance(moved)[skin > 0].min() > RADIUS
    assert lid_clearance(moved, eyes, skin).max() < LID_GAP
    free, _, _ = _eye_and_plate(RADIUS + LID_GAP + 0.01)
    assert lid_clearance(free, eyes, skin).abs().max() == 0


def test_only_skin_in_front_of_an_eyeball_and_near_its_surface_is_lifted() -> None:
    vertices, eyes, skin = _eye_and_plate(RADIUS - 1.0)
    assert lid_clearance(vertices, eyes, skin * 0).abs().max() == 0
    behind, _, _ = _eye_and_plate(-(RADIUS - 1.0))
    assert lid_clearance(behind, eyes, skin).abs().max() == 0
    # what lies deep in the socket belongs there
    deep, _, _ = _eye_and_plate(2.0)
    lift = lid_clearance(deep, eyes, skin)
    assert lift.max() < MOST_LIFT and (lift[_distance(deep) < RADIUS + LID_GAP - MOST_LIFT] == 0).all()
    # a model without eyeballs has nothing to clear, one with a single eyeball only that one
    assert lid_clearance(vertices, eyes * 0, skin).abs().max() == 0
    one = lid_clearance(vertices, eyes * (vertices[:, 0] > 0), skin)
    assert one[vertices[:, 0] > 0].max() > 1 and one[vertices[:, 0] <= 0].max() == 0


def test_regions_of_the_fit_follow_those_of_the_model() -> None:
    model = trimmed_model()
    w = whiten(model, "cpu")
    place = torch.tensor(model.shape_mean)
    eyes, mouth = (torch.tensor(model.regions[name]) for name in ("eyes", "mouth"))
    assert torch.equal(w.eyes, eyes.clamp(0, 1)) and (w.eyes > 0.5).sum() > 20
    assert torch.equal(w.inner, torch.maximum(eyes, mouth).clamp(0, 1)) and (w.inner > w.eyes).any()
    # lids and lips keep fitting what is behind them, cheeks are free
    inside = w.inner > 0.5
    distance = torch.cdist(place, place[inside]).min(1).values
    assert (w.firm[inside] == 1).all() and w.firm[distance > 30].max() < 0.01
    near = (distance > 0) & (distance < 4)
    assert near.any() and w.firm[near].min() > 0.5
    # hair hangs over forehead and temples, not over cheeks
    brows = place[torch.tensor(model.regions["brows"]) > 0.5]
    high = place[:, 1] > brows[:, 1].max() + 9
    far_back = place[:, 2] < brows[:, 2].min() - 13
    assert high.any() and far_back.any() and (w.core[high | far_back] == 0).all()
    table = model.landmarks["mediapipe"]
    cheeks, nose, forehead = table[[205, 425]], table[4], table[10]
    assert torch.equal(w.core[cheeks], w.skin[cheeks]) and w.core[nose] == w.skin[nose] > 0.9
    assert w.skin[forehead] > 0.9 and w.core[forehead] == 0
    assert (w.core <= w.skin).all()


def test_a_model_without_regions_is_skin_all_over() -> None:
    w = whiten(small_model(), "cpu")
    assert torch.equal(w.core, w.skin) and w.skin.min() == 1
    for field in (w.eyes, w.inner, w.firm):
        assert field.abs().max() == 0
