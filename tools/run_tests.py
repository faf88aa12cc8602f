"""What `make test` checks: style, types, the solver's tests, and the add-on's in every Blender that is there.

    python3 tools/run_tests.py [-k EXPRESSION …]     further arguments go to pytest

All parts run even when one fails; the end says which did. The solver's tests share the cores: one process a
core, each on one thread.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time

import environments
from environments import ROOT, SOLVER, say

BLENDER_IMPORT = re.compile(r"^\s*(import|from) (bpy|bmesh|mathutils|gpu|blf)\b", re.MULTILINE)


def files_without_blender() -> list:
    """The add-on's files that import nothing of Blender: the ones a type checker can understand."""
    files = sorted((ROOT / "nextgenface_addon").rglob("*.py"))
    return [
        str(path.relative_to(ROOT)) for path in files if not BLENDER_IMPORT.search(path.read_text("utf-8"))
    ]


MOST_WORKERS = 8  # of about 1.5 GB each


def spread_over_cores() -> tuple:
    """(pytest's arguments, environment) for one process a core: files stay whole, the longest come first."""
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MOST_WORKERS)
    return ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"], {"OMP_NUM_THREADS": "1"}


def commands(pytest_arguments: list) -> list:
    """(name, command, extra environment) of every part, in order."""
    python = str(SOLVER.python)
    spread, one_thread = spread_over_cores()
    solver = ["-q", *spread, "tests/end_to_end", "tests/solver", *pytest_arguments]
    parts = [
        ("ruff", [python, "-m", "ruff", "check", "."], {}),
        ("mypy", [python, "-m", "mypy", "solver/nextgenface", *files_without_blender()], {}),
        ("solver", [python, "-m", "pytest", *solver], one_thread),
    ]
    for blender in environments.made_blenders():
        command = [str(blender.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/addon"]
        parts.append((blender.name, command + pytest_arguments, {"NEXTGENFACE_PYTHON": python}))
    return parts


def main(arguments: list) -> int:
    """Run all parts; 0 when all passed."""
    results = []
    for name, command, extra in commands(arguments):
        say("\n== " + name + ": " + " ".join(command[1:]))
        started = time.time()
        with tempfile.TemporaryDirectory(prefix="nextgenface-test-") as blender_home:
            # The tests must not see, or change, the settings of somebody's real Blender.
            environment = dict(os.environ, BLENDER_USER_RESOURCES=blender_home, **extra)
            code = subprocess.run(command, cwd=str(ROOT), env=environment).returncode
        results.append((name, code, time.time() - started))
    say("")
    for name, code, seconds in results:
        say(f"{name:<10} {'passed' if code == 0 else 'FAILED':<8} {seconds:5.0f} s")
    return 1 if any(code for _, code, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
