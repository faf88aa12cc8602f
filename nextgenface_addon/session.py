"""The one job this Blender is driving. No bpy in here.

Kept outside the .blend's data on purpose: undo and file loading replace Blender's data, a process goes on.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass

from .jobs import Job, JobStatus


@dataclass
class Session:
    """The job being driven, and where its result is to go."""

    job: Job | None = None
    scene_name: str = ""
    blend_path: str = ""
    message: str = ""

    @property
    def running(self) -> bool:
        return self.job is not None and not self.job.status.done

    @property
    def status(self) -> JobStatus:
        return self.job.status if self.job is not None else JobStatus()


_session = Session()


def current() -> Session:
    """The session of this process."""
    return _session


def shut_down() -> None:
    """Ask a running solver to stop; it keeps its last checkpoint. Does not wait."""
    if _session.job is not None:
        _session.job.cancel()


# The solver also watches its parent's process id; this is the quicker way when Blender closes normally.
atexit.register(shut_down)
