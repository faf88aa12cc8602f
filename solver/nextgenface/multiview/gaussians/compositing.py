"""Alpha compositing of flat Gaussians over a picture, front to back, with gradients; torch only.

Work is done on (Gaussian, pixel) pairs inside the ellipses where a Gaussian's alpha is at least 1/255. Pairs
are made row by row in the order of depth and brought into the order of pixels by a stable sort, so that each
pixel finds its Gaussians front to back. The gradient is written out by hand, as autograd would keep dozens of
arrays of that length. Memory is bounded: a picture is cut into bands of rows of at most `MOST_PAIRS` pairs
where its rows allow it, and what does not fit `KEPT_PAIRS` is computed again in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEAST_ALPHA = 1 / 255
MOST_ALPHA = 0.99
MOST_PAIRS = 2_000_000
KEPT_PAIRS = 6_000_000
_BAND_PIXELS = 1 << 16  # 16-bit keys, which NumPy sorts by radix


def composite(
    means: Tensor,
    conics: Tensor,
    opacities: Tensor,
    features: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Composite N Gaussians, given front to back, over nothing.

    means (N, 2) pixels, centre of the top-left pixel at (0.5, 0.5); conics (N, 3): entries a, b, c of the
    inverse covariance [[a, b], [b, c]] in 1/pixel^2; opacities (N,) 0..1; features (N, C), colour or anything
    else. Returns the features (H, W, C), weighted by visibility, and the light (H, W) that passes all of
    them. float32, differentiable in all four inputs.
    """
    image, passed = _Composite.apply(means, conics, opacities, features, width, height)
    return image.reshape(height, width, -1), passed.reshape(height, width)


@dataclass
class _Rows:
    """Pixel rows of ellipses, Gaussian by Gaussian: indices of the Gaussians, y, first x, number of x."""

    gaussian: Tensor
    y: Tensor
    x: Tensor
    count: Tensor

    def take(self, chosen: Tensor) -> _Rows:
        return _Rows(self.gaussian[chosen], self.y[chosen], self.x[chosen], self.count[chosen])


@dataclass
class _Pairs:
    """Pairs of one band. Pixel order unless it says otherwise; `order` leads from there to Gaussian order."""

    alpha: Tensor  # Gaussian order
    dx: Tensor  # Gaussian order, pixel centre minus mean
    order: Tensor
    gaussian: Tensor
    passed: Tensor  # light that reaches the Gaussian
    ends: Tensor  # (pixels + 1,) where each pixel's pairs begin


def _ellipse_rows(means: Tensor, conics: Tensor, opacities: Tensor, width: int, height: int) -> _Rows:
    """The pixels with alpha >= 1/255 of every Gaussian, as rows."""
    a, b, c = conics.unbind(-1)
    determinant = (a * c - b * b).clamp_min(1e-12)
    reach = 2 * torch.log((opacities / LEAST_ALPHA).clamp_min(1.0))  # squared Mahalanobis distance
    half = torch.sqrt(reach * a / determinant)
    low = torch.ceil(means[:, 1] - half - 0.5).clamp(0, height)
    high = torch.floor(means[:, 1] + half - 0.5).clamp(-1, height - 1)
    rows = torch.where(reach > 0, high - low + 1, 0.0).clamp_min(0).long()
    gaussian = torch.repeat_interleave(rows)
    first = (rows.cumsum(0) - rows).index_select(0, gaussian)
    y = low.long().index_select(0, gaussian) + torch.arange(len(gaussian), device=means.device) - first
    a, b, determinant, reach = (v.index_select(0, gaussian) for v in (a, b, determinant, reach))
    dy = y + 0.5 - means[:, 1].index_select(0, gaussian)
    middle = means[:, 0].index_select(0, gaussian) - b * dy / a
    half = torch.sqrt((a * reach - determinant * dy * dy).clamp_min(0)) / a
    left = torch.ceil(middle - half - 0.5).clamp(0, width)
    right = torch.floor(middle + half - 0.5).clamp(-1, width - 1)
    count = (right - left + 1).clamp_min(0).long()
    found = count > 0
    return _Rows(gaussian[found], y[found], left.long()[found], count[found])


