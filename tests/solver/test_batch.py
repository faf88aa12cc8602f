"""Batches with jobs that take no time: who is done when, and what becomes of those that go wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nextgenface.batch import child, lease, run, runner
from nextgenface.batch.child import Stop
from nextgenface.batch.local import LocalPool
from nextgenface.batch.processes import alive
from nextgenface.batch.records import Record, read_record, write_record
from nextgenface.batch.run import BatchRequest, Reporter, run_batch
from nextgenface.batch.summary import Summary
from nextgenface.config import Config
from nextgenface.errors import OutputError

STAGE_1 = "stage1_output.pickle"
JOB = (sys.executable, "-S", str(Path(__file__).with_name("batch_job.py")))


def people(folder: Path, **behaviours: str) -> Path:
    """A folder of "photos" that say what is to happen to them."""
    folder.mkdir(exist_ok=True)
    for name, behaviour in behaviours.items():
        (folder / f"{name}.png").write_text(behaviour)
    return folder


def batch(tmp_path: Path, *, workers: int = 2, stop: Stop | None = None, **changes: Any) -> Summary:
    values = {"config": Config(), "command": JOB, **changes}
    request = BatchRequest(tmp_path / "in", tmp_path / "out", **values)
    return run_batch(request, LocalPool(workers), changes.pop("reporter", Reporter()), stop or Stop())


def starts(tmp_path: Path) -> Counter[str]:
    """How often each subject's job has been started."""
    path = tmp_path / "out" / "starts.txt"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def states(summary: Summary) -> dict[str, str]:
    return {row.subject.name: row.record.state for row in summary.rows}


def entries(tmp_path: Path) -> dict[str, dict[str, Any]]:
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in written["subjects"]}


