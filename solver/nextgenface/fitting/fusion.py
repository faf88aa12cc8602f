"""One skin out of several photos' residuals: who sees a texel best, band by band, and how much to believe.

Every photo offers, per texel, the log ratio between the skin it shows and the statistical skin. The skin in
it is common to all photos, the mistakes about light and shadow are each photo's own - as far as the lights
differ. So photos are averaged band by band, each with a weight for how it sees the texel (angle, cast
shadow, occlusion), how finely it resolves it, and how well its details are confirmed by the others; and the
split into skin and shading (`separation`) counts on shading errors that have been averaged down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .separation import BANDS, Band, blur

SHADOW_SCALE = 0.2  # log units by which a photo may be off the others on some millimetres of skin
SHADOW_MM = 3.0
PRIOR_SAMPLES = 4.0  # pieces of skin that assumed variances are worth: they are known to a factor of two
LARGEST_PIECE_MM = 32.0  # of the broadest band
NEAR_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)  # of the shading variance of one photo


@dataclass(frozen=True)
class SkinView:
    """One photo on the layout (T, T).

    `residual` (T, T, 3) log ratio, `weight` (T, T) 0..1 how well seen, `light` (T, T) log of the light
    falling there, `pixel_mm` (T, T) size of one of the photo's own pixels on the skin.
    """

    residual: Tensor
    weight: Tensor
    light: Tensor
    pixel_mm: Tensor


def fuse(views: list[SkinView], mm_per_texel: float) -> tuple[Tensor, Tensor]:
    """The skin's share (T, T, 3) of all photos' residuals, and the summed weights (T, T)."""
    weights = _without_shadows(views, mm_per_texel)
    common = _shared_light(views, weights)
    finer = [view.residual for view in views]
    out = torch.zeros_like(finer[0])
    for band in BANDS:
        if band is BANDS[-1]:
            coarser = [torch.zeros_like(f) for f in finer]
        else:
            sigma = 0.5 * band.upto_mm / mm_per_texel
            coarser = [blur(f, w, sigma) for f, w in zip(finer, weights, strict=True)]
        details = torch.stack([f - c for f, c in zip(finer, coarser, strict=True)])
        sharp = [1 / (1 + (view.pixel_mm / band.upto_mm) ** 2) for view in views]
        shares = torch.stack([w * s for w, s in zip(weights, sharp, strict=True)])
        shares = shares * confirmed(details, shares)[:, None, None]
        split = measured_split(details, shares, common, band, mm_per_texel)
        total = shares.sum(0).clamp(min=1e-6)
        shares = shares / total
        mean = (details * shares[..., None]).sum(0)
        variance = torch.einsum("jab,kab,jk->ab", shares, shares, common)
        out = out + _skin(mean, variance, split)
        finer = coarser
    return out, torch.stack(weights).sum(0)


def confirmed(details: Tensor, weights: Tensor) -> Tensor:
    """How far each photo's details (n, T, T, 3) are those of the others, (n,) 0.05..1.

    A blurred photo lacks them, noise and another face do not correlate with them.
    """
    out = torch.ones(len(details)).to(details)
    for k, own in enumerate(details):
        rest = weights.sum(0) - weights[k]
        if len(details) < 3 or float(rest.sum()) <= 0:
            continue
        sums = (details * weights[..., None]).sum(0) - own * weights[k][..., None]
        others = sums / rest.clamp(min=1e-4)[..., None]
        both = (weights[k] * rest / (weights[k] + rest).clamp(min=1e-4))[..., None]
        cross, first, second = ((both * x).sum() for x in (own * others, own * own, others * others))
        slope = cross / second.clamp(min=1e-9)
        correlation = cross / (first * second).clamp(min=1e-12).sqrt()
        out[k] = (slope.clamp(0, 1) * correlation.clamp(0, 1)).clamp(min=0.05)
    return out


def measured_split(
    details: Tensor, weights: Tensor, common: Tensor, band: Band, mm_per_texel: float
) -> Callable[[float], Tensor]:
    """Wiener gain of a band by the share of shading left, with variances that the photos tell.

    Two photos in different light have nothing but the skin in common: the covariance of their details is the
    skin's, what exceeds it in each of them is shading and noise. The band's assumed variances count as
    `PRIOR_SAMPLES` independent pieces of skin beside those that were seen in pairs.
    """
    skin, shading = band.skin(), band.shading()
    between = torch.zeros(3, 3, dtype=torch.float64)
    within = torch.zeros(3, 3, dtype=torch.float64)
    mass = 0.0
    for j, a in enumerate(details):
        for k in range(j):
            both = weights[j] * weights[k]
            apart = 1 - float(common[j, k])  # photos in one light cannot tell shading from skin
            if apart < 0.05:
                continue
            b = details[k]
            cross = torch.einsum("ij,ija,ijb->ab", both, a, b).double().cpu()
            own = torch.einsum("ij,ija,ijb->ab", both, a, a) + torch.einsum("ij,ija,ijb->ab", both, b, b)
            own, cross = own.double().cpu() / 2, (cross + cross.T) / 2
            excess = (own - cross) / apart
            within += apart * excess
            between += apart * (own - excess)
            mass += apart * float(both.sum())
    piece = min(band.upto_mm, LARGEST_PIECE_MM) / mm_per_texel
    seen = mass / max(len(details) - 1, 1) / max(piece, 1.0) ** 2
    trust = seen / (seen + PRIOR_SAMPLES)
    if mass > 0:
        skin = trust * _positive(between / mass) + (1 - trust) * skin
        shading = trust * _positive(within / mass) + (1 - trust) * shading

    def gain(share: float) -> Tensor:
        return skin @ torch.linalg.inv(skin + share * shading + 1e-8 * torch.eye(3))

    return gain


def _positive(matrix: Tensor) -> Tensor:
    """The nearest covariance (3, 3), float32."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors @ torch.diag(values.clamp(min=1e-8)) @ vectors.T).float()


