"""The client of a job folder, with a fake solver. No bpy."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from process_helpers import request, run, wait_for_stage, within

from nextgenface_addon.job_events import EventReader
from nextgenface_addon.job_list import describe_job, find_jobs
from nextgenface_addon.jobs import Job, JobError, JobRequest, PhotoInput, checkpoint_path, resume_request


def test_finished_job_reports_its_stages_and_result(folder: Path, solver: Path) -> None:
    job, seen = run(folder, solver)
    assert job.status.state == "finished" and job.status.exit_code == 0
    assert job.status.result == folder / "result.json"
    assert job.status.warnings == ("Brille erkannt: größer",)
    fractions = [status.fraction for status in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert {"pose", "textures"} & {status.stage for status in seen}
    written = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    assert written == {
        "schema": 1, "method": "face", "input": [str(folder / "Foto ü.png")], "output": str(folder),
        "config": None, "set": {"behaviour": ""}, "sharedIdentity": False, "checkpoint": None, "skip": [],
        "face": 0, "parent_pid": None, "mesh": None, "heldOut": [], "resume": False,
    }  # fmt: skip
    assert not list(solver.rglob("__pycache__")), "the solver's folder must not be written to"


def test_garbage_between_events_is_passed_over(folder: Path, solver: Path) -> None:
    job, seen = run(folder, solver, "garbage")
    assert job.status.state == "finished"
    assert job.events.bad_lines == 4
    assert any(status.step == 2 for status in seen), "the line written in two halves was read whole"


@pytest.mark.parametrize("behaviour", ["flood", "long line"])
def test_a_flood_of_events_never_blocks_a_poll(folder: Path, solver: Path, behaviour: str) -> None:
    def longest() -> float:
        job, times = Job(folder), []
        job.start(request(folder, behaviour), Path(sys.executable), solver)
        while not job.status.done:
            before = time.perf_counter()
            job.poll()
            times.append(time.perf_counter() - before)
            time.sleep(0.002)
        print(f"longest poll while the events came as a {behaviour}: {max(times) * 1000:.1f} ms")
        assert job.status.state == "finished" and job.status.stage == "render"
        assert job.status.step == 1, "the last words were read as well"
        return max(times)

    assert within(longest, 0.1)


@pytest.mark.parametrize("stage", ["pose", "photometric", "textures", "render"])
def test_cancel_at_each_stage_keeps_the_finished_ones(folder: Path, solver: Path, stage: str) -> None:
    job = Job(folder)
    job.start(request(folder, f"wait:{stage}"), Path(sys.executable), solver)
    wait_for_stage(job, stage)
    assert [found.state for found in find_jobs(folder.parent)] == ["running"]
    with pytest.raises(JobError, match="still running"):
        Job(folder).start(request(folder), Path(sys.executable), solver)
    before = time.monotonic()
    job.cancel()
    assert job.cancelling
    assert job.wait(interval=0.02).state == "cancelled"
    assert time.monotonic() - before < 2.0
    assert job.status.exit_code == 130 and job.status.error == ""
    found = describe_job(folder)
    assert found is not None and found.state == "cancelled"
    done = ["pose", "photometric", "textures", "render"].index(stage)
    assert found.checkpoints == tuple(range(1, done + 1))
    again = resume_request(folder)
    assert list(again.skip) == list(range(1, done + 1))
    assert again.checkpoint == (checkpoint_path(folder, done) if done else None)
    assert again.photos() == request(folder).photos()
    # Resumed, it runs only what is left, and finishes.
    job = Job(folder)
    job.start(replace(again, set={}), Path(sys.executable), solver)
    assert job.wait(interval=0.02).state == "finished"
    assert (folder / "stop").exists() is False


def test_cancel_while_the_solver_is_loading(folder: Path, solver: Path) -> None:
    job = Job(folder)
    job.start(request(folder, "loading"), Path(sys.executable), solver)
    time.sleep(0.3)
    before = time.monotonic()
    job.cancel()
    assert job.wait(interval=0.02).state == "cancelled"
    assert time.monotonic() - before < 2.0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("method", "ended_early"), [("face", True), ("mesh", False)])
def test_a_long_step_is_ended_where_nothing_is_lost_by_it(
    folder: Path, solver: Path, method: str, ended_early: bool
) -> None:
    """A face's stage begins anew anyway; other methods write their checkpoint after the step."""
    job = Job(folder)
    job.start(request(folder, "long step:textures", method=method), Path(sys.executable), solver)
    wait_for_stage(job, "textures")
    before = time.monotonic()
    job.cancel()
    while not job.poll().done and time.monotonic() - before < 2.0:
        time.sleep(0.02)
    assert job.status.done == ended_early
    if ended_early:
        assert job.status.state == "cancelled" and job.status.exit_code == 130
        assert list(resume_request(folder).skip) == [1, 2]
    else:
        job.cancel_grace = 0.0
        assert job.wait(interval=0.02).state == "cancelled"


