"""One stage-2 step as the open NextGenFace takes it, re-created to be timed.

Coefficients go to vertices, normals, textures and a 64 x 64 environment in torch. Every step builds a new
Mitsuba scene from them, renders it with `direct_projective` at 8 samples per pixel, and when torch asks for
gradients builds the scene again and renders it a second time with derivatives of vertex positions, vertex
normals, base colour, roughness and environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nextgenface.fitting.morphable import MorphableModel
from nextgenface.geometry.normals import vertex_normals
from nextgenface.rendering.mitsuba_scene import (
    CAMERA_FROM_LIGHT,
    Environment,
    Geometry,
    SceneCamera,
    bitmap_texture,
    build_mesh,
    environment_emitter,
    mitsuba,
)
from nextgenface.rendering.sh import equirect_directions, sh_basis
from torch import Tensor

SAMPLES = 8
ENVIRONMENT_SIZE = 64
SH_BANDS = 9


class ReferenceStep:
    """The step for one picture; `step()` renders, differentiates and moves the parameters."""

    def __init__(
        self,
        model: MorphableModel,
        camera: SceneCamera,
        photo: Tensor,
        mask: Tensor,
        sh: Tensor,
        samples: int = SAMPLES,
    ) -> None:
        """photo (H, W, 3) linear and mask (H, W) in pixels of the camera; sh (81, 3) light to start from."""
        self.model, self.camera, self.samples = model, camera, samples
        self.photo, self.mask = photo, mask
        self.rotation = torch.tensor(np.asarray(camera.R), dtype=torch.float32)
        self.translation = torch.tensor(np.asarray(camera.t), dtype=torch.float32).requires_grad_()
        self.shape = torch.zeros(1, model.shapeBasisSize, requires_grad=True)
        self.expression = torch.zeros(1, model.expBasisSize, requires_grad=True)
        self.albedo = torch.zeros(1, model.albedoBasisSize, requires_grad=True)
        self.sh = sh.clone().requires_grad_()
        directions = equirect_directions(ENVIRONMENT_SIZE, ENVIRONMENT_SIZE).reshape(-1, 3)
        self.basis = sh_basis(directions, SH_BANDS)
        self.roughness = model.generateTextureFromAlbedo(model.roughness[None, :, None])[0].detach()
        self.optimiser = torch.optim.Adam(
            [self.shape, self.expression, self.albedo, self.sh, self.translation], lr=0.005
        )

    def step(self) -> float:
        """One optimisation step; returns the loss before it."""
        self.optimiser.zero_grad()
        vertices = (
            self.model.computeShape(self.shape, self.expression)[0] @ self.rotation.T + self.translation
        )
        normals = vertex_normals(vertices, self.model.faces)
        colour = self.model.generateTextureFromAlbedo(self.model.computeDiffuseAlbedo(self.albedo))[0]
        environment = (self.basis @ self.sh).clamp(min=0).reshape(ENVIRONMENT_SIZE, ENVIRONMENT_SIZE, 3)
        picture = _Render.apply(self, vertices, normals, colour, self.roughness, environment)
        loss = (self.mask[..., None] * (picture[..., :3] - self.photo)).abs().mean()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def build(
        self, vertices: Tensor, normals: Tensor, colour: Tensor, roughness: Tensor, environment: Tensor
    ) -> Any:
        """A new scene of the current values, as `mi.load_dict` makes it."""
        mi = mitsuba()
        bsdf = {
            "type": "principled",
            "base_color": bitmap_texture(colour.numpy().clip(0, 1)),
            "roughness": bitmap_texture(roughness.numpy()),
            "specular": 0.4,
        }
        geometry = Geometry(
            vertices.numpy(), self.model.faces.numpy(), self.model.uvMap.numpy(), normals.numpy()
        )
        return mi.load_dict(
            {
                "type": "scene",
                # Silhouettes seen directly, as there; those of shadows (sppi) would cost far more.
                "integrator": {
                    "type": "direct_projective",
                    "sppc": self.samples,
                    "sppp": self.samples,
                    "sppi": 0,
                },
                "sensor": self._sensor(),
                "face": build_mesh(geometry, bsdf),
                "light": environment_emitter(Environment(environment.numpy(), CAMERA_FROM_LIGHT)),
            }
        )

    def _sensor(self) -> dict[str, Any]:
        mi = mitsuba()
        width, height = self.camera.width, self.camera.height
        return {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(width / (2 * self.camera.K[0, 0])))),
            "fov_axis": "x",
            "to_world": mi.ScalarTransform4f(np.diag([-1.0, -1.0, 1.0, 1.0])),
            "near_clip": 10.0,
            "film": {"type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "gaussian"}},
        }


class _Render(torch.autograd.Function):
    """Mitsuba inside torch: a plain render forward, a second one with derivatives backward."""

    @staticmethod
    def forward(ctx: Any, owner: ReferenceStep, *values: Tensor) -> Tensor:
        mi = mitsuba()
        ctx.owner = owner
        ctx.save_for_backward(*values)
        scene = owner.build(*(value.detach() for value in values))
        return torch.from_numpy(np.array(mi.render(scene, spp=owner.samples, seed=0)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        import drjit as dr

        mi = mitsuba()
        values = ctx.saved_tensors
        scene = ctx.owner.build(*(value.detach() for value in values))
        parameters = mi.traverse(scene)
        keys = (
            "face.vertex_positions",
            "face.vertex_normals",
            "face.bsdf.base_color.data",
            "face.bsdf.roughness.data",
            "light.data",
        )
        inputs = {key: type(parameters[key])(parameters[key]) for key in keys}
        for key, value in inputs.items():
            dr.enable_grad(value)
            parameters[key] = value
        parameters.update()
        picture = mi.render(scene, params=parameters, spp=ctx.owner.samples, seed=0)
        dr.set_grad(picture, mi.TensorXf(np.ascontiguousarray(gradient.numpy())))
        dr.enqueue(dr.ADMode.Backward, picture)
        dr.traverse(dr.ADMode.Backward)
        found = [torch.from_numpy(np.array(dr.grad(inputs[key]))) for key in keys]
        # Mitsuba pads the environment with repeated columns; their share of the gradient is left out.
        found[-1] = found[-1][:, : values[-1].shape[1]]
        return (None, *(part.reshape(value.shape) for part, value in zip(found, values, strict=True)))
