"""What the photo losses compare with: the photo at several resolutions, encoded, with its valid pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..colour import linear_to_srgb
from ..views import FaceView
from .separation import blur

STRAND_SIZE = 0.0065  # of the picture's height: finer detail than this may be strands of hair
STRAND_REACH = 0.018  # of the picture's height: the neighbourhood in which they are counted
STRAND_CONTRAST = 0.03  # root-mean-square code value of such detail at which skin is doubted


@dataclass(frozen=True)
class Target:
    """One photo at one resolution.

    `linear` and `encoded` (H*W, 3), `valid` (H*W,), `smooth` (H*W,) 0..1 as little as fine strands cross the
    neighbourhood, `scale` to the fitted picture.
    """

    linear: Tensor
    encoded: Tensor
    valid: Tensor
    smooth: Tensor
    height: int
    width: int
    scale: float


def encode(linear: Tensor) -> Tensor:
    """Linear Rec.709 -> display code values (sRGB curve), differentiable, defined for all inputs.

    Differences of code values are roughly even steps of visible brightness, in shadow and in light.
    """
    return linear_to_srgb(linear.clamp(min=1e-4)) + (linear - linear.clamp(min=1e-4))


def encode_slope(linear: Tensor) -> Tensor:
    """Derivative of the sRGB curve at `linear`, bounded in the darkest tones."""
    x = linear.clamp(min=0.008)
    return 1.055 / 2.4 * x ** (1 / 2.4 - 1)


def target_at(view: FaceView, height: int, device: str | torch.device) -> Target:
    """The view's photo resized (area average of linear light) to `height` rows."""
    image = torch.as_tensor(view.image, dtype=torch.float32, device=device)
    valid = torch.as_tensor(view.valid, dtype=torch.float32, device=device)
    full = image.shape[0]
    smooth = smoothness(encode(image).mean(-1), valid)
    width = max(1, round(image.shape[1] * height / full))
    if height != full:
        size = (height, width)
        image = tf.interpolate(image.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)
        valid, smooth = tf.interpolate(torch.stack([valid, smooth])[None], size, mode="area")[0]
    linear = image.reshape(-1, 3)
    # clipped channels hold no light information
    unclipped = (linear.max(1).values < 0.985).float()
    valid = (valid.reshape(-1) > 0.99).float() * unclipped
    return Target(linear, encode(linear), valid, smooth.reshape(-1), height, width, height / full)


def smoothness(grey: Tensor, valid: Tensor) -> Tensor:
    """(H, W) 1 where a picture is as smooth as skin, towards 0 where strands of hair cross it.

    `grey`, `valid` (H, W) code values and 0..1. Contrast of fine detail is held against what the picture's
    calmest tenth has, which is its noise.
    """
    height = grey.shape[0]
    detail = grey[..., None] - blur(grey[..., None], valid, STRAND_SIZE * height)
    energy = blur(detail**2 * valid[..., None], valid, STRAND_REACH * height / 2)[..., 0]
    noise = energy.reshape(-1)[:: max(1, energy.numel() // 65536)].quantile(0.1)
    return 1 / (1 + (energy / (STRAND_CONTRAST**2 + 6 * noise)) ** 2) ** 2
