"""Light gathered at vertices, in blocks that fit a processor's cache, with its gradient in closed form.

The same sums as `deferred.diffuse_factors` and `deferred.glossy_factors` times the radiance; but those keep
a dozen arrays of vertices x directions for the backward pass, which makes a dense mesh slow. Here
only the lobes are kept, and the rest is worked out again, block by block.
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
        lobes = torch.empty_like(visible)
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            facing = (normals[rows] @ directions.T).clamp_(min=0)
            along = (mirror[rows] @ directions.T).mul_(sharpness[rows, None])
            lobe = torch.softmax(along, 1, out=lobes[rows]) * facing
            total = lobe.sum(1, keepdim=True).clamp_(min=1e-6)
            glossy[rows] = lobe.mul_(visible[rows]) @ radiance / total
            diffuse[rows] = facing.mul_(visible[rows]) @ radiance * scale
        ctx.save_for_backward(normals, mirror, sharpness, radiance, directions, visible, glossy, lobes)
        ctx.scale = scale
        return diffuse, glossy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_diffuse, by_glossy = gradients
        normals, mirror, sharpness, radiance, directions, visible, glossy, lobes = ctx.saved_tensors
        wants_light = ctx.needs_input_grad[3]
        to_normals, to_lobe = torch.empty_like(normals), torch.empty_like(mirror)
        to_radiance = torch.zeros_like(radiance)
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            facing = (normals[rows] @ directions.T).clamp_(min=0)
            seen, peak = visible[rows], lobes[rows]
            lobe = peak * facing
            whole = lobe.sum(1, keepdim=True)
            # A lobe below the horizon has nothing to say.
            share = (whole > 1e-6).to(whole) / whole.clamp(min=1e-6)
            d, g = by_diffuse[rows] * ctx.scale, by_glossy[rows] * share
            if wants_light:
                to_radiance += (facing * seen).T @ d + (lobe * seen).T @ g
            # A sample of the lobe matters as its light differs from the mean that the lobe sees.
            mean = (g * glossy[rows]).sum(1, keepdim=True)
            excess = (g @ radiance.T).mul_(seen).sub_(mean)
            slope = (d @ radiance.T).mul_(seen).addcmul_(peak, excess).mul_(facing.sign_())
            to_normals[rows] = slope @ directions
            to_lobe[rows] = lobe.mul_(excess) @ directions
        to_sharpness = (to_lobe * mirror).sum(1)
        to_mirror = sharpness[:, None] * to_lobe
        return to_normals, to_mirror, to_sharpness, to_radiance if wants_light else None, None, None, None


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
