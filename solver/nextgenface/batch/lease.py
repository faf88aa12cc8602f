"""A folder belongs to one process at a time, also when processes are killed or run on several machines.

A lease is a small file that its holder touches every few seconds. It is free again when its holder has
removed it, when its holder's process on this machine is gone, or when it has not been touched for
`STALE_SECONDS` as this process sees it (clocks of different machines are never compared).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import Cancelled, NextGenFaceError
from ..files import output_error
from .processes import alive
from .records import read_json

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 20.0

log = logging.getLogger(__name__)


class Busy(NextGenFaceError):
    """Another process holds the lease and is alive."""


@contextmanager
def held(path: Path, *, wait: bool, cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the lease `path` inside the block.

    With `wait` a living holder is waited for; without, it raises Busy. Raises Cancelled when `cancelled` says
    so while waiting, OutputError when the lease cannot be written.
    """
    token = uuid.uuid4().hex
    _acquire(path, token, wait, cancelled)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, done), name="lease", daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        if read_json(path).get("token") == token:
            with suppress(OSError):
                path.unlink()


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _acquire(path: Path, token: str, wait: bool, cancelled: Callable[[], bool]) -> None:
    seen: tuple[Any, float] | None = None
    changed_at = time.monotonic()
    while not _create(path, token):
        if cancelled():
            raise Cancelled("Stopped.")
        holder = read_json(path)
        try:
            state = (holder.get("token"), path.stat().st_mtime)
        except OSError:
            continue  # just given up
        if seen is not None and state[0] == seen[0] and state != seen and not wait:
            raise Busy(
                f"Another process works in {path.parent} (process {holder.get('pid')} on "
                f"{holder.get('host')}). Wait for it, stop it, or choose another output folder."
            )
        if state != seen:
            seen, changed_at = state, time.monotonic()
        stale = time.monotonic() - changed_at > STALE_SECONDS
        if stale or _is_dead(holder):
            log.info("taking over %s from process %s on %s", path, holder.get("pid"), holder.get("host"))
            _remove(path, state[0])
        else:
            time.sleep(min(0.2, HEARTBEAT_SECONDS))


def _create(path: Path, token: str) -> bool:
    """Write the lease unless there is one."""
    content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": token})
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
    except FileExistsError:
        return False
    except OSError as problem:
        raise output_error(path, problem) from problem
    return True


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder's process is known to be gone. An unreadable lease is only outlived."""
    pid = holder.get("pid")
    return isinstance(pid, int) and holder.get("host") == socket.gethostname() and not alive(pid)


def _remove(path: Path, token: Any) -> None:
    """Take a dead holder's lease away. A lease that somebody else has renewed meanwhile is put back."""
    aside = path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}")
    with suppress(OSError):
        os.rename(path, aside)
        if read_json(aside).get("token") != token:
            os.rename(aside, path)
        else:
            aside.unlink()
