"""Writing files so that nobody ever sees half of one: a temporary name beside the target, then a rename."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

_LOCKED = "The folder cannot be written to: choose another output folder or change its permissions."

TEMPORARY_MARK = ".partial-"
"""Part of every temporary name; leftovers of a killed run are recognised by it."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; rename it to `path` when the block ends without error.

    The content is flushed to disk before the rename, so that after a crash at any moment there is either the
    old file or the new one. Raises OutputError when the folder is read-only, full or gone.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        raise output_error(path, problem) from problem
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file atomically. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file atomically. Raises OutputError."""
    write_bytes(path, content.encode("utf-8"))


def output_error(path: Path, problem: OSError) -> OutputError:
    """Turn an operating-system error into one that says what to do."""
    advice = {
        errno.ENOSPC: "The disk is full: free some space or choose another output folder.",
        errno.EDQUOT: "The disk quota is used up: free some space or choose another output folder.",
        errno.EACCES: _LOCKED,
        errno.EPERM: _LOCKED,
        errno.EROFS: "The file system is read-only: choose another output folder.",
        errno.ENOENT: "The folder has disappeared: choose another output folder.",
        errno.ENAMETOOLONG: "The name is too long for this file system: choose a shorter output folder.",
        errno.ENOTDIR: "A part of this path is a file, not a folder: choose another output folder.",
        errno.EEXIST: "A file is in the way: choose another output folder.",
    }.get(problem.errno or 0, "Choose another output folder.")
    return OutputError(f"Cannot write {path} ({problem.strerror or problem}). {advice}")


def prepare_output(folder: Path, need_mb: float = 50.0) -> Path:
    """Make an output folder and prove that it can be written to, before hours of work go into it.

    Leftover temporary files of a killed run are removed. Raises OutputError when the folder cannot be made or
    written, or when less than `need_mb` megabytes are free.
    """
    folder = Path(folder).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / "checkpoints", folder / "debug"):
            for leftover in place.glob(f"{TEMPORARY_MARK}*"):
                leftover.unlink(missing_ok=True)
        probe = folder / f"{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}-probe"
        try:
            probe.write_bytes(b"\0" * 65536)
        finally:
            probe.unlink(missing_ok=True)
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as problem:
        raise output_error(folder, problem) from problem
    if free_mb < need_mb:
        raise OutputError(
            f"Only {free_mb:.0f} MB are free in {folder}, about {need_mb:.0f} MB are needed. "
            "Free some space or choose another output folder."
        )
    return folder
