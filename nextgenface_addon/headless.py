"""Photos to a .blend without a window: what `batch.py` and `blender --command nextgenface` have in common."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from .checkpoints import export_request, exported_folder, is_checkpoint
from .environment import own_python
from .job_events import JobStatus
from .jobs import Job, JobRequest
from .methods import METHODS, method_named
from .presets import UserPresets, values_of
from .problems import AddonProblem
from .solver_python import find_solver_python, package_root, solver_folder
from .user_folders import user_folder

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".webp", ".exr", ".bmp"}


class BatchError(AddonProblem):
    """Something the user can put right."""


def make_parser(program: str = "batch.py") -> argparse.ArgumentParser:
    """The options of `batch.py` and of `nextgenface reconstruct`."""
    parser = argparse.ArgumentParser(
        prog=program, description="Reconstruct a head from photos into a .blend file."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", type=Path, nargs="+", metavar="PHOTO", help="photos, or folders of photos")
    source.add_argument(
        "--results",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="import finished results or checkpoints instead",
    )
    parser.add_argument("--output", type=Path, help="folder for the results; each photo gets a folder in it")
    names = [method.name for method in METHODS]
    parser.add_argument("--method", choices=names, default=names[0], help=f"default: {names[0]}")
    parser.add_argument(
        "--mesh", type=Path, metavar="FILE", help="mesh to start from, where the method takes one"
    )
    parser.add_argument("--preset", metavar="NAME", help="options of a preset, the user's own included")
    parser.add_argument("--config", type=Path, metavar="FILE.ini", help="solver options")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one solver option")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute")
    parser.add_argument("--seed", type=int, help="seed; the same seed gives the same result")
    parser.add_argument("--sharedIdentity", action="store_true", help="all photos show one person")
    parser.add_argument("--checkpoint", type=Path, help="continue from a stageN_output.pickle")
    for stage in (1, 2, 3):
        parser.add_argument(f"--skipStage{stage}", action="store_true", help=f"do not run stage {stage}")
    parser.add_argument(
        "--face", type=int, default=0, metavar="N", help="which face of a photo, by size (default 0)"
    )
    parser.add_argument("--solver-python", metavar="PATH", help="Python of the solver's environment")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    add_scene_options(parser)
    return parser


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """What becomes of the results."""
    parser.add_argument("--save", type=Path, metavar="FILE.blend", help="where to save the scene")
    parser.add_argument(
        "--render", type=Path, metavar="FILE.png", help="render from the photo's camera with Cycles"
    )
    parser.add_argument(
        "--render-samples", type=int, default=128, metavar="N", help="upper limit (default 128)"
    )
    parser.add_argument(
        "--denoise", action=argparse.BooleanOptionalAction, default=True, help="remove the noise"
    )
    parser.add_argument("--show-world", action="store_true", help="show the light behind the head")
    parser.add_argument("--over-photo", action="store_true", help="put the rendered head over the photo")
    parser.add_argument(
        "--pack", action=argparse.BooleanOptionalAction, default=True, help="images in the .blend"
    )
    parser.add_argument(
        "--keep-scene", action="store_true", help="add to the open file instead of an empty scene"
    )


def list_photos(inputs: list[Path]) -> list[Path]:
    """The image files named, and those in the folders named, in order. Raises BatchError."""
    photos: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise BatchError(f"{path} holds no images. Name a photo or a folder of photos.")
            photos += found
        elif path.is_file():
            photos.append(path)
        else:
            raise BatchError(f"{path} does not exist. Name a photo or a folder of photos.")
    return [path.absolute() for path in photos]


def solver_options(options: argparse.Namespace) -> dict[str, object]:
    """What the solver is told: the preset, then --set, --device, --seed. Raises AddonProblem."""
    values: dict[str, object] = {}
    if options.preset:
        own = UserPresets(user_folder() / "presets")
        values |= values_of(options.preset, package_root() / "assets", own)
    for pair in options.set:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise BatchError(f"--set {pair}: expected KEY=VALUE.")
        values[key.strip()] = value.strip()
    for name in ("device", "seed"):
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    return values


def say(text: str) -> None:
    print(text, flush=True)


def solve(options: argparse.Namespace) -> list[Path]:
    """Run the solver; returns the results folders: one per photo, or one for all with a shared identity."""
    if options.output is None:
        raise BatchError("--output is missing: the folder that the results are written to.")
    groups = inputs_of_jobs(options)
    folders = unique_folders(options.output.absolute(), [group[0].stem for group in groups])
    python = chosen_python(options.solver_python)
    for group, folder in zip(groups, folders, strict=True):
        if not options.quiet:
            say(f"{', '.join(item.name for item in group)} -> {folder}")
        request = JobRequest(
            method=options.method,
            input=group,
            output=folder,
            config=options.config.absolute() if options.config else None,
            set=solver_options(options),
            shared_identity=options.sharedIdentity,
            checkpoint=options.checkpoint.absolute() if options.checkpoint else None,
            skip=[stage for stage in (1, 2, 3) if getattr(options, f"skipStage{stage}")],
            face=options.face,
            parent_pid=os.getpid(),
            mesh=options.mesh.absolute() if options.mesh else None,
        )
        run_job(folder, request, python, quiet=options.quiet)
    return folders


def inputs_of_jobs(options: argparse.Namespace) -> list[list[Path]]:
    """What each job works on: photos, or a data set's folder. Raises BatchError."""
    wanted = method_named(options.method).input
    if wanted == "dataset" or (wanted == "either" and all(path.is_dir() for path in options.input)):
        for folder in options.input:
            if not folder.is_dir():
                raise BatchError(f"{folder} is not a folder. Name the folder of a data set.")
        return [[path.absolute()] for path in options.input]
    photos = list_photos(options.input)
    together = options.sharedIdentity or wanted == "either"
    return [photos] if together else [[photo] for photo in photos]


