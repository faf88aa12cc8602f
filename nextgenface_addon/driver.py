"""Follows the jobs while Blender is used: reads their events, shows previews, imports what is finished.

An application timer does it instead of a modal operator: a modal operator would keep Blender from saving
automatically for as long as it runs. Without a window there are no timers, so there `wait` blocks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.app.handlers import persistent
from bpy.app.translations import pgettext_rpt as rpt_

from . import session, thumbnails
from .job_events import JobStatus
from .job_list import KnownJobs, describe_jobs, find_jobs
from .jobs import Job, JobError, checkpoints
from .thumbnails import redraw
from .user_folders import user_folder

POLL_SECONDS = 0.2
QUICK_SECONDS = 0.02
"""Pause between two reads while events come faster than they are read."""

SCAN_DELAY = 0.5

log = logging.getLogger(__name__)

_scans: list[object] = []
"""One entry for each look for jobs that is under way, the newest last."""


@dataclass(frozen=True)
class Target:
    """The file and scene that a job was started from, and whether its result is imported by itself."""

    blend_path: str
    scene_name: str
    auto_import: bool


def known_jobs() -> KnownJobs:
    """The jobs remembered on this computer."""
    return KnownJobs(user_folder() / "jobs.json")


def windowless() -> bool:
    """Whether there is no window, and so no timers: then operators wait for what they have started."""
    return bool(bpy.app.background)


def watch() -> None:
    """See to it that the timer runs."""
    if not windowless() and not bpy.app.timers.is_registered(follow):
        bpy.app.timers.register(follow, first_interval=POLL_SECONDS, persistent=True)


def follow() -> float | None:
    """The timer: one look at the running job. Ends when nothing runs or waits."""
    try:
        return step()
    except Exception:  # a timer that raises is gone for good, and with it the job's progress
        log.exception("following a job failed")
        return 1.0


def step() -> float | None:
    """Read what the job has written; import it when it has finished and start the next one."""
    now = session.current()
    entry = now.entry
    if entry is None:
        return None
    before = entry.job.status
    status = entry.job.poll()
    if status != before:
        thumbnails.show_live(str(entry.job.folder), status.preview, status.preview_number)
        redraw()
    if not status.done:
        return POLL_SECONDS if entry.job.events.caught_up else QUICK_SECONDS
    if not before.done:
        entry.message = ended(entry)
        scan()
    if now.waiting:
        start_next()
        return POLL_SECONDS
    redraw()
    return None


def start_next() -> None:
    """Start the next waiting job that can be started."""
    now = session.current()
    while now.waiting:
        try:
            now.start_next()
            return
        except JobError as problem:
            log.error("%s", problem)
            if now.entry is not None:
                now.entry.message = str(problem)


def ended(entry: session.Entry) -> str:
    """Import a finished result where it belongs; returns what is to be said."""
    status, target = entry.job.status, entry.target
    entry.checkpoints = checkpoints(entry.job.folder)
    if status.state != "finished" or not isinstance(target, Target) or not target.auto_import:
        return ""
    if bpy.data.filepath != target.blend_path or target.scene_name not in bpy.data.scenes:
        return rpt_("Finished. Another file is open now; import the result where you want it")
    if windowless():
        return import_finished(status)
    windows = bpy.context.window_manager.windows
    window = next((w for w in windows if w.scene.name == target.scene_name), None)
    if window is None:
        return rpt_("Finished. The scene is not shown in any window; press Import")
    with bpy.context.temp_override(window=window):
        return import_finished(status)


def import_finished(status: JobStatus) -> str:
    """Import a result with an undo step of its own; returns what went wrong, or nothing."""
    assert status.result is not None
    try:
        import_folder(bpy.context, status.result.parent)
    except RuntimeError as error:  # the operator's error report
        return str(error).strip().removeprefix("Error: ")
    return ""


def import_folder(context: bpy.types.Context, folder: Path) -> None:
    """Run the import operator with the scene's own choices. Raises RuntimeError with its error report."""
    settings = context.scene.nextgenface
    bpy.ops.nextgenface.import_result(
        "EXEC_DEFAULT",
        True,
        directory=str(folder),
        pack=settings.pack,
        takeover=settings.takeover,
        show_world=settings.show_world,
    )


def wait(say: Callable[[JobStatus], None] | None = None) -> list[tuple[Job, JobStatus]]:
    """Block until the running and the waiting jobs have ended; returns how each of them did."""
    now = session.current()
    done = []
    while now.entry is not None:
        entry = now.entry
        if not entry.job.status.done:
            entry.job.wait(say)
            entry.message = ended(entry)
        done.append((entry.job, entry.job.status))
        if not now.waiting:
            break
        start_next()
    return done


def scan(extra: Path | None = None) -> None:
    """Look for jobs on disk: those remembered, and those in one more folder. In a thread: drives sleep."""
    _scans.append(object())
    arguments = (known_jobs().folders(), extra, _scans[-1])
    if windowless():
        _find(*arguments)
        return
    threading.Thread(target=_find, args=arguments, daemon=True).start()
    if not bpy.app.timers.is_registered(_show_found):
        bpy.app.timers.register(_show_found, first_interval=SCAN_DELAY, persistent=True)


def _find(folders: list[Path], extra: Path | None, scan: object) -> None:
    beside = [job.folder for job in find_jobs(extra)] if extra is not None else []
    found = describe_jobs([*folders, *beside])
    if _scans[-1] is scan:  # else a newer look is under way, which must not be overwritten
        session.current().found = found
        _scans[:] = [scan]


def _show_found() -> float | None:
    """After a scan: follow a job that an earlier Blender left running, and show the list."""
    now = session.current()
    if not now.running:
        for found in now.found:
            if found.state == "running" and now.follow(Job(found.folder)):
                watch()
                break
    redraw()
    return None


@persistent
def on_file_loaded(*_: object) -> None:
    """A file's own results are listed as well."""
    scan(Path(bpy.data.filepath).parent / "nextgenface" if bpy.data.filepath else None)


@persistent
def on_exit(*_: object) -> None:
    """Blender ends: `atexit` comes too late for some builds."""
    session.shut_down()


def register() -> None:
    bpy.app.handlers.load_post.append(on_file_loaded)
    if hasattr(bpy.app.handlers, "exit_pre"):  # from 5.2
        bpy.app.handlers.exit_pre.append(on_exit)
    if not windowless():  # the context is not complete yet while add-ons are enabled
        bpy.app.timers.register(on_file_loaded, first_interval=1.0)


def unregister() -> None:
    for timer in (follow, _show_found, on_file_loaded):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    bpy.app.handlers.load_post.remove(on_file_loaded)
    if hasattr(bpy.app.handlers, "exit_pre"):
        bpy.app.handlers.exit_pre.remove(on_exit)
    session.current().found = []


CLASSES = ()
