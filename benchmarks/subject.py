"""One subject of the accuracy benchmark: the solve as a user starts it, and the files that are judged.

The solver sees a copy of `photo.png`, alone in its folder. From the truth this module takes the second light
with the camera's rotation, and the albedo for its best single colour.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nextgenface.checkpoint import load_checkpoint
from nextgenface.errors import NextGenFaceError
from nextgenface.events import QuietListener
from nextgenface.export import checkpoint_config, find_photos, open_state
from nextgenface.facemodel.model import FaceModel
from nextgenface.fitting.state import FaceState
from nextgenface.fitting.surface import shape_vertices, textures_of
from nextgenface.geometry.ply import write_ply
from nextgenface.images import read_exr, read_image, write_exr, write_png
from nextgenface.rendering.light import lobes_to_map
from nextgenface.rendering.llvm import activate, select_variant
from nextgenface.rendering.mitsuba_scene import Environment, Geometry, Textures
from nextgenface.rendering.pathtracer import FinalPicture, render_final, render_map
from nextgenface.results import shown_camera
from nextgenface.views import Camera
from numpy.typing import NDArray

Array = NDArray[np.float32]

ROOT = Path(__file__).resolve().parent.parent
LIGHT_ROWS = 128
RELIT_SAMPLES = 256
RELIT_NOISE = 0.02  # of the luminance: 42 dB or so in sRGB, far above what is compared
MAP_SAMPLES = 16


@dataclass(frozen=True)
class Solve:
    """What a run left and cost: wall time, time of all cores together (None where the system does not tell),
    and the highest resident memory (10^6 bytes) of its process."""

    results: Path
    seconds: float
    peak_mb: float
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Head:
    """A head in front of the photo's camera. `geometry` in model space."""

    geometry: Geometry
    textures: Textures
    camera: Camera

    @property
    def in_camera(self) -> NDArray[np.float64]:
        """Vertices (V, 3) in mm, camera axes."""
        return np.asarray(self.geometry.vertices, np.float64) @ self.camera.R.T + self.camera.t


def solve(photo: Path, folder: Path, settings: Sequence[str], *, reuse: bool) -> Solve:
    """Run `nextgenface-reconstruct` on a copy of the photo in its own process; results in `folder`/photo.

    `reuse` takes the results that are there, if they are complete and were made with the same settings.
    Raises NextGenFaceError when the run fails.
    """
    copy = folder / "photo.png"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(photo, copy)
    return run_solver(copy, folder, settings, reuse=reuse)


def run_solver(
    source: Path, folder: Path, settings: Sequence[str], *, reuse: bool, options: Sequence[str] = ()
) -> Solve:
    """Run `nextgenface-reconstruct` on a photo or folder in its own process; results in `folder`/its name."""
    folder.mkdir(parents=True, exist_ok=True)
    results, record = folder / source.stem, folder / "run.json"
    if reuse and record.is_file() and (results / "result.json").is_file():
        cost = json.loads(record.read_text("utf-8"))
        if cost["settings"] == list(settings):
            return Solve(results, cost["seconds"], cost["peak_mb"], cost.get("cpu_seconds"))
    record.unlink(missing_ok=True)
    shutil.rmtree(results, ignore_errors=True)
    command = [sys.executable, "-m", "nextgenface.cli.reconstruct", "--quiet", *options]
    command += ["--input", str(source), "--output", str(folder)]
    for setting in settings:
        command += ["--set", setting]
    search = os.pathsep.join(filter(None, (str(ROOT / "solver"), os.environ.get("PYTHONPATH"))))
    started = time.monotonic()
    # What the command prints goes to standard error; standard output is for the benchmark's JSON.
    process = subprocess.Popen(
        command, cwd=folder, stdout=sys.stderr.fileno(), env={**os.environ, "PYTHONPATH": search}
    )
    try:
        peak, busy = _wait(process)
    except BaseException:
        process.terminate()
        raise
    seconds = time.monotonic() - started
    if process.returncode != 0:
        raise NextGenFaceError(f"The solver ended with exit code {process.returncode} on {source}.")
    if peak is None:
        stages = json.loads((results / "result.json").read_text("utf-8"))["stages"]
        peak = max(float(stage["peak_mb"]) for stage in stages.values())
    cost = {"settings": list(settings), "seconds": round(seconds, 2), "peak_mb": round(peak, 1)}
    cost["cpu_seconds"] = None if busy is None else round(busy, 1)
    record.write_text(json.dumps(cost) + "\n", "utf-8")
    return Solve(results, cost["seconds"], cost["peak_mb"], cost["cpu_seconds"])


