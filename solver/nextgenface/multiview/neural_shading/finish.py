"""The last stage: a sharper shader on the finished surface, which the texture is baked from.

While the surface moves, a shader that knows fine detail would paint what the shape should show, so it sees
low frequencies only. Afterwards nothing speaks against more of them; what is learned so far is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as tf

from ...events import Listener
from ...fitting.loop import Outcome, run_steps
from ...rendering.raster import rasterize
from .optimise import NeuralMesh, Target
from .regularisers import face_normals
from .shader import NeuralShader

STAGE = "colors"
OCTAVES = 8
SAMPLES = 16384  # of all views together in one step
LAST_RATE = 0.05  # of the shader's step size, at the end


@dataclass(frozen=True)
class Samples:
    """Every pixel that surface and mask share, of all views: (N, 3) position, normal, direction to the
    camera, and colour."""

    position: Tensor
    normal: Tensor
    view: Tensor
    colour: Tensor


@torch.no_grad()
def samples(mesh: NeuralMesh, targets: list[Target]) -> Samples:
    """What the pictures say about the surface as it is now."""
    vertices, faces = mesh.vertices, mesh.connectivity.faces
    normals = mesh.vertex_normals(face_normals(vertices, faces))
    parts = []
    for target in targets:
        screen, depth = target.project(vertices)
        seen = rasterize(screen, depth, faces, target.height, target.width)
        seen = seen.subset(torch.nonzero(target.mask[seen.pixel] > 0.99)[:, 0])
        position = seen.interpolate(vertices)
        towards = tf.normalize(target.eye - position, dim=1)
        across = tf.normalize(seen.interpolate(normals), dim=1)
        parts.append((position, across, towards, target.colour[seen.pixel]))
    return Samples(*(torch.cat(column) for column in zip(*parts, strict=True)))


def widened(shader: NeuralShader, octaves: int, seed: int) -> NeuralShader:
    """A shader with more octaves that says the same as `shader` so far."""
    more = NeuralShader(replace(shader.config, octaves=octaves), seed=seed).to(
        next(shader.parameters()).device
    )
    state = {name: value.clone() for name, value in shader.state_dict().items()}
    old, few = state["body.0.weight"], 3 * shader.config.octaves
    weight = old.new_zeros(old.shape[0], 3 + 6 * octaves)
    weight[:, : 3 + few] = old[:, : 3 + few]
    weight[:, 3 + 3 * octaves : 3 + 3 * octaves + few] = old[:, 3 + few :]
    state["body.0.weight"] = weight
    more.load_state_dict(state)
    return more


def sharpen(
    mesh: NeuralMesh, targets: list[Target], listener: Listener, save: Callable[[int], None]
) -> Outcome[dict[str, Tensor]]:
    """Give `mesh` a sharper shader, on the surface as it is. Raises Cancelled after `save`, Diverged."""
    steps = mesh.options.color_steps
    known = samples(mesh, targets)
    if mesh.shader.config.fourier_features == "positional":
        shader = widened(mesh.shader, OCTAVES, mesh.options.seed)
    else:
        shader = copy.deepcopy(mesh.shader)
    optimiser = torch.optim.Adam(shader.parameters(), lr=mesh.options.lr_shader)

    def step(i: int) -> float:
        rows = torch.randint(
            len(known.position), (SAMPLES,), generator=mesh.generator, device=mesh.generator.device
        )
        for group in optimiser.param_groups:
            group["lr"] = mesh.options.lr_shader * LAST_RATE ** (i / steps)
        with torch.enable_grad():
            drawn = shader(known.position[rows], known.normal[rows], known.view[rows])
            loss = (drawn - known.colour[rows]).abs().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
        optimiser.step()
        return float(loss.detach())

    def snapshot() -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in shader.state_dict().items()}

    def restore(state: dict[str, Tensor]) -> None:
        shader.load_state_dict(state)

    outcome = run_steps(
        STAGE,
        steps if len(known.position) else 0,
        step,
        snapshot,
        listener,
        restore=restore,
        save=save,
        save_seconds=math.inf,
    )
    mesh.shader = shader
    return outcome
