"""A child process that tells what it does through a file: the solver, the installer. No bpy in here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .job_events import FACE_STAGES, MAX_BYTES_PER_POLL, EventReader, JobStatus, apply_event
from .processes import interrupt, process_alive, process_start_time

EVENTS_FILE = "events.jsonl"
PROCESS_FILE = "process.json"
CONSOLE_FILE = "console.log"
STOP_FILE = "stop"
"""Its presence asks the child to stop; the only way that reaches a child of an earlier Blender on Windows."""

LONG_GRACE = 20.0

STARTING_GRACE = 1.0
"""Seconds that a child gets to stop by itself while it is still loading and there is nothing to keep."""


def write_json(path: Path, value: object) -> None:
    """Write to a temporary name and rename, so that a reader never sees half a file. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class Child:
    """One process and its folder. `launch()` or `attach()`, then `poll()` until `status.done`, or `wait()`.

    Stopping goes up a ladder: a stop file and SIGINT (CTRL_BREAK on Windows) ask for it after the step; after
    `cancel_grace` seconds terminate, which ends the step; `terminate_grace` later kill.
    """

    stages: Sequence[str] = FACE_STAGES

    def __init__(
        self, folder: Path, *, cancel_grace: float = LONG_GRACE, terminate_grace: float = 5.0
    ) -> None:
        self.folder = Path(folder)
        self.status = JobStatus()
        self.events = EventReader(self.folder / EVENTS_FILE)
        self.cancel_grace = cancel_grace
        self.terminate_grace = terminate_grace
        self._process: subprocess.Popen[bytes] | None = None
        self._attached: int | None = None  # id of an earlier Blender's child
        self._cancel_times: list[float] = []  # when each rung of the ladder was stepped on

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else self._attached

    @property
    def cancelling(self) -> bool:
        return bool(self._cancel_times) and not self.status.done

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; its output goes to console.log. Raises OSError."""
        for name in (EVENTS_FILE, PROCESS_FILE, STOP_FILE):  # of an earlier run
            (self.folder / name).unlink(missing_ok=True)
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        with open(self.folder / CONSOLE_FILE, "wb") as console:
            # A group of its own: a terminal's Ctrl-C reaches Blender only; stopping is done by `cancel()`.
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                creationflags=flags,
                start_new_session=sys.platform != "win32",
            )
        record = {
            "pid": self._process.pid,
            "started": process_start_time(self._process.pid),
            "time": time.time(),
        }
        try:
            write_json(self.folder / PROCESS_FILE, record)
        except OSError:  # a process that nobody could find again must not stay
            self._process.kill()
            self._process.wait()
            self._process = None
            raise
        self.status = JobStatus(state="running")

    def attach(self) -> bool:
        """Follow the process that an earlier Blender started in this folder; False when it is gone."""
        self._attached = running_pid(self.folder)
        if self._attached is None:
            return False
        self.status = JobStatus(state="running")
        return True

    def poll(self) -> JobStatus:
        """Read new events and the process's state; never blocks. Also follows up on a cancelled job."""
        if self.status.done or self.pid is None:
            return self.status
        ended, code = self._ended()
        # The process is asked first: what the child wrote before it ended is then all read.
        events = self.events.read(MAX_BYTES_PER_POLL)
        for event, following in zip_longest(events, events[1:]):
            if following is None or event["event"] != "progress" or following["event"] != "progress":
                self.status = apply_event(self.status, event, self.folder, self.stages)
        if not ended:
            self._escalate()
        elif self.events.caught_up:
            self.status = self.final_status(code)
            record = read_json(self.folder / PROCESS_FILE) | {"exit_code": code, "state": self.status.state}
            # Only a convenience for `find_jobs`; a full disk is reported by the solver itself.
            with contextlib.suppress(OSError):
                write_json(self.folder / PROCESS_FILE, record)
        return self.status

    def final_status(self, code: int | None) -> JobStatus:
        """What the end means; `code` is None where the exit code of an attached process is not known."""
        raise NotImplementedError

    @property
    def was_cancelled(self) -> bool:
        return bool(self._cancel_times)

    def cancel(self) -> None:
        """Ask the child to stop after the current step. `poll()` follows up when it does not."""
        if self.pid is None or self._ended()[0] or self._cancel_times:
            return
        self._cancel_times.append(time.monotonic())
        with contextlib.suppress(OSError):
            (self.folder / STOP_FILE).touch()
        interrupt(self.pid)

    def wait(self, on_status: Callable[[JobStatus], None] | None = None, interval: float = 0.1) -> JobStatus:
        """Block until the process has ended; `on_status` is called whenever something changed."""
        last = self.status
        while not self.poll().done:
            if on_status is not None and self.status != last:
                on_status(self.status)
            last = self.status
            if self.events.caught_up:
                time.sleep(interval)
        if on_status is not None:
            on_status(self.status)
        return self.status

    def _ended(self) -> tuple[bool, int | None]:
        if self._process is not None:
            code = self._process.poll()
            return code is not None, code
        assert self._attached is not None
        return not process_alive(self._attached), None

    def _escalate(self) -> None:
        if not self._cancel_times:
            return
        waited = time.monotonic() - self._cancel_times[-1]
        loading = not self.status.stage
        first_grace = min(STARTING_GRACE, self.cancel_grace) if loading else self.cancel_grace
        if len(self._cancel_times) == 1 and waited > first_grace:
            self._cancel_times.append(time.monotonic())
            self._end(kill=False)
        elif len(self._cancel_times) == 2 and waited > self.terminate_grace:
            self._cancel_times.append(time.monotonic())
            self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
        elif self._attached is not None:
            number = signal.SIGKILL if kill and sys.platform != "win32" else signal.SIGTERM
            with contextlib.suppress(OSError):
                os.kill(self._attached, number)


def running_pid(folder: Path) -> int | None:
    """The id of the process that runs in a folder, from its record; None when there is none."""
    record = read_json(folder / PROCESS_FILE)
    pid = record.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0 or "exit_code" in record:
        return None
    if not process_alive(pid):
        return None
    # Another process may have got the id since.
    return pid if record.get("started") == process_start_time(pid) else None
