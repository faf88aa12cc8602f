"""One job process: started in its folder, watched, stopped; and what its end means."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cli.common import EXIT_CANCELLED
from ..job import STOP_FILE
from .processes import alive, names
from .records import RESULT_FILE, State

POLL_SECONDS = 0.1
STOP_GRACE_SECONDS = 30.0
"""What a job gets to reach the end of a step once it has been asked to stop."""
TERMINATE_GRACE_SECONDS = 5.0

EVENTS_FILE = "events.jsonl"
LOG_FILE = "solver.log"
CONSOLE_FILE = "console.log"

FULL_DISK_BYTES = 60e6
"""With less than this no subject is begun (a job itself asks for 50 MB)."""


class Stop:
    """A request to stop, shared by all that work on a batch in one process. `hurry`: without waiting.

    Plain flags, because a signal handler sets them: a lock might be held by the very thread it interrupts.
    """

    def __init__(self) -> None:
        self.requested = False
        self.hurry = False

    def request(self, *, hurry: bool = False) -> None:
        """Ask for a stop between two steps, or with `hurry` at once."""
        self.hurry = self.hurry or hurry
        self.requested = True


@dataclass(frozen=True)
class End:
    """How a job ended. `crashed`: by no decision of its own, so trying again makes sense."""

    state: State
    error: str = ""
    kind: str = ""
    crashed: bool = False


@dataclass
class _Events:
    """The events that a job adds to its file: whether there are new ones, and its last error."""

    path: Path
    offset: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.offset = _size(self.path)

    def read(self) -> bool:
        """Read the new complete lines; True when there were any."""
        if _size(self.path) <= self.offset:
            return False
        with suppress(OSError), open(self.path, "rb") as stream:
            stream.seek(self.offset)
            lines, _, _ = stream.read().rpartition(b"\n")
            self.offset += len(lines) + bool(lines)
            for line in lines.splitlines():
                with suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("event") == "error":
                        self.errors.append(event)
            return bool(lines)
        return False


class Child:
    """The process of a job folder. `start`, then `wait`."""

    def __init__(self, folder: Path, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.command = [*(command or job_command()), str(folder)]
        self.environment = {**job_environment(), **environment}
        self._events = _Events(folder / EVENTS_FILE)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start it, in a process group of its own so that a Ctrl-C is ours to pass on; returns its id."""
        own_group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with open(self.folder / CONSOLE_FILE, "wb") as console:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=self.environment,
                **own_group,
            )
        return self._process.pid

    def wait(self, stop: Stop, stall_seconds: float) -> End:
        """Wait until it has ended by itself, by `stop`, or because `stall_seconds` brought no progress."""
        assert self._process is not None
        stalled = False
        last_sign = time.monotonic()
        while self._process.poll() is None:
            if self._events.read():
                last_sign = time.monotonic()
            stalled = bool(stall_seconds) and time.monotonic() - last_sign > stall_seconds
            if stop.requested or stalled:
                self._end(stop)
                break
            time.sleep(POLL_SECONDS)
        self._events.read()
        return self._meaning(self._process.wait(), stop.requested, stall_seconds if stalled else 0.0)

    def _end(self, stop: Stop) -> None:
        """Up a ladder: interrupt, terminate, kill; at once to its top when `stop` is in a hurry."""
        assert self._process is not None
        for ask, grace in (
            (interrupt, STOP_GRACE_SECONDS),
            (subprocess.Popen.terminate, TERMINATE_GRACE_SECONDS),
        ):
            ask(self._process)
            until = time.monotonic() + grace
            while time.monotonic() < until and not stop.hurry:
                if self._process.poll() is not None:
                    return
                time.sleep(POLL_SECONDS)
        self._process.kill()

    def _meaning(self, code: int, asked: bool, stalled: float) -> End:
        if code == 0 and (self.folder / RESULT_FILE).is_file():
            return End("finished")
        if asked or (self.folder / STOP_FILE).exists():
            return End("stopped")
        if stalled:
            return End("failed", f"No progress for {stalled:.0f} s; see {self.folder / LOG_FILE}.", "Timeout")
        last = self._events.errors[-1] if self._events.errors else {}
        text, kind = str(last.get("text") or ""), str(last.get("kind") or "")
        if code < 0 or code > 255 or code in (EXIT_CANCELLED, 137):
            return End("failed", explain_crash(code, self.folder), "Crash", crashed=True)
        if disk_is_full(self.folder):
            # Nothing is wrong with this subject; it goes on once there is room.
            return End("stopped", text or f"The disk that holds {self.folder} is full.", "DiskFull")
        if code == 0:
            return End("failed", f"The job ended without writing {self.folder / RESULT_FILE}.", "NoResult")
        return End("failed", text or self._last_words(code), kind or "Failure")

    def _last_words(self, code: int) -> str:
        said = tail(self.folder / CONSOLE_FILE) or tail(self.folder / LOG_FILE)
        return f"The job failed with exit code {code}: {said or 'it said nothing'}."


def job_command() -> list[str]:
    """This Python, and what Blender starts, too; without leaving .pyc files on shared disks."""
    return [sys.executable, "-B", "-m", "nextgenface.job"]


def job_environment() -> dict[str, str]:
    """The child's environment: ours, with this very package on the path."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUTF8": "1"}


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask a job to stop between two steps."""
    if sys.platform == "win32":
        os.kill(process.pid, signal.CTRL_BREAK_EVENT)
    else:
        process.send_signal(signal.SIGINT)


def explain_crash(code: int, folder: Path) -> str:
    """A sentence on a process that did not end by itself."""
    if code in (EXIT_CANCELLED, -signal.SIGINT, -signal.SIGTERM):
        return "The worker process was stopped from outside."
    if code in (-9, 137):
        return "The worker process was killed, as the system does when memory runs out; try fewer --workers."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"code {code}"
    return f"The worker process crashed ({name}); see {folder / LOG_FILE}."


def disk_is_full(folder: Path) -> bool:
    """Whether there is too little room for another result."""
    try:
        return shutil.disk_usage(folder).free < FULL_DISK_BYTES
    except OSError:
        return False


def end_orphan(pid: int, folder: Path, grace: float = STOP_GRACE_SECONDS) -> None:
    """End a job of this folder whose own runner has been killed; by itself it stops at its next step.

    Another process that has got the same id meanwhile is left alone: its command line does not name the
    folder. Where command lines cannot be read the job is only waited for.
    """
    until = time.monotonic() + grace
    asked = False
    while pid and alive(pid) and (ours := names(pid, folder)) is not False:
        expired = time.monotonic() > until
        if expired and not ours:
            return
        if ours and (expired or not asked):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL if expired else signal.SIGINT)
            asked = True
        time.sleep(POLL_SECONDS)


def tail(path: Path, size: int = 4000) -> str:
    """The last line that says something in a text file, "" when there is none."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, _size(path) - size))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
