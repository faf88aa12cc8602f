"""Client of a job folder: starts, follows and cancels the solver, finds jobs again. No bpy in here.

The solver is a child process with its own Python. What it is to do stands in `job.json`; what it does it
writes to `events.jsonl`, one JSON object a line; it has finished when `result.json` is there. Nothing else
passes between the two, so the same code serves Blender's window, headless Blender and a reopened file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .job_events import MAX_BYTES_PER_POLL, RESULT_FILE, EventReader, JobStatus, State, apply_event
from .problems import AddonProblem
from .processes import interrupt, process_alive, process_start_time

__all__ = (
    "EventReader",
    "FoundJob",
    "Job",
    "JobError",
    "JobRequest",
    "JobStatus",
    "describe_job",
    "find_jobs",
)

JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
PROCESS_FILE = "process.json"
CONSOLE_FILE = "console.log"

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130


class JobError(AddonProblem):
    """A job cannot be started; the message says why."""


@dataclass(frozen=True)
class JobRequest:
    """What the solver is asked to do; the content of `job.json` (schema 1)."""

    input: Sequence[Path]
    output: Path
    config: Path | None = None
    set: Mapping[str, object] = field(default_factory=dict)
    shared_identity: bool = False
    checkpoint: Path | None = None
    skip: Sequence[int] = ()
    face: int = 0
    parent_pid: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "input": [str(path) for path in self.input],
            "output": str(self.output),
            "config": str(self.config) if self.config else None,
            "set": dict(self.set),
            "sharedIdentity": self.shared_identity,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "skip": list(self.skip),
            "face": self.face,
            "parent_pid": self.parent_pid,
        }


def write_json(path: Path, value: object) -> None:
    """Write to a temporary name and rename, so that a reader never sees half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _tail(path: Path, size: int = 4000) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def solver_environment(solver_path: Path | None) -> dict[str, str]:
    """The child's environment: ours, plus the solver's source on PYTHONPATH when it is not pip-installed."""
    environment = dict(os.environ)
    environment.pop("PYTHONHOME", None)  # would point the solver's Python at Blender's library
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    if solver_path is not None:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(solver_path) + (os.pathsep + before if before else "")
    return environment


