"""What the photo losses compare with: the photo at several resolutions, encoded, with its valid pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..colour import linear_to_srgb
from ..views import FaceView


@dataclass(frozen=True)
class Target:
    """One photo at one resolution.

    `linear` and `encoded` (H*W, 3), `valid` (H*W,), `scale` to the fitted picture.
    """

    linear: Tensor
    encoded: Tensor
    valid: Tensor
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
    width = max(1, round(image.shape[1] * height / full))
    if height != full:
        size = (height, width)
        image = tf.interpolate(image.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)
        valid = tf.interpolate(valid[None, None], size, mode="area")[0, 0]
    linear = image.reshape(-1, 3)
    # clipped channels hold no light information
    unclipped = (linear.max(1).values < 0.985).float()
    valid = (valid.reshape(-1) > 0.99).float() * unclipped
    return Target(linear, encode(linear), valid, height, width, height / full)
