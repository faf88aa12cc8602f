"""The reference's stage-2 step with our ray-traced engine in it: same parameters, loss and textures."""

from __future__ import annotations

import torch
from nextgenface.fitting.morphable import MorphableModel
from nextgenface.geometry.normals import vertex_normals
from nextgenface.rendering.deferred import Pose
from nextgenface.rendering.light import lobe_centres
from nextgenface.rendering.mitsuba_scene import SceneCamera
from nextgenface.rendering.raytraced import Frame, RayTracer
from nextgenface.rendering.sh import sh_basis
from nextgenface.rendering.silhouette import mesh_edges
from reference_way import SAMPLES, SH_BANDS, ReferenceStep
from torch import Tensor


class TracedStep(ReferenceStep):
    """`step()` without and with the gradients of outlines."""

    def __init__(
        self,
        model: MorphableModel,
        camera: SceneCamera,
        photo: Tensor,
        mask: Tensor,
        sh: Tensor,
        samples: int = SAMPLES,
        *,
        outlines: bool,
    ) -> None:
        super().__init__(model, camera, photo, mask, sh, samples)
        self.tracer = RayTracer(model.faces, model.uvMap)
        self.edges = mesh_edges(model.faces) if outlines else None
        self.basis = sh_basis(lobe_centres(), SH_BANDS)
        self.level = torch.full_like(self.roughness, 0.4)
        focal, centre = float(camera.K[0, 0]), torch.tensor(camera.K[:2, 2], dtype=torch.float32)
        self.pose = Pose(torch.eye(3), torch.zeros(3), torch.tensor(focal), centre)
        self.seed = 0

    def step(self) -> float:
        """One optimisation step; returns the loss before it."""
        self.optimiser.zero_grad()
        self.seed += 1
        vertices = (
            self.model.computeShape(self.shape, self.expression)[0] @ self.rotation.T + self.translation
        )
        normals = vertex_normals(vertices, self.model.faces)
        colour = self.model.generateTextureFromAlbedo(self.model.computeDiffuseAlbedo(self.albedo))[0]
        light = (self.basis @ self.sh).clamp(min=0)
        skin = torch.cat([colour, self.level, self.roughness], -1)
        picture = self.tracer.picture(
            Frame(vertices, normals, skin, light, self.pose),
            (self.camera.height, self.camera.width),
            samples=self.samples, seed=self.seed, edges=self.edges,
        )  # fmt: skip
        loss = (self.mask[..., None] * (picture[..., :3] - self.photo)).abs().mean()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())
