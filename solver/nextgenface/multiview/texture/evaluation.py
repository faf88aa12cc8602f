"""How well a texture shows the views, and the plain average it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...colour import linear_to_srgb
from ...views import View
from ..datasets.neural_texgen import UvView
from ..losses import psnr
from .samples import bilinear
from .start import splat
from .uvmaps import Sample, Surface

FEWEST = 50
"""Pixels from which the colour of what is seen from behind is known."""


def sampler(texture: NDArray[np.uint8] | NDArray[np.float32]) -> Sample:
    """Bilinear lookup of a texture (S, S, 3), code values 0..255 or 0..1."""
    scale = 1 / 255 if texture.dtype == np.uint8 else 1.0
    flat = torch.from_numpy(np.ascontiguousarray(texture.reshape(-1, 3)))

    def sample(uv: Tensor) -> Tensor:
        texels, shares = bilinear(uv.cpu().numpy(), len(texture))
        picked = flat[torch.from_numpy(texels)].float() * scale
        return (picked * torch.from_numpy(shares)[..., None]).sum(1).to(uv.device)

    return sample


def plain_average(views: Sequence[UvView], masks: Sequence[NDArray[np.float32] | None], size: int) -> Sample:
    """The texture that simply averages what falls on each texel, holes filled: what there is to beat."""
    uv, colour = [], []
    for view, mask in zip(views, masks, strict=True):
        chosen = view.valid if mask is None else view.valid & (mask > 0.5)
        uv.append(view.uv[chosen])
        colour.append(linear_to_srgb(view.image[chosen].clip(0, 1)))
    every = np.concatenate(uv)
    return sampler(splat(every, np.concatenate(colour), np.ones(len(every), np.float32), size)[0])


def back_colour(surface: Surface, views: Iterable[View]) -> Tensor | None:
    """(3,) mean sRGB code value of what the views show of the surface from behind, where it is open.

    A texture belongs to the outside; the inside of a bust or a collar would show it mirrored. None where no
    view looks inside.
    """
    total, count = np.zeros(3), 0
    for view in views:
        fragments, cosine, _ = surface.seen(view.camera)
        chosen = fragments.pixel[cosine <= 0].cpu().numpy()
        if view.mask is not None:
            chosen = chosen[view.mask.ravel()[chosen] > 0.95]
        total += linear_to_srgb(view.image.reshape(-1, 3)[chosen].clip(0, 1)).sum(0)
        count += len(chosen)
    return torch.from_numpy((total / count).astype(np.float32)) if count >= FEWEST else None


def score(
    surface: Surface, sample: Sample, view: View, back: Tensor | None = None
) -> tuple[float, NDArray[np.float32]]:
    """(PSNR in dB over sRGB code values inside the view's mask, (H, W, 4) the picture with its coverage).

    Without a mask the PSNR is taken where the mesh is.
    """
    picture, coverage = surface.drawn(view.camera, sample, back=back)
    target = torch.from_numpy(linear_to_srgb(view.image.clip(0, 1))).to(picture)
    inside = coverage if view.mask is None else torch.from_numpy(view.mask).to(picture)
    straight = picture / coverage.clamp(min=1e-3)[..., None]
    drawn = torch.cat([straight.clamp(0, 1), coverage[..., None]], -1)
    return psnr(picture, target, (inside > 0.5).float()), drawn.cpu().numpy()
