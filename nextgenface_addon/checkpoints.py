"""Checkpoints on their way into a scene: the solver completes them to a results folder. No bpy in here."""

from __future__ import annotations

import os
from pathlib import Path

from .job_events import RESULT_FILE
from .jobs import JobRequest

SUFFIXES = (".pickle", ".pkl")


def is_checkpoint(path: Path) -> bool:
    """Whether a file has a checkpoint's ending; what is in it the solver finds out."""
    return path.suffix.lower() in SUFFIXES


def export_folder(checkpoint: Path) -> Path:
    """The folder that a checkpoint is completed into: beside the run's own results, or beside the file."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent / checkpoint.stem.removesuffix("_output")
    return checkpoint.with_suffix("")


def exported_folder(checkpoint: Path) -> Path | None:
    """The folder of an earlier export, when it is complete and the checkpoint has not changed since."""
    folder = export_folder(checkpoint)
    try:
        made = (folder / RESULT_FILE).stat().st_mtime
        return folder if made >= checkpoint.stat().st_mtime else None
    except OSError:
        return None


def export_request(checkpoint: Path) -> JobRequest:
    """The job that completes a checkpoint without running a stage. Its photos are those of the run."""
    return JobRequest(
        input=(), output=export_folder(checkpoint), checkpoint=checkpoint, parent_pid=os.getpid()
    )
