"""Differences between pictures (H, W, C), of sRGB code values: what the methods for many views minimise.

`weight` (H, W) says how much each pixel counts; means are taken over the weights, so that a view that shows
little counts as much per pixel as one that shows a lot.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_STABILISERS = (0.01**2, 0.03**2)


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of values (..., C) under weights (...); 0 where nothing counts."""
    if weight is None:
        return values.mean()
    return (values * weight[..., None]).sum() / (weight.sum() * values.shape[-1]).clamp(min=1e-12)


def l1(picture: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference."""
    return weighted_mean((picture - target).abs(), weight)


def l2(picture: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference."""
    return weighted_mean((picture - target).square(), weight)


def gradient_l1(picture: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of the steps to the right and to the lower neighbour.

    A step counts as much as the lesser of its two pixels, so none leads out of what is weighted.
    """
    difference = picture - target
    total = picture.new_zeros(())
    for axis in (0, 1):
        size = difference.shape[axis] - 1
        step = (difference.narrow(axis, 1, size) - difference.narrow(axis, 0, size)).abs()
        lesser = None
        if weight is not None:
            lesser = torch.minimum(weight.narrow(axis, 1, size), weight.narrow(axis, 0, size))
        total = total + weighted_mean(step, lesser)
    return total


def ssim_map(picture: Tensor, target: Tensor) -> Tensor:
    """(H, W, C) structural similarity of values 0..1 (Wang et al. 2004: Gaussian window of 11 pixels, sigma
    1.5, K1 0.01, K2 0.03; zeros beyond the border)."""
    a, b = picture.movedim(-1, 0), target.movedim(-1, 0)
    mean_a, aa, ab = _blurred(torch.stack([a, a * a, a * b]))
    mean_b, bb = _blurred(torch.stack([b, b * b]))  # apart, because a target has no gradient
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    low, high = SSIM_STABILISERS
    similar = (2 * product + low) * (2 * (ab - product) + high)
    return (similar / ((squares + low) * (aa + bb - squares + high))).movedim(0, -1)


def ssim_loss(picture: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - mean structural similarity."""
    return 1 - weighted_mean(ssim_map(picture, target), weight)


def multiscale_l1(picture: Tensor, target: Tensor, weight: Tensor, levels: int = 3) -> Tensor:
    """Mean over `levels` resolutions, each half the one before, of the mean absolute difference."""
    total = picture.new_zeros(())
    stacked = torch.cat([(picture - target) * weight[..., None], weight[..., None]], -1)
    for level in range(levels):
        if level:
            stacked = avg_pool2d(stacked.permute(2, 0, 1)[None], 2, ceil_mode=True)[0].permute(1, 2, 0)
        share = stacked[..., -1].detach()
        total = total + stacked[..., :-1].abs().sum() / (share.sum() * picture.shape[-1]).clamp(min=1e-12)
    return total / levels


def psnr(picture: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of values 0..1; at most 100."""
    error = float(l2(picture, target, weight))
    return -10.0 * float(torch.log10(torch.tensor(max(error, 1e-10))))


def _blurred(planes: Tensor) -> Tensor:
    """Planes (..., H, W) under the window."""
    height, width = planes.shape[-2:]
    return _window(height).to(planes) @ planes @ _window(width).to(planes)


@lru_cache(maxsize=16)
def _window(size: int) -> Tensor:
    """The window as a matrix (size, size) that blurs a line of pixels, with zeros outside.

    On a CPU a product with this band is several times faster than torch's convolution of single channels, up
    to lines of some thousand pixels.
    """
    place = torch.arange(size)
    distance = place[:, None] - place
    weights = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
    weights[distance.abs() > SSIM_WINDOW // 2] = 0
    offsets = torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    return weights / torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2)).sum()
