"""Batches on a Dask cluster: two worker processes on this machine, jobs that take no time."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nextgenface.batch import cluster
from nextgenface.batch.child import Stop
from nextgenface.batch.cluster import ClusterError, DaskPool, threads_per_host
from nextgenface.batch.records import read_record
from nextgenface.batch.run import BatchRequest, Reporter, run_batch
from nextgenface.batch.summary import Summary
from nextgenface.config import Config
from nextgenface.errors import EnvironmentProblem

from tests.solver.test_batch import JOB, entries, people, starts, states, wait_for


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EnvironmentProblem, match=r'pip install "nextgenface\[cluster\]"'):
        DaskPool("tcp://127.0.0.1:1")


distributed = pytest.importorskip("distributed", reason='needs the extra: pip install "nextgenface[cluster]"')


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """Two worker processes of two threads each, set up as for GPUs: each sees one and declares it."""
    specs = {
        name: {
            "cls": distributed.Nanny,
            "options": {
                "nthreads": 2,
                "resources": {"GPU": 1},
                "env": {"CUDA_VISIBLE_DEVICES": name},
                "dashboard": False,
                "silence_logs": logging.CRITICAL,
            },
        }
        for name in ("7", "9")
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"port": 0, "dashboard": False}}
    with distributed.SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL) as two:
        yield two


@pytest.fixture
def address(workers: Any) -> str:
    return str(workers.scheduler_address)


def batch(tmp_path: Path, address: str, stop: Stop | None = None) -> Summary:
    request = BatchRequest(tmp_path / "in", tmp_path / "out", Config(), command=JOB)
    with DaskPool(address) as pool:
        (tmp_path / "out").mkdir(exist_ok=True)
        assert pool.check(tmp_path / "out") == []
        return run_batch(request, pool, Reporter(), stop or Stop())


def test_everybody_is_done_once_although_a_worker_is_killed(tmp_path: Path, address: str) -> None:
    people(tmp_path / "in", a="fine", b="corrupt", c="killed", d="slow", e="fine")
    found: list[Summary] = []
    thread = threading.Thread(target=lambda: found.append(batch(tmp_path, address)))
    thread.start()
    slow = tmp_path / "out" / "d"
    wait_for((slow / "checkpoints" / "stage1_output.pickle").exists)
    lost = read_record(slow).child
    worker = int(Path(f"/proc/{lost}/stat").read_text().rpartition(")")[2].split()[1])
    assert worker != os.getpid()
    os.kill(worker, signal.SIGKILL)
    thread.join()
    told = entries(tmp_path)
    assert found[0].counts() == {"finished": 4, "failed": 1, "stopped": 0, "waiting": 0}, told
    assert told["b"]["error"] == "the photo is damaged; export it again"
    assert starts(tmp_path) == Counter(a=1, b=1, c=2, d=2, e=1), "the lost one goes on from its checkpoint"
    assert told["d"]["attempts"] == 2
    assert "Dask cluster" in json.loads((tmp_path / "out" / "summary.json").read_text())["where"]


def test_each_task_takes_one_gpu(tmp_path: Path, address: str) -> None:
    names = {f"p{i}": "with_gpu" for i in range(4)}
    people(tmp_path / "in", **names)
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(2)  # the killed one has been replaced
    assert batch(tmp_path, address).counts()["finished"] == 4
    told = [json.loads((tmp_path / "out" / name / "gpu").read_text()) for name in names]
    by_gpu: dict[str, list[tuple[float, float]]] = {}
    for gpu, begun, ended in told:
        by_gpu.setdefault(gpu, []).append((begun, ended))
    assert len(by_gpu) == 2, "both workers, each with its own"
    for spans in by_gpu.values():
        spans.sort()
        assert all(spans[i][1] <= spans[i + 1][0] for i in range(len(spans) - 1)), "one at a time"


def test_a_stop_reaches_the_workers(tmp_path: Path, address: str) -> None:
    people(tmp_path / "in", **dict.fromkeys("abcd", "slow"))
    stop = Stop()

    def later() -> None:
        wait_for(lambda: len(starts(tmp_path)) == 2)
        stop.request()

    thread = threading.Thread(target=later)
    thread.start()
    summary = batch(tmp_path, address, stop)
    thread.join()
    assert Counter(states(summary).values()) == Counter(stopped=2, waiting=2)
    assert sum(starts(tmp_path).values()) == 2
    people(tmp_path / "in", **dict.fromkeys("abcd", "fine"))
    assert batch(tmp_path, address).counts()["finished"] == 4, (
        "a later batch is not stopped by an earlier one"
    )


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    with pytest.raises(ClusterError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskPool("tcp://127.0.0.1:9")


def test_a_disk_that_is_not_shared(tmp_path: Path, address: str) -> None:
    with DaskPool(address) as pool, pytest.raises(ClusterError, match="does not see .*elsewhere"):
        pool.check(tmp_path / "elsewhere")


def test_the_cores_of_a_host_are_shared_by_all_its_workers() -> None:
    workers = {
        "tcp://a:1": {"host": "a", "nthreads": 2},
        "tcp://a:2": {"host": "a", "nthreads": 1},
        "tcp://b:1": {"host": "b", "nthreads": 4},
    }
    assert threads_per_host(workers) == {"a": 3, "b": 4}
