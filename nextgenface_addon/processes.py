"""Processes by their id: whether they live, and how they are asked to stop. No bpy in here."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path


def interrupt(pid: int) -> None:
    """Ask a process to stop: SIGINT, or CTRL_BREAK on Windows (needs a process group of its own there)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may just have ended
        if sys.platform == "win32":
            os.kill(pid, signal.CTRL_BREAK_EVENT)
        else:
            os.kill(pid, signal.SIGINT)


def process_start_time(pid: int) -> int | None:
    """A number that distinguishes two processes that had the same id; None where the system does not tell
    (not Linux).
    """
    try:
        # The command name, field 2, may hold spaces and brackets; the start time is field 22.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def process_alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    if sys.platform == "win32":
        import ctypes

        query_limited_information, still_active = 0x1000, 259
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        ok = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return bool(ok) and code.value == still_active
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
