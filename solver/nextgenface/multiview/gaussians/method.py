"""The method "gaussians": views or photos in, a results folder with a cloud of Gaussians out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...colour import linear_to_srgb
from ...config import Config
from ...errors import NextGenFaceError, PhotoError
from ...events import Listener, Tee, WarningLog
from ...files import prepare_output
from ...fitting.state import StageReport
from ...images import write_png
from ...measure import measured
from ...photos import list_photos, load_photo
from ...results import RESULT
from ...session import compute_threads
from ...views import Bounds, Camera, View, ViewSet
from .. import checkpoint as checkpoints
from ..datasets import DataSetError, detect, read_views, with_person_masks
from ..meshes import read_mesh
from ..method import Request, Result, write_result
from ..options import as_json, read_options
from . import evaluation, files
from .cameras import CameraRig
from .options import Options
from .photos import fit_photos, known_views
from .pictures import widths
from .rendering import choose_engine
from .start import first_splats, head_box, hull_points, scene_box, surface_points
from .training import STAGE, Training, pixel_size

NAME = "gaussians"
ON_SURFACE = 0.6
"""Part of the first points that lie on a surface that is known; the others fill the hull of the masks."""
LARGEST_PICTURE = 4096


@dataclass(frozen=True)
class Sources:
    """What training starts from. `surface`: vertices (V, 3) and faces (F, 3), None where nothing is known.
    `calibrated`: whether the cameras were measured rather than guessed. `info`: kept in checkpoints.
    """

    views: ViewSet
    surface: tuple[NDArray[np.float64], NDArray[np.integer]] | None
    calibrated: bool
    reports: dict[str, StageReport] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


def reconstruct(request: Request, listener: Listener) -> Path:
    """Make a Gaussian head of a data set or of photos; returns the path of `result.json`.

    Raises NextGenFaceError and its children for what cannot be used, Cancelled with a checkpoint kept.
    """
    options = read_options(Options, request.options)
    output = prepare_output(request.output)
    warnings = WarningLog()
    listener = Tee(listener, warnings)
    config = Config()
    config.set("device", options.device)
    device = config.resolveDevice()
    choose_engine(options.engine, torch.device(device))  # type: ignore[arg-type]
    with compute_threads(config):
        sources, stored, mark = _sources(request, options, output, listener)
        learned, held_out = sources.views.split(request.held_out)
        if len(learned) == 0:
            raise NextGenFaceError("All views are held out, so there is nothing to learn from.")
        box = _box(sources, learned)
        training, rig = prepare(sources, learned, box, options, device)
        if stored is not None:
            training.load(stored)
        (output / RESULT).unlink(missing_ok=True)
        listener.stage(STAGE)

        info = {**sources.info, "box": [box.low.tolist(), box.high.tolist()]}

        def save(done: int) -> None:
            checkpoints.save(output, checkpoints.Checkpoint(NAME, done, mark, training.arrays(), info))

        with measured() as cost:
            outcome = training.run(listener, save)
        report = StageReport(
            STAGE,
            training.done,
            options.steps,
            outcome.converged,
            cost.seconds,
            outcome.losses,
            [],
            cost.peak_mb,
        )
        views = [replace(v, camera=c) for v, c in zip(learned, rig.current(), strict=True)]
        if not sources.calibrated:
            held = [evaluation.aligned(training.splats, v, box, _width(v, options)) for v in held_out]
        else:
            held = list(held_out)
        result = _write(output, training, views, held, box, options)
        result.stages = {**sources.reports, STAGE: report}
        result.warnings = warnings.texts
        result.device = device
        path = write_result(output, result)
    checkpoints.remove(output, NAME)
    return path


def _box(sources: Sources, learned: ViewSet) -> Bounds:
    if "box" in sources.info:  # of the run that goes on
        return Bounds(*sources.info["box"])
    box = scene_box(learned)
    if not sources.calibrated and sources.surface is not None:
        box = head_box(box, sources.surface[0])
    return box


def prepare(
    sources: Sources, learned: ViewSet, box: Bounds, options: Options, device: str
) -> tuple[Training, CameraRig]:
    """A training with its cameras and first Gaussians: on a known surface, else under the masks' hull."""
    random = np.random.default_rng(options.seed)
    count = options.initialPoints
    points, normals = np.empty((0, 3)), np.empty((0, 3))
    if sources.surface is not None:
        on_surface = round(count * ON_SURFACE) if _masked(learned) else count
        points, normals = surface_points(*sources.surface, on_surface, random)
    if len(points) < count:
        more, outward = hull_points(learned, box, count - len(points), random)
        points, normals = np.concatenate([points, more]), np.concatenate([normals, outward])
    largest = options.largestPixels * pixel_size(learned, box, options.resolution)
    splats = first_splats(learned, points, normals, degree=options.shDegree, largest=largest, device=device)
    learn = options.learnCameras == "yes" or (options.learnCameras == "auto" and not sources.calibrated)
    pivot = torch.as_tensor(box.centre, dtype=torch.float32, device=device)
    rig = CameraRig(learned.cameras, pivot, float(box.size.max()) / 2, learn=learn)
    return Training(learned, splats, box, options, device, rig), rig


def _masked(views: ViewSet) -> bool:
    return any(view.mask is not None for view in views)


