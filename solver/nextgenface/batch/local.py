"""Workers on this machine: each works on one subject at a time, in a child process."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from ..cores import available_cores
from .child import Stop
from .records import Record, Task
from .runner import Place, run_subject

MEMORY_PER_WORKER = 2e9
"""Bytes that a job takes at the default settings, with some air."""

POLL_SECONDS = 0.2

Finished = tuple[Task, Record]


class Pool(Protocol):
    """Spreads tasks over workers."""

    description: str

    def run(self, tasks: Sequence[Task], stop: Stop) -> Iterator[Finished | None]:
        """Work on all tasks and yield each as it ends; None now and then, so that the caller can look round.

        After `stop` those begun are stopped and those not begun are yielded as waiting.
        """


class LocalPool:
    """`workers` processes at a time, each with its share of the cores and, where there are GPUs, one GPU."""

    def __init__(self, workers: int, gpus: Sequence[str] = ()) -> None:
        self.workers = workers
        self.gpus = tuple(gpus)
        self.description = f"{workers} worker{'s' if workers != 1 else ''} on this machine"

    def places(self) -> list[Place]:
        """What each worker offers its jobs."""
        threads = max(1, available_cores() // self.workers)
        return [
            Place(threads, {"CUDA_VISIBLE_DEVICES": self.gpus[i % len(self.gpus)]} if self.gpus else {})
            for i in range(self.workers)
        ]

    def run(self, tasks: Sequence[Task], stop: Stop) -> Iterator[Finished | None]:
        """See `Pool.run`."""
        free: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for place in self.places():
            free.put(place)

        def work(task: Task) -> Finished:
            place = free.get()
            try:
                return task, run_subject(task, place, stop)
            finally:
                free.put(place)

        with ThreadPoolExecutor(self.workers, thread_name_prefix="worker") as executor:
            try:
                yield from _as_they_end({executor.submit(work, task) for task in tasks})
            except BaseException:  # the caller gives up: let no child outlive it
                stop.request(hurry=True)
                raise


def _as_they_end(futures: set[Future[Finished]]) -> Iterator[Finished | None]:
    while futures:
        done, futures = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)
        yield None


def default_workers(gpus: Sequence[str]) -> int:
    """One worker per GPU, else as many as cores and free memory allow, at least one."""
    if gpus:
        return len(gpus)
    memory = available_memory()
    most = available_cores() if memory is None else int(memory // MEMORY_PER_WORKER)
    return max(1, min(available_cores(), most))


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes of memory that programs can still get; None where nothing tells."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def visible_gpus(ask: Callable[[], str] | None = None) -> tuple[str, ...]:
    """Names of the GPUs that this process may use, for CUDA_VISIBLE_DEVICES; empty where there is none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1"))
    return tuple(line.strip() for line in (ask or _nvidia_smi)().splitlines() if line.strip())


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
