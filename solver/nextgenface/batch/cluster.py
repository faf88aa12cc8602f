"""Workers of an existing Dask cluster (the optional extra `nextgenface[cluster]`).

One task is one subject. Where workers declare a resource GPU each task takes one of them. Stopping is passed
on by calling every worker: what a running task looks at is kept with the worker object it runs on.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..cores import available_cores
from ..errors import EnvironmentProblem, NextGenFaceError
from .child import STOP_GRACE_SECONDS, TERMINATE_GRACE_SECONDS, Stop
from .local import POLL_SECONDS, Finished, visible_gpus
from .records import Record, Task, read_record
from .runner import Place, run_subject

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 20
REPEAT_STOP_SECONDS = 5.0
LOOK_SECONDS = 2.0
GPU = "GPU"

log = logging.getLogger(__name__)


class ClusterError(NextGenFaceError):
    """The cluster cannot be reached or cannot do the work."""


class DaskPool:
    """The workers behind a scheduler's address. Used as a context manager, which closes the connection."""

    def __init__(self, address: str) -> None:
        """Connect. Raises EnvironmentProblem without the extra, ClusterError when nobody answers."""
        try:
            from distributed import Client
        except ImportError as problem:
            raise EnvironmentProblem(
                "--scheduler needs dask.distributed, which is not installed here: pip install "
                '"nextgenface[cluster]"'
            ) from problem
        try:
            self._client: Client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as problem:
            raise ClusterError(
                f"No Dask scheduler answers at {address} ({problem or type(problem).__name__}). Check the "
                "address (tcp://host:8786) and that this machine may reach it."
            ) from problem
        self._workers: dict[str, Any] = {}
        self.gpus = 0
        self._look()
        self.description = f"{len(self._workers)} workers of the Dask cluster {address}"
        if self.gpus:
            self.description += f", {self.gpus} GPUs"

    def __enter__(self) -> DaskPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self, output: Path) -> list[str]:
        """See that the workers have this version and share the disk; returns warnings.

        Raises ClusterError.
        """
        if not self._workers:
            return ["The cluster has no workers yet; waiting for some."]
        try:
            answers: dict[str, dict[str, Any]] = self._client.run(worker_facts, output)
        except Exception as problem:
            raise ClusterError(
                f"The cluster's workers cannot do this ({type(problem).__name__}: {problem}). Install "
                f"nextgenface[cluster] {__version__} in the environment that they run in."
            ) from problem
        blind = sorted(worker for worker, answer in answers.items() if not answer["sees_output"])
        if blind:
            raise ClusterError(
                f"The worker {blind[0]} does not see {output}. Photos and --output must be on a disk that "
                "all workers share, under the same path."
            )
        others = sorted({str(answer["version"]) for answer in answers.values()} - {__version__})
        return [f"Some workers run NextGenFace {', '.join(others)}, not {__version__}."] if others else []

    def run(self, tasks: Sequence[Task], stop: Stop) -> Iterator[Finished | None]:
        """See `Pool.run`.

        No more tasks are handed over than the workers take at once, and one to spare: workers that come later
        get their share, and an adaptive cluster sees that more of them would help.
        """
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        coming = list(reversed(tasks))
        waiting: dict[str, tuple[Future, Task]] = {}
        stopping = _Stopping(self._client, tasks[0].run if tasks else "", stop)
        looked = time.monotonic()
        while coming or waiting:
            while coming and stop.requested:
                task = coming.pop()
                yield task, Record(run=task.run)
            while coming and len(waiting) <= self.slots():
                future, task = self._submit(coming.pop())
                waiting[future.key] = (future, task)
                future.add_done_callback(ended.put)
            try:
                future = ended.get(timeout=POLL_SECONDS)
            except queue.Empty:
                yield None
                if stopping.expired() or self._client.status not in ("running", "connecting"):
                    break
            else:
                if future.key in waiting:
                    _, task = waiting.pop(future.key)
                    yield task, _record_of(future, task)
            if time.monotonic() - looked > LOOK_SECONDS:
                self._look()
                looked = time.monotonic()
        reason = "The cluster let go of it." if stop.requested else "The connection to the cluster was lost."
        for future, task in waiting.values():
            future.cancel()
            yield task, _left_behind(task, reason)
        for task in reversed(coming):
            yield task, Record(run=task.run)

    def slots(self) -> int:
        """How many tasks the workers take at once: one per GPU where any declares some, else per thread."""
        return self.gpus or sum(int(worker["nthreads"]) for worker in self._workers.values())

    def _look(self) -> None:
        """See which workers there are now; when the scheduler does not answer, those of before."""
        try:
            self._workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except Exception as problem:
            log.warning("The scheduler does not answer: %s", problem)
        self.gpus = sum(int(worker["resources"].get(GPU, 0)) for worker in self._workers.values())

    def _submit(self, task: Task) -> tuple[Future, Task]:
        future = self._client.submit(
            run_on_worker,
            task,
            threads_per_host(self._workers),
            key=f"nextgenface-{task.run}-{task.name}",
            pure=False,
            resources={GPU: 1} if self.gpus else None,
        )
        return future, task


