"""What the photo losses compare with: where a photo is as smooth as skin."""

from __future__ import annotations

import pytest
import torch
from nextgenface.fitting.targets import smoothness
from torch import Tensor

SIZE = 256


def _skin(noise: float) -> Tensor:
    """Softly shaded skin with grain (SIZE, SIZE), code values."""
    across = torch.linspace(0.35, 0.75, SIZE)
    grain = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return across[None] * torch.linspace(0.9, 1.1, SIZE)[:, None] + noise * grain


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_shaded_skin_with_grain_is_smooth_and_strands_are_not(noise: float) -> None:
    picture = _skin(noise)
    strands = 0.1 * torch.sign(torch.sin(torch.arange(SIZE) * 2 * torch.pi / 5))
    picture[:100] += strands[None]
    smooth = smoothness(picture, torch.ones(SIZE, SIZE))
    assert smooth.shape == picture.shape
    assert float(smooth[130:].mean()) > 0.65
    assert float(smooth[:80].mean()) < 0.3


def test_what_is_not_valid_says_nothing() -> None:
    """A logo beside the face, masked out, casts no doubt on the skin next to it."""
    picture, valid = _skin(0.01), torch.ones(SIZE, SIZE)
    picture[:, :64] = (torch.arange(SIZE) % 2).float()[:, None]
    valid[:, :64] = 0
    assert float(smoothness(picture, valid)[:, 64:].min()) > 0.6
