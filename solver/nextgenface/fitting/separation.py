"""Whose residual is it: skin, or light and shape? A linear minimum-mean-square-error split, band by band.

What a photo and the statistical fit disagree about (a log ratio per channel) is partly skin - freckles,
moles, redness - and partly shading: shadow borders, wrong normals, highlights. The two differ in colour
(pigments absorb unevenly; shading errors are almost grey) and in size (shading errors are broad). With a
Gaussian model of both per frequency band, the best linear estimate of the skin part is
a = C_a (C_a + C_s)^-1 r (Wiener). Coarse grey bands go to shading, fine and coloured ones to skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as tf

_PIGMENTS = ((1.0, 1.14, 1.22), (0.06, 1.0, 0.80))  # melanin, haemoglobin: log absorption per channel
_SHADE = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0))  # grey shading; warm-cool error where coloured lights meet


@dataclass(frozen=True)
class Band:
    """Standard deviations (log units) of one band: skin by pigment, shading by direction, and noise."""

    upto_mm: float  # detail finer than this
    melanin: float
    haemoglobin: float
    grey: float
    cast: float
    noise: float

    def skin(self) -> Tensor:
        """Covariance (3, 3) of the skin's part."""
        pigment = torch.tensor(_PIGMENTS)
        return self.melanin**2 * torch.outer(pigment[0], pigment[0]) + self.haemoglobin**2 * torch.outer(
            pigment[1], pigment[1]
        )

    def shading(self) -> Tensor:
        """Covariance (3, 3) of shading errors and noise."""
        shade = torch.tensor(_SHADE)
        grey, cast = (torch.outer(one, one) for one in shade)
        return self.grey**2 * grey + self.cast**2 * cast + self.noise**2 * torch.eye(3)

    def gain(self) -> Tensor:
        """The 3x3 Wiener gain of this band."""
        skin = self.skin()
        return skin @ torch.linalg.inv(skin + self.shading())


BANDS = (
    Band(1.0, 0.060, 0.040, 0.040, 0.005, 0.010),
    Band(2.0, 0.060, 0.040, 0.045, 0.008, 0.008),
    Band(4.0, 0.050, 0.040, 0.060, 0.010, 0.008),
    Band(8.0, 0.040, 0.040, 0.070, 0.015, 0.008),
    Band(16.0, 0.030, 0.040, 0.080, 0.020, 0.010),
    Band(1e9, 0.015, 0.030, 0.120, 0.030, 0.020),
)


def blur(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Normalised Gaussian blur of (H, W, C) where `weight` (H, W) says how far each pixel counts."""
    if sigma <= 0.3:
        return values
    factor = max(1, int(sigma // 4))  # wide kernels run on a reduced grid
    stack = torch.cat([values * weight[..., None], weight[..., None]], -1).permute(2, 0, 1)[None]
    size = stack.shape[-2:]
    if factor > 1:
        stack = tf.avg_pool2d(stack, factor, ceil_mode=True, count_include_pad=False)
    s = sigma / factor
    radius = max(1, int(3 * s + 0.5))
    x = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-0.5 * (x / s) ** 2)
    kernel = (kernel / kernel.sum()).expand(stack.shape[1], 1, -1)
    stack = tf.conv2d(stack, kernel[:, :, None, :], padding=(0, radius), groups=stack.shape[1])
    stack = tf.conv2d(stack, kernel[:, :, :, None], padding=(radius, 0), groups=stack.shape[1])
    if factor > 1:
        stack = tf.interpolate(stack, size, mode="bilinear", align_corners=False)
    out = stack[0].permute(1, 2, 0)
    return out[..., :-1] / out[..., -1:].clamp(min=1e-4)


def skin_part(residual: Tensor, weight: Tensor, mm_per_texel: float, strength: float = 1.0) -> Tensor:
    """The skin's share (T, T, 3) of a log residual texture (T, T, 3) known where `weight` (T, T) > 0.

    `mm_per_texel` sets the bands; `strength` < 1 trusts the statistical texture more (as if the skin's
    variances were smaller).
    """
    out = torch.zeros_like(residual)
    finer = residual
    for band in BANDS:
        scaled = Band(
            band.upto_mm,
            band.melanin * strength,
            band.haemoglobin * strength,
            band.grey,
            band.cast,
            band.noise,
        )
        last = band is BANDS[-1]
        coarser = torch.zeros_like(finer) if last else blur(finer, weight, 0.5 * band.upto_mm / mm_per_texel)
        out = out + (finer - coarser) @ scaled.gain().to(residual).T
        finer = coarser
    return out
