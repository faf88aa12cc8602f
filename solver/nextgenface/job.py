"""What Blender starts: `python -m nextgenface.job JOBDIR` runs the reconstruction in JOBDIR/job.json.

`method` in there says which: "face" (the default) or one of `multiview.method.METHODS`.

It writes `events.jsonl` and `solver.log` into JOBDIR and the results into the folder that job.json names.
SIGINT (CTRL_BREAK on Windows) stops between two steps with the last checkpoint kept; so does the end of the
process `parent_pid`.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cli.common import EXIT_BUG, EXIT_CANCELLED, StopFlag, share_cores
from .config import Config
from .errors import Cancelled, NextGenFaceError
from .events import CancelWhen, JsonlListener, Tee, logged_to
from .files import output_error
from .photos import PhotoChoice

SCHEMA = 1
PARENT_CHECK_SECONDS = 1.0

STOP_FILE = "stop"
"""A file of this name in the job's folder asks for a stop, too, where no signal reaches the process."""
STOP_FILE_SECONDS = 0.2

log = logging.getLogger(__name__)


class JobError(NextGenFaceError):
    """job.json is missing or wrong."""


@dataclass(frozen=True)
class Job:
    """The content of job.json, checked. Paths are relative to the job folder unless absolute."""

    input: tuple[PhotoChoice, ...]
    output: Path
    config: Path | None = None
    set: dict[str, str] = field(default_factory=dict)
    shared_identity: bool = False
    checkpoint: Path | None = None
    skip: frozenset[int] = frozenset()
    face: int = 0
    parent_pid: int | None = None
    method: str = "face"
    mesh: Path | None = None
    held_out: tuple[str, ...] = ()
    resume: bool = False


def read_job(folder: Path) -> Job:
    """Read and check `folder`/job.json (schema 1, see docs/architecture.md). Raises JobError."""
    path = folder / "job.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobError(f"There is no job.json in {folder}.") from None
    except (OSError, ValueError) as problem:
        raise JobError(f"{path} cannot be read as JSON ({problem}).") from problem
    if not isinstance(raw, dict):
        raise JobError(f"{path} does not hold a JSON object.")
    if raw.get("schema") != SCHEMA:
        raise JobError(
            f"{path} has schema {raw.get('schema')!r}, this solver reads {SCHEMA}. Use the add-on and "
            "solver of one version."
        )

    def value(name: str, kinds: tuple[type, ...], default: Any) -> Any:
        found = raw.get(name, default)
        if found is None and default is None:
            return None
        wrong_bool = isinstance(found, bool) and bool not in kinds
        if not isinstance(found, kinds) or wrong_bool:
            raise JobError(f"{path}: '{name}' cannot be {found!r}.")
        return found

    inputs = value("input", (list, str), [])
    inputs = [inputs] if isinstance(inputs, str) else inputs
    exports = value("method", (str,), "face") == "face" and raw.get("checkpoint") is not None
    if not inputs and not exports:
        raise JobError(f"{path}: 'input' must list at least one photo or folder.")
    settings = value("set", (dict,), {})
    if not all(isinstance(v, (str, int, float, bool)) for v in settings.values()):
        raise JobError(f"{path}: the values in 'set' must be text, numbers, true or false.")
    skip = value("skip", (list,), [])
    if not all(isinstance(s, int) and s in (1, 2, 3) for s in skip):
        raise JobError(f"{path}: 'skip' may only list the stages 1, 2 and 3.")
    held_out = value("heldOut", (list,), [])
    if not all(isinstance(name, str) for name in held_out):
        raise JobError(f"{path}: 'heldOut' must list names of views.")
    config, checkpoint, mesh = (value(name, (str,), None) for name in ("config", "checkpoint", "mesh"))
    return Job(
        input=tuple(read_input(item, path, folder) for item in inputs),
        output=folder / value("output", (str,), "."),
        config=folder / config if config else None,
        set={key: str(v) for key, v in settings.items()},
        shared_identity=value("sharedIdentity", (bool,), False),
        checkpoint=folder / checkpoint if checkpoint else None,
        skip=frozenset(skip),
        face=value("face", (int,), 0),
        parent_pid=value("parent_pid", (int,), None),
        method=value("method", (str,), "face"),
        mesh=folder / mesh if mesh else None,
        held_out=tuple(held_out),
        resume=value("resume", (bool,), False),
    )


