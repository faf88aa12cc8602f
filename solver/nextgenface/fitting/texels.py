"""From photo to texture: where each texel is seen, how well, and which texel mirrors it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as tf

from ..facemodel.model import FaceModel
from ..rendering.deferred import Pose
from ..rendering.raster import Fragments
from .bake import texel_table
from .targets import Target

DEPTH_SLACK = 2.5  # mm a texel may lie behind the seen surface and still count as seen


@dataclass(frozen=True)
class TexelView:
    """One photo at the texels (T*T): `colour` (.., 3) linear, `weight` (..,) 0..1 how well seen, `smooth`
    (..,) 0..1 as little as strands of hair cross it."""

    colour: Tensor
    weight: Tensor
    smooth: Tensor


class Texels:
    """The texels of a model's UV layout at one resolution."""

    def __init__(self, model: FaceModel, resolution: int, device: torch.device) -> None:
        table = texel_table(model, resolution)
        self.resolution = resolution
        self.corners = table.corners.to(device)
        self.weights = table.weights.to(device)
        self.on_face = table.on_face.to(device).view(-1)
        self.mirror = self._mirror(model).to(device)

    def gather(self, values: Tensor) -> Tensor:
        """Vertex values (V, C) at the texels (T*T, C)."""
        picked = values.index_select(0, self.corners.reshape(-1)).view(*self.corners.shape, -1)
        return torch.einsum("nk,nkc->nc", self.weights.to(values), picked)

    def _mirror(self, model: FaceModel) -> Tensor:
        """Texel index (T*T,) of each texel's mirror image, through the model's vertex mirror."""
        uv = torch.from_numpy(np.ascontiguousarray(model.uv[model.mirror], np.float32))
        at = self.gather(uv.to(self.weights.device)).cpu()
        n = self.resolution
        column = (at[:, 0] * n).floor().clamp(0, n - 1).long()
        row = ((1 - at[:, 1]) * n).floor().clamp(0, n - 1).long()
        return row * n + column

    def millimetres(self, vertices: Tensor) -> float:
        """Typical size of a texel on the surface of `vertices` (V, 3), mm."""
        n = self.resolution
        points = self.gather(vertices).view(n, n, 3)
        across = (points[:, 1:] - points[:, :-1]).norm(dim=-1)
        return float(across[self.on_face.view(n, n)[:, 1:]].median())

    def look_up(
        self,
        camera_vertices: Tensor,
        normals: Tensor,
        pose: Pose,
        fragments: Fragments,
        target: Target,
        skin: Tensor,
    ) -> TexelView:
        """Project the texels into a photo.

        `camera_vertices` (V, 3), `normals` (V, 3) camera space, `fragments` of the same mesh in the target's
        picture, `skin` (V,) where texels may be taken from the photo at all.
        """
        points = self.gather(camera_vertices)
        facing = -(tf.normalize(self.gather(normals), dim=1) * tf.normalize(points, dim=1)).sum(1)
        screen = pose.screen(points)
        grid = (screen / torch.tensor([target.width, target.height]).to(screen) * 2 - 1).view(1, 1, -1, 2)
        valid = target.valid.view(1, 1, target.height, target.width)
        photo = target.linear.view(target.height, target.width, 3).permute(2, 0, 1)[None]
        # invalid pixels must not bleed into their neighbours
        smooth = target.smooth.view(1, 1, target.height, target.width)
        stack = torch.cat([photo * valid, valid, smooth], 1)
        found = tf.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[
            0, :, 0
        ]
        usable = found[3]
        colour = (found[:3] / usable.clamp(min=1e-3)).T
        seen = torch.full((target.height * target.width,), torch.inf).to(points)
        seen[fragments.pixel] = fragments.interpolate(camera_vertices[:, 2:])[:, 0]
        column = screen[:, 0].floor().long().clamp(0, target.width - 1)
        row = screen[:, 1].floor().long().clamp(0, target.height - 1)
        near = points[:, 2] < seen[row * target.width + column] + DEPTH_SLACK
        angle = ((facing - 0.2) / 0.5).clamp(0, 1)
        weight = (
            angle * angle * (3 - 2 * angle) * near * usable * self.gather(skin[:, None])[:, 0] * self.on_face
        )
        return TexelView(colour, weight, found[4])
