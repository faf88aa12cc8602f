"""What stage 2 and 3 keep of one photo, and how pixels of it are picked and judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as tf

from ..rendering.deferred import Transfer
from ..rendering.raster import Fragments
from ..views import FaceView
from .targets import Target


@dataclass
class PhotoData:
    """One photo's share of the problem, with what is held fixed between updates."""

    index: int
    view: FaceView
    rotation: Tensor  # (3, 3) at the start
    translation: Tensor
    focal: Tensor
    principal: Tensor
    environment: Tensor  # (D, 3)
    targets: list[Target]
    marks: Tensor  # (L, 2)
    mark_depth: Tensor | None  # (D,) of the first D marks
    mark_weight: Tensor
    mark_vertices: Tensor
    mark_scale: float
    outside: Tensor | None = None  # (1, 1, H, W) pixels to the person, 0 inside; None = not known
    signed: Tensor | None = None  # (1, 3, H, W) signed distance to the person and slopes (`contours`)
    transfer: Transfer | None = None
    trust: float = 1.0  # say in what the photos share, 0 for a photo that is left out


def skin_weight(photo: PhotoData, fragments: Fragments, skin: Tensor, facing: Tensor) -> Tensor:
    """How far each pixel (N,) of a photo counts for the skin: valid, `skin` 0..1, turned to the camera
    (`facing`, cosine), and of a photo that has a say."""
    valid = photo.targets[-1].valid[fragments.pixel]
    return skin * valid * ((facing - 0.1) / 0.4).clamp(0, 1) * photo.trust


def distance_outside(view: FaceView, device: torch.device) -> Tensor | None:
    """Distance map (1, 1, H, W), pixels, from the person in a view; None when that is not known."""
    if view.person is None:
        return None
    inside = view.person > 0.5
    if inside.mean() < 0.05:  # the segmentation saw nobody where landmarks were found
        return None
    distance = distance_transform_edt(~inside).astype(np.float32)
    return torch.from_numpy(distance).to(device)[None, None]


def neighbourhood(fragments: Fragments, values: Tensor, weight: Tensor, reach: float) -> Tensor:
    """Weighted mean of pixel values (N,) over a window of `reach` pixels to each side, (N,)."""
    size = 2 * max(1, round(reach)) + 1
    stack = torch.stack([values * weight, weight], 1)
    picture = fragments.picture(stack).permute(2, 0, 1)
    blurred = _window_sum(_window_sum(picture, size, 1), size, 2) / size**2
    blurred = blurred.view(2, -1).index_select(1, fragments.pixel)
    return blurred[0] / blurred[1].clamp(min=1e-4)


def _window_sum(picture: Tensor, size: int, dim: int) -> Tensor:
    """Sums over `size` neighbours along one axis of a picture (C, H, W), which has zeros around it.

    Shifted copies are added: twenty times as fast as pooling with such a window.
    """
    reach = size // 2
    padded = tf.pad(picture, (0, 0, reach, reach) if dim == 1 else (reach, reach, 0, 0))
    length = picture.shape[dim]
    total = padded.narrow(dim, 0, length).clone()
    for shift in range(1, size):
        total += padded.narrow(dim, shift, length)
    return total


def spread_rows(count: int, wanted: int) -> Tensor:
    """At most `wanted` row numbers spread evenly over `count` rows."""
    return torch.linspace(0, count - 1, min(wanted, count)).long()
