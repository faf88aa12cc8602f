"""The method "texture": views and a mesh in, a results folder with a texture out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...colour import encode_8bit
from ...config import Config
from ...errors import ConfigError
from ...events import Listener, Tee, WarningLog
from ...files import atomic_path, prepare_output
from ...fitting.loop import run_steps
from ...fitting.state import StageReport
from ...images import write_png
from ...measure import Measured, measured
from ...results import RESULT
from ...session import compute_threads
from ...views import Camera
from .. import checkpoint as checkpoints
from ..meshes import write_obj
from ..method import Request, Result, write_result
from ..options import as_json, read_options
from . import evaluation
from .assemble import Stack, assembled
from .exposure import gains
from .optimise import Pixels, TextureProblem
from .options import UNUSED, TextureOptions
from .sources import Sources, gather, pyramid_sizes

NAME = "texture"

PREVIEW_EVERY = 5


def reconstruct(request: Request, listener: Listener) -> Path:
    """Optimise a texture; returns the path of `result.json`.

    Raises NextGenFaceError and its children for what cannot be used, Cancelled with a checkpoint kept.
    """
    output = prepare_output(request.output, need_mb=200)
    warnings = WarningLog()
    listener = Tee(listener, warnings)
    options = typed(request.options, listener)
    config = Config()
    config.set("device", options.device)
    device = config.resolveDevice()
    with compute_threads(config):
        listener.stage("views")
        with measured() as prepared:
            sources = gather(request, options, device, listener)
            count = len(sources.maps)
            factors = np.ones((count, 3))
            if options.exposure and count > 1:
                factors = gains(sources.maps, white_balance=options.whiteBalance)
            problem = TextureProblem(
                Pixels.of(sources.maps, factors), pyramid_sizes(sources.maps, options), options, device
            )
        (output / RESULT).unlink(missing_ok=True)
        with measured() as solved:
            values, report = _optimise(problem, sources, request, options, output, listener)
        stack = _stack(problem, values)
        del problem
        with measured() as drawn:
            listener.stage("render")
            result = _write(output, sources, stack, factors, options)
            # Blender recognises the object that the mesh was written from
            result.options["mesh"] = None if request.mesh is None else str(request.mesh)
        result.stages = {
            "views": _report("views", prepared),
            NAME: dataclasses.replace(report, seconds=solved.seconds, peak_mb=solved.peak_mb),
            "render": _report("render", drawn),
        }
        result.warnings = warnings.texts
        result.device = device
        path = write_result(output, result)
    checkpoints.remove(output, NAME)
    return path


def typed(given: dict[str, str], listener: Listener) -> TextureOptions:
    """The options from text. NeuralTexGen's that mean nothing here are named in a warning, not refused."""
    rest = dict(given)
    unused = sorted(name for name in given if name in UNUSED)
    for name in unused:
        del rest[name]
    if unused:
        listener.warning(f"options without a meaning here: {', '.join(unused)}")
    if "gpu_ids" in rest:
        rest.setdefault("device", "cpu" if rest.pop("gpu_ids").strip() == "-1" else "auto")
    options = read_options(TextureOptions, rest)
    if options.lambda_VGG > 0 and not options.vggWeights:
        raise ConfigError(
            "lambda_VGG needs the weights of VGG16, which are not ours to ship: give a file with vggWeights, "
            "or set lambda_VGG to 0."
        )
    return options


def _optimise(
    problem: TextureProblem,
    sources: Sources,
    request: Request,
    options: TextureOptions,
    output: Path,
    listener: Listener,
) -> tuple[NDArray[np.float32], StageReport]:
    """Run the steps, from the checkpoint when asked for one; returns the best unknowns."""
    mark = checkpoints.fingerprint(
        {**as_json(options), "held_out": request.held_out}, [problem.pixels.colour, problem.pixels.uv]
    )
    stored = checkpoints.load(output, NAME, mark) if request.resume else None
    first = 0
    if stored is not None:
        first = stored.step
        problem.restore(stored.arrays["values"])
        checkpoints.restore_optimiser(problem.optimiser, stored.arrays)

    def save(done: int) -> None:
        arrays = {"values": problem.snapshot(), **checkpoints.optimiser_arrays(problem.optimiser)}
        checkpoints.save(output, checkpoints.Checkpoint(NAME, done, mark, arrays))

    listener.stage(NAME)
    outcome = run_steps(
        NAME,
        problem.total - first,
        lambda i: problem.step(first + i),
        problem.snapshot,
        listener,
        restore=problem.restore,
        # the last steps, at a falling rate, are the best ones; copies before them would only cost time
        settle=max(problem.total - first - 5, 0),
        preview=lambda step: listener.preview(NAME, step, lambda: _preview(problem)),
        preview_every=PREVIEW_EVERY,
        first=first,
        total=problem.total,
        save=save,
    )
    done = first + len(outcome.losses)
    values = outcome.best if outcome.losses else problem.snapshot()
    return values, StageReport(NAME, done, problem.total, outcome.converged, 0.0, outcome.losses)


