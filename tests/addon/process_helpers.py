"""What the tests of solver processes share."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nextgenface_addon.job_events import JobStatus
from nextgenface_addon.jobs import Job, JobRequest


def request(folder: Path, behaviour: str = "", **more: Any) -> JobRequest:
    """A job for the fake solver."""
    return JobRequest(input=[folder / "Foto ü.png"], output=folder, set={"behaviour": behaviour}, **more)


def run(folder: Path, solver: Path, behaviour: str = "") -> tuple[Job, list[JobStatus]]:
    """Run a job to its end; returns it and every status that was seen."""
    job, seen = Job(folder), []
    job.start(request(folder, behaviour), Path(sys.executable), solver)
    job.wait(seen.append, interval=0.02)
    return job, seen


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def wait_for_stage(job: Job, stage: str) -> None:
    """Follow a job until it is in a stage."""
    wait_for(lambda: job.poll().stage == stage)
    assert not job.status.done


def within(longest: Callable[[], float], seconds: float) -> bool:
    """Whether the longest of many waits stays below a limit, in one of three tries: on a busy machine any
    process is now and then put aside for longer than that, but not each time.
    """
    return any(longest() < seconds for _ in range(3))


def fake_python(tmp_path: Path, code: str) -> Path:
    """A program that gets the arguments after `-B -m MODULE`."""
    script = tmp_path / "answer.py"
    script.write_text("import sys\narguments = sys.argv[4:]\n" + code)
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    path.chmod(0o755)
    return path


def process_record(folder: Path) -> dict[str, Any]:
    """The process record of a job."""
    return dict(json.loads((folder / "process.json").read_text(encoding="utf-8")))
