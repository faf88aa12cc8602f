"""The method "mesh": calibrated views in, a results folder with a coloured, textured mesh out."""

from __future__ import annotations

import re
from collections.abc import Callable
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
from . import finish
from .initial import Start, initial_mesh
from .memory import memory_named, memory_warning
from .optimise import Drawing, NeuralMesh
from .options import MeshOptions
from .shader import save_shader
from .surface_files import write_snapshot, write_surface
from .training import STAGE, Course, from_checkpoint, to_checkpoint
from .trim import trim_unseen

NAME = "mesh"
LEAST_VIEWS = 3
LEAST_MASK = 1e-4  # share of the picture: a mask of less is empty


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
    with compute_threads(config), memory_named():
        views = _views(request, options, listener)
        learned, held_out = views.split(request.held_out)
        if len(learned) < LEAST_VIEWS:
            few = "One view is" if len(learned) == 1 else f"{len(learned)} views are"
            raise NextGenFaceError(
                f"{few} too few: a surface needs at least {LEAST_VIEWS} from different "
                "sides. For one to three photos of a face use the face method."
            )
        tight = memory_warning(learned, options) if device == "cpu" else None
        if tight is not None:
            listener.warning(tight)
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
        reports = {STAGE: report}
        if options.color_steps:
            reports[finish.STAGE] = _sharpen(mesh, output, way, options, listener, save)
        if start.face is None and not options.keep_unseen:
            cut = trim_unseen(mesh, mesh.targets(options.image_scale))
            if cut is not None:
                listener.warning(cut)
        result = _write(output, mesh, start, way, learned, held_out, options)
        result.name = options.run_name or data_set_name(request.inputs[0])
        result.stages, result.warnings, result.device = reports, warnings.texts, device
        path = write_result(output, result)
    checkpoints.remove(output, NAME)
    return path


def _sharpen(
    mesh: NeuralMesh,
    output: Path,
    way: Normalisation,
    options: MeshOptions,
    listener: Listener,
    save: Callable[[int], None],
) -> StageReport:
    """The last steps, of the colours alone; the shader's last file is written again."""
    listener.stage(finish.STAGE)
    with measured() as cost:
        targets = mesh.targets(options.image_scale)
        # A run that is stopped here goes on from the end of the surface's steps.
        outcome = finish.sharpen(mesh, targets, listener, lambda _: save(options.iterations))
    _save_shader(output, options.iterations, mesh, way)
    steps = len(outcome.losses)
    return StageReport(
        finish.STAGE, steps, options.color_steps, True, cost.seconds, outcome.losses, [], cost.peak_mb
    )


def _save_shader(output: Path, done: int, mesh: NeuralMesh, way: Normalisation) -> None:
    path = output / "shaders" / f"shader_{done:06d}.pt"
    path.parent.mkdir(exist_ok=True)
    save_shader(path, mesh.shader, {"centre": way.centre.tolist(), "scale": way.scale})


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
    return ViewSet(tuple(_with_masks(views, listener)), views.bounds)


def _with_masks(views: ViewSet, listener: Listener) -> list[View]:
    """The views; people are masked where there is no mask, or one that takes in the whole picture."""
    given = [view if _says_something(view) else replace(view, mask=None) for view in views]
    without = [view.name for view in given if view.mask is None]
    if not without:
        return given
    found, _ = with_person_masks(given)
    found = [view if _says_something(view) else replace(view, mask=None) for view in found]
    lost = [view.name for view in found if view.mask is None]
    if len(lost) < len(without):
        listener.warning(
            f"{', '.join(n for n in without if n not in lost)}: no mask (or an empty one, or the whole "
            "picture), so the person in it was masked instead. For anything but people give pictures with "
            "alpha, or NAME_mask.png beside them"
        )
    if lost:
        listener.warning(
            f"{', '.join(lost)}: no mask, and no person was found to mask; only the colors of these views "
            "are used. Pictures with alpha, or NAME_mask.png beside them, hold the outline, too"
        )
    return found


def _says_something(view: View) -> bool:
    """Whether the view has a mask that is neither empty nor the whole picture."""
    if view.mask is None:
        return False
    share = float((view.mask > 0.5).mean())
    return LEAST_MASK < share < 1


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
            _save_shader(output, done, mesh, way)
        if options.visualization_frequency and (done % options.visualization_frequency == 0 or last):
            for view in shown:
                drawn = mesh.draw(view, options.image_scale)
                for kind, picture in (("shaded", drawn.shaded), ("normal", drawn.normals * 0.5 + 0.5)):
                    folder = (
                        output / "images" / kind if len(shown) == 1 else output / "images" / view.name / kind
                    )
                    folder.mkdir(parents=True, exist_ok=True)
                    write_png(folder / f"neuralshading_{done}.png", picture, srgb=False)

    def preview(_step: int) -> NDArray[np.uint8]:
        view = shown[0]
        drawn = mesh.draw(view, max(1, view.camera.height // 256))
        both = np.concatenate([drawn.shaded, drawn.normals * 0.5 + 0.5], 1)
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
        drawn = mesh.draw(near)
        photo = linear_to_srgb(view.image)
        scores[view.name] = psnr(drawn, photo, view.mask, only_drawn=mesh.anchored)
        with_mask = photo if view.mask is None else np.concatenate([photo, view.mask[..., None]], -1)
        write_png(output / f"photo_{index}.png", with_mask, srgb=False)
        write_png(output / f"render_{index}.png", drawn.shaded, srgb=False)
        names: dict[str, str | None] = {"photo": f"photo_{index}.png", "render": f"render_{index}.png"}
        entries.append((view.name, view.camera, names))
    metrics: dict[str, Any] = {
        "vertices": len(mesh.start),
        "faces": len(mesh.faces),
        "psnr_where": "drawn" if mesh.anchored else "mask",
        "psnr": float(np.mean([scores[v.name] for v in learned])),
        "heldout_psnr": float(np.mean([scores[v.name] for v in held_out])) if len(held_out) else None,
        "held_out": held_out.names,
        "psnr_per_view": scores,
    }
    return Result(NAME, "", as_json(options), entries, files, metrics, seed=options.seed)


def psnr(drawn: Drawing, photo: NDArray[Any], mask: NDArray[Any] | None, *, only_drawn: bool) -> float:
    """PSNR of display code values (H, W, 3) inside the mask, dB.

    `only_drawn`, or without a mask: where the surface is drawn, which is then no more than a part of what
    the picture shows.
    """
    inside = np.ones(photo.shape[:2], bool) if mask is None else mask > 0.99
    if only_drawn or mask is None:
        inside &= drawn.coverage > 0.99
    error = float(((drawn.shaded[inside] - photo[inside]) ** 2).mean()) if inside.any() else 1.0
    return float(-10 * np.log10(max(error, 1e-10)))
