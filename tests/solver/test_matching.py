"""Dense matches: displacements between photos of the same skin, and what is not the same skin."""

from __future__ import annotations

import pytest
import torch
from nextgenface.fitting.matching import SCALES, Matches, _align, match_loss
from torch import Tensor
from torch.nn import functional as tf

SIDE, MM = 96, 1.0
SCALE = SCALES[1]


def skin(seed: int) -> Tensor:
    """(SIDE, SIDE, 3) smooth random detail of two texels or more, in units of its noise."""
    noise = torch.randn(3, 1, SIDE // 3, SIDE // 3, generator=torch.Generator().manual_seed(seed))
    detail = tf.interpolate(noise, (SIDE, SIDE), mode="bicubic", align_corners=False)
    return 3.0 * detail[:, 0].permute(1, 2, 0)


def moved(texture: Tensor, x: float, y: float) -> Tensor:
    """The texture as it looks displaced by (x, y) texels."""
    at = torch.arange(SIDE) + 0.5
    grid = torch.stack([(at[None] - x).expand(SIDE, SIDE), (at[:, None] - y).expand(SIDE, SIDE)], -1)
    found = tf.grid_sample(
        texture.permute(2, 0, 1)[None],
        (grid / SIDE * 2 - 1)[None],
        padding_mode="border",
        align_corners=False,
    )
    return found[0].permute(1, 2, 0)


def inside(values: Tensor) -> Tensor:
    return values[16:-16, 16:-16]


def aligned(bands: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Displacements and correlations of photos that see everything well."""
    ones = [torch.ones(SIDE, SIDE) for _ in bands]
    shifts, windows = _align(bands, ones, SCALE, MM)
    return shifts, [one.correlation for one in windows]


@pytest.mark.parametrize("x, y", [(1.5, -0.5), (0.0, 2.0)])
def test_relative_displacements_are_found(x: float, y: float) -> None:
    texture = skin(0)
    shifts, correlations = aligned([texture, moved(texture, x, y), texture])
    gap = inside(shifts[1] - shifts[0]).mean((0, 1))
    assert gap == pytest.approx([x, y], abs=0.25)
    assert inside(correlations[1]).median() > 0.9


def test_only_differences_between_photos_count() -> None:
    texture = moved(skin(1), 2.0, 1.0)
    shifts, _ = aligned([texture, texture])
    assert max(float(s.abs().max()) for s in shifts) < 1e-3
    apart, _ = aligned([skin(1), moved(skin(1), 1.0, 0.0)])
    assert inside(apart[0] + apart[1]).abs().max() < 0.05


def test_another_skin_does_not_correlate() -> None:
    _, correlations = aligned([skin(2), skin(2), skin(3)])
    assert inside(correlations[2]).abs().median() < 0.4
    assert inside(correlations[0]).median() > 0.5


def test_order_of_photos_does_not_matter() -> None:
    photos = [skin(4), moved(skin(4), 1.0, 0.5), moved(skin(4), -0.5, 0.0)]
    forwards, _ = aligned(photos)
    backwards, _ = aligned(photos[::-1])
    for one, other in zip(forwards, backwards[::-1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_more_detail_means_more_information() -> None:
    ones = [torch.ones(SIDE, SIDE)] * 2
    strong = _align([skin(5), skin(5)], ones, SCALE, MM)[1][0].information
    faint = _align([skin(5) / 4, skin(5) / 4], ones, SCALE, MM)[1][0].information
    assert inside(torch.linalg.det(strong)).median() > 4 * inside(torch.linalg.det(faint)).median()


def test_match_loss_grows_and_saturates() -> None:
    corners = torch.zeros(1, 3, dtype=torch.int64)
    root = torch.eye(2)[None] * 2.0
    matches = Matches(corners, torch.full((1, 3), 1 / 3), torch.tensor([[10.0, 10.0]]), root, 1.0)
    losses = [float(match_loss(matches, torch.tensor([[10.0 + d, 10.0]]))) for d in (0.0, 0.5, 2.0, 200.0)]
    assert losses[0] == 0.0
    assert losses[0] < losses[1] < losses[2] < losses[3] < 4.5
    assert losses[1] == pytest.approx(0.5 * 9 / 10)