def _bands(rows: _Rows, width: int, height: int) -> list[tuple[int, int]]:
    """Ranges of picture rows with at most `MOST_PAIRS` pairs each (or one picture row) and 65,536 pixels."""
    load = torch.zeros(height, dtype=torch.long, device=rows.y.device).index_add_(0, rows.y, rows.count)
    bands, start, pairs = [], 0, 0
    for y, here in enumerate(load.tolist()):
        if y > start and (pairs + here > MOST_PAIRS or (y + 1 - start) * width > _BAND_PIXELS):
            bands.append((start, y))
            start, pairs = y, 0
        pairs += here
    return [*bands, (start, height)]


def _stable_order(keys: Tensor, pixels: int) -> Tensor:
    """The permutation that sorts keys (P,) in 0..pixels and leaves equal ones in their order."""
    if keys.device.type == "cpu" and pixels <= _BAND_PIXELS:
        return torch.from_numpy(np.argsort(keys.numpy().astype(np.uint16), kind="stable"))
    return torch.sort(keys, stable=True).indices


def _make_pairs(
    rows: _Rows, means: Tensor, conics: Tensor, opacities: Tensor, width: int, top: int, pixels: int
) -> _Pairs:
    """All pairs of rows that lie in a band of `pixels` pixels below picture row `top`."""
    device = means.device
    of_row = torch.repeat_interleave(rows.count)
    step = torch.arange(len(of_row), device=device) - (rows.count.cumsum(0) - rows.count)[of_row]
    key = step + ((rows.y - top) * width + rows.x).index_select(0, of_row)
    order = _stable_order(key, pixels)

    gaussian = rows.gaussian
    dy = rows.y + 0.5 - means[:, 1].index_select(0, gaussian)
    a, b, c = (column.index_select(0, gaussian) for column in conics.unbind(-1))
    dx = step + (rows.x + 0.5 - means[:, 0].index_select(0, gaussian)).index_select(0, of_row)
    peak = opacities.log().index_select(0, gaussian) - 0.5 * c * dy * dy
    alpha = (0.5 * a).index_select(0, of_row).mul_(dx).add_((b * dy).index_select(0, of_row)).mul_(dx)
    alpha = alpha.neg_().add_(peak.index_select(0, of_row)).exp_().clamp_max_(MOST_ALPHA)

    ends = torch.zeros(pixels + 1, dtype=torch.long, device=device)
    ends[1:] = torch.bincount(key, minlength=pixels).cumsum(0)
    fading = torch.log1p(-alpha.index_select(0, order))
    before = torch.cumsum(fading, 0, dtype=torch.float64).sub_(fading)
    before.sub_(_spread(_at(before, ends[:-1]), ends))
    return _Pairs(
        alpha=alpha,
        dx=dx,
        order=order,
        gaussian=gaussian.index_select(0, of_row).index_select(0, order),
        passed=before.float().exp_(),
        ends=ends,
    )


def _at(values: Tensor, where: Tensor) -> Tensor:
    """Values (P,) at `where`, with anything at positions past the end (pixels without pairs)."""
    if len(values) == 0:
        return values.new_zeros(len(where))
    return values.index_select(0, where.clamp_max(len(values) - 1))


def _spread(per_pixel: Tensor, ends: Tensor) -> Tensor:
    """One value per pixel to one per pair."""
    return torch.repeat_interleave(per_pixel, ends.diff(), output_size=int(ends[-1]))