def test_the_stop_file_alone_stops(folder: Path, solver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows for a job of an earlier Blender, which no signal reaches."""
    monkeypatch.setattr("nextgenface_addon.child.interrupt", lambda pid: None)
    job = Job(folder)
    job.start(request(folder, "wait:pose"), Path(sys.executable), solver)
    wait_for_stage(job, "pose")
    job.cancel()
    assert job.wait(interval=0.02).exit_code == 130


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to ignore")
def test_a_solver_that_does_not_listen_is_killed(folder: Path, solver: Path) -> None:
    job = Job(folder, cancel_grace=0.2, terminate_grace=0.2)
    job.start(request(folder, "deaf"), Path(sys.executable), solver)
    wait_for_stage(job, "render")
    job.cancel()
    assert job.wait(interval=0.02).state == "cancelled"
    assert job.status.exit_code == -signal.SIGKILL


def test_errors_become_sentences(folder: Path, solver: Path) -> None:
    user_error, _ = run(folder / "a", solver, "user_error")
    assert user_error.status.state == "failed" and user_error.status.exit_code == 2
    assert user_error.status.text() == "No face in photo.png. Use another photo."
    assert user_error.status.kind == "NoFaceError"
    crash, _ = run(folder / "b", solver, "exit:7")
    assert crash.status.state == "failed" and "exit code 7" in crash.status.error
    assert "out of luck" in crash.status.error and str(folder / "b" / "console.log") in crash.status.error
    nothing, _ = run(folder / "c", solver, "no_result")
    assert nothing.status.state == "failed" and "result.json" in nothing.status.error
    if sys.platform != "win32":
        killed, _ = run(folder / "d", solver, "killed")
        assert killed.status.state == "failed" and "memory" in killed.status.error
    states = {job.folder.name: job.state for job in find_jobs(folder)}
    assert set(states.values()) == {"failed"} and {"a", "b", "c"} <= set(states)


def test_missing_solver_and_missing_python_are_told_apart(folder: Path, tmp_path: Path) -> None:
    job = Job(folder)
    with pytest.raises(JobError, match="cannot be started"):
        job.start(request(folder), tmp_path / "no-python")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = bare / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    job = Job(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    job.start(request(folder), python, empty)
    assert "not installed" in job.wait(interval=0.02).text()


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(JobError, match="cannot be written"):
        Job(tmp_path / "taken").start(request(tmp_path), Path(sys.executable))


def test_a_new_run_does_not_read_the_old_runs_events(folder: Path, solver: Path) -> None:
    run(folder, solver, "user_error")
    job, _ = run(folder, solver)
    assert job.status.state == "finished" and job.status.error == ""


def test_jobs_are_found_again(folder: Path, solver: Path) -> None:
    run(folder / "done", solver)
    stopped = folder / "stopped"
    stopped.mkdir()
    (stopped / "job.json").write_text('{"schema": 1}')
    (stopped / "process.json").write_text(json.dumps({"pid": 2**22 + 7, "started": 1}))
    (folder / "no job").mkdir()
    assert {job.folder.name: job.state for job in find_jobs(folder)} == {
        "done": "finished",
        "stopped": "stopped",
    }
    assert find_jobs(folder / "missing") == []


def test_event_reader_survives_a_file_that_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read() == []
    path.write_bytes(b'{"event": "a"}\n{"event": "b"}\n{"ev')
    assert [event["event"] for event in reader.read()] == ["a", "b"]
    path.write_bytes(b'{"event": "c"}\n')
    assert [event["event"] for event in reader.read()] == ["c"]
    assert reader.bad_lines == 0


def test_a_request_survives_being_written_and_read(folder: Path) -> None:
    """Resume sends the same job again; nothing of it may be lost on the way."""
    asked = JobRequest(
        input=[PhotoInput(folder / "a.png", rotate=90, face=2, focal35=35.5), PhotoInput(folder / "ü.png")],
        output=folder / "out",
        config=folder / "my.ini",
        set={"seed": 3, "device": "cpu", "trimPca": True},
        shared_identity=True,
        checkpoint=folder / "stage1_output.pickle",
        skip=[1],
        face=2,
        method="mesh",
        mesh=folder / "start.obj",
        held_out=["view 3"],
    )
    Job(folder).prepare(asked)
    assert JobRequest.read(folder) == asked
    assert resume_request(folder) == replace(asked, resume=True), "the method finds its own checkpoint"