def _preview(problem: TextureProblem) -> NDArray[np.uint8]:
    """The first view's pixels, as the texture shows them now, beside the photo."""
    pixels = problem.pixels
    height, width = pixels.shapes[0]
    rows = slice(0, int(pixels.first[1]))
    with torch.no_grad():
        seen = problem.colours()[rows].cpu().numpy()
    pictures = np.zeros((2, height * width, 3), np.float32)
    pictures[0, pixels.place[rows]] = seen
    pictures[1, pixels.place[rows]] = pixels.colour[rows]
    both = np.concatenate(pictures.reshape(2, height, width, 3), 1)
    return (both.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _stack(problem: TextureProblem, values: NDArray[np.float32]) -> Stack:
    starts = problem.pyramid.starts
    parts = [values[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return Stack(problem.base, problem.base_weight, problem.pyramid.levels, parts)


def _write(
    output: Path, sources: Sources, stack: Stack, factors: NDArray[np.float64], options: TextureOptions
) -> Result:
    """All files but `result.json`."""
    picture, sure = assembled(stack, options.tex_dim, sources.surface, options.padding)
    write_png(output / "texture.png", picture)
    write_png(output / "confidence.png", sure)
    files: dict[str, str | None] = {"texture": "texture.png", "confidence": "confidence.png"}
    if sources.mesh is not None:
        write_obj(output / "mesh.obj", sources.mesh, "texture.png")
        uv, uv_faces = sources.mesh.layout
        with atomic_path(output / "mesh.npz") as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream,
                vertices=sources.mesh.vertices.astype(np.float32),
                faces=sources.mesh.faces.astype(np.int32),
                uv=uv.astype(np.float32),
                uv_faces=uv_faces.astype(np.int32),
            )
        files |= {"mesh": "mesh.obj", "material": "mesh.mtl", "geometry": "mesh.npz"}
    entries, metrics = _views(output, sources, picture)
    names = [view.name for view in sources.maps]
    metrics["gains"] = {name: gain.round(4).tolist() for name, gain in zip(names, factors, strict=True)}
    metrics["seen"] = float((sure > 127).mean())
    return Result(
        method=NAME, name=output.name, options=as_json(options), views=entries, files=files, metrics=metrics
    )


def _views(
    output: Path, sources: Sources, picture: NDArray[np.uint8]
) -> tuple[list[tuple[str, Camera, dict[str, str | None]]], dict[str, Any]]:
    """The views' pictures with and without the mesh in their files, and the scores."""
    entries: list[tuple[str, Camera, dict[str, str | None]]] = []
    scores: dict[str, float] = {}
    surface = sources.surface
    if surface is None:
        return entries, {}
    back = evaluation.back_colour(surface, sources.learned)
    sample = evaluation.sampler(picture)
    for index, view in enumerate([*sources.learned, *sources.held_out]):
        names: dict[str, str | None] = {"photo": f"photo_{index}.png"}
        codes = encode_8bit(view.image)
        if view.mask is not None:
            codes = np.concatenate([codes, (view.mask * 255 + 0.5).astype(np.uint8)[..., None]], 2)
        write_png(output / f"photo_{index}.png", codes)
        scores[view.name], drawn = evaluation.score(surface, sample, view, back)
        if index >= len(sources.learned):
            names["render"] = f"render_{index}.png"
            write_png(output / f"render_{index}.png", drawn, srgb=False)
        entries.append((view.name, view.camera, names))
    held = sources.held_out.names
    metrics: dict[str, Any] = {
        "psnr": float(np.mean([scores[view.name] for view in sources.learned])),
        "heldout_psnr": float(np.mean([scores[name] for name in held])) if held else None,
        "held_out": held,
        "psnr_per_view": scores,
        "back_colour": None if back is None else back.tolist(),
    }
    return entries, metrics


def _report(name: str, cost: Measured) -> StageReport:
    return StageReport(name, 0, 0, True, cost.seconds, [], [], cost.peak_mb)