def chosen_python(named: str | None) -> Path:
    """The solver's Python: what the command names, else as the add-on's preferences have it. Raises
    SolverPythonError.
    """
    import bpy

    from .preferences import preferences

    chosen = preferences(bpy.context).solver_python or None
    return find_solver_python(named, preference=chosen, own=own_python())


def completed(path: Path, python: str | None, *, quiet: bool) -> Path:
    """The results folder that a path stands for; a checkpoint is completed by the solver first."""
    if not is_checkpoint(path):
        return path
    if not path.is_file():
        raise BatchError(f"There is no checkpoint at {path}.")
    done = exported_folder(path)
    if done is not None:
        return done
    request = export_request(path)
    run_job(request.output, request, chosen_python(python), quiet=quiet)
    return request.output


def unique_folders(output: Path, names: list[str]) -> list[Path]:
    """A folder per name; photos of the same name (a.png, a.jpg) get numbers."""
    folders: list[Path] = []
    for name in names:
        folder, number = output / name, 2
        while folder in folders:
            folder, number = output / f"{name}_{number}", number + 1
        folders.append(folder)
    return folders


def run_job(folder: Path, request: JobRequest, python: Path, *, quiet: bool = False) -> None:
    """Run one job to its end, printing progress. Raises BatchError, or KeyboardInterrupt when cancelled."""
    job = Job(folder)
    job.start(request, python, solver_folder())
    printed = ""
    warned = 0

    def show(status: JobStatus) -> None:
        nonlocal printed, warned
        for warning in status.warnings[warned:]:
            say(f"  warning: {warning}")
        warned = len(status.warnings)
        line = f"  {status.fraction:4.0%} {status.text()}"
        if status.state == "running" and line != printed and not quiet:
            say(line)
            printed = line

    def stop(number: int, frame: FrameType | None) -> None:
        job.cancel()

    # Blender ignores Ctrl-C while a script runs, so it is caught here; the solver ends with a checkpoint.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = job.wait(show, interval=0.2)
    finally:
        job.cancel()  # no effect on a job that has ended
        for number, handler in before.items():
            signal.signal(number, handler)
    if status.state == "cancelled":
        raise KeyboardInterrupt
    if status.state != "finished":
        raise BatchError(status.error or status.text())


def build_scene(folders: list[Path], options: argparse.Namespace) -> str:
    """Import the results into an empty scene; returns the name of the photo camera to render from."""
    import bpy

    from .scene.importer import ImportOptions, import_result
    from .scene.takeover import Mode

    if not options.keep_scene:
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    camera = ""
    for i, folder in enumerate(folders):
        first = i == 0
        takeover: Mode = "NEVER" if not first else "AUTO" if options.keep_scene else "ALWAYS"
        report = import_result(
            None, folder, ImportOptions(pack=options.pack, takeover=takeover, show_world=options.show_world)
        )
        say(report.text())
        for warning in report.warnings:
            say(f"  warning: {warning}")
        camera = camera or report.cameras[0]
        if not first:  # everyone stands at the origin; the others are shown when their turn comes
            hidden = bpy.data.collections[report.collection]
            hidden.hide_viewport = hidden.hide_render = True
    return camera


