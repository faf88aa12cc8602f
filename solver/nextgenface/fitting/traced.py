"""Photos drawn by rays while fitting: the ray-traced engine behind the photo losses of stages 2 and 3."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..config import Config
from ..facemodel.model import FaceModel
from ..rendering.deferred import Pose, vertex_normals
from ..rendering.llvm import activate, select_variant
from ..rendering.raster import Fragments
from ..rendering.raytraced import Frame, RayTracer
from ..rendering.silhouette import Edges, mesh_edges

log = logging.getLogger(__name__)


class TracedPhotos:
    """One mesh topology, drawn at the pixels that a rasteriser found; every picture has new noise."""

    def __init__(self, model: FaceModel, config: Config, device: torch.device) -> None:
        faces = torch.as_tensor(model.faces, dtype=torch.int64, device=device)
        uv = torch.as_tensor(model.uv, dtype=torch.float32, device=device)
        self.tracer = RayTracer(faces, uv, bounces=int(config.rtBounces))
        self.faces = faces
        self.samples = int(config.rtTrainingSamples)
        self._seed = int(config.seed) * 7919
        self._drawn, self._outline_every = 0, int(config.rtOutlineEvery)

    def radiance(
        self,
        camera_vertices: Tensor,
        pose: Pose,
        light: Tensor,
        skin: Tensor,
        fragments: Fragments,
        samples: int | None = None,
    ) -> Tensor:
        """Radiance (N, 3) of the face at the fragments' pixels, linear, not premultiplied.

        `camera_vertices` (V, 3), `light` (D, 3), `skin` (V, 5) or (T, T, 5): colour, level, roughness.
        `samples` per pixel, default `rtTrainingSamples`.
        """
        self._seed += 1
        size = fragments.height, fragments.width
        where = torch.zeros(size[0] * size[1], dtype=torch.bool, device=fragments.pixel.device)
        where[fragments.pixel] = True
        frame = Frame(camera_vertices, vertex_normals(camera_vertices, self.faces), skin, light, pose)
        picture = self.tracer.picture(
            frame, size, samples=samples or self.samples, seed=self._seed, where=where.view(size)
        )
        found = picture.reshape(-1, 4).index_select(0, fragments.pixel)
        return found[:, :3] / found[:, 3:].clamp(min=1.0 / 16)

    def picture(
        self, camera_vertices: Tensor, pose: Pose, light: Tensor, skin: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """A whole picture (H, W, 4), linear premultiplied radiance and coverage; see `RayTracer.picture`.

        Every `rtOutlineEvery`th one has gradients of the outlines.
        """
        self._seed += 1
        self._drawn += 1
        frame = Frame(camera_vertices, vertex_normals(camera_vertices, self.faces), skin, light, pose)
        wanted = self._outline_every > 0 and self._drawn % self._outline_every == 0
        edges = self.edges if wanted and camera_vertices.requires_grad else None
        return self.tracer.picture(frame, size, samples=self.samples, seed=self._seed, edges=edges)

    @cached_property
    def edges(self) -> Edges:
        """The mesh's edges, for outlines."""
        return mesh_edges(self.faces)


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Colour, level and roughness maps (T, T, C) of any sizes as one (T, T, 5) of the largest size."""
    side = max(len(one) for one in maps)
    sized = []
    for k, one in enumerate(maps):
        grey = one.mean(-1, keepdim=True) if k == 1 else one  # specular level has one channel in effect
        if len(one) != side:
            stack = grey.permute(2, 0, 1)[None]
            grey = interpolate(stack, (side, side), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
        sized.append(grey)
    return torch.cat(sized, -1)


def traced_photos(model: FaceModel, config: Config, device: torch.device) -> TracedPhotos | None:
    """The ray-traced engine when the options ask for it (`raytraced`, `hybrid`) and it works here.

    Where Mitsuba has no variant with derivatives, the log says so and the deferred engine does all of it.
    """
    if config.engine == "deferred":
        return None
    variant = select_variant(cast(Literal["auto", "cpu", "cuda"], config.device))
    for text in variant.warnings:
        log.warning("%s", text)
    if not variant.differentiable:
        log.warning(
            "engine = %s was asked for, but Mitsuba's %s has no derivatives here (%s). The deferred engine "
            "is used instead.", config.engine, variant.name, variant.reason,
        )  # fmt: skip
        return None
    activate(variant)
    return TracedPhotos(model, config, device)