def test_eight_copies_one_corrupt_and_one_killed(tmp_path: Path) -> None:
    copies = {f"copy_{i}": "fine" for i in range(8)}
    people(tmp_path / "in", **{**copies, "copy_2": "corrupt", "copy_5": "killed"})
    summary = batch(tmp_path)
    assert summary.counts() == {"finished": 7, "failed": 1, "stopped": 0, "waiting": 0}
    expected = Counter(dict.fromkeys(copies, 1)) + Counter(copy_5=1)
    assert starts(tmp_path) == expected, "nothing is done twice; the killed one goes on once"
    lines = (tmp_path / "out" / "starts.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("copy_5")] == ["copy_5 []", "copy_5 [1]"]
    told = entries(tmp_path)
    assert told["copy_2"]["error"] == "the photo is damaged; export it again"
    assert told["copy_2"]["kind"] == "PhotoError" and told["copy_2"]["result"] is None
    assert told["copy_5"]["attempts"] == 2 and told["copy_5"]["status"] == "finished"
    assert not list((tmp_path / "out").rglob("*working*")), "leases are given back"

    again = batch(tmp_path)
    assert starts(tmp_path) == expected, "finished ones are skipped, and failed ones without --retry"
    assert states(again) == states(summary) and all(row.earlier for row in again.rows)

    (tmp_path / "in" / "copy_2.png").write_text("fine")  # another size: another photo
    assert batch(tmp_path).counts()["finished"] == 8
    assert starts(tmp_path) == expected + Counter(copy_2=1)


def test_retry_tries_the_failed_ones_only(tmp_path: Path) -> None:
    people(tmp_path / "in", good="fine", bad="corrupt")
    batch(tmp_path)
    assert states(batch(tmp_path, retry=True)) == {"good": "finished", "bad": "failed"}
    assert starts(tmp_path) == Counter(good=1, bad=2)


@pytest.mark.parametrize(
    "behaviour, tries, words, kind",
    [
        ("crashes", 2, r"crashed \(SIGSEGV\).*tried 2 times", "Crash"),
        ("bug", 1, "exit code 1: RuntimeError: a fault of the program", "Failure"),
        ("silent", 1, "without writing .*result.json", "NoResult"),
        ("hangs", 1, "No progress for 3 s", "Timeout"),
    ],
)
def test_what_goes_wrong_is_one_clear_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, tries: int, words: str, kind: str
) -> None:
    monkeypatch.setattr(child, "STOP_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(child, "TERMINATE_GRACE_SECONDS", 0.2)
    people(tmp_path / "in", bad=behaviour, good="fine")
    summary = batch(tmp_path, stall_seconds=3.0)
    record = summary.rows[0].record
    assert states(summary) == {"bad": "failed", "good": "finished"}
    assert record.kind == kind and len(record.error.splitlines()) == 1
    assert re.search(words, record.error), record.error
    assert starts(tmp_path)["bad"] == tries


def test_a_checkpoint_that_cannot_be_used_is_not_the_end(tmp_path: Path) -> None:
    people(tmp_path / "in", anna="bad_checkpoint")
    assert batch(tmp_path).counts()["finished"] == 1
    assert starts(tmp_path)["anna"] == 3, "killed, refused its checkpoint, began anew"


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_stop_ends_everybody_and_the_next_run_goes_on(tmp_path: Path) -> None:
    people(tmp_path / "in", a="slow", b="slow", c="slow")
    stop = Stop()

    def under_way() -> bool:
        return all((tmp_path / "out" / name / "checkpoints" / STAGE_1).exists() for name in "ab")

    def ask() -> None:
        wait_for(under_way)
        stop.request()

    asker = threading.Thread(target=ask)
    asker.start()
    summary = batch(tmp_path, stop=stop)
    asker.join()
    assert states(summary) == {"a": "stopped", "b": "stopped", "c": "waiting"}
    assert entries(tmp_path)["a"]["status"] == "stopped", "the summary is written"
    people(tmp_path / "in", a="fine", b="fine", c="fine")  # as large as before: the same photos
    assert batch(tmp_path).counts()["finished"] == 3
    lines = (tmp_path / "out" / "starts.txt").read_text().splitlines()
    assert sorted(lines[2:]) == ["a [1]", "b [1]", "c []"], "from their checkpoints"


def test_a_stop_file_stops_one_of_them_until_the_next_run(tmp_path: Path) -> None:
    people(tmp_path / "in", a="stop_file", b="fine")
    assert states(batch(tmp_path)) == {"a": "stopped", "b": "finished"}
    people(tmp_path / "in", a="fine     ")
    assert states(batch(tmp_path)) == {"a": "finished", "b": "finished"}
    assert starts(tmp_path) == Counter(a=2, b=1)


def test_a_hurried_stop_kills(tmp_path: Path) -> None:
    people(tmp_path / "in", a="hangs")
    stop = Stop()
    threading.Timer(0.5, lambda: stop.request(hurry=True)).start()
    started = time.monotonic()
    assert batch(tmp_path, stop=stop).counts()["stopped"] == 1
    assert time.monotonic() - started < child.STOP_GRACE_SECONDS


def test_ctrl_c_and_kill_of_the_command_itself(tmp_path: Path) -> None:
    """The command in a process of its own: Ctrl-C (130, summary written), then kill -9, then to the end."""
    source = people(tmp_path / "in", a="slow", b="slow")
    script = (
        "import sys\nfrom nextgenface.batch import child\nfrom nextgenface.cli import batch\n"
        f"child.job_command = lambda: list({JOB!r})\nsys.exit(batch.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "--input", str(source), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2])}

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--workers", "2"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def under_way() -> bool:
        return all((tmp_path / "out" / name / "checkpoints" / STAGE_1).exists() for name in "ab")

    process = begin()
    wait_for(under_way)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "2 stopped" in out and "Stopping" in err
    assert {entry["status"] for entry in entries(tmp_path).values()} == {"stopped"}

    for name in "ab":  # from the photo, so that it takes its time
        (tmp_path / "out" / name / "checkpoints" / STAGE_1).unlink()
    process = begin()
    wait_for(under_way)
    process.kill()
    process.communicate()
    jobs = [read_record(tmp_path / "out" / name) for name in "ab"]
    assert [job.state for job in jobs] == ["running", "running"]

    process = begin()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "2 finished" in out
    assert not any(alive(job.child) for job in jobs), "orphans are ended first"
    assert starts(tmp_path) == Counter(a=3, b=3)


def test_two_batches_do_not_work_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
    people(tmp_path / "in", a="slow")
    stop = Stop()
    first = threading.Thread(target=lambda: batch(tmp_path, stop=stop))
    first.start()
    wait_for(lambda: bool(starts(tmp_path)))
    with pytest.raises(lease.Busy, match=f"process {os.getpid()} on {socket.gethostname()}"):
        batch(tmp_path)
    stop.request()
    first.join()
    assert entries(tmp_path)["a"]["status"] == "stopped" and starts(tmp_path) == Counter(a=1)


def test_one_subject_given_to_two_workers_is_done_once(tmp_path: Path) -> None:
    """As a cluster does that takes a slow worker for a dead one."""
    people(tmp_path / "in", a="half_a_second")
    request = BatchRequest(tmp_path / "in", tmp_path / "out", Config(), command=JOB)
    summary = run.plan(request, tmp_path / "out", "here")
    task = run.make_task(request, summary.rows[0].subject, summary)
    found: list[Record] = []
    both = [
        threading.Thread(target=lambda: found.append(runner.run_subject(task, runner.Place(), Stop())))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [record.state for record in found] == ["finished", "finished"]
    assert starts(tmp_path) == Counter(a=1)


def test_a_worker_that_was_lost_twice_is_a_failure(tmp_path: Path) -> None:
    """The worker itself is killed with its job, so all that is left is the record in the folder."""
    people(tmp_path / "in", a="fine")
    request = BatchRequest(tmp_path / "in", tmp_path / "out", Config(), command=JOB)
    summary = run.plan(request, tmp_path / "out", "here")
    task = run.make_task(request, summary.rows[0].subject, summary)
    lost = Record("running", run=task.run, photo_facts=task.photo_facts, settings=task.settings)
    for attempts, state in ((1, "finished"), (2, "failed")):
        write_record(task.folder, Record(**{**vars(lost), "attempts": attempts}))
        record = runner.run_subject(task, runner.Place(), Stop())
        assert record.state == state and record.attempts == 2
    assert "lost 2 times" in record.error


def test_a_lease_outlives_its_holder_only_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease.json"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid, "token": "x"}))
    started = time.monotonic()
    with lease.held(path, wait=False):
        assert time.monotonic() - started < 10, "a process of this machine is known to be gone"
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.5)
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    started = time.monotonic()
    with lease.held(path, wait=False):
        assert time.monotonic() - started > 0.5
    assert not path.exists()


def test_a_full_disk_stops_the_batch_and_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(tmp_path / "in", a="fine", b="fine", c="fine")
    full = [False]
    begun = child.Child.start

    def start(self: child.Child) -> int:
        full[0] = True  # full from here on: the first job is under way
        return begun(self)

    monkeypatch.setattr(runner, "disk_is_full", lambda folder: full[0])
    with monkeypatch.context() as patch:
        patch.setattr(child.Child, "start", start)
        summary = batch(tmp_path, workers=1)
    assert summary.counts()["finished"] == 1 and summary.counts()["failed"] == 0
    assert "disk" in summary.notes[0] and "full" in (tmp_path / "out" / "summary.html").read_text()
    full[0] = False
    assert batch(tmp_path).counts()["finished"] == 3
    assert starts(tmp_path) == Counter(a=1, b=1, c=1)


def test_a_failed_job_on_a_full_disk_is_not_a_failed_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(tmp_path / "in", a="corrupt")
    monkeypatch.setattr(child, "disk_is_full", lambda folder: True)
    summary = batch(tmp_path)
    assert states(summary) == {"a": "stopped"} and summary.rows[0].record.kind == "DiskFull"


def test_a_record_that_cannot_be_written_is_a_failure_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(tmp_path / "in", a="fine", b="fine")

    def refuse(folder: Path, record: Record) -> None:
        if folder.name == "a":
            raise OutputError(f"Cannot write {folder}")
        write_record(folder, record)

    monkeypatch.setattr(runner, "write_record", refuse)
    assert states(batch(tmp_path)) == {"a": "failed", "b": "finished"}


def test_what_is_in_the_way_is_a_failure_of_that_one(tmp_path: Path) -> None:
    people(tmp_path / "in", a="fine", b="fine")
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "a").write_text("a file")
    (tmp_path / "out" / "b" / "subject.json").write_text('{"state": 5, "photo_facts": [1], "attempts": "x"}')
    summary = batch(tmp_path)
    assert states(summary) == {"a": "failed", "b": "finished"}
    assert "A file is in the way" in summary.rows[0].record.error


def test_other_settings_leave_finished_ones_alone_and_say_so(tmp_path: Path) -> None:
    people(tmp_path / "in", a="fine")
    batch(tmp_path)
    config = Config()
    config.set("iterStep2", "7")
    summary = batch(tmp_path, config=config)
    assert starts(tmp_path) == Counter(a=1)
    assert "1 finished with other settings" in summary.notes[0]
    config = Config()
    config.set("threads", "3")
    assert not batch(tmp_path, config=config).notes, "threads do not change a result"


def test_moved_folders_are_known_again(tmp_path: Path) -> None:
    people(tmp_path / "in", a="fine")
    batch(tmp_path)
    (tmp_path / "moved").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    summary = batch(tmp_path / "moved")
    assert summary.rows[0].earlier and starts(tmp_path / "moved") == Counter(a=1)


def test_the_jobs_get_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = people(tmp_path / "in", a="fine")
    people(folder / "Ö b", photo_10="fine", photo_2="fine")
    ini = tmp_path / "my.ini"
    ini.write_text("iterStep2 = 7\n")
    monkeypatch.setattr("nextgenface.batch.local.available_cores", lambda: 6)
    batch(tmp_path, config_file=ini, set=(("seed", "4"),))
    job = json.loads((tmp_path / "out" / "Ö b" / "job.json").read_text(encoding="utf-8"))
    assert [Path(path).name for path in job["input"]] == ["photo_2.png", "photo_10.png"]
    assert job["sharedIdentity"] and job["config"] == str(ini) and job["parent_pid"] == os.getpid()
    assert job["set"] == {"seed": "4", "threads": "3"}, "six cores, two workers"
    single = json.loads((tmp_path / "out" / "a" / "job.json").read_text(encoding="utf-8"))
    assert not single["sharedIdentity"]


def test_summary_files(tmp_path: Path) -> None:
    people(tmp_path / "in", **{"grün & <b>": "fine", "#1 50%": "corrupt"})
    batch(tmp_path)
    told = entries(tmp_path)["grün & <b>"]
    assert told["metrics"] == {"psnr": 31.0} and told["stages"] == {"pose": 0.25}
    assert told["warnings"][0] == "a warning" and told["seconds"] > 0
    assert told["result"] == "grün & <b>/result.json" and told["thumbnail"] is None
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["name"]: row["status"] for row in rows} == {"grün & <b>": "finished", "#1 50%": "failed"}
    by_name = {row["name"]: row for row in rows}
    assert by_name["grün & <b>"]["psnr"] == "31.0" and by_name["grün & <b>"]["pose_seconds"] == "0.25"
    assert by_name["#1 50%"]["error"].startswith("the photo is damaged")
    page = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    assert "gr\u00fcn &amp; &lt;b&gt;" in page and "<b>grün & <b>" not in page
    assert 'href="gr%C3%BCn%20%26%20%3Cb%3E/render_0.png"' in page
    assert page.index("#1 50%") < page.index("grün"), "what failed comes first"