def _sum_segments(values: Tensor, ends: Tensor) -> Tensor:
    """Sums of values (P,) over consecutive segments; `ends` (S + 1,) says where each begins."""
    return torch.segment_reduce(values, "sum", offsets=ends, unsafe=True, initial=0)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        conics: Tensor,
        opacities: Tensor,
        features: Tensor,
        width: int,
        height: int,
    ) -> tuple[Tensor, Tensor]:
        rows = _ellipse_rows(means, conics, opacities, width, height)
        bands = _bands(rows, width, height)
        keep = int(rows.count.sum()) <= KEPT_PAIRS and any(ctx.needs_input_grad)
        ctx.kept = []
        colour, light = [], []
        for top, bottom in bands:
            pixels = (bottom - top) * width
            chosen = rows if len(bands) == 1 else rows.take((rows.y >= top) & (rows.y < bottom))
            pairs = _make_pairs(chosen, means, conics, opacities, width, top, pixels)
            weight = pairs.alpha.index_select(0, pairs.order).mul_(pairs.passed)
            columns = [
                _sum_segments(weight * column.index_select(0, pairs.gaussian), pairs.ends)
                for column in features.unbind(-1)
            ]
            colour.append(torch.stack(columns, -1))
            light.append(1 - _sum_segments(weight, pairs.ends))
            if keep:
                ctx.kept.append((chosen, pairs))
        passed = torch.cat(light)
        ctx.rows, ctx.bands, ctx.size = rows, bands, (width, height)
        ctx.save_for_backward(means, conics, opacities, features, passed)
        return torch.cat(colour), passed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        d_image, d_passed = gradients
        means, conics, opacities, features, passed = ctx.saved_tensors
        width, _ = ctx.size
        d_features = torch.zeros_like(features)
        sums = means.new_zeros(6, len(means))  # of q, q dx, q dx^2, q dy, q dx dy, q dy^2
        for number, (top, bottom) in enumerate(ctx.bands):
            pixels = slice(top * width, bottom * width)
            if ctx.kept:
                rows, pairs = ctx.kept[number]
            else:
                inside = (ctx.rows.y >= top) & (ctx.rows.y < bottom)
                rows = ctx.rows.take(inside)
                pairs = _make_pairs(rows, means, conics, opacities, width, top, (bottom - top) * width)
            outside = passed[pixels] * d_passed[pixels]
            d_alpha = _alpha_gradient(pairs, d_image[pixels], outside, features, d_features)
            dy = rows.y + 0.5 - means[:, 1].index_select(0, rows.gaussian)
            # q = d loss / d exponent; a clamped alpha has none
            q = torch.empty_like(pairs.alpha).scatter_(0, pairs.order, d_alpha).mul_(pairs.alpha)
            q.masked_fill_(pairs.alpha >= MOST_ALPHA, 0)
            starts = torch.zeros(len(rows.count) + 1, dtype=torch.long, device=means.device)
            starts[1:] = rows.count.cumsum(0)
            row_q = _sum_segments(q, starts)
            row_qx = _sum_segments(q.mul_(pairs.dx), starts)
            row_qxx = _sum_segments(q.mul_(pairs.dx), starts)
            for total, part in zip(
                sums, (row_q, row_qx, row_qxx, row_q * dy, row_qx * dy, row_q * dy * dy), strict=True
            ):
                total.scatter_add_(0, rows.gaussian, part)
        ctx.kept = []
        q, qx, qxx, qy, qxy, qyy = sums
        a, b, c = conics.unbind(-1)
        d_means = torch.stack([a * qx + b * qy, b * qx + c * qy], -1)
        d_conics = torch.stack([-0.5 * qxx, -qxy, -0.5 * qyy], -1)
        return d_means, d_conics, q / opacities.clamp_min(1e-12), d_features, None, None


def _alpha_gradient(
    pairs: _Pairs, d_image: Tensor, outside: Tensor, features: Tensor, d_features: Tensor
) -> Tensor:
    """d loss / d alpha of every pair, in pixel order; adds this band's part to `d_features`.

    `outside` (pixels,): the gradient of what passes all Gaussians, times that light. With weights
    w = alpha T and s = feature . d_image: d alpha_i = T_i s_i - (sum of w_j s_j behind i + outside) /
    (1 - alpha_i).
    """
    alpha = pairs.alpha.index_select(0, pairs.order)
    weight = alpha * pairs.passed
    shade = torch.zeros_like(weight)
    for channel, column in enumerate(features.unbind(-1)):
        arriving = _spread(d_image[:, channel].contiguous(), pairs.ends)
        shade.addcmul_(column.index_select(0, pairs.gaussian), arriving)
        d_features[:, channel] += torch.zeros_like(column).scatter_add_(
            0, pairs.gaussian, arriving.mul_(weight)
        )
    upto = torch.cumsum(weight.mul_(shade), 0, dtype=torch.float64)
    behind = _spread(_at(upto, (pairs.ends[1:] - 1).clamp_min(0)) + outside, pairs.ends).sub_(upto)
    return shade.mul_(pairs.passed).sub_(behind.float().div_(1 - alpha))
