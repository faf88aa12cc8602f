"""Finds jobs again: running, stopped, finished and broken ones, from their folders alone. No bpy in here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .child import PROCESS_FILE, read_json, running_pid, write_json
from .job_events import RESULT_FILE, EventReader, JobStatus, State, apply_event
from .jobs import JOB_FILE, checkpoints, explain_exit

MOST_REMEMBERED = 40
TAIL_BYTES = 1 << 16
"""So much of an event file is read when a job is only listed; its last words are what counts."""


@dataclass(frozen=True)
class FoundJob:
    """A job folder as found on disk. `method` is what its job.json names, `checkpoints` the stages that
    left one.
    """

    folder: Path
    state: State
    pid: int | None
    status: JobStatus
    method: str = "face"
    time: float = 0.0
    checkpoints: tuple[int, ...] = ()


def describe_job(folder: Path) -> FoundJob | None:
    """What stands in a folder, from its files alone; None when it is no job folder."""
    folder = Path(folder)
    job_file = folder / JOB_FILE
    try:
        time = job_file.stat().st_mtime
    except OSError:
        return None
    request = read_json(job_file)
    if not request:
        text = f"{job_file} cannot be read."
        return FoundJob(folder, "broken", None, JobStatus(state="broken", error=text), time=time)
    status = JobStatus()
    for event in _last_events(folder):
        status = apply_event(status, event, folder)
    record = read_json(folder / PROCESS_FILE)
    pid = running_pid(folder)
    state: State
    if pid is not None:
        state = "running"
    elif record.get("state") == "cancelled":
        state = "cancelled"
    elif record.get("state") == "failed":
        state = "failed"
        status = replace(status, error=status.error or explain_exit(record.get("exit_code"), folder))
    elif (status.result or folder / RESULT_FILE).is_file():
        state = "finished"  # also a results folder that came without its process record
        status = replace(status, result=status.result or folder / RESULT_FILE)
    elif not record:
        state = "created"
    elif status.kind == "Cancelled":
        state = "cancelled"
    else:
        state = "failed" if status.error else "stopped"
    if state in ("cancelled", "stopped"):
        status = replace(status, error="")
    method = request.get("method")
    method = method if isinstance(method, str) else "face"
    stages = checkpoints(folder)
    return FoundJob(folder, state, pid, replace(status, state=state), method, time, stages)


def _last_events(folder: Path) -> list[dict[str, object]]:
    reader = EventReader(folder / "events.jsonl")
    reader.skip_to_last(TAIL_BYTES)
    return reader.read(limit=None)


def find_jobs(folder: Path) -> list[FoundJob]:
    """The jobs in a folder and its direct sub-folders, newest first."""
    folder = Path(folder)
    try:
        candidates = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    except OSError:
        return []
    return describe_jobs(candidates)


def describe_jobs(folders: Iterable[Path]) -> list[FoundJob]:
    """What stands in these folders, newest first; folders without a job are left out."""
    found = [job for job in map(describe_job, dict.fromkeys(folders)) if job is not None]
    return sorted(found, key=lambda job: job.time, reverse=True)


class KnownJobs:
    """The folders of the jobs that were started on this computer, newest first, kept in one small file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folders(self) -> list[Path]:
        """The remembered folders; empty when nothing was remembered or the file is damaged."""
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [Path(item) for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def remember(self, folder: Path) -> None:
        """Put a folder first. Forgetting it would cost the user a file dialog, so a full disk is no error."""
        self._write([folder, *(item for item in self.folders() if item != folder)])

    def forget(self, folder: Path) -> None:
        """Take a folder off the list; its files stay."""
        self._write([item for item in self.folders() if item != folder])

    def _write(self, folders: list[Path]) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, [str(folder) for folder in folders[:MOST_REMEMBERED]])
