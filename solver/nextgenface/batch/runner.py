"""The work on one subject, wherever it is done: attempts, resuming, and the record in its folder."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import Cancelled, NextGenFaceError
from ..files import output_error, write_text
from ..job import STOP_FILE
from . import lease
from .child import CONSOLE_FILE, EVENTS_FILE, LOG_FILE, Child, End, Stop, disk_is_full, end_orphan
from .records import (
    RECORD_FILE,
    RESULT_FILE,
    THUMBNAIL,
    Record,
    Task,
    as_json,
    read_json,
    read_record,
    write_record,
)
from .thumbnail import write_thumbnail

MOST_ATTEMPTS = 2
"""In one run of the batch: a worker that is killed gets one more try."""

LEASE_FILE = "working.json"
JOB_FILE = "job.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """What a worker offers a job: CPU threads (0: as the job chooses) and variables of its environment."""

    threads: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def run_subject(task: Task, place: Place, stop: Stop) -> Record:
    """Work on one subject until it is finished, has failed, or a stop is asked for. Never raises.

    The folder is held meanwhile: where two workers are given the same subject (a cluster that takes a slow
    worker for a dead one), the second waits and takes over what the first has done.
    """
    if stop.requested:
        return Record(run=task.run)
    try:
        if not (task.folder / RECORD_FILE).is_file():
            return _failed(
                task,
                f"{socket.gethostname()} does not see {task.folder}. Photos and --output must be on a disk "
                "that all workers share, under the same path.",
                "OutputError",
            )
        with lease.held(task.folder / LEASE_FILE, wait=True, cancelled=lambda: stop.requested):
            return _work(task, place, stop)
    except Cancelled:
        return Record(run=task.run)
    except NextGenFaceError as problem:
        if disk_is_full(task.folder):
            return Record("stopped", str(problem), "DiskFull", run=task.run)
        return _failed(task, str(problem), type(problem).__name__)
    except Exception as problem:  # a fault of ours must not take the other subjects along
        log.exception("%s", task.name)
        return _failed(task, f"{type(problem).__name__}: {problem}", type(problem).__name__)


def _failed(task: Task, text: str, kind: str) -> Record:
    return Record("failed", text, kind, run=task.run, photo_facts=task.photo_facts, settings=task.settings)


def _work(task: Task, place: Place, stop: Stop) -> Record:
    before = read_record(task.folder)
    if before.is_finished(task) or (before.run == task.run and before.state == "failed"):
        return before  # another worker has done it, and its answer was lost
    if before.host == socket.gethostname() and before.state == "running":
        end_orphan(before.child, task.folder)
    begun = before.same_photos(task) and before.settings == task.settings
    if not begun:
        _clear(task.folder)
    (task.folder / STOP_FILE).unlink(missing_ok=True)  # it was meant for an earlier run
    record = Record(
        "running",
        attempts=before.attempts if before.run == task.run else 0,
        seconds=before.seconds if begun else 0.0,
        run=task.run,
        settings=task.settings,
        photo_facts=task.photo_facts,
        host=socket.gethostname(),
    )
    end = End(
        "failed", f"The worker was lost {MOST_ATTEMPTS} times while it worked on this subject.", "Crash"
    )
    from_checkpoint = True
    while record.attempts < MOST_ATTEMPTS and not stop.requested:
        if disk_is_full(task.folder):
            end = End("stopped", f"The disk that holds {task.folder} is full.", "DiskFull")
            break
        record = replace(record, attempts=record.attempts + 1)
        resumed = _write_job(task, place, from_checkpoint)
        started = time.monotonic()
        end, record = _attempt(task, place, stop, record)
        record = replace(record, seconds=round(record.seconds + time.monotonic() - started, 3))
        if end.kind == "CheckpointError" and resumed:
            log.warning("%s: %s Starting from the photo.", task.name, end.error)
            from_checkpoint = False
            record = replace(record, attempts=record.attempts - 1)
        elif not end.crashed:
            break
    else:
        if stop.requested:
            end = End("stopped")
    if end.crashed:
        end = replace(end, error=f"{end.error} It was tried {record.attempts} times.")
    record = replace(record, state=end.state, error=end.error, kind=end.kind, child=0)
    if record.state == "finished":
        record = replace(record, warnings=_thumbnail(task.folder))
    write_record(task.folder, record)
    return record


def _attempt(task: Task, place: Place, stop: Stop, record: Record) -> tuple[End, Record]:
    """Run the job once; returns how it ended, and the record as it was written at its start."""
    write_record(task.folder, record)
    child = Child(task.folder, task.command, place.environment)
    try:
        record = replace(record, child=child.start())
    except OSError as problem:
        raise output_error(task.folder / CONSOLE_FILE, problem) from problem
    try:
        write_record(task.folder, record)
    except NextGenFaceError:
        log.warning("%s: the record could not be written; going on", task.name)
    return child.wait(stop, task.stall_seconds), record


def _clear(folder: Path) -> None:
    """Remove what was made from other photos or with other settings, so that nobody takes it for new."""
    for name in (RESULT_FILE, THUMBNAIL, EVENTS_FILE, LOG_FILE, CONSOLE_FILE):
        with suppress(OSError):
            (folder / name).unlink()
    for _, path in checkpoints(folder):
        with suppress(OSError):
            path.unlink()


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Stage and path of the checkpoints in a results folder, in the order of the stages."""
    return sorted(
        (int(match.group(1)), path)
        for path in folder.glob("checkpoints/stage*_output.pickle")
        if (match := re.fullmatch(r"stage(\d)_output", path.stem))
    )


def _write_job(task: Task, place: Place, from_checkpoint: bool) -> bool:
    """Write job.json; True when the job goes on from a checkpoint. Raises OutputError."""
    settings = dict(task.set)
    if place.threads and not task.threads_chosen:
        settings["threads"] = str(place.threads)
    job: dict[str, Any] = {
        "schema": 1,
        "method": "face",
        "input": [str(photo) for photo in task.photos],
        "output": ".",
        "config": str(task.config) if task.config else None,
        "set": settings,
        "sharedIdentity": task.shared,
        "parent_pid": os.getpid(),
    }
    last = checkpoints(task.folder)[-1:] if from_checkpoint else []
    for stage, path in last:
        job |= {"checkpoint": str(path.relative_to(task.folder)), "skip": list(range(1, stage + 1))}
    write_text(task.folder / JOB_FILE, as_json(job))
    return bool(last)


def _thumbnail(folder: Path) -> tuple[str, ...]:
    """Draw the picture for the contact sheet; what stands in the way is a warning."""
    try:
        write_thumbnail(folder, read_json(folder / RESULT_FILE))
    except (NextGenFaceError, OSError, ValueError, TypeError, LookupError) as problem:
        return (f"There is no picture for the contact sheet: {problem}",)
    return ()
