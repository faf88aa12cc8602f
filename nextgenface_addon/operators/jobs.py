"""What can be done with a job of the list: import, resume, look at its folder and log, forget it."""

# mypy: disable-error-code="valid-type"

import os
from dataclasses import replace
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver, session
from ..child import CONSOLE_FILE
from ..job_list import FoundJob, describe_job
from ..jobs import LOG_FILE, Job, JobError, resume_request
from ..preferences import preferences, solver_python
from ..reports import tail
from .base import NextGenFaceOperator, blender_facts, save_report
from .run import start_job


class JobOperator(NextGenFaceOperator):
    """An operator on the job in `folder`; without one, on the job that ran last."""

    folder: bpy.props.StringProperty(
        name="Folder", description="The job's folder", subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"}
    )

    def job(self) -> FoundJob:
        """The job as it stands on disk. Raises JobError."""
        folder = Path(self.folder) if self.folder else self.last_folder()
        found = describe_job(folder)
        if found is None:
            raise JobError(rpt_("There is no job in {folder} any more.").format(folder=folder))
        return found

    @staticmethod
    def last_folder() -> Path:
        """The folder of the job that ran last. Raises JobError."""
        job = session.current().job
        if job is None:
            raise JobError(rpt_("No job has run yet."))
        return job.folder


class NEXTGENFACE_OT_import_job(JobOperator, bpy.types.Operator):
    """Bring the job's result into the scene, or update what an earlier import of it made"""

    bl_idname = "nextgenface.import_job"
    bl_label = "Import"

    def work(self, context: bpy.types.Context) -> set[str]:
        found = self.job()
        if found.status.result is None or not found.status.result.is_file():
            raise JobError(rpt_("The job in {folder} has no result yet.").format(folder=found.folder))
        message = driver.import_finished(found.status)
        if message:
            raise JobError(message)
        entry = session.current().entry
        if entry is not None and entry.job.folder == found.folder:
            entry.message = ""
        return {"FINISHED"}


class NEXTGENFACE_OT_resume_job(JobOperator, bpy.types.Operator):
    """Go on where the job stopped: after its last finished stage, with the settings it was started with"""

    bl_idname = "nextgenface.resume_job"
    bl_label = "Resume"

    def work(self, context: bpy.types.Context) -> set[str]:
        found = self.job()
        if found.state == "running" or session.current().is_busy(found.folder):
            raise JobError(rpt_("The job in {folder} is running.").format(folder=found.folder))
        chosen = preferences(context)
        python = solver_python(context)
        parent = None if chosen.on_close == "RUN_ON" else os.getpid()
        entry = start_job(context, replace(resume_request(found.folder), parent_pid=parent), python)
        if driver.windowless():
            driver.wait()
            if entry.job.status.state != "finished":
                raise JobError(entry.job.status.error or entry.job.status.text())
        return {"FINISHED"}


class NEXTGENFACE_OT_cancel_job(JobOperator, bpy.types.Operator):
    """Stop the job, or take it off the queue"""

    bl_idname = "nextgenface.cancel_job"
    bl_label = "Cancel"

    def work(self, context: bpy.types.Context) -> set[str]:
        now = session.current()
        folder = Path(self.folder) if self.folder else self.last_folder()
        if not now.drop(folder):
            job = now.job if now.job is not None and now.job.folder == folder else Job(folder)
            if job is now.job or job.attach():  # one that runs on while another is followed here
                job.cancel()
        driver.scan()
        return {"FINISHED"}


class NEXTGENFACE_OT_forget_job(JobOperator, bpy.types.Operator):
    """Take the job off this list; its folder stays as it is"""

    bl_idname = "nextgenface.forget_job"
    bl_label = "Forget"

    def work(self, context: bpy.types.Context) -> set[str]:
        folder = Path(self.folder) if self.folder else self.last_folder()
        now = session.current()
        if now.is_busy(folder):
            raise JobError(rpt_("The job in {folder} is running. Cancel it first.").format(folder=folder))
        driver.known_jobs().forget(folder)
        now.found = [job for job in now.found if job.folder != folder]
        if now.job is not None and now.job.folder == folder:
            now.entry = None
        return {"FINISHED"}


class NEXTGENFACE_OT_show_job(JobOperator, bpy.types.Operator):
    """Show or hide what can be done with this job"""

    bl_idname = "nextgenface.show_job"
    bl_label = "Details"

    def work(self, context: bpy.types.Context) -> set[str]:
        now, folder = session.current(), Path(self.folder)
        now.selected = None if now.selected == folder else folder
        return {"FINISHED"}


class NEXTGENFACE_OT_refresh_jobs(NextGenFaceOperator, bpy.types.Operator):
    """Look again which jobs are there"""

    bl_idname = "nextgenface.refresh_jobs"
    bl_label = "Refresh Jobs"

    def work(self, context: bpy.types.Context) -> set[str]:
        driver.on_file_loaded()
        return {"FINISHED"}


class NEXTGENFACE_OT_open_folder(JobOperator, bpy.types.Operator):
    """Show the job's folder in the system's file manager"""

    bl_idname = "nextgenface.open_folder"
    bl_label = "Open Folder"

    def work(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.wm.path_open(filepath=str(self.job().folder))
        return {"FINISHED"}


class NEXTGENFACE_OT_open_log(JobOperator, bpy.types.Operator):
    """Show what the solver has said, in Blender's text editor"""

    bl_idname = "nextgenface.open_log"
    bl_label = "Open Log"

    def work(self, context: bpy.types.Context) -> set[str]:
        folder = self.job().folder
        said = [tail(folder / name, 200_000) for name in (CONSOLE_FILE, LOG_FILE)]
        show_text(context, f"{folder.name}.log", "\n".join(part for part in said if part) or "-")
        return {"FINISHED"}


class NEXTGENFACE_OT_write_report(JobOperator, bpy.types.Operator):
    """Write one text file with the job's settings, logs and versions, to be sent with a question or a bug
    report"""

    bl_idname = "nextgenface.write_report"
    bl_label = "Write Report"

    def work(self, context: bpy.types.Context) -> set[str]:
        found = self.job()
        title = f"NextGenFace: the job {found.folder.name} {found.state}"
        path = save_report(title, blender_facts(), found.status.error, found.folder)
        if path is None:
            raise JobError(rpt_("The report could not be written. Is the disk full?"))
        context.window_manager.clipboard = str(path)
        self.report({"INFO"}, rpt_("Written to {path}; the path is in the clipboard").format(path=path))
        return {"FINISHED"}


def show_text(context: bpy.types.Context, name: str, content: str) -> None:
    """Put a text into a text block and, where there is a window, show it in one of its own."""
    text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
    text.clear()
    text.write(content)
    text.cursor_set(0)
    if bpy.app.background or context.window is None:
        return
    bpy.ops.wm.window_new()
    area = context.window_manager.windows[-1].screen.areas[0]
    area.type = "TEXT_EDITOR"
    area.spaces.active.text = text


CLASSES = (
    NEXTGENFACE_OT_import_job,
    NEXTGENFACE_OT_resume_job,
    NEXTGENFACE_OT_cancel_job,
    NEXTGENFACE_OT_forget_job,
    NEXTGENFACE_OT_show_job,
    NEXTGENFACE_OT_refresh_jobs,
    NEXTGENFACE_OT_open_folder,
    NEXTGENFACE_OT_open_log,
    NEXTGENFACE_OT_write_report,
)
