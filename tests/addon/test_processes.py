"""What happens to jobs when processes, disks and folders fail them; queueing and following. No bpy."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_helpers import process_record, request, run, wait_for, wait_for_stage

from nextgenface_addon import child
from nextgenface_addon.child import running_pid
from nextgenface_addon.job_list import KnownJobs, describe_job, find_jobs
from nextgenface_addon.jobs import Job, JobError, JobRequest, resume_request
from nextgenface_addon.session import Entry, Session

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

BLENDER = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from nextgenface_addon.jobs import Job, JobRequest
folder = Path({folder!r})
job = Job(folder)
job.start(
    JobRequest(input=[folder / "a.png"], output=folder, set={{"behaviour": {behaviour!r}}},
               parent_pid=os.getpid() if {stops!r} else None),
    Path(sys.executable), Path({solver!r}),
)
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def blender(folder: Path, solver: Path) -> Iterator[object]:
    """Starts a process that stands for a Blender with a running job, and returns it."""
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str, *, stops: bool) -> subprocess.Popen[str]:
        code = BLENDER.format(
            root=str(Path(__file__).resolve().parents[2]), folder=str(folder), behaviour=behaviour,
            stops=stops, solver=str(solver),
        )  # fmt: skip
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "started\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    pid = running_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def state_of(folder: Path) -> str:
    found = describe_job(folder)
    assert found is not None
    return found.state


@posix_only
def test_a_solver_that_is_killed_from_outside(folder: Path, solver: Path) -> None:
    job = Job(folder)
    job.start(request(folder, "wait:textures"), Path(sys.executable), solver)
    wait_for_stage(job, "textures")
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    status = job.wait(interval=0.02)
    assert status.state == "failed" and status.exit_code == -9
    assert "memory" in status.text() and "Resume" in status.text()
    assert list(resume_request(folder).skip) == [1, 2]
    assert state_of(folder) == "failed"


@posix_only
def test_killed_with_its_blender_the_job_is_listed_as_stopped(folder: Path, blender: object) -> None:
    """As after a power cut: nobody had the time to write a word."""
    process = blender("wait:textures", stops=True)
    wait_for(lambda: (folder / "checkpoints" / "stage2_output.pickle").exists())
    solver_pid = process_record(folder)["pid"]
    os.kill(solver_pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(solver_pid, signal.SIGKILL)
    wait_for(lambda: running_pid(folder) is None)
    assert state_of(folder) == "stopped"
    assert list(resume_request(folder).skip) == [1, 2]


@posix_only
def test_the_job_stops_with_its_blender(folder: Path, blender: object) -> None:
    process = blender("wait:photometric", stops=True)
    wait_for(lambda: (folder / "checkpoints" / "stage1_output.pickle").exists())
    assert state_of(folder) == "running"
    process.kill()
    process.wait()
    before = time.monotonic()
    wait_for(lambda: running_pid(folder) is None)
    assert time.monotonic() - before < 3.0
    assert state_of(folder) == "cancelled"
    assert list(resume_request(folder).skip) == [1]


@posix_only
def test_the_job_runs_on_and_is_followed_and_cancelled_by_the_next_blender(
    folder: Path, blender: object
) -> None:
    process = blender("wait:photometric", stops=False)
    wait_for(lambda: (folder / "checkpoints" / "stage1_output.pickle").exists())
    process.kill()
    process.wait()
    time.sleep(0.3)
    assert state_of(folder) == "running"
    now, job = Session(), Job(folder)
    assert now.follow(job) and now.running
    wait_for_stage(job, "photometric")
    now.shut_down()
    assert not job.cancelling, "a job that runs on is left alone when Blender closes"
    job.cancel()
    assert job.wait(interval=0.02).state == "cancelled"
    assert running_pid(folder) is None


@posix_only
def test_a_followed_job_is_seen_to_finish(folder: Path, blender: object) -> None:
    process = blender("", stops=False)
    job = Job(folder)
    assert job.attach()
    process.kill()
    process.wait()
    assert job.wait(interval=0.02).state == "finished"
    assert job.status.result == folder / "result.json"


def test_another_process_with_the_same_id_is_not_taken_for_the_solver(folder: Path, solver: Path) -> None:
    job, _ = run(folder, solver)
    record = process_record(folder)
    for wrong in (
        {"pid": os.getpid(), "started": record["started"]},
        {"pid": True, "started": None},
        {"pid": -1},
        {"pid": 10**30, "started": 1},
    ):
        child.write_json(folder / "process.json", wrong)
        assert running_pid(folder) is None
        assert not Job(folder).attach()
    assert job.status.state == "finished"


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        (1, "failed", "exit code 1"),
        (2, "failed", "out of luck"),
        (3, "failed", "exit code 3"),
        (130, "cancelled", "Cancelled"),
        (137, "failed", "memory"),
    ],
)
def test_exit_codes(folder: Path, solver: Path, code: int, state: str, said: str) -> None:
    job, _ = run(folder, solver, f"exit:{code}")
    assert job.status.state == state and said in job.status.text()
    assert state_of(folder) == state


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_solving_is_named(folder: Path, solver: Path) -> None:
    job, _ = run(folder, solver, "full disk")
    assert job.status.state == "failed" and "is full" in job.status.text()


@pytest.mark.parametrize("name", ["job.json", "process.json"])
def test_a_full_disk_while_starting_leaves_no_process(
    folder: Path, solver: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pids = []

    def write(path: Path, value: object) -> None:
        if isinstance(value, dict) and "pid" in value:
            pids.append(value["pid"])
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_text("{}")

    monkeypatch.setattr("nextgenface_addon.jobs.write_json", write)
    monkeypatch.setattr("nextgenface_addon.child.write_json", write)
    with pytest.raises(JobError, match="No space left"):
        Job(folder).start(request(folder, "wait:pose"), Path(sys.executable), solver)
    assert len(pids) == (name == "process.json")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def entry(folder: Path, solver: Path, behaviour: str = "") -> tuple[Entry, JobRequest]:
    """What the run operator puts into the queue."""
    job, asked = Job(folder), request(folder, behaviour)
    return Entry(job, lambda: job.start(asked, Path(sys.executable), solver)), asked


def test_two_jobs_queue(folder: Path, solver: Path) -> None:
    now = Session()
    for name, behaviour in (("eins", "wait:pose"), ("zwei", ""), ("drei", "")):
        now.add(*entry(folder / name, solver, behaviour))
    assert now.running and [item.job.folder.name for item in now.waiting] == ["zwei", "drei"]
    assert now.is_busy(folder / "zwei") and not now.is_busy(folder / "vier")
    assert state_of(folder / "zwei") == "created"
    assert {job.folder.name: job.state for job in now.listed()} == {
        "eins": "running",
        "zwei": "created",
        "drei": "created",
    }
    assert now.drop(folder / "drei") and not now.drop(folder / "drei")
    first = now.job
    assert first is not None
    wait_for_stage(first, "pose")
    first.cancel()
    first.wait(interval=0.02)
    now.start_next()
    assert now.job is not None and now.job.folder.name == "zwei" and not now.waiting
    now.job.wait(interval=0.02)
    first_ended = process_record(folder / "eins")["time"]
    assert process_record(folder / "zwei")["time"] > first_ended
    assert {job.folder.name: job.state for job in find_jobs(folder)} == {
        "eins": "cancelled",
        "zwei": "finished",
        "drei": "created",
    }


def test_a_job_that_cannot_start_does_not_stop_the_queue(folder: Path, solver: Path) -> None:
    now = Session()
    broken, asked = entry(folder / "eins", solver)

    def fail() -> None:
        raise JobError("The solver's Python is gone.")

    broken.start = fail
    with pytest.raises(JobError):
        now.add(broken, asked)
    assert now.status.state == "failed" and "gone" in now.status.text()
    now.add(*entry(folder / "zwei", solver))
    assert now.job is not None
    assert now.job.wait(interval=0.02).state == "finished"


def test_closing_asks_the_running_job_to_stop(folder: Path, solver: Path) -> None:
    now = Session()
    now.add(*entry(folder / "eins", solver, "wait:pose"))
    now.add(*entry(folder / "zwei", solver))
    job = now.job
    assert job is not None
    wait_for_stage(job, "pose")
    now.shut_down()
    assert job.wait(interval=0.02).state == "cancelled" and not now.waiting
    assert state_of(folder / "zwei") == "created", "it can be started from the list"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "\x00" * 40])
def test_a_damaged_job_file_is_listed_as_broken(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(content)
    assert state_of(folder) == "broken"
    with pytest.raises(JobError, match="damaged"):
        JobRequest.read(folder)


@pytest.mark.parametrize(
    "content",
    [
        '{"schema": 2, "input": []}',
        '{"schema": 1}',
        '{"schema": 1, "input": [{}]}',
        '{"schema": 1, "input": 3}',
    ],
)
def test_a_job_that_cannot_be_understood_cannot_be_resumed(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(content)
    with pytest.raises(JobError, match="damaged"):
        resume_request(folder)


def test_damaged_records_beside_a_job_do_no_harm(folder: Path, solver: Path) -> None:
    run(folder, solver)
    (folder / "process.json").write_bytes(b"\xff\xfe")
    (folder / "events.jsonl").write_bytes(os.urandom(200_000))
    assert state_of(folder) == "finished"
    (folder / "result.json").unlink()
    assert state_of(folder) in ("created", "stopped")


def test_checkpoints_of_an_earlier_run_are_not_gone_on_from(folder: Path, solver: Path) -> None:
    """The photo or the settings may have changed since; only what the stopped job itself did counts."""
    run(folder, solver)
    old = time.time() - 100
    for path in (folder / "checkpoints").iterdir():
        os.utime(path, (old, old))
    job = Job(folder)
    job.start(request(folder, "wait:pose"), Path(sys.executable), solver)
    wait_for_stage(job, "pose")
    job.cancel()
    job.wait(interval=0.02)
    assert resume_request(folder).checkpoint is None


def test_jobs_are_remembered(tmp_path: Path, folder: Path) -> None:
    known = KnownJobs(tmp_path / "new" / "jobs.json")
    assert known.folders() == []
    for number in range(60):
        known.remember(folder / str(number))
    known.remember(folder / "30")
    assert known.folders()[:3] == [folder / "30", folder / "59", folder / "58"]
    assert len(known.folders()) == 40
    known.forget(folder / "30")
    assert folder / "30" not in known.folders()
    known.path.write_text("{nonsense")
    assert known.folders() == []
    known.path.unlink()
    known.path.mkdir()  # cannot be written to: no error, nothing remembered
    known.remember(folder)
