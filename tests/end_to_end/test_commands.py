"""The commands: names of folders, resuming, stopping, progress, and what users get for bad input."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nextgenface.cli import export, reconstruct, replay
from nextgenface.images import read_exr
from PIL import Image

from tests.end_to_end.conftest import Run
from tests.end_to_end.small import astronaut, environment, python, save_photo, small_arguments
from tests.solver.tiny import random_state, records, tiny_model

CHECKPOINTS = "checkpoints"
Capture = pytest.CaptureFixture[str]


def run_reconstruct(*arguments: str | Path, **settings: object) -> int:
    return reconstruct.main([*map(str, arguments), *small_arguments(**settings)])


# ---- the good way ---------------------------------------------------------------------------------------


def test_results_go_to_a_folder_named_after_the_photo(tmp_path: Path, run: Run, capsys: Capture) -> None:
    last = run.folder / CHECKPOINTS / "stage3_output.pickle"
    code = run_reconstruct(
        "--input", run.photo, "--output", tmp_path, "--checkpoint", last,
        "--skipStage1", "--skipStage2", "--skipStage3", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["Grüße 1"], "without its extension"
    assert (tmp_path / "Grüße 1" / "result.json").is_file()
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(
        read_exr(tmp_path / "Grüße 1" / "final_0.exr"), read_exr(run.folder / "final_0.exr")
    )


def test_a_folder_gives_one_result_each_and_skips_what_has_no_face(tmp_path: Path, capsys: Capture) -> None:
    for name in ("b.png", "a.jpg", "a.png"):
        save_photo(tmp_path / "in" / name)
    save_photo(tmp_path / "in" / "wall.png", np.full((200, 200, 3), 99, np.uint8))
    (tmp_path / "in" / "notes.txt").write_text("x")
    code = run_reconstruct(
        "--input", tmp_path / "in", "--output", tmp_path / "out", "--skipStage2", "--skipStage3", rtSamples=2
    )
    assert code == 1, "one of the photos failed"
    done = sorted(p.parent.name for p in (tmp_path / "out").glob("*/result.json"))
    assert done == ["a", "a.png", "b"]
    captured = capsys.readouterr()
    assert "wall.png" in captured.err and captured.out.count("The result is in") == 3


def test_json_prints_events_and_nothing_else(tmp_path: Path, photo: Path, capsys: Capture) -> None:
    code = run_reconstruct("--input", photo, "--output", tmp_path, "--skipStage2", "--skipStage3", "--json")
    assert code == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [e["event"] for e in events]
    assert [e["stage"] for e in events if e["event"] == "stage"] == ["pose", "render"]
    assert kinds[-1] == "done" and Path(events[-1]["result"]).is_file() and "progress" in kinds


def test_export_makes_a_complete_folder_without_optimising(tmp_path: Path, run: Run, capsys: Capture) -> None:
    for stage in (1, 3):
        checkpoint = run.folder / CHECKPOINTS / f"stage{stage}_output.pickle"
        target = tmp_path / f"s{stage}"
        assert export.main([str(checkpoint), "--output", str(target), "--quiet"]) == 0
        result = json.loads((target / "result.json").read_text(encoding="utf-8"))
        assert result["stage"] == stage and list(result["stages"]) == ["render"]
        assert result["config"]["rtSamples"] == 4, "options come from the checkpoint"
        files = result["photos"][0]["files"]
        assert files["photo"] == "photo_0.png" and all((target / f).is_file() for f in files.values() if f)
        assert (target / CHECKPOINTS / f"stage{stage}_output.pickle").read_bytes() == checkpoint.read_bytes()
    np.testing.assert_array_equal(
        read_exr(tmp_path / "s3" / "final_0.exr"), read_exr(run.folder / "final_0.exr")
    )


def test_export_of_a_foreign_checkpoint_without_its_photo_says_so(
    tmp_path: Path, run: Run, capsys: Capture
) -> None:
    content = pickle.loads((run.folder / CHECKPOINTS / "stage3_output.pickle").read_bytes())
    del content["nextgenface"]
    content["screenHeight"] = 100
    (tmp_path / "foreign.pickle").write_bytes(pickle.dumps(content))
    target = tmp_path / "out"
    code = export.main([str(tmp_path / "foreign.pickle"), "--output", str(target), *small_arguments()])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "its coefficients and its light are converted" in captured.err
    assert "Name it with --input" in captured.err
    result = json.loads((target / "result.json").read_text(encoding="utf-8"))
    assert result["photos"][0]["files"]["photo"] is None
    assert (result["photos"][0]["width"], result["photos"][0]["height"]) == (128, 100)
    assert result["metrics"]["psnr"] == [None]


def test_replay_draws_frames_and_an_animation(tmp_path: Path, run: Run, capsys: Capture) -> None:
    checkpoint = str(run.folder / CHECKPOINTS / "stage3_output.pickle")
    arguments = ["--output", str(tmp_path), "--size", "64", "--quiet", *small_arguments()]
    assert replay.main([checkpoint, "--frames", "4", *arguments]) == 0
    frames = [np.asarray(Image.open(tmp_path / f"frame_0_{k:04d}.png")) for k in range(4)]
    assert frames[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(frames[0], frames[2])
    assert np.abs(frames[1].astype(int) - frames[3]).mean() > 2, "left and right differ"
    with Image.open(tmp_path / "turntable_0.webp") as animation:
        assert getattr(animation, "n_frames", 1) in (3, 4)  # equal neighbours may be merged
    assert replay.main(["--input", checkpoint, "--frames", "2", *arguments, "--format", "mp4"]) == 0
    assert (tmp_path / "turntable_0.mp4").stat().st_size > 500


# ---- stopping -------------------------------------------------------------------------------------------


def start(*arguments: str | Path, **settings: object) -> subprocess.Popen[str]:
    """The command in a process of its own, with a stage 2 that never ends by itself."""
    words = [*map(str, arguments), "--json", *small_arguments(iterStep2=100000, **settings)]
    return subprocess.Popen(
        python("-m", "nextgenface.cli.reconstruct", *words),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), encoding="utf-8",
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], test: Callable[[dict[str, Any]], bool]) -> None:
    """Read events until one passes."""
    assert process.stdout is not None
    for line in process.stdout:
        if test(json.loads(line)):
            return
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_keeps_the_checkpoint_and_returns_130(tmp_path: Path, photo: Path) -> None:
    process = start("--input", photo, "--output", tmp_path)
    wait_for(process, lambda e: e.get("stage") == "photometric" and e["event"] == "progress")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Stopped in stage photometric" in err and "Traceback" not in err
    folder = tmp_path / photo.stem
    assert (folder / CHECKPOINTS / "stage1_output.pickle").is_file() and not (folder / "result.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_after_a_kill_the_run_goes_on_from_the_last_stage(tmp_path: Path, run: Run) -> None:
    process = start("--input", run.photo, "--output", tmp_path)
    wait_for(process, lambda e: e.get("stage") == "photometric" and e["event"] == "progress")
    process.kill()
    process.communicate()
    folder = tmp_path / run.photo.stem
    assert not (folder / "result.json").exists()
    code = run_reconstruct(
        "--input", run.photo, "--output", tmp_path, "--skipStage1", "--quiet",
        "--checkpoint", folder / CHECKPOINTS / "stage1_output.pickle",
    )  # fmt: skip
    assert code == 0
    np.testing.assert_array_equal(read_exr(folder / "final_0.exr"), read_exr(run.folder / "final_0.exr"))


# ---- the job that Blender starts --------------------------------------------------------------------------


def write_job(folder: Path, **content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"schema": 1, **content}), encoding="utf-8")
    return folder


def settings(**changes: object) -> dict[str, str]:
    words = small_arguments(**changes)[1::2]
    return dict(word.split("=", 1) for word in words)


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_job_writes_events_a_log_and_the_result(tmp_path: Path, run: Run) -> None:
    folder = write_job(
        tmp_path / "jöb 1",
        input=[str(run.photo)],
        output=str(tmp_path / "jöb 1"),
        set={**settings(debugFrequency=1), "maxResolution": 128, "noSuch": "x"} | {"saveExr": True},
        checkpoint=str(run.folder / CHECKPOINTS / "stage1_output.pickle"),
        skip=[1, 3],
        face=1,
        parent_pid=os.getpid(),
    )
    bad = subprocess.run(python("-m", "nextgenface.job", folder), env=environment(), timeout=300)
    assert bad.returncode == 2, "an unknown option is the caller's mistake"
    assert [e["event"] for e in events_of(folder)] == ["error"]
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    del job["set"]["noSuch"]
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "events.jsonl").unlink()
    done = subprocess.run(python("-m", "nextgenface.job", folder), env=environment(), timeout=300)
    events = events_of(folder)
    assert done.returncode == 0, events
    assert [e["stage"] for e in events if e["event"] == "stage"] == ["photometric", "render"]
    assert events[-1]["event"] == "done" and events[-1]["result"] == "result.json"
    assert (folder / "result.json").is_file() and (folder / "solver.log").is_file()
    assert any(e["event"] == "preview" and (folder / e["path"]).is_file() for e in events)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_job_with_a_checkpoint_and_no_photos_exports_it(tmp_path: Path, run: Run) -> None:
    from nextgenface.job import run_job

    checkpoint = run.folder / CHECKPOINTS / "stage2_output.pickle"
    folder = write_job(tmp_path / "job", checkpoint=str(checkpoint), output="result")
    assert run_job(folder) == 0
    result = json.loads((folder / "result" / "result.json").read_text(encoding="utf-8"))
    assert result["stage"] == 2 and list(result["stages"]) == ["render"]
    assert json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["event"] == "done"


@pytest.mark.parametrize("how", ["interrupt", "parent"])
def test_a_job_stops_with_a_checkpoint(tmp_path: Path, photo: Path, how: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = write_job(
        tmp_path / "job",
        input=[str(photo)],
        output=".",
        set=settings(iterStep2=100000),
        parent_pid=parent.pid,
    )
    process = subprocess.Popen(python("-m", "nextgenface.job", folder), env=environment())
    try:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            found = (folder / "events.jsonl").exists() and events_of_safely(folder)
            if found and any(e.get("stage") == "photometric" and e["event"] == "progress" for e in found):
                break
            time.sleep(0.1)
        if how == "interrupt":
            process.send_signal(signal.SIGINT)
        else:
            parent.kill()
            parent.wait()
        assert process.wait(timeout=120) == 130
    finally:
        process.kill()
        parent.kill()
        parent.wait()
    assert events_of(folder)[-1]["kind"] == "Cancelled"
    assert (folder / CHECKPOINTS / "stage1_output.pickle").is_file() and not (folder / "result.json").exists()


def events_of_safely(folder: Path) -> list[dict[str, Any]]:
    """Events while the file is being written: the last line may be half there."""
    text = (folder / "events.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


# ---- bad input ------------------------------------------------------------------------------------------


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)


def bad_photo(folder: Path, kind: str) -> Path:
    """A photo that cannot be used."""
    path = folder / f"{kind} ü.png"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "text":
        path.write_text("this is not a picture")
    elif kind == "truncated":
        path = save_photo(path.with_suffix(".jpg"))
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "tiny":
        save_photo(path, astronaut()[:20, :20])
    elif kind == "noface":
        save_photo(path, noise())
    elif kind == "cut":
        save_photo(path, astronaut()[:, :240])
    elif kind == "empty":
        (folder / "empty ü").mkdir()
        return folder / "empty ü"
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no photo|does not exist"),
        ("text", "not a picture"),
        ("truncated", "damaged or incomplete"),
        ("tiny", "too small"),
        ("noface", "no face"),
        ("cut", "cut by the border"),
        ("empty", "no photos in the folder"),
    ],
)
def test_a_photo_that_cannot_be_used(tmp_path: Path, capsys: Capture, kind: str, words: str) -> None:
    path = bad_photo(tmp_path / "in", kind)
    refused(capsys, run_reconstruct("--input", path, "--output", tmp_path / "out"), words, path.name)
    assert not list((tmp_path / "out").rglob("result.json"))


def refused(capsys: Capture, code: int, words: str, name: str) -> None:
    """One message for people that names the file, exit code 2, no traceback."""
    import re

    err = capsys.readouterr().err
    assert code == 2, err
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1 and "Traceback" not in err, err
    assert re.search(words, messages[0]) and name in messages[0], messages[0]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("iterStep9=3", "no option 'iterStep9'.*iterStep"),
        ("maxResolution=large", "maxResolution cannot be 'large'"),
        ("nonsense", "--set key=value"),
        ("rtSamples=0", "rtSamples"),
        ("model=/none/face.h5", "no face model '/none/face.h5'"),
    ],
)
def test_wrong_options(tmp_path: Path, photo: Path, capsys: Capture, option: str, words: str) -> None:
    code = run_reconstruct("--input", photo, "--output", tmp_path / "o", "--set", option)
    refused(capsys, code, words, option.split("=")[0] if "model" not in option else "face.h5")


def test_a_damaged_model_file_is_named(tmp_path: Path, photo: Path, capsys: Capture) -> None:
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 500)
    code = run_reconstruct("--input", photo, "--output", tmp_path / "o", model=tmp_path / "bad.h5")
    refused(capsys, code, "damaged|cannot", "bad.h5")


def test_an_unknown_key_in_a_file_is_warned_about_with_the_nearest_one(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "my.ini").write_text("iterStpe1 = 3\n")
    code = run_reconstruct(
        "--input", tmp_path / "none.png", "--output", tmp_path, "--config", tmp_path / "my.ini"
    )
    err = capsys.readouterr().err
    assert code == 2 and "warning: " in err and "iterStpe1" in err and "iterStep1" in err


class _RunsACommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo bad > hacked",)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no checkpoint at"),
        ("hostile", "was refused"),
        ("truncated", "damaged"),
        ("other model", "does not fit the face model"),
        ("other photo", "photo of 300 x 512"),
    ],
)
def test_a_checkpoint_that_cannot_be_used(
    tmp_path: Path, run: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    from nextgenface.checkpoint import save_checkpoint

    monkeypatch.chdir(tmp_path)
    path, good = tmp_path / f"{kind} é.pickle", run.folder / CHECKPOINTS / "stage2_output.pickle"
    content = pickle.loads(good.read_bytes())
    if kind == "hostile":
        path.write_bytes(pickle.dumps({**content, "x": _RunsACommand()}))
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:2000])
    elif kind == "other model":
        save_checkpoint(path, random_state(tiny_model()), records(), config={}, engine="deferred")
    elif kind == "other photo":
        content["nextgenface"]["photos"][0]["size"] = (300, 512)
        path.write_bytes(pickle.dumps(content))
    for command in ("reconstruct", "export"):
        if command == "reconstruct":
            code = run_reconstruct(
                "--input", run.photo, "--output", tmp_path / "o", "--checkpoint", path, "--skipStage1"
            )
        elif kind == "other photo":
            code = export.main([str(path), "--output", str(tmp_path / "e"), "--input", str(run.photo)])
        else:
            code = export.main([str(path), "--output", str(tmp_path / "e")])
        refused(capsys, code, words, path.name)
    assert not list(tmp_path.rglob("result.json")) and not (tmp_path / "hacked").exists()


def test_an_output_that_cannot_be_written(tmp_path: Path, photo: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("x")
    code = run_reconstruct("--input", photo, "--output", tmp_path / "file" / "out")
    refused(capsys, code, "another output folder", "file")


@pytest.mark.parametrize("skip", [["--skipStage1"], ["--skipStage1", "--skipStage2"]])
def test_skipping_stages_needs_a_checkpoint(
    tmp_path: Path, photo: Path, capsys: Capture, skip: list[str]
) -> None:
    refused(capsys, run_reconstruct("--input", photo, "--output", tmp_path, *skip), "--checkpoint", "")


def test_a_fault_of_ours_is_reported_as_one(capsys: Capture) -> None:
    from nextgenface.cli.common import run_command

    def fails() -> int:
        raise ZeroDivisionError("x")

    assert run_command(fails) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "fault of NextGenFace: ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "cannot be read as JSON"),
        ("[]", "not hold a JSON object"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1}', "'input'"),
        ('{"schema": 1, "input": ["a.png"], "skip": [4]}', "'skip'"),
        ('{"schema": 1, "input": ["a.png"], "sharedIdentity": "yes"}', "'sharedIdentity'"),
        ('{"schema": 1, "input": ["a.png"], "face": true}', "'face'"),
    ],
)
def test_a_wrong_job_is_an_error_event(tmp_path: Path, content: str, words: str) -> None:
    from nextgenface.job import run_job

    (tmp_path / "job.json").write_text(content)
    assert run_job(tmp_path) == 2
    (event,) = events_of(tmp_path)
    assert event["event"] == "error" and event["kind"] == "JobError" and words in event["text"]


def test_a_12_megapixel_photo_keeps_its_pixels_and_its_camera(tmp_path: Path, capsys: Capture) -> None:
    large = np.full((3000, 4200, 3), 120, np.uint8)
    large[900:1412, 1500:2012] = astronaut()
    path = save_photo(tmp_path / "large.jpg", large)
    code = run_reconstruct(
        "--input", path, "--output", tmp_path, "--skipStage2", "--skipStage3", "--quiet", rtSamples=1
    )
    assert code == 0, capsys.readouterr().err
    photo = json.loads((tmp_path / "large" / "result.json").read_text())["photos"][0]
    assert (photo["original_width"], photo["original_height"]) == (4200, 3000)
    assert (photo["width"], photo["height"]) == (4096, 2926)
    K, R, t = (np.array(photo[name]) for name in ("K", "R", "t"))
    head = K @ (R @ np.array([0.0, 0.0, 50.0]) + t)
    eyes = np.array([1500 + 225, 900 + 115]) * 4096 / 4200
    assert np.abs(head[:2] / head[2] - eyes).max() < 60
