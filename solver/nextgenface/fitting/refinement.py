"""Stage 3's maps against the photos: gradient steps with the light prefiltered at the vertices.

All three maps move together under the guide's regularisers, on the pixels of skin that a photo shows well.
`raytraced_finish` does the same with rays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..events import Listener
from ..rendering.deferred import shade_vertices, specular_reflectance
from .loop import run_steps
from .photodata import skin_weight
from .photoset import ROBUST_SCALE
from .targets import encode

if TYPE_CHECKING:
    from .textures import TextureProblem

PHOTO_WEIGHT, REGULARISER_WEIGHT = 1000.0, 0.2  # the guide's
RATES = {"diffuse": 0.01, "specular": 0.01, "roughness": 0.01}  # log units, level, roughness
ROUGHNESS_STEPS = (0.2, 0.35, 0.5, 0.7)  # glossy light is prefiltered at these and interpolated


@dataclass(frozen=True)
class _Pixels:
    """The pixels of one photo that are compared, with the light that falls on them."""

    encoded: Tensor  # (N, 3)
    weight: Tensor  # (N,)
    uv: Tensor  # (N, 2) grid_sample coordinates
    diffuse: Tensor  # (N, 3)
    glossy: Tensor  # (S, N, 3) at ROUGHNESS_STEPS
    cos_view: Tensor  # (N,)


def refine(
    problem: TextureProblem, cap: int, listener: Listener, first: int = 0, total: int | None = None
) -> tuple[list[float], bool]:
    """At most `cap` steps on the maps of a texture problem; returns losses and whether they converged."""
    pixels = [_pixels(problem, k) for k in range(len(problem.photometric.photos))]
    texture = {**problem.coarse(), "diffuse": torch.zeros_like(problem.change)}
    for value in texture.values():
        value.requires_grad_()
    optimiser = torch.optim.Adam([{"params": [v], "lr": RATES[k]} for k, v in texture.items()], eps=1e-6)

    def step(_: int) -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            moved = problem.moved(texture)
            loss = REGULARISER_WEIGHT * problem.regulariser(moved)
            for photo in pixels:
                loss = loss + PHOTO_WEIGHT * _error(problem, photo, moved) / len(pixels)
            loss.backward()
        for group in optimiser.param_groups:
            group["lr"] *= 0.985
        optimiser.step()
        return float(loss.detach())

    outcome = run_steps(
        "textures", cap, step, lambda: {k: v.detach().clone() for k, v in texture.items()}, listener,
        patience=8, tolerance=3e-3, first=first, total=total,
        preview=problem.preview(listener), preview_every=1,
    )  # fmt: skip
    problem.adopt(problem.moved(outcome.best))
    return outcome.losses, outcome.converged


@torch.no_grad()
def _pixels(problem: TextureProblem, k: int) -> _Pixels:
    p, w = problem.photometric, problem.white
    photo = p.photos[k]
    target = photo.targets[-1]
    assert photo.transfer is not None
    shading, camera, fragments = problem.shading(k, target)
    colour = w.colour(p.z_albedo)
    glossy = []
    for value in ROUGHNESS_STEPS:
        rough = torch.full_like(w.roughness, value)
        lit = shade_vertices(camera, w.faces, photo.environment, colour, rough, photo.transfer)
        glossy.append(fragments.interpolate(lit.glossy))
    values = fragments.interpolate(
        torch.cat([shading.diffuse, shading.cos_view[:, None], w.skin[:, None]], 1)
    )
    grid = problem.texture_grid(fragments)
    weight = skin_weight(photo, fragments, values[:, 4] * problem.confidence_at(grid), values[:, 3])
    return _Pixels(
        target.encoded[fragments.pixel], weight, grid, values[:, :3], torch.stack(glossy), values[:, 3]
    )


def _error(problem: TextureProblem, photo: _Pixels, moved: dict[str, Tensor]) -> Tensor:
    """Mean robust absolute code-value error of the textured face."""
    n = problem.texels.resolution
    sampled = tf.grid_sample(
        problem.skin(moved).T.view(1, -1, n, n),
        photo.uv[None, :, None],
        mode="bilinear",
        align_corners=False,
        padding_mode="border",
    )[0, :, :, 0].T
    colour, level, rough = sampled[:, :3], sampled[:, 3], sampled[:, 4].contiguous()
    steps = torch.tensor(ROUGHNESS_STEPS).to(rough)
    upper = torch.searchsorted(steps, rough.detach()).clamp(1, len(steps) - 1)
    share = ((rough - steps[upper - 1]) / (steps[upper] - steps[upper - 1])).clamp(0, 1)[:, None]
    rows = torch.arange(len(rough), device=rough.device)
    glossy = photo.glossy[upper - 1, rows] * (1 - share) + photo.glossy[upper, rows] * share
    reflected = specular_reflectance(level, rough, photo.cos_view)[:, None]
    radiance = colour * photo.diffuse * (1 - reflected) + glossy * reflected
    gap = encode(radiance) - photo.encoded
    squared = (gap.detach() ** 2).mean(1)
    weight = photo.weight / (1 + squared / ROBUST_SCALE**2)
    return (weight[:, None] * (gap**2 + 1e-6).sqrt()).sum() / (3 * weight.sum()).clamp(min=1.0)
