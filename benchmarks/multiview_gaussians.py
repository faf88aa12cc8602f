"""A Gaussian head from ten views, and from four photos without cameras.

* `heldout_psnr`: ten calibrated views are learned from, the held-out ones compared (mean, dB);
  `seconds`, `peak_mb` are those of this run.
* `uncalibrated_psnr`: four frontal views without their cameras, which the face fit finds; view_02 between
  them is drawn from its true camera in the fitted frame, then aligned. `floaters`: the part of all opacity
  that lies outside the head's true box (grown by 5 %).
* `reference_psnr`: the same four views and computing time (all of ours: face fit, training, drawing) for
  the reference (`gaussian_reference`).
* `step_ms`: 10,000 Gaussians of 2 pixels, one picture of 256 x 256, forward and backward.

PSNR is over sRGB code values inside the mask, at 256 x 256.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gaussian_reference
import numpy as np
import torch
from nextgenface.events import QuietListener
from nextgenface.images import write_png
from nextgenface.measure import measured
from nextgenface.multiview.datasets import read_views
from nextgenface.multiview.gaussians import evaluation
from nextgenface.multiview.gaussians.compositing import composite
from nextgenface.multiview.gaussians.files import read_ply
from nextgenface.multiview.gaussians.method import reconstruct
from nextgenface.multiview.gaussians.pictures import make_target
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.multiview.gaussians.start import scene_box
from nextgenface.multiview.method import Request
from nextgenface.views import Bounds, Camera, View, ViewSet

SIZE = 256
FRONTAL = ("view_01", "view_03", "view_07", "view_10")
BETWEEN = "view_02"
BOX_MARGIN = 0.05


def run(
    data: Path, out: Path, held_out: Sequence[str], options: dict[str, str], *, perturbed: bool
) -> dict[str, Any]:
    """All figures of one data set (a folder with views/ and bbox.txt); pictures go to `out`."""
    if perturbed:
        raise SystemExit("--perturbed is for the method texture.")
    views = read_views(data)
    result: dict[str, Any] = {"step_ms": step_ms()}
    with measured() as cost:
        result |= calibrated(data, views, out / "calibrated", held_out, options)
    result |= {"seconds": round(cost.seconds, 1), "peak_mb": round(cost.peak_mb)}
    result |= uncalibrated(data, views, out / "uncalibrated", options)
    learned, _ = views.split([name for name in views.names if name not in FRONTAL])
    between = next(view for view in views if view.name == BETWEEN)
    psnr, steps = gaussian_reference.run(learned, between, SIZE, result["uncalibrated_cpu_seconds"])
    return result | {"reference_psnr": round(psnr, 2), "reference_steps": steps}


def step_ms() -> float:
    """Median milliseconds of one picture, forward and backward."""
    random = torch.Generator().manual_seed(0)
    count = 10_000
    means = torch.rand(count, 2, generator=random) * SIZE
    conics = torch.tensor([0.25, 0.0, 0.25]).repeat(count, 1)
    opacities = 0.05 + 0.9 * torch.rand(count, generator=random)
    leaves = [means, conics, opacities, torch.rand(count, 3, generator=random)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    times = []
    for _ in range(9):
        start = time.perf_counter()
        image, passed = composite(leaves[0], leaves[1], leaves[2], leaves[3], SIZE, SIZE)
        (image.square().mean() + passed.square().mean()).backward()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[2:]), 1)


def calibrated(
    data: Path, views: ViewSet, out: Path, held_out: Sequence[str], options: dict[str, str]
) -> dict[str, Any]:
    """Ten views to learn from, two to compare."""
    path = reconstruct(Request((data,), out, held_out=tuple(held_out), options=options), QuietListener())
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    splats = read_ply(out / "points.ply")
    _compare(splats, [view for view in views if view.name in held_out], out / "heldout.png")
    return {
        "heldout_psnr": round(metrics["heldout_psnr"], 2),
        "heldout_psnr_per_view": {name: round(metrics["psnr_per_view"][name], 2) for name in held_out},
        "points": metrics["points"],
    }


def uncalibrated(data: Path, views: ViewSet, out: Path, options: dict[str, str]) -> dict[str, Any]:
    """Four pictures as photos."""
    photos = out / "photos"
    shutil.rmtree(photos, ignore_errors=True)
    photos.mkdir(parents=True)
    for name in FRONTAL:
        shutil.copy(data / "views" / f"{name}.png", photos / f"{name}.png")
    start = time.process_time()
    path = reconstruct(Request((photos,), out / "result", options=options), QuietListener())
    whole = time.process_time() - start
    result = json.loads(path.read_text(encoding="utf-8"))
    found = {
        photo["name"]: Camera(photo["K"], photo["R"], photo["t"], photo["width"], photo["height"])
        for photo in result["photos"]
    }
    splats = read_ply(out / "result" / "points.ply")
    camera, turn, scale = into_frame({view.name: view.camera for view in views}, found, BETWEEN)
    view = replace(next(v for v in views if v.name == BETWEEN), camera=camera)
    box = Bounds(*result["metrics"]["box"])
    before = evaluation.psnr(splats, view, SIZE)
    view = evaluation.aligned(splats, view, box, SIZE)
    _compare(splats, [view], out / "between.png")
    assert views.bounds is not None
    true, theirs = (
        _gazed_at([v for v in views if v.name in found]),
        _gazed_at([replace(v, camera=found[v.name]) for v in views if v.name in found]),
    )
    back = splats.detached()
    where = (splats.positions.double().numpy() - theirs) / scale @ turn + true
    back.positions = torch.as_tensor(where, dtype=torch.float32)
    floaters = evaluation.outside_share(back, Bounds.around(views.bounds.corners, BOX_MARGIN))
    return {
        "uncalibrated_psnr": round(evaluation.psnr(splats, view, SIZE), 2),
        "uncalibrated_psnr_before_alignment": round(before, 2),
        "floaters": round(floaters, 5),
        "uncalibrated_seconds": {name: s["seconds"] for name, s in result["stages"].items()},
        "uncalibrated_cpu_seconds": round(whole, 1),
    }


def into_frame(
    true: dict[str, Camera], found: dict[str, Camera], name: str
) -> tuple[Camera, np.ndarray, float]:
    """The true camera `name` in the frame of the cameras that were found for other views.

    Returns it with the rotation from the true frame and the scale of the head there. What distinguishes the
    frames is a similarity of the camera positions; a wrong focal length makes them come nearer, not the head
    smaller.
    """
    both = sorted(found)
    turns = sum(found[n].R.T @ true[n].R for n in both)
    u, _, vt = np.linalg.svd(turns)
    turn = u @ vt
    places = np.stack([true[n].centre for n in both]) @ turn.T
    theirs = np.stack([found[n].centre for n in both])
    spread = places - places.mean(0)
    scale = float((spread * (theirs - theirs.mean(0))).sum() / (spread**2).sum())
    zoom = float(np.mean([found[n].K[0, 0] / true[n].K[0, 0] for n in both]))
    camera = true[name]
    R = camera.R @ turn.T
    centre = scale * (turn @ camera.centre) + theirs.mean(0) - scale * places.mean(0)
    K = camera.K * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
    return Camera(K, R, -R @ centre, camera.width, camera.height), turn, scale / zoom


def _gazed_at(views: list[View]) -> np.ndarray:
    """The point that the middles of the pictures look at."""
    return scene_box(ViewSet(tuple(replace(view, mask=None) for view in views))).centre


def _compare(splats: Splats, views: list[View], path: Path) -> None:
    """Each view beside what the Gaussians make of it."""
    rows = []
    for view in views:
        target = make_target(view, SIZE, "cpu", cut=False).over(torch.zeros(3))
        rows.append(torch.cat([target, evaluation.drawn(splats, view, SIZE)[0]], 1))
    write_png(path, torch.cat(rows).numpy(), srgb=False)
