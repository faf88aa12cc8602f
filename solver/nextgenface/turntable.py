"""A head that turns to and fro in the light of its photo, to look at a checkpoint from other sides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .colour import encode_8bit
from .config import Config
from .facemodel.model import FaceModel
from .fitting.pipeline import Pipeline
from .fitting.state import FaceState
from .geometry.rotations import euler_to_matrix, matrix_to_euler

BACKGROUND = 0.03
"""Linear grey behind the head."""

_OVERSAMPLING = 2
_PER_PHOTO = ("expression", "rotation", "translation", "focals", "principal", "sh", "environment")
_PER_IDENTITY = ("shape", "albedo", "gloss", "displacement", "diffuse", "specular", "roughness", "confidence")


def single_photo(state: FaceState, index: int) -> FaceState:
    """The state of one photo alone."""
    identity = state.identity_of(index)
    picked = {name: getattr(state, name)[index : index + 1] for name in _PER_PHOTO}
    for name in _PER_IDENTITY:
        value = getattr(state, name)
        picked[name] = None if value is None else value[identity : identity + 1]
    return replace(state, **picked, shared=False)


def turned(state: FaceState, pivot: Tensor, yaw: float) -> FaceState:
    """The single head of a state turned by `yaw` radians about the vertical axis through `pivot` (3,).

    Positive yaw turns the face towards its left. The light stays where it is.
    """
    rotation = euler_to_matrix(state.rotation[0])
    about_y = euler_to_matrix(torch.tensor([0.0, yaw, 0.0]).to(rotation))
    new = rotation @ about_y
    translation = rotation @ pivot + state.translation[0] - new @ pivot
    return replace(state, rotation=matrix_to_euler(new)[None], translation=translation[None])


def yaw_angles(frames: int, degrees: float) -> list[float]:
    """Yaw of each frame in radians: one even swing to both sides and back, a loop without a jump."""
    return [math.radians(degrees) * math.sin(2 * math.pi * k / frames) for k in range(frames)]


@torch.no_grad()
def turntable(
    state: FaceState, model: FaceModel, config: Config, *, frames: int, degrees: float, size: int
) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) uint8 sRGB of the single head of a state, drawn with the deferred engine.

    `size`: longer side in pixels. Frames are drawn at twice the size and averaged, for smooth edges.
    """
    pipeline = Pipeline(config, model=model)
    factor = size * _OVERSAMPLING / max(state.width, state.height)
    state = replace(
        state,
        focals=state.focals * factor,
        principal=state.principal * factor,
        width=max(1, round(state.width * factor / _OVERSAMPLING)) * _OVERSAMPLING,
        height=max(1, round(state.height * factor / _OVERSAMPLING)) * _OVERSAMPLING,
    )
    pipeline.state = state
    pivot = pipeline.computeShape()[0].mean(0).cpu()
    # The middle of the mesh is near the skin; a head turns about a point deeper inside.
    pivot[2] -= 40.0
    for yaw in yaw_angles(frames, degrees):
        pipeline.state = turned(state, pivot, yaw)
        picture = pipeline.render()[0]
        radiance = picture[..., :3] + (1 - picture[..., 3:]) * BACKGROUND
        small = torch.nn.functional.avg_pool2d(radiance.permute(2, 0, 1)[None], _OVERSAMPLING)[0].permute(
            1, 2, 0
        )
        yield encode_8bit(small.cpu().numpy())
