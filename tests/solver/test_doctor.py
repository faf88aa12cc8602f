"""The doctor tells what is wrong, and tells it in one table whatever happens."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from nextgenface import doctor
from nextgenface.cli import doctor as command
from nextgenface.doctor import Check
from nextgenface.errors import EnvironmentProblem


def test_everything_that_a_reconstruction_needs_works_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The real thing: finds a face, loads the face model, renders a picture."""
    picture = tmp_path / "Bild ä.png"
    code = command.main(["--json", "--render", str(picture)])
    report = json.loads(capsys.readouterr().out)
    by_name = {check["name"]: check for check in report["checks"]}
    assert [name for name, check in by_name.items() if check["status"] == "failed"] == []
    assert code == 0
    assert report["ok"] is True
    assert "468" in by_name["Landmark detector"]["found"] or "478" in by_name["Landmark detector"]["found"]
    assert by_name["Mitsuba variant"]["found"].split()[0].endswith("rgb")
    from skimage import io

    pixels = io.imread(picture)
    assert pixels.shape == (128, 128, 3)
    # The skin-coloured ball in the middle is redder than the grey sky in the corner.
    assert int(pixels[64, 64, 0]) - int(pixels[64, 64, 2]) > int(pixels[2, 2, 0]) - int(pixels[2, 2, 2]) + 20


def test_a_check_that_breaks_is_a_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode() -> Check:
        raise RuntimeError("boom")

    def refuse() -> Check:
        raise EnvironmentProblem("the folder '/x' is read-only. Choose another.")

    fine = [name for name in vars(doctor) if name.startswith("check_")]
    for name in fine:
        monkeypatch.setattr(doctor, name, lambda: Check("fine", "ok", "here"))
    monkeypatch.setattr(doctor, "check_torch", explode)
    monkeypatch.setattr(doctor, "check_disk", refuse)
    assert command.main([]) == 1
    table = capsys.readouterr().out
    assert "FAIL  PyTorch" in table
    assert "boom" in table
    assert "FAIL  Disk" in table
    assert "read-only" in table
    assert "2 of 10 checks failed" in table


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_landmarks(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "nextgenface.landmarks":
            raise ImportError("No module named 'mediapipe'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_landmarks)
    check = doctor._guarded("Landmark detector", doctor.check_landmarks)
    assert check.status == "failed"
    assert "mediapipe" in check.wrong
    assert "make setup" in check.action


def test_a_detector_that_finds_nothing_or_elsewhere_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    blank = np.zeros((512, 512, 3), np.uint8)
    monkeypatch.setattr(doctor, "astronaut", lambda: blank)
    assert doctor.check_landmarks().status == "failed"
    portrait = _portrait()
    shifted = np.roll(portrait, 250, axis=1)
    monkeypatch.setattr(doctor, "astronaut", lambda: shifted)
    check = doctor.check_landmarks()
    assert check.status == "failed"
    assert "wrong place" in check.wrong


def _portrait() -> Any:
    from skimage import data

    return data.astronaut()


def test_too_little_memory_is_a_warning_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory_gb", lambda: (1.0, 2.0))
    check = doctor.check_memory()
    assert check.status == "warning"
    assert "maxResolution" in check.action
    monkeypatch.setattr(doctor, "memory_gb", lambda: (None, None))
    assert doctor.check_memory().status == "ok"


def test_a_data_folder_that_cannot_be_made_names_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    monkeypatch.setenv("NEXTGENFACE_HOME", str(blocked))
    check = doctor._guarded("Disk", doctor.check_disk)
    assert check.status == "failed"
    assert str(blocked) in check.wrong
    assert "NEXTGENFACE_HOME" in check.wrong


def test_the_table_keeps_its_columns() -> None:
    checks = [
        Check("Python", "ok", "3.11"),
        Check("LLVM", "warning", "none", "no library was found " * 8, "install one"),
    ]
    lines = command.as_table(checks, 80).splitlines()
    assert lines[0] == "ok    Python  3.11"
    assert lines[1].startswith("warn  LLVM    none")
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 14) for line in lines[2:])
    assert lines[-1].endswith("do:    install one")


def test_advice_fits_where_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from nextgenface.rendering.llvm import how_to_get_llvm

    monkeypatch.setattr("sys.platform", "linux")
    assert "make setup" in doctor.set_up_again() and "make setup" in how_to_get_llvm()
    monkeypatch.setenv("NEXTGENFACE_STARTED_BY", "blender")
    assert "preferences" in doctor.set_up_again(anew=True) and "preferences" in how_to_get_llvm()
