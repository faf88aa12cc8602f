"""Processes of this machine by their id."""

from __future__ import annotations

import os
from pathlib import Path

from ..job import process_is_alive


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has asked about yet (a zombie, as they
    gather in containers) does not.
    """
    if not process_is_alive(pid):
        return False
    try:
        # The name, which may hold anything, stands in brackets before the state.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def names(pid: int, folder: Path) -> bool | None:
    """Whether a folder is one of the words of a process's command line; None where that cannot be read."""
    if not Path("/proc/self/cmdline").exists():
        return None
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
