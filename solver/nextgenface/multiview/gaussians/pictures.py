"""The pictures that Gaussians learn from, at every resolution of the training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...colour import linear_to_srgb
from ...views import View, ViewSet
from .rendering import Pinhole

MARGIN = 0.06
"""Border around a mask that is still drawn, per longest side of the picture."""


@dataclass(frozen=True)
class Target:
    """One view at one resolution, cut to its mask. `image` (h, w, 3) sRGB code values, `mask` (h, w) or None;
    `left`, `top`: where the cut begins in the picture of `width` pixels.
    """

    image: Tensor
    mask: Tensor | None
    left: int
    top: int
    width: int

    def cut(self, camera: Pinhole) -> Pinhole:
        """The camera of the cut, from that of the whole picture."""
        offset = camera.principal.new_tensor((self.left, self.top))
        height, width = self.image.shape[:2]
        return replace(camera, principal=camera.principal - offset, width=width, height=height)

    def over(self, background: Tensor) -> Tensor:
        """The picture over a background (3,); a picture without a mask stays as it is."""
        if self.mask is None:
            return self.image
        return self.image * self.mask[..., None] + background * (1 - self.mask[..., None])


def widths(views: ViewSet, longest: int, level: int) -> list[int]:
    """Width of each view when its longer side has `longest` / 2^level pixels (never more than it has)."""
    result = []
    for view in views:
        camera = view.camera
        factor = min(1.0, longest / max(camera.width, camera.height)) / 2**level
        result.append(max(1, round(camera.width * factor)))
    return result


def make_target(view: View, width: int, device: torch.device | str, *, cut: bool = True) -> Target:
    """A view in `width` pixels, cut to its mask and a margin around it."""
    view = view.scaled(width / view.camera.width)
    height, width = view.camera.height, view.camera.width
    image = linear_to_srgb(torch.as_tensor(view.image / view.exposure, device=device)).clamp(0, 1)
    if view.mask is None:
        return Target(image, None, 0, 0, width)
    left, top, right, bottom = 0, 0, width, height
    rows, columns = np.nonzero(view.mask > 0.02)
    if cut and len(rows):
        border = round(MARGIN * max(width, height)) + 1
        left, right = max(0, int(columns.min()) - border), min(width, int(columns.max()) + 1 + border)
        top, bottom = max(0, int(rows.min()) - border), min(height, int(rows.max()) + 1 + border)
    mask = torch.as_tensor(view.mask, device=device)
    return Target(
        image[top:bottom, left:right].contiguous(),
        mask[top:bottom, left:right].contiguous(),
        left,
        top,
        width,
    )