def _sources(
    request: Request, options: Options, output: Path, listener: Listener
) -> tuple[Sources, checkpoints.Checkpoint | None, str]:
    """The views, the checkpoint to go on from, and the fingerprint of this run."""
    for path in request.inputs:
        if not path.exists():
            raise NextGenFaceError(f"There is no photo or folder at {path}. Check the path.")
    marks = {**as_json(options), "held_out": request.held_out}
    kind = _kind(request.inputs)
    if kind == "photos":
        if request.mesh is not None:
            raise NextGenFaceError(
                "A mesh cannot go with photos whose cameras are not known; they start on the face that is "
                "fitted to them. Leave the mesh out, or give pictures with cameras."
            )
        paths = [photo for item in request.inputs for photo in list_photos(item)]
        mark = checkpoints.fingerprint(marks, [load_photo(path).srgb8() for path in paths])
        stored = checkpoints.load(output, NAME, mark) if request.resume else None
        if stored is not None:
            return (
                Sources(ViewSet(tuple(known_views(stored.info, listener))), None, False, info=stored.info),
                stored,
                mark,
            )
        fitted = fit_photos(
            paths, output, int(options.faceStages), listener, seed=options.seed, device=options.device
        )
        head = (fitted.vertices, fitted.faces)
        return Sources(fitted.views, head, False, fitted.reports, fitted.info), None, mark
    views = read_views(request.inputs[0], format=kind)
    surface = None
    if kind == "fitted":
        surface = _fitted_surface(request.inputs[0])
        views = ViewSet(views.views)  # the box of a fitted face leaves out what this method is for
    if request.mesh is not None:
        mesh = read_mesh(request.mesh)
        surface = (mesh.vertices, mesh.faces)
    found, masked = with_person_masks(views)
    views = ViewSet(tuple(found), views.bounds)
    if masked:
        listener.warning(f"{len(masked)} view(s) have no mask; the person in the picture was masked instead.")
    numbers = [n for view in views for n in (view.image, view.camera.K, view.camera.R, view.camera.t)]
    mark = checkpoints.fingerprint(marks, numbers)
    stored = checkpoints.load(output, NAME, mark) if request.resume else None
    info = {} if stored is None else stored.info
    return Sources(views, surface, kind != "fitted", info=info), stored, mark


def _kind(inputs: Sequence[Path]) -> str:
    """The format of a data set, or "photos" for pictures without cameras."""
    if len(inputs) != 1 or (inputs[0].is_file() and inputs[0].name != RESULT):
        return "photos"
    try:
        return detect(inputs[0])
    except DataSetError:
        try:
            list_photos(inputs[0])
        except PhotoError:
            raise DataSetError(
                f"{inputs[0]} holds neither photos nor a data set of pictures with cameras "
                "(docs/gaussians.md)."
            ) from None
        return "photos"


def _fitted_surface(path: Path) -> tuple[NDArray[np.float64], NDArray[np.integer]] | None:
    """The head of a face result: its mesh with the mean expression of its photos."""
    folder = path if path.is_dir() else path.parent
    try:
        with np.load(folder / "geometry.npz", allow_pickle=False) as stored:
            offsets = stored["expression_offsets"].astype(np.float64).mean(0)
            return stored["neutral_vertices"] + offsets, stored["faces"]
    except (OSError, ValueError, KeyError):
        return None  # the hull of the masks is a start, too


def _width(view: View, options: Options) -> int:
    return widths(ViewSet((view,)), options.resolution, 0)[0]


def _write(
    output: Path, training: Training, learned: list[View], held_out: list[View], box: Bounds, options: Options
) -> Result:
    """All files but `result.json`."""
    splats = training.splats
    files.write_ply(output / "points.ply", splats)
    files.write_splat(output / "points.splat", splats)
    entries: list[tuple[str, Camera, dict[str, str | None]]] = []
    scores: dict[str, float] = {}
    for index, view in enumerate([*learned, *held_out]):
        factor = min(1.0, LARGEST_PICTURE / max(view.camera.width, view.camera.height))
        shown = view.scaled(factor)
        picture = linear_to_srgb(shown.image)
        if shown.mask is not None:
            picture = np.concatenate([picture, shown.mask[..., None]], -1)
        write_png(output / f"photo_{index}.png", picture, srgb=False)
        image, alpha = evaluation.drawn(splats, view, _width(view, options))
        straight = image / alpha.clamp_min(1e-3)[..., None]
        both = torch.cat([straight.clamp(0, 1), alpha[..., None]], -1).cpu().numpy()
        write_png(output / f"render_{index}.png", both, srgb=False)
        scores[view.name] = evaluation.psnr(splats, view, _width(view, options))
        names: dict[str, str | None] = {"photo": f"photo_{index}.png", "render": f"render_{index}.png"}
        entries.append((view.name, shown.camera, names))
    metrics: dict[str, Any] = {
        "points": len(splats),
        "psnr": float(np.mean([scores[v.name] for v in learned])),
        "heldout_psnr": float(np.mean([scores[v.name] for v in held_out])) if held_out else None,
        "held_out": [v.name for v in held_out],
        "psnr_per_view": scores,
        "outside_box": evaluation.outside_share(splats, box),
        "box": [box.low.tolist(), box.high.tolist()],
    }
    return Result(
        method=NAME,
        name=output.name,
        options=as_json(options),
        views=entries,
        files={"points": "points.ply", "splat": "points.splat"},
        metrics=metrics,
        seed=options.seed,
    )
