"""The method "mesh": calibrated views in, a results folder with a coloured, textured mesh out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...colour import linear_to_srgb
from ...config import Config
from ...errors import ConfigError, NextGenFaceError
from ...events import Listener, Tee, WarningLog
from ...files import prepare_output
from ...fitting.state import StageReport
from ...images import write_png
from ...measure import measured
from ...results import RESULT
from ...session import compute_threads
from ...views import Bounds, Normalisation, View, ViewSet
from .. import checkpoint as checkpoints
from ..datasets import detect, read_views, with_person_masks
from ..method import Request, Result, write_result
from ..options import as_json, read_options
from .initial import Start, initial_mesh
from .optimise import NeuralMesh
from .options import MeshOptions
from .shader import save_shader
from .surface_files import write_snapshot, write_surface
from .training import STAGE, Course, from_checkpoint, to_checkpoint
from .trim import trim_unseen

NAME = "mesh"
LEAST_VIEWS = 3


def reconstruct(request: Request, listener: Listener) -> Path:
    """Reconstruct the object of a data set; returns the path of `result.json`.

    `request.mesh` overrides the option `initial_mesh`. Raises NextGenFaceError and its children for what
    cannot be used, Cancelled with a checkpoint kept.
    """
    options = read_options(MeshOptions, request.options)
    options.shader()  # wrong sizes are known before any work
    output = prepare_output(request.output)
    warnings = WarningLog()
    listener = Tee(listener, warnings)
    config = Config()
    config.set("device", _device(options.device))
    device = config.resolveDevice()
    with compute_threads(config):
        views = _views(request, options, listener)
        learned, held_out = views.split(request.held_out)
        if len(learned) < LEAST_VIEWS:
            raise NextGenFaceError(
                f"{len(learned)} views are too few: a surface needs at least {LEAST_VIEWS} from different "
                "sides. For one to three photos of a face use the face method."
            )
        kind = str(request.mesh) if request.mesh is not None else options.initial_mesh
        mark = checkpoints.fingerprint(
            {**as_json(options), "initial_mesh": kind, "held_out": request.held_out},
            [n for v in views for n in (v.image, v.camera.K, v.camera.R, v.camera.t)],
        )
        stored = checkpoints.load(output, NAME, mark) if request.resume else None
        start = initial_mesh(kind, learned, config, _fitted(request.inputs[0]))
        for note in start.notes:
            listener.warning(note)
        normal, way = ViewSet(learned.views, start.bounds).normalised()
        mesh = NeuralMesh(
            way.apply(start.vertices),
            start.faces,
            normal,
            options,
            device,
            anchored=start.face is not None,
        )
        (output / RESULT).unlink(missing_ok=True)
        listener.stage(STAGE)
        course = _course(mesh, normal, way, options, output, listener)
        if stored is not None:
            from_checkpoint(course, stored)

        def save(done: int) -> None:
            checkpoints.save(output, to_checkpoint(course, NAME, mark))

        with measured() as cost:
            course.run(save)
        report = StageReport(
            STAGE, course.done, options.iterations, True, cost.seconds, course.losses, [], cost.peak_mb
        )
        if start.face is None and not options.keep_unseen:
            cut = trim_unseen(mesh, mesh.targets(options.image_scale))
            if cut is not None:
                listener.warning(cut)
        result = _write(output, mesh, start, way, learned, held_out, options)
        result.name = options.run_name or data_set_name(request.inputs[0])
        result.stages, result.warnings, result.device = {STAGE: report}, warnings.texts, device
        path = write_result(output, result)
    checkpoints.remove(output, NAME)
    return path


def _device(word: str) -> str:
    """The reference's numbers as our words: -1 is the CPU, others are CUDA devices."""
    if re.fullmatch(r"-?\d+", word):
        return "cpu" if int(word) < 0 else "cuda"
    return word


def _fitted(path: Path) -> Path | None:
    """The folder of a face fit, when that is the data set."""
    return (path if path.is_dir() else path.parent) if detect(path) == "fitted" else None


def data_set_name(path: Path) -> str:
    """What a result is called when nobody said: the data set's folder, not its `views`."""
    path = path.resolve()
    return path.parent.name if path.name == "views" else path.name


def _views(request: Request, options: MeshOptions, listener: Listener) -> ViewSet:
    """The data set with masks and, when it is known, its box."""
    if len(request.inputs) != 1:
        raise ConfigError("The mesh method takes one data set: a folder of pictures with their cameras.")
    views = read_views(request.inputs[0])
    if options.input_bbox:
        views = ViewSet(views.views, read_bounds(Path(options.input_bbox).expanduser()))
    without = [view.name for view in views if view.mask is None]
    if without:
        found, missing = with_person_masks(views)
        listener.warning(
            f"{len(without)} view(s) have no alpha or mask; the person in the picture was masked instead"
            + (f" (nobody was found in {', '.join(missing)})" if missing else "")
        )
        views = ViewSet(tuple(found), views.bounds)
    return views


