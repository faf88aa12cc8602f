"""Seconds and peak memory of a stretch of work, for result.json and the benchmarks."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")


@dataclass
class Measured:
    """What was measured; complete when the `measured` block has ended."""

    seconds: float = 0.0
    peak_mb: float = 0.0  # resident memory of the whole process, 10^6 bytes


@contextmanager
def measured(interval: float = 0.05) -> Iterator[Measured]:
    """Measure the block: wall time, and the highest resident memory of the process while it ran.

    On Linux the memory is sampled every `interval` seconds; elsewhere it is the highest since the process
    began, which is an upper bound.
    """
    result = Measured(peak_mb=resident_mb())
    done = threading.Event()

    def watch() -> None:
        while not done.wait(interval):
            result.peak_mb = max(result.peak_mb, resident_mb())

    watcher = threading.Thread(target=watch, name="memory watcher", daemon=True)
    watcher.start()
    start = time.monotonic()
    try:
        yield result
    finally:
        result.seconds = time.monotonic() - start
        done.set()
        watcher.join()
        result.peak_mb = max(result.peak_mb, resident_mb())


def resident_mb() -> float:
    """Resident memory of this process now (Linux), else its highest so far; 0 where nothing tells."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError, AttributeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
