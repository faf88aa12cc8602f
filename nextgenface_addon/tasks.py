"""Small child processes beside the jobs: the installer, the doctor, the search for faces."""

from __future__ import annotations

import logging
from collections.abc import Callable

import bpy

from . import driver
from .child import Child
from .thumbnails import redraw

POLL_SECONDS = 0.2

log = logging.getLogger(__name__)

Done = Callable[[], None]

_tasks: dict[str, tuple[Child, Done]] = {}


def get(name: str) -> Child | None:
    """The task of that name that runs or ran last. For draw()."""
    found = _tasks.get(name)
    return found[0] if found is not None else None


def running(name: str) -> bool:
    """Whether the task of that name runs."""
    child = get(name)
    return child is not None and not child.status.done


def run(name: str, child: Child, done: Done) -> None:
    """Follow a task that has been started; `done` is called in Blender's main thread when it has ended.

    Without a window this blocks until then.
    """
    _tasks[name] = (child, done)
    if driver.windowless():
        child.wait()
        done()
    elif not bpy.app.timers.is_registered(follow):
        bpy.app.timers.register(follow, first_interval=POLL_SECONDS, persistent=True)


def follow() -> float | None:
    """The timer: looks at all tasks, and ends with the last of them."""
    open_tasks = [(child, done) for child, done in _tasks.values() if not child.status.done]
    for child, done in open_tasks:
        before = child.status
        if child.poll() != before:
            redraw()
        if child.status.done:
            try:
                done()
            except Exception:  # a timer that raises is gone for good, and the other tasks with it
                log.exception("finishing a task failed")
            redraw()
    # All are asked again: `done` may have started another one, which found this timer still registered.
    return POLL_SECONDS if any(running(name) for name in _tasks) else None


def unregister() -> None:
    """Nothing goes on when the add-on is disabled; an installation is cancelled."""
    if bpy.app.timers.is_registered(follow):
        bpy.app.timers.unregister(follow)
    for child, _ in _tasks.values():
        child.cancel()
    _tasks.clear()


CLASSES = ()