class Job:
    """A solver process and its folder. `start()`, then `poll()` until `status.done`, or `wait()`."""

    def __init__(
        self,
        folder: Path,
        *,
        cancel_grace: float = 20.0,
        terminate_grace: float = 5.0,
    ) -> None:
        self.folder = Path(folder)
        self.status = JobStatus()
        self._cancel_grace = cancel_grace
        self._terminate_grace = terminate_grace
        self._events = EventReader(self.folder / EVENTS_FILE)
        self._process: subprocess.Popen[bytes] | None = None
        self._cancel_times: list[float] = []  # when each rung of the ladder was stepped on

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, request: JobRequest, python: Path, solver_path: Path | None = None) -> None:
        """Write `job.json` and start `python -B -m nextgenface.job FOLDER`.

        Raises JobError when the folder cannot be written, the Python cannot be started, or a job runs there.
        """
        if self._process is not None:
            raise JobError("This job has been started already.")
        running = describe_job(self.folder)
        if running is not None and running.state == "running":
            raise JobError(
                f"A job is still running in {self.folder}. Cancel it or choose another output folder."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Events and the process record of an earlier run would be read as this one's.
            for name in (EVENTS_FILE, PROCESS_FILE):
                (self.folder / name).unlink(missing_ok=True)
            write_json(self.folder / JOB_FILE, request.to_json())
            console = open(self.folder / CONSOLE_FILE, "wb")  # noqa: SIM115 - closed by `with console` below
        except OSError as error:
            raise JobError(
                f"The job folder {self.folder} cannot be written: {error.strerror or error}."
            ) from error
        # A group of its own: a terminal's Ctrl-C reaches Blender only, and cancelling is done by `cancel()`.
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        with console:
            try:
                self._process = subprocess.Popen(
                    [str(python), "-B", "-m", "nextgenface.job", str(self.folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env=solver_environment(solver_path),
                    creationflags=flags,
                    start_new_session=sys.platform != "win32",
                )
            except OSError as error:
                raise JobError(
                    f"The solver's Python {python} cannot be started: {error.strerror or error}."
                ) from error
        record = {
            "pid": self._process.pid,
            "started": process_start_time(self._process.pid),
            "time": time.time(),
        }
        write_json(self.folder / PROCESS_FILE, record)
        self.status = JobStatus(state="running")

    def poll(self) -> JobStatus:
        """Read new events and the process's state; never blocks. Also follows up on a cancelled job."""
        if self.status.done or self._process is None:
            return self.status
        code = self._process.poll()
        # The exit code is asked for first: what the child wrote before it ended is then all read.
        for event in self._events.read(None if code is not None else MAX_BYTES_PER_POLL):
            self.status = apply_event(self.status, event, self.folder)
        if code is None:
            self._escalate()
        else:
            self.status = self._ended(code)
            record = _read_json(self.folder / PROCESS_FILE) | {"exit_code": code, "state": self.status.state}
            # Only a convenience for `find_jobs`; a full disk is reported by the solver itself.
            with contextlib.suppress(OSError):
                write_json(self.folder / PROCESS_FILE, record)
        return self.status

    def cancel(self) -> None:
        """Ask the solver to stop after the current step. `poll()` terminates, then kills it if it does
        not.
        """
        if self._process is None or self._process.poll() is not None or self._cancel_times:
            return
        self._cancel_times.append(time.monotonic())
        interrupt(self._process.pid)

    def wait(self, on_status: Callable[[JobStatus], None] | None = None, interval: float = 0.1) -> JobStatus:
        """Block until the job has ended; `on_status` is called whenever something changed."""
        last = self.status
        while not self.poll().done:
            if on_status is not None and self.status != last:
                on_status(self.status)
            last = self.status
            time.sleep(interval)
        if on_status is not None:
            on_status(self.status)
        return self.status

    def _escalate(self) -> None:
        assert self._process is not None
        if not self._cancel_times:
            return
        waited = time.monotonic() - self._cancel_times[-1]
        if len(self._cancel_times) == 1 and waited > self._cancel_grace:
            self._cancel_times.append(time.monotonic())
            self._process.terminate()
        elif len(self._cancel_times) == 2 and waited > self._terminate_grace:
            self._cancel_times.append(time.monotonic())
            self._process.kill()

    def _ended(self, code: int) -> JobStatus:
        status = replace(self.status, exit_code=code, eta=None)
        if self._cancel_times or code == EXIT_CANCELLED:
            return replace(status, state="cancelled")
        if code == EXIT_OK:
            result = status.result or self.folder / RESULT_FILE
            if result.is_file():
                return replace(status, state="finished", result=result, fraction=1.0)
            return replace(status, state="failed", error=f"The solver ended without writing {result}.")
        return replace(status, state="failed", error=status.error or explain_exit(code, self.folder))


def explain_exit(code: int, folder: Path) -> str:
    """A sentence on an exit code for which the solver itself wrote no error event, with the end of its
    output.
    """
    tail = _tail(folder / CONSOLE_FILE)
    if code == EXIT_USER_ERROR and tail:
        return tail.splitlines()[-1]
    if "No module named" in tail and "nextgenface" in tail.splitlines()[-1]:
        sentence = (
            "The solver is not installed in the chosen Python. Run 'make setup' or choose another Python."
        )
    elif code in (-signal.SIGTERM, -9) or code == 137:
        sentence = (
            "The solver was ended by the system, most often because memory ran out. "
            "Try a smaller maxResolution."
        )
    elif code < 0:
        sentence = f"The solver crashed (signal {-code}). Run nextgenface-doctor to check its environment."
    else:
        sentence = f"The solver failed (exit code {code})."
    return f"{sentence} See {folder / CONSOLE_FILE}." + (f"\n{tail}" if tail else "")


@dataclass(frozen=True)
class FoundJob:
    """A job folder as found on disk; `state` is running, finished, failed, cancelled or stopped."""

    folder: Path
    state: State
    pid: int | None
    status: JobStatus


def describe_job(folder: Path) -> FoundJob | None:
    """What stands in a folder, from its files alone; None when it is no job folder."""
    folder = Path(folder)
    if not (folder / JOB_FILE).is_file():
        return None
    status = JobStatus()
    for event in EventReader(folder / EVENTS_FILE).read(limit=None):
        status = apply_event(status, event, folder)
    record = _read_json(folder / PROCESS_FILE)
    pid = record.get("pid")
    if isinstance(pid, int) and "exit_code" not in record and process_alive(pid):
        started = record.get("started")
        if started is None or started == process_start_time(pid):
            return FoundJob(folder, "running", pid, replace(status, state="running"))
    state: State
    if status.result is not None and status.result.is_file():
        state = "finished"
    elif record.get("state") == "cancelled":
        state = "cancelled"
    elif status.error or record.get("state") == "failed":
        state = "failed"
    else:
        state = "stopped"
    return FoundJob(folder, state, None, replace(status, state=state))


def find_jobs(folder: Path) -> list[FoundJob]:
    """The jobs in a folder and its direct sub-folders, newest first."""
    folder = Path(folder)
    try:
        candidates = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    except OSError:
        return []
    found = [job for job in map(describe_job, candidates) if job is not None]

    def age(job: FoundJob) -> float:
        try:
            return (job.folder / JOB_FILE).stat().st_mtime
        except OSError:
            return 0.0

    return sorted(found, key=age, reverse=True)
