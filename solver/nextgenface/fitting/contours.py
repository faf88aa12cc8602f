"""Outlines: where the face meets the background, and how far the seen outline of the person is from there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as tf

from ..rendering.deferred import vertex_normals
from ..rendering.raster import rasterize
from ..views import FaceView
from .photoset import PhotoSet

REACH = 0.12  # of the inter-ocular distance: outlines further off belong to hair, hands or clothes
PROBE = 0.05  # the same: how far beyond the outline nothing of the head may follow


@dataclass(frozen=True)
class Contour:
    """Outline vertices (C,) of one photo; `field` (1, 3, H, W): signed distance to the person, and slopes."""

    vertices: Tensor
    field: Tensor

    def distance(self, screen: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances (C,), pixels, positive outside the person, and their slopes (C, 2)."""
        size = torch.tensor([self.field.shape[-1], self.field.shape[-2]]).to(screen)
        grid = (screen / size * 2 - 1)[None, :, None]
        found = tf.grid_sample(self.field, grid, align_corners=False, padding_mode="border")[0, :, :, 0]
        return found[0], found[1:].T


def signed_distance(view: FaceView, device: torch.device) -> Tensor | None:
    """(1, 3, H, W): pixels to the person's edge, negative inside, and its slopes; None when not known."""
    if view.person is None:
        return None
    inside = view.person > 0.5
    if not 0.05 < inside.mean() < 0.98:
        return None
    # A crop cuts through the person: what lies at its border is no outline.
    padded = np.pad(inside, 64, mode="edge")
    # The edge runs half a pixel before the nearest pixel of the other side.
    distance = np.where(padded, 0.5 - distance_transform_edt(padded), distance_transform_edt(~padded) - 0.5)
    distance = distance[64:-64, 64:-64].astype(np.float32)
    down, across = np.gradient(distance)
    return torch.from_numpy(np.stack([distance, across, down])).to(device)[None]


@torch.no_grad()
def find_contour(problem: PhotoSet, k: int) -> Contour:
    """The vertices of photo k where skin ends against the background, for the present geometry."""
    w, photo = problem.white, problem.photos[k]
    if photo.signed is None:
        return Contour(
            torch.zeros(0, dtype=torch.int64, device=w.faces.device), torch.zeros(1, 3, 2, 2).to(w.neutral)
        )
    pose, target = problem.pose(k), photo.targets[-1]
    camera = pose.camera_space(problem.vertices(k))
    screen = pose.screen(camera)
    corners = screen[w.faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    front = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) < 0
    seen, hidden = (torch.zeros(len(screen), dtype=torch.bool, device=w.faces.device) for _ in range(2))
    seen[w.faces[front].reshape(-1)] = True
    hidden[w.faces[~front].reshape(-1)] = True
    rim = torch.nonzero(seen & hidden & (w.core > 0.5))[:, 0]
    outwards = tf.normalize(vertex_normals(camera, w.faces)[rim, :2], dim=1)
    small = pose.scaled(target.scale).screen(camera)
    coverage = rasterize(small, camera[:, 2], w.faces, target.height, target.width).coverage()
    probe = screen[rim] + outwards * PROBE * photo.mark_scale
    size = torch.tensor([photo.signed.shape[-1], photo.signed.shape[-2]]).to(probe)
    grid = (probe / size * 2 - 1)[None, :, None]
    free = tf.grid_sample(coverage[None, None], grid, align_corners=False)[0, 0, :, 0] < 0.5
    contour = Contour(rim, photo.signed)
    near = contour.distance(screen[rim])[0].abs() < REACH * photo.mark_scale
    inside = ((screen[rim] > 2) & (screen[rim] < size - 2)).all(1)
    return Contour(rim[free & near & inside], photo.signed)
