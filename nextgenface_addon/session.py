"""The jobs that this Blender drives, one after the other, and those it knows of. No bpy in here.

Kept outside the .blend's data on purpose: undo and file loading replace Blender's data, a process goes on.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .job_events import JobStatus
from .job_list import FoundJob
from .jobs import Job, JobError, JobRequest


@dataclass
class Entry:
    """One job, how it is started, and where its result is to go. `start` is None for an attached job.

    `target`: what the add-on keeps with the job to find the scene again (see `driver`). `message`: what is to
    be said once it has ended. `checkpoints`: the stages that can be imported on their own then.
    """

    job: Job
    start: Callable[[], None] | None = None
    target: object = None
    runs_on: bool = False
    message: str = ""
    checkpoints: tuple[int, ...] = ()


@dataclass
class Session:
    """`entry` is the job that runs or ran last, `waiting` are those behind it, `found` what is on disk,
    `selected` the one whose details the list shows.
    """

    entry: Entry | None = None
    waiting: list[Entry] = field(default_factory=list)
    found: list[FoundJob] = field(default_factory=list)
    selected: Path | None = None

    @property
    def job(self) -> Job | None:
        return self.entry.job if self.entry is not None else None

    @property
    def running(self) -> bool:
        return self.job is not None and not self.job.status.done and self.job.pid is not None

    @property
    def status(self) -> JobStatus:
        return self.job.status if self.job is not None else JobStatus()

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return self.entry.checkpoints if self.entry is not None else ()

    @property
    def message(self) -> str:
        return self.entry.message if self.entry is not None else ""

    def is_busy(self, folder: Path) -> bool:
        """Whether a job runs or waits in a folder."""
        running = self.running and self.job is not None and self.job.folder == folder
        return running or any(entry.job.folder == folder for entry in self.waiting)

    def add(self, entry: Entry, request: JobRequest) -> None:
        """Put a job behind the others; it starts at once when nothing runs. Raises JobError."""
        entry.job.prepare(request)
        self.waiting.append(entry)
        if not self.running:
            self.start_next()

    def start_next(self) -> None:
        """Start the first waiting job. Raises JobError; then that job has failed and the next may start."""
        if not self.waiting:
            return
        self.entry = self.waiting.pop(0)
        assert self.entry.start is not None
        try:
            self.entry.start()
        except JobError as problem:
            self.entry.job.status = JobStatus(state="failed", error=str(problem), kind="JobError")
            raise

    def follow(self, job: Job) -> bool:
        """Follow a job that an earlier Blender started, while none of ours runs; False when it has ended."""
        if self.running or not job.attach():
            return False
        self.entry = Entry(job, runs_on=True)
        return True

    def drop(self, folder: Path) -> bool:
        """Take a waiting job off the queue; its job.json stays. False when none waits in that folder."""
        kept = [entry for entry in self.waiting if entry.job.folder != folder]
        found = len(kept) < len(self.waiting)
        self.waiting = kept
        return found

    def shut_down(self) -> None:
        """Ask a running solver to stop, unless it is to run on; its last checkpoint stays. Does not wait."""
        self.waiting.clear()
        if self.entry is not None and not self.entry.runs_on:
            self.entry.job.cancel()

    def listed(self) -> list[FoundJob]:
        """All jobs as the panel lists them: what is on disk, and newer word of this Blender's."""
        live: dict[Path, JobStatus] = {entry.job.folder: entry.job.status for entry in self.waiting}
        if self.job is not None:
            live[self.job.folder] = self.job.status
        rows = []
        for found in self.found:
            status = live.pop(found.folder, None)
            rows.append(found if status is None else replace(found, status=status, state=status.state))
        fresh = [FoundJob(folder, status.state, None, status) for folder, status in live.items()]
        return [*fresh, *rows]


_session = Session()


def current() -> Session:
    """The session of this process."""
    return _session


def shut_down() -> None:
    """Called when the add-on is disabled and when Blender ends."""
    _session.shut_down()


# The solver also watches its parent's process id; this is the quicker way when Blender closes normally.
atexit.register(shut_down)
