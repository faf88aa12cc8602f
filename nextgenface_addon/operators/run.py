"""Running the solver from the panel.

An application timer follows the job instead of a modal operator: a modal operator would keep Blender from
saving automatically for as long as it runs. Without a window there are no timers, so there the operator
waits.
"""

# mypy: disable-error-code="valid-type"

import os
from pathlib import Path

import bpy

from .. import session
from ..jobs import Job, JobError, JobRequest, JobStatus
from ..preferences import solver_python
from ..solver_python import SolverPythonError, find_solver_python, solver_folder

POLL_SECONDS = 0.2


def output_folder(settings: bpy.types.PropertyGroup) -> Path:
    """The folder that results go into: the chosen one, else beside the .blend, else beside the first
    photo.
    """
    if settings.output:
        return Path(bpy.path.abspath(settings.output))
    if bpy.data.filepath:
        return Path(bpy.data.filepath).parent / "nextgenface"
    return Path(bpy.path.abspath(settings.photos[0].path)).parent / "nextgenface"


class NEXTGENFACE_OT_run(bpy.types.Operator):
    """Reconstruct a head from the photos; Blender can be used meanwhile"""

    bl_idname = "nextgenface.run"
    bl_label = "Reconstruct"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.current().running:
            cls.poll_message_set("A reconstruction is running")
            return False
        if not context.scene.nextgenface.photos:
            cls.poll_message_set("Add at least one photo first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        photos = [Path(bpy.path.abspath(photo.path)) for photo in settings.photos]
        for photo in photos:
            if not photo.is_file():
                self.report(
                    {"ERROR"}, f"The photo {photo} does not exist. Remove it from the list or put it back."
                )
                return {"CANCELLED"}
        folder = output_folder(settings) / photos[0].stem
        request = JobRequest(
            input=photos,
            output=folder,
            config=Path(bpy.path.abspath(settings.config)) if settings.config else None,
            shared_identity=settings.shared_identity and len(photos) > 1,
            parent_pid=os.getpid(),
        )
        job = Job(folder)
        try:
            job.start(request, find_solver_python(preference=solver_python(context)), solver_folder())
        except (JobError, SolverPythonError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        now = session.current()
        now.job, now.scene_name, now.blend_path, now.message = job, context.scene.name, bpy.data.filepath, ""
        if not bpy.app.background:
            bpy.app.timers.register(follow, first_interval=POLL_SECONDS, persistent=True)
            return {"FINISHED"}
        status = job.wait()
        if status.state != "finished":
            self.report({"ERROR"}, status.error or status.text())
            return {"CANCELLED"}
        _import(status)
        return {"FINISHED"}


class NEXTGENFACE_OT_cancel(bpy.types.Operator):
    """Stop the reconstruction after the current step; the last checkpoint is kept"""

    bl_idname = "nextgenface.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not session.current().running:
            cls.poll_message_set("No reconstruction is running")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = session.current().job
        if job is not None:
            job.cancel()
        return {"FINISHED"}


class NEXTGENFACE_OT_open_folder(bpy.types.Operator):
    """Show the folder with the results"""

    bl_idname = "nextgenface.open_folder"
    bl_label = "Open Folder"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if session.current().job is None:
            cls.poll_message_set("There is no result yet")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = session.current().job
        if job is not None:
            bpy.ops.wm.path_open(filepath=str(job.folder))
        return {"FINISHED"}


def follow() -> float | None:
    """The timer: reads new events, redraws when something changed, imports the finished result."""
    now = session.current()
    if now.job is None:
        return None
    before = now.job.status
    status = now.job.poll()
    if status != before:
        redraw()
    if not status.done:
        return POLL_SECONDS
    if status.state == "finished":
        now.message = _import_from_timer(status)
    elif status.state == "failed":
        now.message = status.error
    redraw()
    return None


def _import_from_timer(status: JobStatus) -> str:
    """Import into the scene that the job was started from; returns what is to be said."""
    now = session.current()
    if bpy.data.filepath != now.blend_path or now.scene_name not in bpy.data.scenes:
        return f"Finished. Another file is open now; import {now.job and now.job.folder} where you want it."
    window = next((w for w in bpy.context.window_manager.windows if w.scene.name == now.scene_name), None)
    if window is None:
        return "Finished. The scene is not shown in any window; use Import Result."
    try:
        with bpy.context.temp_override(window=window):
            _import(status)
    except RuntimeError as error:  # the operator's error report
        return str(error)
    return ""


def _import(status: JobStatus) -> None:
    assert status.result is not None
    settings = bpy.context.scene.nextgenface
    bpy.ops.nextgenface.import_result(
        "EXEC_DEFAULT",
        True,  # with an undo step of its own
        directory=str(status.result.parent),
        pack=settings.pack,
        takeover=settings.takeover,
        show_world=settings.show_world,
    )


def redraw() -> None:
    """Redraw the sidebars."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def unregister() -> None:
    """The timer does not outlive the add-on."""
    if bpy.app.timers.is_registered(follow):
        bpy.app.timers.unregister(follow)


CLASSES = (NEXTGENFACE_OT_run, NEXTGENFACE_OT_cancel, NEXTGENFACE_OT_open_folder)
