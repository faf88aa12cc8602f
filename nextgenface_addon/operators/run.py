"""Starting and stopping the solver from the panel."""

# mypy: disable-error-code="valid-type"

import os
from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver, session
from ..jobs import Job, JobRequest, PhotoInput
from ..preferences import preferences, solver_python
from ..properties import chosen_method, photo_input, solver_options
from ..solver_python import solver_folder
from .base import AddonProblem, NextGenFaceOperator


class NEXTGENFACE_OT_run(NextGenFaceOperator, bpy.types.Operator):
    """Reconstruct with the settings above; Blender can be used meanwhile. While a job runs, another one waits
    behind it"""

    bl_idname = "nextgenface.run"
    bl_label = "Reconstruct"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        settings = context.scene.nextgenface
        if uses_dataset(settings):
            if not settings.dataset:
                return "Choose the folder of the data set first"
        elif not settings.photos:
            return "Add at least one photo first"
        elif not any(photo.enabled for photo in settings.photos):
            return "All photos in the list are switched off"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        chosen = preferences(context)
        python = solver_python(context)
        requests = job_requests(settings, chosen)
        queue = [start_job(context, request, python) for request in requests]
        if driver.windowless():
            return self.blocked(queue)
        if len(queue) > 1 or session.current().waiting:
            waiting = len(session.current().waiting)
            self.report({"INFO"}, rpt_("Jobs that wait: {count}").format(count=waiting))
        return {"FINISHED"}

    def blocked(self, queue: list[session.Entry]) -> set[str]:
        """Without a window: wait for all of them."""
        driver.wait()
        for entry in queue:
            status = entry.job.status
            if status.state != "finished" or entry.message:
                raise AddonProblem(entry.message or status.error or status.text())
        return {"FINISHED"}


def job_requests(settings: bpy.types.PropertyGroup, chosen: bpy.types.PropertyGroup) -> list[JobRequest]:
    """What the settings ask for: one job, or one per photo when each shows another person. Raises
    AddonProblem.
    """
    method = chosen_method(settings)
    if uses_dataset(settings):
        dataset = Path(bpy.path.abspath(settings.dataset))
        if not dataset.is_dir():
            raise AddonProblem(
                rpt_("The data set {path} is not a folder. Choose the folder with its pictures.").format(
                    path=dataset
                )
            )
        groups: list[list[PhotoInput]] = [[PhotoInput(dataset)]]
    else:
        photos = [photo_input(photo) for photo in settings.photos if photo.enabled]
        for photo in photos:
            if not photo.path.is_file():
                raise AddonProblem(
                    rpt_("The photo {path} does not exist. Remove it from the list or put it back.").format(
                        path=photo.path
                    )
                )
        together = settings.shared_identity or method.name != "face"
        groups = [photos] if together else [[photo] for photo in photos]
    options = solver_options(settings)
    if method.name == "face" and chosen.bfm_folder and "path" not in options:
        options["path"] = bpy.path.abspath(chosen.bfm_folder)
    face = method.name == "face"
    folder = output_folder(settings, chosen)
    taken: set[Path] = set()
    requests = []
    for group in groups:
        output = free_folder(folder, group[0].path.stem, taken)
        taken.add(output)
        requests.append(
            JobRequest(
                method=method.name,
                input=group,
                output=output,
                config=Path(bpy.path.abspath(settings.config)) if settings.config and face else None,
                set=options,
                shared_identity=face and len(group) > 1,
                parent_pid=None if chosen.on_close == "RUN_ON" else os.getpid(),
                mesh=Path(bpy.path.abspath(settings.mesh)) if method.takes_mesh and settings.mesh else None,
            )
        )
    return requests


def uses_dataset(settings: bpy.types.PropertyGroup) -> bool:
    """Whether the method works on the data set's folder, rather than on the photos of the list."""
    wanted = chosen_method(settings).input
    return wanted == "dataset" or (wanted == "either" and bool(settings.dataset))


def output_folder(settings: bpy.types.PropertyGroup, chosen: bpy.types.PropertyGroup) -> Path:
    """The folder that results go into: the scene's, else the preferences', else beside the .blend, else
    beside the first photo. Raises AddonProblem.
    """
    for path in (settings.output, chosen.output):
        if path.startswith("//") and not bpy.data.filepath:
            raise AddonProblem(rpt_("The output folder is beside the .blend file. Save the file first."))
        if path:
            return Path(bpy.path.abspath(path))
    if bpy.data.filepath:
        return Path(bpy.data.filepath).parent / "nextgenface"
    first = settings.photos[0].path if settings.photos else settings.dataset
    return Path(bpy.path.abspath(first)).parent / "nextgenface"


def free_folder(parent: Path, name: str, taken: set[Path]) -> Path:
    """A folder for a job: a result of before is updated, a job that runs or waits is left alone."""
    folder, number = parent / name, 2
    while folder in taken or session.current().is_busy(folder):
        folder, number = parent / f"{name}_{number}", number + 1
    return folder


def start_job(context: bpy.types.Context, request: JobRequest, python: Path) -> session.Entry:
    """Put a job behind the others and see to it that it is followed. Raises JobError."""
    job = Job(request.output)
    target = driver.Target(bpy.data.filepath, context.scene.name, context.scene.nextgenface.auto_import)
    entry = session.Entry(job, starter(job, request, python), target, runs_on=request.parent_pid is None)
    session.current().add(entry, request)
    driver.known_jobs().remember(job.folder)
    driver.watch()
    driver.scan()
    return entry


def starter(job: Job, request: JobRequest, python: Path) -> Callable[[], None]:
    """What starts the job when its turn comes."""
    return lambda: job.start(request, python, solver_folder())


class NEXTGENFACE_OT_cancel(NextGenFaceOperator, bpy.types.Operator):
    """Stop the running job after its current step; the checkpoints of finished stages are kept"""

    bl_idname = "nextgenface.cancel"
    bl_label = "Cancel"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        now = session.current()
        if not now.running:
            return "No reconstruction is running"
        if now.job is not None and now.job.cancelling:
            return "It stops after the current step"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        job = session.current().job
        if job is not None:
            job.cancel()
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_run, NEXTGENFACE_OT_cancel)