def read_bounds(path: Path) -> Bounds:
    """The box in a text file of 2 x 3 numbers, row of minima first. Raises NextGenFaceError."""
    try:
        numbers = np.loadtxt(path)
        return Bounds(*numbers.reshape(2, 3))
    except (OSError, ValueError, TypeError) as problem:
        raise NextGenFaceError(f"{path} is no box of 2 x 3 numbers, minima first ({problem}).") from problem


def _course(
    mesh: NeuralMesh,
    views: ViewSet,
    way: Normalisation,
    options: MeshOptions,
    output: Path,
    listener: Listener,
) -> Course:
    """The steps, with meshes, shaders and pictures written as often as the options say."""
    shown = _shown(views, options)

    def on_step(done: int) -> None:
        last = done == options.iterations
        if done == 1 or last or (options.save_frequency and done % options.save_frequency == 0):
            write_snapshot(output / "meshes" / f"mesh_{done:06d}.obj", mesh, way)
            space = {"centre": way.centre.tolist(), "scale": way.scale}
            target = output / "shaders" / f"shader_{done:06d}.pt"
            target.parent.mkdir(exist_ok=True)
            save_shader(target, mesh.shader, space)
        if options.visualization_frequency and (done % options.visualization_frequency == 0 or last):
            for view in shown:
                colours, normals = mesh.draw(view, options.image_scale)
                for kind, picture in (("shaded", colours), ("normal", normals * 0.5 + 0.5)):
                    folder = (
                        output / "images" / kind if len(shown) == 1 else output / "images" / view.name / kind
                    )
                    folder.mkdir(parents=True, exist_ok=True)
                    write_png(folder / f"neuralshading_{done}.png", picture, srgb=False)

    def preview(_step: int) -> NDArray[np.uint8]:
        view = shown[0]
        colours, normals = mesh.draw(view, max(1, view.camera.height // 256))
        both = np.concatenate([colours, normals * 0.5 + 0.5], 1)
        return (both.clip(0, 1) * 255).round().astype(np.uint8)[None]

    return Course(mesh, listener, on_step, preview)


def _shown(views: ViewSet, options: MeshOptions) -> list[View]:
    """The views that pictures are drawn of. Raises ConfigError for names that are none."""
    chosen = []
    for word in options.visualization_views:
        if word in views.names:
            chosen.append(views[views.names.index(word)])
        elif word.isdigit() and int(word) < len(views):
            chosen.append(views[int(word)])
        else:
            raise ConfigError(f"visualization_views: no view is called {word!r} ({', '.join(views.names)}).")
    return chosen or [views[0]]


def _write(
    output: Path,
    mesh: NeuralMesh,
    start: Start,
    way: Normalisation,
    learned: ViewSet,
    held_out: ViewSet,
    options: MeshOptions,
) -> Result:
    """All files but `result.json`."""
    np.savetxt(output / "bbox.txt", np.stack([start.bounds.low, start.bounds.high]))
    files = write_surface(output, mesh, start, way, options.texture_size)
    entries, scores = [], {}
    for index, view in enumerate([*learned, *held_out]):
        near = replace(view, camera=way.camera(view.camera))
        drawn, _ = mesh.draw(near)
        photo = linear_to_srgb(view.image)
        scores[view.name] = psnr(drawn, photo, view.mask)
        with_mask = photo if view.mask is None else np.concatenate([photo, view.mask[..., None]], -1)
        write_png(output / f"photo_{index}.png", with_mask, srgb=False)
        write_png(output / f"render_{index}.png", drawn, srgb=False)
        names: dict[str, str | None] = {"photo": f"photo_{index}.png", "render": f"render_{index}.png"}
        entries.append((view.name, view.camera, names))
    metrics: dict[str, Any] = {
        "vertices": len(mesh.start),
        "faces": len(mesh.faces),
        "psnr": float(np.mean([scores[v.name] for v in learned])),
        "heldout_psnr": float(np.mean([scores[v.name] for v in held_out])) if len(held_out) else None,
        "held_out": held_out.names,
        "psnr_per_view": scores,
    }
    return Result(NAME, "", as_json(options), entries, files, metrics, seed=options.seed)


def psnr(drawn: NDArray[Any], photo: NDArray[Any], mask: NDArray[Any] | None) -> float:
    """PSNR of display code values (H, W, 3) inside the mask, dB."""
    inside = np.ones(photo.shape[:2], bool) if mask is None else mask > 0.99
    error = float(((drawn[inside] - photo[inside]) ** 2).mean()) if inside.any() else 1.0
    return float(-10 * np.log10(max(error, 1e-10)))
