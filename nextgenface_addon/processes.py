"""Processes by their id: whether they live, and how they are asked to stop. No bpy in here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

_QUERY_LIMITED_INFORMATION = 0x1000  # the right that Windows is asked for


def interrupt(pid: int) -> None:
    """Ask a process to stop: SIGINT, or CTRL_BREAK on Windows (needs a process group of its own there)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may just have ended
        if sys.platform == "win32":
            os.kill(pid, signal.CTRL_BREAK_EVENT)
        else:
            os.kill(pid, signal.SIGINT)


def process_start_time(pid: int) -> int | str | None:
    """What distinguishes two processes that had the same id, as kept in JSON; None when there is no such
    process.
    """
    if sys.platform == "win32":
        return _windows_start_time(pid)
    if sys.platform == "linux":
        try:
            return int(_stat(pid)[19])  # field 22 of the file
        except (ValueError, IndexError):
            return None
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip() or None


def _windows_start_time(pid: int) -> int | None:
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        return None
    times = [wintypes.FILETIME() for _ in range(4)]  # creation comes first
    told = kernel.GetProcessTimes(handle, *map(ctypes.byref, times))
    kernel.CloseHandle(handle)
    return (times[0].dwHighDateTime << 32) + times[0].dwLowDateTime if told else None


def _stat(pid: int) -> list[str]:
    """What Linux says about a process after its name, which may hold spaces and brackets; else empty."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def process_alive(pid: int) -> bool:
    """Whether a process with this id exists and has not ended."""
    if sys.platform == "win32":
        import ctypes

        still_active = 259
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        ok = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return bool(ok) and code.value == still_active
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] != ["Z"]  # ended, and nobody has asked for its exit code yet
