"""What a run tells the outside, and how it is stopped."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nextgenface.errors import OutputError
from nextgenface.events import (
    BarListener,
    CancelWhen,
    DebugFrames,
    EtaClock,
    JsonlListener,
    ListenerHandler,
    NullListener,
    PrintListener,
    QuietListener,
    Tee,
    WarningLog,
)
from nextgenface.files import TEMPORARY_MARK, atomic_path, prepare_output
from nextgenface.job import parent_gone, run_job
from nextgenface.multiview import method


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_jsonl_writes_the_documented_events(tmp_path: Path) -> None:
    stream = io.StringIO()
    events = JsonlListener(stream, preview_path=tmp_path / "preview.png", progress_seconds=0)
    events.stage("pose")
    events.progress("pose", 1, 4, 2.5)
    events.progress("pose", 4, 4, float("nan"))
    events.preview("pose", 4, lambda: np.zeros((1, 4, 5, 3), np.uint8))
    events.warning("Grüße\nzwei")
    events.write("done", result="result.json")
    found = lines(stream)
    assert [e["event"] for e in found] == ["stage", "progress", "progress", "preview", "warning", "done"]
    assert all(isinstance(e["time"], float) for e in found)
    assert found[1]["step"] == 1 and found[1]["total"] == 4 and found[1]["loss"] == 2.5
    assert float(str(found[1]["eta"])) >= 0
    assert found[2]["loss"] is None and found[2]["eta"] == 0
    assert found[3]["path"] == "preview.png" and (tmp_path / "preview.png").is_file()
    assert found[4]["text"] == "Grüße\nzwei"


def test_progress_is_thinned_but_its_end_is_not() -> None:
    stream = io.StringIO()
    events = JsonlListener(stream, progress_seconds=1000)
    for step in range(1, 101):
        events.progress("textures", step, 100, 1.0)
    assert [e["step"] for e in lines(stream)] == [1, 100]


def test_a_preview_nobody_wants_is_never_made() -> None:
    def make() -> np.ndarray:
        raise AssertionError("made")

    Tee(NullListener(), JsonlListener(io.StringIO())).preview("pose", 0, make)


def test_tee_makes_a_preview_once_and_any_listener_may_stop(tmp_path: Path) -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.zeros((4, 4, 3), np.uint8)

    pair = [JsonlListener(io.StringIO(), preview_path=tmp_path / f"{k}.png") for k in "ab"]
    Tee(*pair).preview("pose", 0, make)
    assert len(made) == 1 and (tmp_path / "a.png").is_file() and (tmp_path / "b.png").is_file()
    assert not Tee(NullListener(), CancelWhen(lambda: False)).cancelled()
    assert Tee(NullListener(), CancelWhen(lambda: True)).cancelled()


@pytest.mark.parametrize(("frequency", "steps"), [(30, [0, 30, 60]), (0, [])])
def test_debug_frames_come_every_nth_step_and_never_for_0(
    tmp_path: Path, frequency: int, steps: list[int]
) -> None:
    frames = DebugFrames(tmp_path / "debug", frequency)
    for step in range(70):
        frames.preview("photometric", step, lambda: np.zeros((2, 4, 4, 3), np.uint8))
        frames.preview("pose", step, lambda: np.zeros((2, 4, 4, 3), np.uint8))
    written = sorted(p.name for p in tmp_path.rglob("*.png"))
    assert written == sorted(f"debug1_iter{s}_frame{i}.png" for s in steps for i in (0, 1))
    frames.preview("textures", 0, lambda: np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "debug" / "debug2_iter0_frame0.png").exists() == (frequency > 0)


def test_verbose_prints_every_loss() -> None:
    stream = io.StringIO()
    printer = PrintListener(stream)
    for step in (1, 2):
        printer.progress("photometric", step, 2, 0.5 / step)
    assert stream.getvalue().splitlines() == ["photometric 1/2 loss 0.5", "photometric 2/2 loss 0.25"]


def test_the_bar_shows_stage_step_loss_and_time_left() -> None:
    stream = io.StringIO()
    bar = BarListener(stream, interval=0)
    bar.stage("pose")
    bar.progress("pose", 3, 2000, 0.125)
    bar.stage("textures")
    bar.warning("careful")
    bar.progress("textures", 500, 500, 0.5)
    bar.close()
    text = stream.getvalue()
    assert "Pose" in text and "3/2000" in text and "loss 0.125" in text and "<" in text
    assert "3/3" in text, "a stage that has converged early is shown as complete"
    assert "warning: careful" in text and "Textures" in text and "500/500" in text


def test_quiet_prints_warnings_only() -> None:
    stream = io.StringIO()
    quiet = QuietListener(stream)
    quiet.stage("pose")
    quiet.progress("pose", 1, 2, 0.0)
    quiet.warning("x")
    assert stream.getvalue() == "warning: x\n"


def test_warnings_of_the_log_reach_listeners_once() -> None:
    kept = WarningLog()
    handler = ListenerHandler(kept)
    logger = logging.getLogger("nextgenface.somewhere")
    logger.addHandler(handler)
    try:
        logger.info("not this")
        logger.warning("%s happened", "this")
        logger.warning("this happened")
    finally:
        logger.removeHandler(handler)
    assert kept.texts == ["this happened"]


def test_logged_warnings_of_a_method_reach_the_events_of_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a face do: Blender shows what is in events.jsonl."""

    def reconstruct(request: method.Request, listener: NullListener) -> Path:
        logging.getLogger("nextgenface.photos").warning("%s: no profile", request.inputs[0].name)
        return tmp_path / "result.json"

    monkeypatch.setattr(method, "method", lambda name: reconstruct)
    content = {"schema": 1, "method": "mesh", "input": ["views"]}
    (tmp_path / "job.json").write_text(json.dumps(content))
    assert run_job(tmp_path) == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event.get("text")) for event in events] == [
        ("warning", "views: no profile"),
        ("done", None),
    ]


def test_the_end_of_the_parent_is_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = parent_gone(child.pid)
    watch.every = 0.0
    assert not watch.cancelled()
    child.communicate(b"\n")
    assert watch.cancelled()
    own = parent_gone(os.getppid())
    assert not own.cancelled() and not parent_gone(None).cancelled()


def test_atomic_files_keep_the_old_content_on_errors(tmp_path: Path) -> None:
    path = tmp_path / "a ü.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == [path.name]
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_output_folder_is_proved_before_work_goes_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepare_output(tmp_path / "with space" / "über")
    assert made.is_dir() and not list(made.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        prepare_output(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="free"):
        prepare_output(tmp_path, need_mb=1e12)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        prepare_output(tmp_path)
    assert not list(tmp_path.glob(f"{TEMPORARY_MARK}*"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written to"):
            prepare_output(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_the_time_left_forgets_a_slow_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("nextgenface.events.time.monotonic", lambda: now[0])
    clock = EtaClock()
    assert clock.seconds_left(0, 10) is None
    now[0] += 50.0
    assert clock.seconds_left(1, 11) == pytest.approx(500.0)
    now[0] += 1.0
    assert clock.seconds_left(2, 11) == pytest.approx(9.0)
    now[0] += 6.0
    assert clock.seconds_left(8, 11) == pytest.approx(3.0)
    clock.restart()
    now[0] += 2.0
    assert clock.seconds_left(2, 4) == pytest.approx(2.0)
