"""Stage 3's maps and light against ray-traced pictures: all of the refinement, or its last steps.

With `engine = raytraced` this takes the place of the deferred refinement; with `hybrid` it follows it. The
loss and the regularisers are those of stage 3; the light moves, too, because shadows and interreflection are
only now exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..events import Listener
from ..rendering.deferred import Pose, vertex_normals
from ..rendering.raster import Fragments, rasterize
from .lightsolve import neighbour_laplacian
from .loop import run_steps
from .photodata import skin_weight
from .photoset import ROBUST_SCALE
from .refinement import PHOTO_WEIGHT, REGULARISER_WEIGHT
from .targets import encode
from .traced import TracedPhotos

if TYPE_CHECKING:
    from .textures import TextureProblem

MAP_RATE = 0.006  # log units, level, roughness per step
LIGHT_RATE = 0.02  # log units per step
FIRST_SAMPLES = 64  # per pixel of the picture that residuals start from
NEWEST_SHARE = 0.2  # of the newest picture in the mean that residuals are taken from
SOFTNESS = 0.01  # code values around 0 where the absolute error is rounded off
LIGHT_SMOOTHNESS = 1.0  # cost of squared differences of log changes between neighbouring lobes, mean
LIGHT_ANCHOR = 0.5  # cost of a squared log change, mean: the closed form is nearly right


@dataclass(frozen=True)
class _Seen:
    """What is compared in one photo."""

    camera: Tensor  # (V, 3)
    pose: Pose
    fragments: Fragments
    encoded: Tensor  # (N, 3)
    weight: Tensor  # (N,)


def finish(
    problem: TextureProblem, rays: TracedPhotos, cap: int, listener: Listener, first: int, total: int
) -> tuple[list[float], bool]:
    """`cap` steps on the maps and the lights of a texture problem; returns losses and whether they converged.

    Out of memory, rays go on in smaller passes and then at a lower resolution (`RayTracer.relieve`).
    """
    photos = problem.photometric.photos
    seen = [_seen(problem, k) for k in range(len(photos))]
    lights = [photo.environment for photo in photos]
    texture = {name: torch.zeros_like(coarse).requires_grad_() for name, coarse in problem.coarse().items()}
    moves = [torch.zeros_like(light).requires_grad_() for light in lights]
    groups = [{"params": [value], "lr": MAP_RATE} for value in texture.values()]
    optimiser = torch.optim.Adam([*groups, {"params": moves, "lr": LIGHT_RATE}], eps=1e-6)
    laplacian = neighbour_laplacian().to(lights[0])

    def draw(k: int, samples: int | None = None) -> Tensor:
        side = problem.texels.resolution
        skin = problem.skin(problem.moved(texture)).view(side, side, 5)
        light = lights[k] * moves[k].exp()
        return rays.radiance(seen[k].camera, seen[k].pose, light, skin, seen[k].fragments, samples)

    with torch.no_grad():
        means = [draw(k, FIRST_SAMPLES) for k in range(len(seen))]

    def differentiate() -> float:
        """Gradients of the loss; its value."""
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for k, one in enumerate(seen):
            # The noise of a picture must not be in what its derivatives are multiplied with: that would be
            # a reward for darkness. So the mean of the pictures before says how far off each pixel is.
            error, slope = _error(means[k], one)
            radiance = draw(k)
            (PHOTO_WEIGHT / len(seen) * (slope * radiance).sum()).backward()
            means[k] = means[k] + NEWEST_SHARE * (radiance.detach() - means[k])
            total += PHOTO_WEIGHT / len(seen) * error
        rest = REGULARISER_WEIGHT * problem.regulariser(problem.moved(texture))
        for move in moves:
            rest = rest + LIGHT_SMOOTHNESS * (move * (laplacian @ move)).mean()
            rest = rest + LIGHT_ANCHOR * (move**2).mean()
        rest.backward()
        return total + float(rest.detach())

    def step(_: int) -> float:
        while True:
            try:
                with torch.enable_grad():
                    loss = differentiate()
                break
            except (RuntimeError, MemoryError) as error:
                if not rays.tracer.relieve(error):
                    raise
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] *= 0.97
        return loss

    def snapshot() -> tuple[dict[str, Tensor], list[Tensor]]:
        return (
            {name: value.detach().clone() for name, value in texture.items()},
            [move.detach().clone() for move in moves],
        )

    outcome = run_steps(
        "textures", cap, step, snapshot, listener, patience=8, tolerance=3e-3, first=first, total=total
    )
    # Losses are noisy: the last state has averaged over more noise than the luckiest one.
    last, moved_lights = snapshot()
    problem.adopt(problem.moved(last))
    for photo, light, move in zip(photos, lights, moved_lights, strict=True):
        photo.environment = light * move.exp()
    return outcome.losses, outcome.converged


def _error(radiance: Tensor, one: _Seen) -> tuple[float, Tensor]:
    """Mean robust absolute code-value error of a picture (N, 3), and its derivative by the picture."""
    with torch.enable_grad():
        values = radiance.detach().requires_grad_()
        gap = encode(values) - one.encoded
        weight = one.weight / (1 + (gap.detach() ** 2).mean(1) / ROBUST_SCALE**2)
        error = (weight[:, None] * (gap**2 + SOFTNESS**2).sqrt()).sum() / (3 * weight.sum()).clamp(min=1.0)
        (slope,) = torch.autograd.grad(error, values)
    return float(error.detach()), slope


@torch.no_grad()
def _seen(problem: TextureProblem, k: int) -> _Seen:
    p, w = problem.photometric, problem.white
    photo = p.photos[k]
    target = photo.targets[-1]
    pose = p.pose(k, target)
    camera = pose.camera_space(problem.vertices(k, problem.offsets))
    fragments = rasterize(pose.screen(camera), camera[:, 2], w.faces, target.height, target.width)
    normals = vertex_normals(camera, w.faces)
    facing = -(normals * torch.nn.functional.normalize(camera, dim=1)).sum(1)
    values = fragments.interpolate(torch.stack([facing, w.skin], 1))
    trusted = values[:, 1] * problem.confidence_at(problem.texture_grid(fragments))
    weight = skin_weight(photo, fragments, trusted, values[:, 0])
    return _Seen(camera, pose, fragments, target.encoded[fragments.pixel], weight)
