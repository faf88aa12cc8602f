"""Light gathered at vertices, in blocks that fit a processor's cache, with its gradient in closed form.

The same sums as `deferred.diffuse_factors` and `deferred.glossy_factors` times the radiance; but those keep
a dozen arrays of vertices x directions for the backward pass, which makes a dense mesh slow. Here every block
is worked out again when its gradient is asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 1024  # vertices at a time: with some 300 directions about a megabyte per array


class _Gather(torch.autograd.Function):
    """(diffuse (U, 3), glossy (U, 3)); see `gather`."""

    @staticmethod
    def forward(
        ctx: Any,
        normals: Tensor,
        mirror: Tensor,
        sharpness: Tensor,
        radiance: Tensor,
        directions: Tensor,
        visible: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        diffuse, glossy = torch.empty_like(normals), torch.empty_like(normals)
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            facing = (normals[rows] @ directions.T).clamp_(min=0)
            seen = visible[rows]
            lobe = _lobe(mirror[rows], sharpness[rows], directions)
            lobe.mul_(facing)
            total = lobe.sum(1, keepdim=True).clamp_(min=1e-6)
            glossy[rows] = lobe.mul_(seen) @ radiance / total
            diffuse[rows] = facing.mul_(seen) @ radiance * scale
        ctx.save_for_backward(normals, mirror, sharpness, radiance, directions, visible, glossy)
        ctx.scale = scale
        return diffuse, glossy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_diffuse, by_glossy = gradients
        normals, mirror, sharpness, radiance, directions, visible, glossy = ctx.saved_tensors
        wants_light = ctx.needs_input_grad[3]
        to_normals, to_mirror = torch.empty_like(normals), torch.empty_like(mirror)
        to_sharpness, to_radiance = torch.empty_like(sharpness), torch.zeros_like(radiance)
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            cosine = normals[rows] @ directions.T
            front = cosine > 0
            seen = visible[rows]
            along = mirror[rows] @ directions.T
            peak = _lobe(mirror[rows], sharpness[rows], directions).mul_(front)
            lobe = peak * cosine
            whole = lobe.sum(1, keepdim=True)
            total = whole.clamp(min=1e-6)
            d, g = by_diffuse[rows] * ctx.scale, by_glossy[rows]
            if wants_light:
                share = (cosine * front).mul_(seen)
                to_radiance += share.T @ d + (lobe * seen).T @ (g / total)
            # A lobe sample matters as its light differs from the mean that the lobe sees.
            mean = (g * glossy[rows]).sum(1, keepdim=True)
            excess = (g @ radiance.T).mul_(seen).sub_(mean).div_(total)
            excess.mul_(whole > 1e-6)  # a lobe below the horizon has nothing to say
            slope = (d @ radiance.T).mul_(seen).mul_(front).add_(peak.mul_(excess))
            to_normals[rows] = slope @ directions
            weighted = lobe.mul_(excess)
            to_mirror[rows] = sharpness[rows, None] * (weighted @ directions)
            to_sharpness[rows] = weighted.mul_(along).sum(1)
        return to_normals, to_mirror, to_sharpness, to_radiance if wants_light else None, None, None, None


def _lobe(mirror: Tensor, sharpness: Tensor, directions: Tensor) -> Tensor:
    """exp of sharpness * cosine to the mirror direction (B, Q), normalised to a sum of 1."""
    return torch.softmax(sharpness[:, None] * (mirror @ directions.T), 1)


def gather(
    normals: Tensor,
    mirror: Tensor,
    sharpness: Tensor,
    radiance: Tensor,
    directions: Tensor,
    visible: Tensor,
    solid_angle: float,
) -> tuple[Tensor, Tensor]:
    """Irradiance / pi (U, 3) and prefiltered mirror radiance (U, 3) at vertices.

    `normals`, `mirror` (U, 3) unit, `sharpness` (U,) of the lobe, `radiance` (Q, 3) from `directions` (Q, 3),
    `visible` (U, Q), `solid_angle` of a direction. Differentiable in the first four.
    """
    result = _Gather.apply(normals, mirror, sharpness, radiance, directions, visible, solid_angle / torch.pi)
    diffuse, glossy = result
    return diffuse, glossy
