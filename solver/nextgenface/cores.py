"""How many CPU cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cores() -> int:
    """CPU cores this process may use: affinity mask and container (cgroup) quota honoured, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = _cgroup_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_quota() -> float | None:
    """CPU quota of the container in cores, None when there is none (cgroup v2, then v1)."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        micros = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return (
            micros / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii")) if micros > 0 else None
        )
    except (OSError, ValueError, ZeroDivisionError):
        return None