def _without_shadows(views: list[SkinView], mm_per_texel: float) -> list[Tensor]:
    """Weights (T, T), less where a photo is off what all of them say about some millimetres of skin."""
    weights = [view.weight for view in views]
    if len(views) < 3:  # of two that differ, nobody knows which is right
        return weights
    broad = [blur(v.residual, v.weight, SHADOW_MM / mm_per_texel).mean(-1) for v in views]
    for _ in range(2):
        total = torch.stack(weights).sum(0).clamp(min=1e-4)
        mean = torch.stack([w * b for w, b in zip(weights, broad, strict=True)]).sum(0) / total
        weights = [
            view.weight / (1 + ((b - mean) / SHADOW_SCALE) ** 2) for view, b in zip(views, broad, strict=True)
        ]
    return weights


def _shared_light(views: list[SkinView], weights: list[Tensor]) -> Tensor:
    """Correlation (n, n), 0..1, of the light on the skin: photos in the same light share their mistakes."""
    out = torch.eye(len(views)).to(views[0].residual)
    for j, a in enumerate(views):
        for k, b in enumerate(views[:j]):
            both = weights[j] * weights[k]
            total = both.sum().clamp(min=1e-6)
            x, y = (v.light - (both * v.light).sum() / total for v in (a, b))
            cross = (both * x * y).sum()
            scale = ((both * x * x).sum() * (both * y * y).sum()).clamp(min=1e-12).sqrt()
            out[j, k] = out[k, j] = (cross / scale).clamp(0, 1)
    return out


def _skin(details: Tensor, variance: Tensor, gain_at: Callable[[float], Tensor]) -> Tensor:
    """Skin part (T, T, 3) of a fused band; `variance` (T, T): shading variance over that of one photo."""
    shares = torch.tensor(NEAR_SHARES).to(details)
    parts = torch.stack([details @ gain_at(share).to(details).T for share in NEAR_SHARES])
    position = torch.zeros_like(variance)
    for upper, lower in zip(shares[:-1], shares[1:], strict=True):
        position = position + ((upper - variance) / (upper - lower)).clamp(0, 1)
    low = position.floor().long().clamp(max=len(NEAR_SHARES) - 2)
    part = (position - low)[..., None]
    rows = low[None, ..., None].expand(1, *details.shape)
    return parts.gather(0, rows)[0] * (1 - part) + parts.gather(0, rows + 1)[0] * part
