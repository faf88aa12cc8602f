"""`blender --command nextgenface …`: the same work as batch.py through the registered command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

COMMAND = """
import sys
sys.path.insert(0, {root!r})
import bpy, nextgenface_addon
nextgenface_addon.register()
from nextgenface_addon import cli
assert len(cli._registered) == 1
code = cli.main(sys.argv[1:])
nextgenface_addon.unregister()
assert not cli._registered
sys.exit(code)
"""


def nextgenface(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What Blender does with the arguments after the command's name."""
    pytest.importorskip("bpy")
    return subprocess.run(
        [sys.executable, "-B", "-c", COMMAND.format(root=str(REPOSITORY)), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": "", "NEXTGENFACE_HOME": str(cwd / "home")} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_results_become_a_file(tmp_path: Path, results: Path) -> None:
    done = nextgenface("import", results, "--save", "köpfe.blend", "--no-pack", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "köpfe.blend").is_file() and "Imported" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "reconstruct"),
        (["help"], 0, "reconstruct"),
        (["reconstruct", "--help"], 0, "--sharedIdentity"),
        (["reconstruct", "--input", ".", "--save", "a.blend"], 2, "--output is missing"),
        (
            ["reconstruct", "--input", "x", "--output", "o", "--save", "a.blend", "--method", "no"],
            2,
            "invalid",
        ),
        (["import", "gone", "--save", "a.blend"], 2, "gone is not a folder"),
        (["import", "gone.pickle", "--save", "a.blend"], 2, "no checkpoint"),
        (["doctor", "--solver-python", "gone"], 2, "does not exist"),
    ],
)
def test_mistakes(
    bpy: Any,
    in_folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    from nextgenface_addon import cli

    assert cli.main(arguments) == code
    said = "".join(capsys.readouterr())
    assert message in said and "Traceback" not in said


def test_the_doctor_is_asked_in_the_solvers_environment(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "asked: $*"\nexit 1\n')
    python.chmod(0o755)
    done = nextgenface("doctor", "--json", "--solver-python", python, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "asked: -B -m nextgenface.cli.doctor --json"


def test_a_preset_reaches_the_solver(tmp_path: Path) -> None:
    """A preset that is not there is refused before anything starts, with the names of those that are."""
    (tmp_path / "a.png").write_bytes(b"")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 2\n")
    python.chmod(0o755)
    common = [
        "reconstruct",
        "--input",
        "a.png",
        "--output",
        "o",
        "--save",
        "a.blend",
        "--solver-python",
        python,
    ]
    wrong = nextgenface(*common, "--preset", "Nobody's", cwd=tmp_path)
    assert wrong.returncode == 2 and "Fast Preview" in wrong.stderr
    assert not (tmp_path / "o").exists()
    nextgenface(*common, "--preset", "Fast Preview", "--set", "rtSamples=7", cwd=tmp_path)
    job = (tmp_path / "o" / "a" / "job.json").read_text()
    assert '"maxResolution": 256' in job and '"rtSamples": "7"' in job
