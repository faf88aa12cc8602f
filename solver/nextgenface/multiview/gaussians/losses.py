"""What training minimises, under the names and default weights of the Gaussian-head description.

Colours are sRGB code values 0..1, lengths in the units of the points; scales are standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..losses import ssim_map


def compute_ssim(image: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of two pictures (H, W, 3); see `multiview.losses.ssim_map`."""
    return ssim_map(image, target).mean()


def photometric_loss(
    image: Tensor, target: Tensor, l1_weight: float = 0.8, ssim_weight: float = 0.2
) -> Tensor:
    """`l1_weight` x mean absolute difference + `ssim_weight` x (1 - SSIM) of pictures (H, W, 3)."""
    loss = l1_weight * (image - target).abs().mean()
    if ssim_weight:
        loss = loss + ssim_weight * (1 - compute_ssim(image, target))
    return loss


def opacity_regularization(opacity: Tensor, target_opacity: float = 0.8) -> Tensor:
    """Mean squared distance of opacities (N,) from `target_opacity`."""
    return ((opacity - target_opacity) ** 2).mean()


def scale_regularization(scale: Tensor, min_scale: float = 1.0, max_scale: float = 10.0) -> Tensor:
    """Mean square of what scales, any shape, are below `min_scale` or above `max_scale`."""
    return (tf.relu(min_scale - scale) ** 2 + tf.relu(scale - max_scale) ** 2).mean()


def spatial_regularization(xyz: Tensor, max_distance: float = 100.0) -> Tensor:
    """Mean square of what points (N, 3) are farther than `max_distance` from the origin."""
    return (tf.relu(xyz.norm(dim=-1) - max_distance) ** 2).mean()


def combined_loss(
    rendered: Tensor,
    target: Tensor,
    xyz: Tensor,
    opacity: Tensor,
    scale: Tensor,
    *,
    l1_weight: float = 0.8,
    ssim_weight: float = 0.2,
    opacity_weight: float = 0.01,
    scale_weight: float = 0.01,
    spatial_weight: float = 0.001,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one view and its parts by name, each with its weight.

    rendered, target (H, W, 3); xyz (N, 3); opacity (N,) or (N, 1); scale (N,), (N, 1) or (N, 3).
    """
    parts = {
        "photometric": photometric_loss(rendered, target, l1_weight, ssim_weight),
        "opacity": opacity_weight * opacity_regularization(opacity),
        "scale": scale_weight * scale_regularization(scale),
        "spatial": spatial_weight * spatial_regularization(xyz),
    }
    total = torch.stack(list(parts.values())).sum()
    return total, {"total": total.item(), **{name: part.item() for name, part in parts.items()}}


def multi_view_loss(
    rendered_views: Sequence[Tensor],
    target_views: Sequence[Tensor],
    xyz: Tensor,
    opacity: Tensor,
    scale: Tensor,
    **weights: float,
) -> tuple[Tensor, dict[str, float]]:
    """The mean of `combined_loss` over any number of views, and the means of its parts."""
    views = [
        combined_loss(rendered, target, xyz, opacity, scale, **weights)
        for rendered, target in zip(rendered_views, target_views, strict=True)
    ]
    total = torch.stack([loss for loss, _ in views]).mean()
    return total, {name: sum(parts[name] for _, parts in views) / len(views) for name in views[0][1]}
