"""Client of a job folder: starts, follows and cancels the solver. No bpy in here.

The solver is a child process with its own Python. What it is to do stands in `job.json`; what it does it
writes to `events.jsonl`, one JSON object a line; it has finished when `result.json` is there. Nothing else
passes between the two, so the same code serves Blender's window, headless Blender and a reopened file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .child import CONSOLE_FILE, PROCESS_FILE, Child, read_json, running_pid, write_json
from .job_events import RESULT_FILE, JobStatus
from .methods import method_named
from .problems import AddonProblem
from .reports import tail
from .user_folders import HOME_VARIABLE, installed_as_extension, solver_home

JOB_FILE = "job.json"
LOG_FILE = "solver.log"

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130

FULL_DISK_BYTES = 20e6


class JobError(AddonProblem):
    """A job cannot be started; the message says why."""


@dataclass(frozen=True)
class PhotoInput:
    """One photo of a job. `rotate`: clockwise, in degrees, after EXIF. `face`: 1 = the largest, 0 = the job's
    choice. `focal35`: 35 mm equivalent of its lens, 0 = as EXIF says or as estimated.
    """

    path: Path
    rotate: int = 0
    face: int = 0
    focal35: float = 0.0

    def to_json(self) -> str | dict[str, Any]:
        chosen = {"rotate": self.rotate, "face": self.face, "focal35": self.focal35}
        chosen = {name: value for name, value in chosen.items() if value}
        return {"path": str(self.path), **chosen} if chosen else str(self.path)

    @classmethod
    def from_json(cls, value: str | Mapping[str, Any]) -> PhotoInput:
        if isinstance(value, str):
            return cls(Path(value))
        rotate, face, focal = value.get("rotate", 0), value.get("face", 0), value.get("focal35", 0.0)
        return cls(Path(value["path"]), int(rotate), int(face), float(focal))


@dataclass(frozen=True)
class JobRequest:
    """What the solver is asked to do; the content of `job.json` (schema 1)."""

    input: Sequence[Path | PhotoInput]
    output: Path
    config: Path | None = None
    set: Mapping[str, object] = field(default_factory=dict)
    shared_identity: bool = False
    checkpoint: Path | None = None
    skip: Sequence[int] = ()
    face: int = 0
    parent_pid: int | None = None
    method: str = "face"
    mesh: Path | None = None
    held_out: Sequence[str] = ()
    resume: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "method": self.method,
            "input": [item.to_json() if isinstance(item, PhotoInput) else str(item) for item in self.input],
            "output": str(self.output),
            "config": str(self.config) if self.config else None,
            "set": dict(self.set),
            "sharedIdentity": self.shared_identity,
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "skip": list(self.skip),
            "face": self.face,
            "parent_pid": self.parent_pid,
            "mesh": str(self.mesh) if self.mesh else None,
            "heldOut": list(self.held_out),
            "resume": self.resume,
        }

    @classmethod
    def read(cls, folder: Path) -> JobRequest:
        """The request in a job folder. Raises JobError when it cannot be understood."""
        raw = read_json(folder / JOB_FILE)
        try:
            if raw["schema"] != 1:
                raise ValueError("of another version")
            return cls(
                input=[PhotoInput.from_json(item) for item in raw["input"]],
                output=folder / raw.get("output", "."),
                config=folder / raw["config"] if raw.get("config") else None,
                set=dict(raw.get("set") or {}),
                shared_identity=bool(raw.get("sharedIdentity", False)),
                checkpoint=folder / raw["checkpoint"] if raw.get("checkpoint") else None,
                skip=[int(stage) for stage in raw.get("skip") or ()],
                face=int(raw.get("face") or 0),
                method=str(raw.get("method") or "face"),
                mesh=folder / raw["mesh"] if raw.get("mesh") else None,
                held_out=[str(name) for name in raw.get("heldOut") or ()],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise JobError(f"{folder / JOB_FILE} is damaged and cannot be run again ({problem}).") from None

    def photos(self) -> list[Path]:
        """The paths of the inputs."""
        return [item.path if isinstance(item, PhotoInput) else item for item in self.input]


def checkpoint_path(folder: Path, stage: int) -> Path:
    """Where the checkpoint of stage 1, 2 or 3 lies in a results folder."""
    return folder / "checkpoints" / f"stage{stage}_output.pickle"


def checkpoints(folder: Path) -> tuple[int, ...]:
    """The stages whose checkpoints are in a results folder."""
    return tuple(stage for stage in (1, 2, 3) if checkpoint_path(folder, stage).is_file())


def resume_request(folder: Path) -> JobRequest:
    """The request that goes on where the job in `folder` stopped. Raises JobError.

    A checkpoint that is older than the job's own start belongs to an earlier run and is not gone on from.
    """
    request = JobRequest.read(folder)
    if not method_named(request.method).stage_checkpoints:
        return replace(request, resume=True)
    begun = (folder / JOB_FILE).stat().st_mtime - 1.0
    done = [
        n for n in checkpoints(request.output) if checkpoint_path(request.output, n).stat().st_mtime > begun
    ]
    if not done:
        return request
    last = max(done)
    return replace(request, checkpoint=checkpoint_path(request.output, last), skip=list(range(1, last + 1)))


def solver_environment(solver_path: Path | None) -> dict[str, str]:
    """The child's environment: ours, plus the solver's source on PYTHONPATH when it is not pip-installed."""
    environment = dict(os.environ)
    environment.pop("PYTHONHOME", None)  # would point the solver's Python at Blender's library
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment[HOME_VARIABLE] = str(solver_home())
    if installed_as_extension():
        environment["NEXTGENFACE_STARTED_BY"] = "blender"  # the doctor's advice fits
    # Libraries that keep caches beside the user's other files keep them in the add-on's folder instead.
    for variable, name in (("DRJIT_CACHE_DIR", "drjit"), ("MPLCONFIGDIR", "matplotlib")):
        if variable not in environment:
            environment[variable] = str(solver_home() / "cache" / name)
            with contextlib.suppress(OSError):  # the library then does without
                os.makedirs(environment[variable], exist_ok=True)
    if solver_path is not None:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(solver_path) + (os.pathsep + before if before else "")
    return environment


STEP_GRACE = 1.2
"""Seconds that a step gets to end by itself where nothing is lost by ending it: its stage begins anew."""


class Job(Child):
    """A solver process and its folder. `start()` or `attach()`, then `poll()` until `status.done`."""

    def take_method(self, name: str) -> None:
        """What depends on the method: its stages, and how long a step may take after Cancel."""
        method = method_named(name)
        self.stages = tuple(stage for stage, _ in method.stages)
        if method.stage_checkpoints:
            self.cancel_grace = min(self.cancel_grace, STEP_GRACE)

    @property
    def title(self) -> str:
        """The job's name for people."""
        return self.folder.name

    def prepare(self, request: JobRequest) -> None:
        """Write `job.json` into a clean folder; the job then waits for `start`. Raises JobError."""
        if running_pid(self.folder) is not None:
            raise JobError(
                f"A job is still running in {self.folder}. Cancel it or choose another output folder."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Events and the process record of an earlier run would be read as this one's.
            for name in (self.events.path.name, PROCESS_FILE, CONSOLE_FILE):
                (self.folder / name).unlink(missing_ok=True)
            write_json(self.folder / JOB_FILE, request.to_json())
        except OSError as error:
            raise self._cannot_write(error) from error

    def start(self, request: JobRequest, python: Path, solver_path: Path | None = None) -> None:
        """Write `job.json` and start `python -B -m nextgenface.job FOLDER`.

        Raises JobError when the folder cannot be written, the Python cannot be started, or a job runs there.
        """
        if self.pid is not None:
            raise JobError("This job has been started already.")
        self.prepare(request)
        self.take_method(request.method)
        try:
            self.launch(
                [str(python), "-B", "-m", "nextgenface.job", str(self.folder)],
                solver_environment(solver_path),
            )
        except (FileNotFoundError, PermissionError) as error:
            raise JobError(
                f"The solver's Python {python} cannot be started: {error.strerror or error}."
            ) from error
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> JobError:
        return JobError(f"The job folder {self.folder} cannot be written: {error.strerror or error}.")

    def attach(self) -> bool:
        self.take_method(str(read_json(self.folder / JOB_FILE).get("method") or "face"))
        return super().attach()

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code, eta=None)
        result = status.result or self.folder / RESULT_FILE
        if code is None:  # attached: the events tell how it went
            if status.result is not None:
                code = EXIT_OK
            elif status.kind == "Cancelled":
                code = EXIT_CANCELLED
        if code == EXIT_OK and result.is_file():  # even when it was cancelled too late
            return replace(status, state="finished", result=result, fraction=1.0)
        if self.was_cancelled or code == EXIT_CANCELLED:
            return replace(status, state="cancelled", error="", result=None)
        if code == EXIT_OK:
            text = f"The solver ended without writing {result}."
            return replace(status, state="failed", error=text, result=None)
        if code is None and not status.error:
            return replace(status, state="stopped")
        return replace(status, state="failed", error=status.error or explain_exit(code, self.folder))


def explain_exit(code: int | None, folder: Path) -> str:
    """A sentence on an exit code for which the solver itself wrote no error event, with the end of its
    output.
    """
    said = tail(folder / CONSOLE_FILE) or tail(folder / LOG_FILE)
    last = said.splitlines()[-1] if said else ""
    if code == EXIT_USER_ERROR and last:
        return last.removeprefix("error: ")
    if "No module named" in last:
        sentence = (
            "The solver is not installed in the chosen Python. Install it in the add-on's preferences, or "
            "choose another Python there."
        )
    elif "No space left on device" in said or _disk_is_full(folder):
        sentence = f"The disk that holds {folder} is full. Free some space and press Resume."
    elif code in (-signal.SIGTERM, -9, 137):
        sentence = (
            "The solver was ended by the system, most often because memory ran out. Close other programs or "
            "use the preset Fast Preview, then press Resume."
        )
    elif code is not None and code < 0:
        sentence = f"The solver crashed (signal {-code}). Check its environment in the add-on's preferences."
    else:
        sentence = f"The solver failed (exit code {code})."
    return f"{sentence} See {folder / CONSOLE_FILE}." + (f"\n{said}" if said else "")


def _disk_is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL_DISK_BYTES
    except OSError:
        return False