class _Stopping:
    """Passes a stop on to the workers, repeatedly (workers come and go), and loses patience in the end."""

    def __init__(self, client: Client, run: str, stop: Stop) -> None:
        self._client, self._run, self._stop = client, run, stop
        self._since: float | None = None
        self._told = (0.0, False)

    def expired(self) -> bool:
        """Tell the workers when it is time to; True once they have had their time."""
        if not self._stop.requested:
            return False
        now = time.monotonic()
        self._since = self._since or now
        said, hurried = self._told
        if now - said > REPEAT_STOP_SECONDS or self._stop.hurry != hurried:
            self._told = (now, self._stop.hurry)
            try:
                self._client.run(request_stop, self._run, self._stop.hurry, on_error="ignore")
            except Exception as problem:
                log.warning("The cluster could not be told to stop: %s", problem)
        patience = TERMINATE_GRACE_SECONDS + (0.0 if self._stop.hurry else 2 * STOP_GRACE_SECONDS)
        return now - self._since > patience


def _record_of(future: Future, task: Task) -> Record:
    """What came of a task. A task that the cluster gave up has left its record in the folder."""
    try:
        if future.status in ("cancelled", "lost"):
            return _left_behind(task)
        record = future.result()
    except Exception as problem:
        text = f"The cluster gave the task up: {type(problem).__name__}: {problem}"
        return Record("failed", text, type(problem).__name__, run=task.run)
    assert isinstance(record, Record)
    return record


def _left_behind(task: Task, reason: str = "The cluster let go of it.") -> Record:
    record = read_record(task.folder)
    if record.run != task.run:
        return Record(run=task.run)
    if record.state in ("finished", "failed"):
        return record
    return replace(record, state="stopped", error=reason, kind="Stopped")


def threads_per_host(workers: Mapping[str, Any]) -> dict[str, int]:
    """How many subjects each host's workers take at once, by host."""
    threads: dict[str, int] = {}
    for worker in workers.values():
        threads[worker["host"]] = threads.get(worker["host"], 0) + int(worker["nthreads"])
    return threads


# ---- what runs on the workers ---------------------------------------------------------------------------


def worker_facts(output: Path) -> dict[str, Any]:
    """What the client has to know of a worker."""
    return {"version": __version__, "sees_output": output.is_dir()}


def request_stop(run: str, hurry: bool, dask_worker: Any) -> None:
    """Ask the tasks of a batch on this worker to stop, those that have not begun, too."""
    _stop_of(dask_worker, run).request(hurry=hurry)


def run_on_worker(task: Task, threads: Mapping[str, int]) -> Record:
    """One task: work on a subject with this worker's share of the cores and, where declared, one GPU."""
    from distributed import get_worker

    worker = get_worker()
    nthreads = max(1, worker.state.nthreads)
    host = worker.address.rpartition("://")[2].rpartition(":")[0]
    jobs = max(nthreads, threads.get(host, nthreads))
    resources = worker.state.total_resources
    with _gpu_of(worker, GPU in resources) as environment:
        place = Place(max(1, available_cores() // jobs), environment)
        return run_subject(task, place, _stop_of(worker, task.run))


def _stop_of(worker: Any, run: str) -> Stop:
    stops: dict[str, Stop] = vars(worker).setdefault("nextgenface_stops", {})
    return stops.setdefault(run, Stop())


@contextmanager
def _gpu_of(
    worker: Any, declared: bool, visible: Callable[[], Sequence[str]] = visible_gpus
) -> Iterator[dict[str, str]]:
    """Take one of the GPUs that a worker sees, for one task; nothing is changed where it declares none.

    The scheduler hands out no more tasks than a worker declares GPUs, so the queue is only empty where it
    declares more than there are; its tasks then share.
    """
    names = list(visible()) if declared else []
    if not names:
        yield {}
        return
    fresh: queue.SimpleQueue[str] = queue.SimpleQueue()
    free = vars(worker).setdefault("nextgenface_gpus", fresh)
    if free is fresh:
        for name in names:
            free.put(name)
    try:
        name = free.get_nowait()
    except queue.Empty:
        log.warning("%s declares more GPUs than the %d it sees; tasks share one", worker.address, len(names))
        yield {"CUDA_VISIBLE_DEVICES": names[os.getpid() % len(names)]}
        return
    try:
        yield {"CUDA_VISIBLE_DEVICES": name}
    finally:
        free.put(name)