def read_input(item: Any, path: Path, folder: Path) -> PhotoChoice:
    """One entry of `input`: a path, or `path`, `rotate`, `face`, `focal35` of a photo. Raises JobError."""
    raw = {"path": item} if isinstance(item, str) else item
    if not isinstance(raw, dict) or not isinstance(raw.get("path"), str):
        raise JobError(f"{path}: 'input' must list paths, or objects with a 'path'; {item!r} is neither.")
    rotate, face, focal35 = raw.get("rotate", 0), raw.get("face", 0), raw.get("focal35", 0)
    if rotate not in (0, 90, 180, 270) or isinstance(rotate, (bool, float)):
        raise JobError(f"{path}: 'rotate' of {raw['path']} must be 0, 90, 180 or 270, not {rotate!r}.")
    if not isinstance(face, int) or isinstance(face, bool) or face < 0:
        raise JobError(f"{path}: 'face' of {raw['path']} must be a whole number from 0, not {face!r}.")
    if not isinstance(focal35, (int, float)) or isinstance(focal35, bool) or not 0 <= focal35 < 10000:
        raise JobError(f"{path}: 'focal35' of {raw['path']} must be a focal length in mm, not {focal35!r}.")
    return PhotoChoice(folder / raw["path"], rotate, face, float(focal35))


def job_config(job: Job) -> Config:
    """The options of a job: its file, then its settings, then the chosen face. Raises ConfigError."""
    config = Config()
    if job.config is not None:
        config.fillFromDicFile(job.config)
    for key, text in job.set.items():
        config.set(key, text)
    if job.face:
        config.set("face", str(job.face))
    return config


def process_is_alive(pid: int) -> bool:
    """Whether a process of that id exists."""
    if os.name == "nt":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        if not handle:
            return False
        waiting = kernel.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT: still running
        kernel.CloseHandle(handle)
        return bool(waiting)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def parent_gone(parent_pid: int | None) -> CancelWhen:
    """A listener that asks for a stop once the process `parent_pid` has ended; never, when that is None."""
    if parent_pid is None:
        return CancelWhen(lambda: False)
    # An orphan gets another parent at once; that notices the end even when the id is soon used again.
    is_our_parent = os.getppid() == parent_pid

    def gone() -> bool:
        return (is_our_parent and os.getppid() != parent_pid) or not process_is_alive(parent_pid)

    return CancelWhen(gone, PARENT_CHECK_SECONDS)


def work_on(job: Job, listener: Tee) -> Path:
    """Do what a job asks; returns the path of its `result.json`. A checkpoint without photos is exported."""
    if job.method != "face":
        from .multiview.method import Request as MethodRequest
        from .multiview.method import method

        paths = tuple(choice.path for choice in job.input)
        if any(choice != PhotoChoice(choice.path) for choice in job.input):
            listener.warning("Rotation, face and lens of a photo are used by the face method only.")
        asked = MethodRequest(paths, job.output, job.mesh, job.held_out, job.set, job.resume)
        with logged_to(listener):
            return method(job.method)(asked, listener)
    from .run import Request, reconstruct

    with logged_to(listener):
        config = job_config(job)
        if job.checkpoint is not None and not job.input:
            from .export import export

            return export(job.checkpoint, job.output, config, listener)
    request = Request(
        inputs=job.input,
        output=job.output,
        config=config,
        shared=job.shared_identity,
        checkpoint=job.checkpoint,
        skip=job.skip,
    )
    return reconstruct(request, listener)


def run_job(folder: Path) -> int:
    """Run the job in `folder`; returns the exit code. What happens is in events.jsonl and solver.log."""
    stop = StopFlag()
    with open(folder / "events.jsonl", "a", encoding="utf-8") as stream, stop.installed():
        events = JsonlListener(stream, preview_path=folder / "preview.png")
        try:
            job = read_job(folder)
            stop_file = CancelWhen((folder / STOP_FILE).exists, STOP_FILE_SECONDS)
            result = work_on(job, Tee(events, stop.listener(), stop_file, parent_gone(job.parent_pid)))
            beside = result.is_relative_to(folder)
            events.write("done", result=str(result.relative_to(folder) if beside else result))
            return 0
        except NextGenFaceError as problem:
            events.write("error", text=str(problem), kind=type(problem).__name__)
            log.error("%s", problem)
            return problem.exit_code
        except KeyboardInterrupt:
            events.write("error", text="Stopped.", kind=Cancelled.__name__)
            return EXIT_CANCELLED
        except BaseException as problem:
            log.error("%s", traceback.format_exc())
            events.write("error", text=f"{type(problem).__name__}: {problem}", kind=type(problem).__name__)
            return EXIT_BUG


def main(arguments: list[str] | None = None) -> int:
    """Entry point: one argument, the job folder."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].startswith("-"):
        print("usage: python -m nextgenface.job JOBDIR   (JOBDIR holds job.json)", file=sys.stderr)
        return 2
    folder = Path(given[0]).absolute()
    if not folder.is_dir():
        print(f"error: There is no job folder {folder}.", file=sys.stderr)
        return 2
    try:
        log_file = open(folder / "solver.log", "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open until exit
    except OSError as problem:
        print(f"error: {output_error(folder / 'solver.log', problem)}", file=sys.stderr)
        return 2
    # Libraries print to the file descriptors directly; the log gets all of it.
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log_file.fileno(), 1)
    os.dup2(log_file.fileno(), 2)
    faulthandler.enable(log_file)
    logging.basicConfig(
        stream=log_file, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    share_cores()
    code = run_job(folder)
    log_file.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
