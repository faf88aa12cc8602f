"""batch.py as a command of its own, in a process with the bpy module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from synthetic import Folder

REPOSITORY = Path(__file__).resolve().parents[2]
BATCH = REPOSITORY / "nextgenface_addon" / "batch.py"


def batch(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(BATCH), "--", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": ""} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.fixture
def solver(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a solver that copies a finished result after telling its progress."""
    package = tmp_path / "solver" / "nextgenface"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    made = Folder().write(tmp_path / "made")
    (package / "job.py").write_text(
        "import json, shutil, sys, time\n"
        "folder = sys.argv[1]\n"
        "job = json.load(open(folder + '/job.json', encoding='utf-8'))\n"
        "with open(folder + '/events.jsonl', 'w') as events:\n"
        "    events.write(json.dumps({'event': 'stage', 'stage': 'pose'}) + chr(10))\n"
        "    events.flush()\n"
        "    time.sleep(0.5)\n"
        "    if job['set'].get('wait'):\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except KeyboardInterrupt:\n"
        "            sys.exit(130)\n"
        f"    shutil.copytree({str(made)!r}, folder, dirs_exist_ok=True)\n"
        "    events.write(json.dumps({'event': 'done', 'result': 'result.json'}) + chr(10))\n"
    )
    return package.parent


def test_photo_to_blend_and_picture(tmp_path: Path, solver: Path) -> None:
    pytest.importorskip("bpy")
    photo = tmp_path / "Foto ü.png"
    photo.write_bytes((tmp_path / "made" / "photo_0.png").read_bytes())
    done = run_with_fake_solver(
        tmp_path, solver, "--input", photo, "--output", tmp_path / "out",
        "--save", tmp_path / "a" / "face.blend",
        "--render", tmp_path / "face.png", "--render-samples", "4", "--over-photo",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Pose" in done.stdout and "Imported" in done.stdout
    assert (tmp_path / "a" / "face.blend").is_file()
    assert (tmp_path / "face.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out" / "Foto ü" / "result.json").is_file()


def run_with_fake_solver(
    tmp_path: Path, solver: Path, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Through a small launcher, because batch.py puts the repository's own solver first on the child's
    path.
    """
    launcher = make_launcher(tmp_path, solver)
    return batch(*arguments, cwd=tmp_path, NEXTGENFACE_PYTHON=str(launcher))


def make_launcher(tmp_path: Path, solver: Path) -> Path:
    launcher = tmp_path / "python.sh"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH="{solver}" exec "{sys.executable}" "$@"\n')
    launcher.chmod(0o755)
    return launcher


def test_import_only(tmp_path: Path, results: Path) -> None:
    pytest.importorskip("bpy")
    done = batch("--results", results, "--save", "face.blend", "--no-pack", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "face.blend").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nothing", "--save", "a.blend"], "not a folder"),
        (["--results", ".", "--save", "a.blend"], "no result.json"),
        (["--results", "."], "Nothing to do"),
        (["--input", "gone.png", "--output", "o", "--save", "a.blend"], "gone.png does not exist"),
        (["--input", ".", "--output", "o", "--save", "a.blend"], "holds no images"),
        (["--save", "a.blend"], "required"),
        (["--input", "x.png", "--output", "o", "--save", "a.blend", "--set", "nonsense"], "KEY=VALUE"),
        (
            ["--input", "x.png", "--output", "o", "--save", "a.blend", "--solver-python", "gone"],
            "does not exist",
        ),
    ],
)
def test_mistakes_exit_with_2_and_a_sentence(
    bpy: Any, in_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    from nextgenface_addon.headless import main

    if "x.png" in arguments:
        (in_folder / "x.png").write_bytes(b"")
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (in_folder / "a.blend").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_stops_the_solver(tmp_path: Path, solver: Path) -> None:
    pytest.importorskip("bpy")
    photo = tmp_path / "p.png"
    photo.write_bytes((tmp_path / "made" / "photo_0.png").read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-B", str(BATCH), "--", "--input", str(photo), "--output", str(tmp_path / "out"),
         "--save", str(tmp_path / "a.blend"), "--set", "wait=1"],
        env=os.environ | {"NEXTGENFACE_PYTHON": str(make_launcher(tmp_path, solver))},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "Pose" in line:
            break
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - before < 10
    assert not (tmp_path / "a.blend").exists()
