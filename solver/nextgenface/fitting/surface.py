"""What a state stands for: a photo's mesh, and its textures (of stage 3, else baked from the vertices)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..facemodel.model import FaceModel
from ..geometry.normals import vertex_normals_array
from .bake import bake_vertices
from .state import FaceState
from .whitened import soft_range

Array = NDArray[np.float32]


def shape_vertices(model: FaceModel, state: FaceState, photo: int, *, neutral: bool = False) -> Array:
    """Vertices (V, 3) in mm, model space, of the person in a photo: with the photo's expression, or neutral.

    The displacement moves along the normals of the undisplaced mesh of the same expression.
    """
    identity = state.identity_of(photo)
    shape = state.shape[identity].detach().cpu().numpy()
    vertices = model.shape_mean + model.expression_mean + np.tensordot(shape, model.shape_basis, 1)
    if not neutral:
        vertices = vertices + np.tensordot(
            state.expression[photo].detach().cpu().numpy(), model.expression_basis, 1
        )
    if state.displacement is not None:
        normals = vertex_normals_array(vertices, model.faces)
        vertices = vertices + state.displacement[identity].detach().cpu().numpy()[:, None] * normals
    return np.ascontiguousarray(vertices, np.float32)


def textures_of(
    model: FaceModel, state: FaceState, identity: int, resolution: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One identity's diffuse (T, T, 3) linear, specular (T, T, 3) level, roughness (T, T, 1), top row first.

    Those of stage 3 at their own size; before stage 3 the statistical ones, baked at `resolution`.
    """
    if state.diffuse is not None and state.specular is not None and state.roughness is not None:
        found = state.diffuse[identity], state.specular[identity], state.roughness[identity]
        return tuple(texture.detach().cpu() for texture in found)  # type: ignore[return-value]
    albedo = state.albedo[identity].detach().cpu().numpy()
    diffuse = torch.from_numpy(model.diffuse_mean + np.tensordot(albedo, model.diffuse_basis, 1)).float()
    level = torch.from_numpy(model.specular_mean + np.tensordot(albedo, model.specular_basis, 1)).float()
    level = level.clamp(0.0, 1.0)
    if state.gloss is not None:
        level = (level * state.gloss[identity].detach().cpu()).clamp(max=1.0)
    return (
        bake_vertices(model, soft_range(diffuse, 0.004, 0.96), resolution),
        bake_vertices(model, level, resolution),
        bake_vertices(
            model, torch.from_numpy(np.ascontiguousarray(model.roughness_mean))[:, None], resolution
        ),
    )