def _wait(process: subprocess.Popen[bytes]) -> tuple[float | None, float | None]:
    """Wait for the end; its highest resident memory in 10^6 bytes and its processor seconds, None where the
    system does not tell."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None, None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory = float(usage.ru_maxrss) * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6
    return memory, usage.ru_utime + usage.ru_stime


def heads_of(results: Path) -> tuple[Head, Head, torch.Tensor]:
    """The fitted head, the mean head, and the light lobes (D, 3) of a results folder.

    The mean head is the face model's mean identity and mean skin with the fitted expression, in front of the
    camera of stage 1. Raises CheckpointError.
    """
    state, model, camera, resolution = _opened(results, _last_stage(results))
    start, _, start_camera, _ = _opened(results, 1)
    mean = replace(
        start,
        shape=torch.zeros_like(start.shape),
        albedo=torch.zeros_like(start.albedo),
        expression=state.expression,
    )
    fitted = _head(model, state, camera, resolution)
    return fitted, _head(model, mean, start_camera, resolution), state.environment[0]


def _last_stage(results: Path) -> int:
    return int(json.loads((results / "result.json").read_text("utf-8"))["stage"])


def _opened(results: Path, stage: int) -> tuple[FaceState, FaceModel, Camera, int]:
    """State, model, camera in pixels of the photo, and texture size, from the checkpoint of a stage."""
    listener = QuietListener()
    checkpoint = load_checkpoint(results / "checkpoints" / f"stage{stage}_output.pickle")
    config = checkpoint_config(checkpoint)
    records, pictures, _ = find_photos(checkpoint, [], listener)
    state, model = open_state(checkpoint, config, records, listener)
    camera, _ = shown_camera(state, 0, records[0], pictures[0])
    return state, model, camera, int(config.textureResolution)


def _head(model: FaceModel, state: FaceState, camera: Camera, resolution: int) -> Head:
    geometry = Geometry(shape_vertices(model, state, 0), model.faces, model.uv)
    diffuse, specular, roughness = (texture.numpy() for texture in textures_of(model, state, 0, resolution))
    return Head(geometry, Textures(diffuse, specular, roughness), camera)


def write_score_files(results: Path, truth: Path, folder: Path) -> None:
    """Write what the judge takes into `folder`: linear pictures of the photo's size, posed mesh, light.

    `mesh.ply` is in camera axes and mm, `env.exr` in camera axes with y up and z to the viewer. Files that
    begin with `mean_` show the mean head; `mean_coverage.png` is where both heads are. Of a subject without a
    second light there is no `relit.exr`.
    """
    prepare_mitsuba()
    fitted, mean, lobes = heads_of(results)
    folder.mkdir(parents=True, exist_ok=True)
    final = read_exr(results / "final_0.exr")
    coverage = final[..., 3]
    write_exr(folder / "render.exr", straight(final[..., :3], coverage))
    write_png(folder / "coverage.png", coverage, srgb=False)
    write_exr(folder / "env.exr", lobes_to_map(lobes.float(), LIGHT_ROWS).numpy())
    mean_coverage = coverage
    for head, prefix in ((fitted, ""), (mean, "mean_")):
        write_ply(folder / f"{prefix}mesh.ply", head.in_camera, head.geometry.faces)
        albedo, seen = render_map(head.geometry, head.textures.diffuse, head.camera, samples=MAP_SAMPLES)
        write_exr(folder / f"{prefix}albedo.exr", straight(albedo, seen))
        mean_coverage = np.minimum(mean_coverage, seen)
        if (truth / "relit_env.exr").is_file():
            picture = relit(head, read_exr(truth / "relit_env.exr")[..., :3], truth_rotation(truth))
            write_exr(folder / f"{prefix}relit.exr", straight(picture.rgb, picture.alpha))
    write_png(folder / "mean_coverage.png", mean_coverage, srgb=False)
    albedo = read_exr(truth / "albedo.exr")[..., :3]
    skin = read_image(truth / "mask_skin.png")[..., 0] > 0.5
    colour = best_single_colour(albedo, skin & (coverage > 0.5))
    write_exr(folder / "constant_albedo.exr", np.broadcast_to(colour, albedo.shape))


def relit(head: Head, radiance: Array, rotation: NDArray[np.float64]) -> FinalPicture:
    """The head path-traced under a map (h, 2h, 3) in world axes; `rotation` (3, 3): world to true camera."""
    light = Environment(radiance, to_model_axes(head.camera.R, rotation))
    return render_final(
        head.geometry, head.textures, head.camera, light, max_samples=RELIT_SAMPLES, noise_level=RELIT_NOISE
    )


def to_model_axes(fitted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) from the world of the truth to model space, by way of the camera that both share.

    `fitted`: R of the fit, model to camera; `truth`: R of the truth, world to camera.
    """
    return np.asarray(fitted.T @ truth)


def truth_rotation(truth: Path) -> NDArray[np.float64]:
    """R (3, 3), world to camera (OpenCV), of a subject's `camera.json`."""
    camera: dict[str, Any] = json.loads((truth / "camera.json").read_text("utf-8"))
    return np.array(camera["R"], np.float64).reshape(3, 3)


def straight(premultiplied: Array, alpha: Array) -> Array:
    """Colours (H, W, 3) of the covered part of each pixel; 0 where nothing is covered."""
    covered = alpha[..., None] > 0
    return np.where(covered, premultiplied / np.where(covered, alpha[..., None], 1.0), 0.0).astype(np.float32)


def best_single_colour(albedo: Array, where: NDArray[np.bool_]) -> Array:
    """The colour (3,) with the least squared error to albedo (H, W, 3) inside `where`: its mean."""
    if not where.any():
        raise NextGenFaceError("The reconstruction covers nothing of the visible skin.")
    return np.asarray(albedo[where].mean(0, dtype=np.float64), np.float32)


def prepare_mitsuba() -> None:
    """Choose and activate a Mitsuba variant once; warnings of the renderer stay off standard output."""
    mi = activate(select_variant("cpu"))
    mi.set_log_level(mi.LogLevel.Error)
