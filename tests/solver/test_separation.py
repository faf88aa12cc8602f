"""Whose residual is it: grey and broad goes to shading, fine and coloured to skin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nextgenface.fitting.separation import BANDS, blur, skin_part

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 128
MM = 1.0  # millimetres per texel
SEEN = torch.ones(SIDE, SIDE)


def _spot(sigma: float) -> torch.Tensor:
    """A soft spot (T, T) of height 1 in the middle."""
    y, x = torch.meshgrid(*(torch.arange(SIDE) - SIDE / 2 + 0.5,) * 2, indexing="ij")
    return torch.exp(-0.5 * (x**2 + y**2) / sigma**2)


def _kept(residual: torch.Tensor, **options: float) -> float:
    """Share of a residual, measured along itself, that goes to the skin."""
    part = skin_part(residual, SEEN, MM, **options)
    return float((part * residual).sum() / (residual**2).sum())


GREY = torch.tensor([-1.0, -1.0, -1.0])
RED = -torch.tensor([0.06, 1.0, 0.80])  # blood absorbs green and blue


def test_broad_grey_is_shading_and_fine_dark_is_skin() -> None:
    ramp = torch.linspace(-0.3, 0.3, SIDE)[None, :, None].expand(SIDE, SIDE, 3).contiguous()
    mole = 0.5 * _spot(1.0)[..., None] * GREY
    assert _kept(ramp) < 0.15
    assert _kept(mole) > 0.3
    assert _kept(mole) > 4 * _kept(ramp)


def test_red_patches_are_skin_of_any_size() -> None:
    for sigma in (2.0, 6.0, 16.0):
        patch = 0.3 * _spot(sigma)[..., None] * RED
        assert _kept(patch) > 0.4, sigma
        grey = 0.3 * _spot(sigma)[..., None] * GREY
        assert _kept(patch) > _kept(grey), sigma


def test_warm_and_cool_light_is_not_skin() -> None:
    warm = 0.2 * _spot(12.0)[..., None] * torch.tensor([1.0, 0.0, -1.0])
    assert _kept(warm) < 0.35


def test_strength_trusts_the_statistical_skin_more() -> None:
    mole = 0.5 * _spot(1.0)[..., None] * GREY
    assert _kept(mole, strength=0.3) < 0.7 * _kept(mole)
    assert skin_part(torch.zeros(SIDE, SIDE, 3), SEEN, MM).abs().max() == 0


def test_gains_pass_on_no_more_than_there_is() -> None:
    """Each band's Wiener gain has eigenvalues between 0 and 1; the bands run from fine to coarse."""
    for band in BANDS:
        values = np.linalg.eigvals(band.gain().numpy())
        assert np.abs(values.imag).max() < 1e-4 and values.real.min() > -1e-4 and values.real.max() < 1 + 1e-4
    assert [b.upto_mm for b in BANDS] == sorted(b.upto_mm for b in BANDS)


def test_blur_keeps_constants_under_any_mask() -> None:
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(SIDE, SIDE, generator=g) > 0.6).float()
    mask[:, :30] = 0.0
    constant = torch.tensor([0.3, -0.7]).expand(SIDE, SIDE, 2)
    hidden = torch.where(mask[..., None] > 0, constant, torch.full_like(constant, 99.0))
    for sigma in (0.1, 1.0, 3.0, 9.0, 20.0):
        out = blur(hidden, mask, sigma)
        assert out.shape == constant.shape
        near = blur(mask[..., None].contiguous(), SEEN, sigma)[..., 0] > 0.1
        if sigma <= 0.3:  # narrower than a texel: nothing to do
            assert torch.equal(out, hidden)
        else:
            assert (out - constant)[near].abs().max() < 0.01, sigma


def test_blur_is_a_gaussian_of_its_sigma() -> None:
    for sigma in (2.0, 8.0):
        picture = torch.zeros(SIDE, SIDE, 1)
        picture[SIDE // 2, SIDE // 2] = 1.0
        out = blur(picture, SEEN, sigma)[..., 0]
        x = torch.arange(SIDE) - SIDE // 2
        assert out.sum().item() == pytest.approx(1.0, abs=0.02)
        spread = float(((out.sum(0) * x**2).sum() / out.sum()) - ((out.sum(0) * x).sum() / out.sum()) ** 2)
        assert np.sqrt(spread) == pytest.approx(sigma, rel=0.15)
