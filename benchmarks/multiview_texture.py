"""The texture of the true mesh (unwrapped anew) from ten views.

{"heldout_psnr", "splat_average_psnr", "seconds", "peak_mb"}: PSNR in dB over sRGB code values inside the
masks of the held-out views, mean of the views; of the optimised texture, and of the plain average of
everything that falls on each texel. Both are drawn by the same code; what is seen from behind (the inside of
the bust) has one colour in both. `..._both_sides` has the texture on the inside, too. With --perturbed also
"perturbed_psnr".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nextgenface.events import QuietListener
from nextgenface.images import read_image
from nextgenface.measure import measured
from nextgenface.multiview.datasets import nds, read_views
from nextgenface.multiview.meshes import read_mesh
from nextgenface.multiview.method import Request
from nextgenface.multiview.texture import evaluation
from nextgenface.multiview.texture.method import reconstruct
from nextgenface.multiview.texture.uvmaps import Sample, Surface, uv_view
from nextgenface.views import Bounds, View, ViewSet
from scipy.spatial.transform import Rotation


def run(
    data: Path, out: Path, held_out: Sequence[str], options: dict[str, str], *, perturbed: bool
) -> dict[str, Any]:
    """Optimise, score, print; see above."""
    with measured() as cost:
        reconstruct(Request((data,), out, data / "mesh.ply", tuple(held_out), options), QuietListener())
    views = read_views(data)
    learned, held = views.split(held_out)
    surface = Surface.of(read_mesh(out / "mesh.obj"))
    back = evaluation.back_colour(surface, learned)
    texture = (read_image(out / "texture.png")[..., :3] * 255 + 0.5).astype(np.uint8)
    maps = [uv_view(surface, view) for view in learned]
    plain = evaluation.plain_average(maps, [view.mask for view in learned], len(texture))
    ours = evaluation.sampler(texture)
    scores: dict[str, Any] = {
        "heldout_psnr": mean_score(surface, ours, held, back),
        "splat_average_psnr": mean_score(surface, plain, held, back),
        "heldout_psnr_both_sides": mean_score(surface, ours, held, None),
        "splat_average_psnr_both_sides": mean_score(surface, plain, held, None),
        "seconds": round(cost.seconds, 1),
        "peak_mb": round(cost.peak_mb),
    }
    if perturbed:
        folder = out.parent / "perturbed"
        nds.write(folder, disturbed(views, held_out))
        result = out.parent / "texture_perturbed"
        reconstruct(Request((folder,), result, out / "mesh.obj", tuple(held_out), options), QuietListener())
        disturbed_texture = (read_image(result / "texture.png")[..., :3] * 255 + 0.5).astype(np.uint8)
        scores["perturbed_psnr"] = mean_score(surface, evaluation.sampler(disturbed_texture), held, back)
    return scores


def mean_score(surface: Surface, sample: Sample, held: ViewSet, back: torch.Tensor | None) -> float:
    """Mean PSNR of the held-out views, dB."""
    return round(float(np.mean([evaluation.score(surface, sample, view, back)[0] for view in held])), 2)


def disturbed(views: ViewSet, held_out: Sequence[str]) -> ViewSet:
    """Exposure 20 % up or down in every learned view, one camera turned by one degree, one mask gone.

    The held-out views stay as they are; they are what is scored.
    """
    rng = np.random.default_rng(1)
    bounds = views.bounds or Bounds(-np.ones(3), np.ones(3))
    done: list[View] = []
    number = 0
    for view in views:
        if view.name not in held_out:
            view = replace(view, image=(view.image * rng.uniform(0.8, 1.2)).clip(0, 1).astype(np.float32))
            if number == 3:
                turn = Rotation.from_rotvec(np.radians((0.0, 1.0, 0.0))).as_matrix()
                pivot = bounds.centre
                R = view.camera.R @ turn
                t = view.camera.t + view.camera.R @ (pivot - turn @ pivot)
                view = replace(view, camera=replace(view.camera, R=R, t=t))
            if number == 6:
                view = replace(view, mask=None)
            number += 1
        done.append(view)
    return ViewSet(tuple(done), views.bounds)