def prepare_cycles(samples: int, *, denoise: bool = True) -> None:
    """Cycles on the processor with a bounded number of samples, adaptive, denoised where the build can."""
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = max(1, samples)
    scene.cycles.use_adaptive_sampling = True
    scene.cycles.adaptive_threshold = 0.01
    scene.cycles.seed = 0
    # A photo's pixel is the light over its square, and so is the solver's; Blender's own filter is softer.
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.use_denoising = denoise
    try:
        scene.cycles.denoiser = "OPENIMAGEDENOISE"
    except TypeError:  # the enum lacks it in builds without the denoiser
        scene.cycles.use_denoising = False
        say("This Blender has no denoiser; the picture may show some noise.")


def render(path: Path, camera: str) -> None:
    """Render an 8-bit PNG from the named camera through the scene's view settings."""
    import bpy

    scene = bpy.context.scene
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):  # from 5.0
        settings.media_type = "IMAGE"
    settings.file_format = "PNG"
    settings.color_depth = "8"
    settings.color_mode = "RGBA" if scene.render.film_transparent else "RGB"
    scene.render.dither_intensity = 0.0  # the picture is compared with the photo
    scene.render.use_file_extension = False
    scene.camera = bpy.data.objects[camera]
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    if not path.is_file():
        raise BatchError(f"{path} could not be written.")


def over_photo(picture: Path, photo: Path) -> None:
    """Put the rendered head (straight alpha) over the photo, in place, both as 8-bit display colours."""
    import bpy
    import numpy as np

    loaded = []
    for path in (picture, photo):
        image = bpy.data.images.load(str(path), check_existing=False)
        pixels = np.empty(image.size[0] * image.size[1] * image.channels, dtype=np.float32)
        image.pixels.foreach_get(pixels)
        loaded.append((image, pixels.reshape(image.size[1], image.size[0], image.channels)))
    (front_image, front), (photo_image, back) = loaded
    if front.shape[:2] == back.shape[:2]:
        alpha = front[..., 3:4]
        front[..., :3] = front[..., :3] * alpha + back[..., :3] * (1.0 - alpha)
        front[..., 3] = 1.0
        front_image.pixels.foreach_set(front.ravel())
        front_image.update()
        front_image.save()
    else:
        say(f"  warning: {photo} has another size than the picture and was not put behind it.")
    for image in (front_image, photo_image):
        bpy.data.images.remove(image)


def save(path: Path) -> None:
    import bpy

    path = path.absolute()
    if path.suffix != ".blend":
        raise BatchError(f"--save {path}: the name has to end in .blend.")
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True)
    say(f"Saved {path}")


def run(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    if options.save is None and options.render is None:
        raise BatchError("Nothing to do: give --save FILE.blend, --render FILE.png or both.")
    if options.results:
        python, quiet = options.solver_python, options.quiet
        folders = [completed(path.absolute(), python, quiet=quiet) for path in options.results]
    else:
        folders = solve(options)
    camera = build_scene(folders, options)
    prepare_cycles(options.render_samples, denoise=options.denoise)
    if options.save:
        save(options.save)
    if options.render:
        render(options.render, camera)
        if options.over_photo:
            from .scene.results_folder import read_results

            photo = read_results(folders[0]).photos[0].files.get("photo")
            if photo is not None and not options.show_world:
                over_photo(options.render.absolute(), photo)
        say(f"Rendered {options.render.absolute()}")


def main(argv: list[str], program: str = "batch.py") -> int:
    """Run with the command's own arguments; returns the exit code."""
    try:
        options = make_parser(program).parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong
        return int(stop.code or 0)
    return guarded(lambda: run(options))


def guarded(work: Callable[[], object]) -> int:
    """Run a command's work; what goes wrong becomes one line on standard error and an exit code."""
    try:
        import bpy  # noqa: F401
    except ImportError:
        print("This runs inside Blender, or in a Python with the bpy module.", file=sys.stderr)
        return 2
    try:
        work()
    except AddonProblem as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        return 1
    return 0
