"""Light gathered at vertices, in blocks that fit a processor's cache, with its gradient in closed form.

The same sums as `deferred.diffuse_factors` and `deferred.glossy_factors` times the radiance; but those keep
a dozen arrays of vertices x directions for the backward pass, which makes a dense mesh slow. Here nothing of
that size is kept: everything is worked out again, block by block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as tf

BLOCK = 512  # vertices at a time: with some 300 directions two thirds of a megabyte per array
FAINTEST = 3e-6  # sum of a lobe's samples, 1 at its peak, below which it counts as below the horizon
_LOG2_E = (
    1.4426950408889634  # exp2 is three times as fast as exp, and linear as the product with three columns
)


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
        across, light = directions.T.contiguous(), radiance.T.contiguous()
        power = sharpness[:, None] * _LOG2_E
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            facing = (normals[rows] @ across).clamp_(min=0)
            lobe = torch.addmm(-power[rows], mirror[rows] * power[rows], across).exp2_().mul_(facing)
            total = lobe.sum(1, keepdim=True).clamp_(min=FAINTEST)
            glossy[rows] = tf.linear(lobe.mul_(visible[rows]), light) / total
            diffuse[rows] = tf.linear(facing.mul_(visible[rows]), light) * scale
        ctx.save_for_backward(normals, mirror, sharpness, radiance, directions, visible, glossy)
        ctx.scale = scale
        return diffuse, glossy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_diffuse, by_glossy = gradients
        normals, mirror, sharpness, radiance, directions, visible, glossy = ctx.saved_tensors
        wants_light = ctx.needs_input_grad[3]
        to_normals, to_lobe = torch.empty_like(normals), torch.empty_like(mirror)
        to_radiance = torch.zeros_like(radiance)
        across, light = directions.T.contiguous(), radiance.T.contiguous()
        power = sharpness[:, None] * _LOG2_E
        for start in range(0, len(normals), BLOCK):
            rows = slice(start, start + BLOCK)
            facing = (normals[rows] @ across).clamp_(min=0)
            seen = visible[rows]
            peak = torch.addmm(-power[rows], mirror[rows] * power[rows], across).exp2_()
            lobe = peak * facing
            whole = lobe.sum(1, keepdim=True)
            # A lobe below the horizon has nothing to say.
            share = (whole > FAINTEST).to(whole) / whole.clamp(min=FAINTEST)
            d, g = by_diffuse[rows] * ctx.scale, by_glossy[rows] * share
            if wants_light:
                to_radiance += (facing * seen).T @ d + (lobe * seen).T @ g
            # A sample of the lobe matters as its light differs from the mean that the lobe sees.
            mean = (g * glossy[rows]).sum(1, keepdim=True)
            excess = (g @ light).mul_(seen).sub_(mean)
            slope = (d @ light).mul_(seen).addcmul_(peak, excess).mul_(facing.sign_())
            to_normals[rows] = tf.linear(slope, across)
            to_lobe[rows] = tf.linear(lobe.mul_(excess), across)
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
