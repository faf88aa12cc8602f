"""`make lock`: resolves what pyproject.toml asks for anew and writes the locks in requirements/.

    python3 tools/lock.py solver-py311 bpy-5.0-py311 cluster …   (default: every lock whose Python is there)

Each lock is what pip installs together in an empty environment. The versions of torch, bpy and the test
tools are kept from the old lock: to move to others, edit the lock's line first. Takes minutes and downloads
everything.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import interpreters
import torch_build
from environments import REQUIREMENTS, ROOT, say

OLDEST_PYTHON = "3.11"

BELONGS_TO_CUDA = re.compile(r"^(nvidia-|cuda-|triton)")
"""Dependencies of one build of torch only; the set-up's own pip adds them where that build is chosen."""


def names_in(lock: Path) -> dict:
    """Package name in lower case -> its line."""
    lines = [line.strip() for line in lock.read_text("utf-8").splitlines() if "==" in line and line[0] != "#"]
    return {line.split("==")[0].lower(): line for line in lines}


def freeze(python: Path, requirements: list, torch: str) -> list:
    """Install the requirements with this interpreter in an empty environment; name==version of all of it."""
    with tempfile.TemporaryDirectory(prefix="nextgenface-lock-") as folder:
        subprocess.run([str(python), "-m", "venv", folder], check=True)
        pip = [str(Path(folder) / "bin" / "python"), "-m", "pip"]
        install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
        if torch:
            options, _ = torch_build.pip_options(Path(pip[0]), torch)
            subprocess.run([*install, *options, torch], check=True)
        subprocess.run([*install, *requirements], check=True)
        done = subprocess.run([*pip, "freeze", "--all"], stdout=subprocess.PIPE, text=True, check=True)
    return [line.split("+")[0] for line in done.stdout.splitlines() if "==" in line]


def relock(lock: Path, python: Path) -> None:
    """Write one lock anew."""
    old = names_in(lock)
    head = [line for line in lock.read_text("utf-8").splitlines() if line.startswith("#")]
    if lock.name.startswith("solver"):
        torch = old["torch"]
        lines = freeze(python, [str(ROOT), "-c", str(REQUIREMENTS / "dev.txt")], torch)
        drop = {"pip", "nextgenface"}
    else:
        lines = freeze(python, [old["bpy"], old["pytest"], old["numpy"]], "")
        drop = {"pip", "setuptools"}
    kept = [
        line for line in lines if line.split("==")[0].lower() not in drop and not BELONGS_TO_CUDA.match(line)
    ]
    lock.write_text("\n".join([*head, *kept]) + "\n", encoding="utf-8")
    say(f"{lock.name}: {len(kept)} packages")


def relock_cluster(python: Path) -> None:
    """Write the lock of the extra [cluster] anew: what it needs beyond the solver's locks.

    Made with the oldest Python, which needs the most; all of it installs on the newer ones.
    """
    lock = REQUIREMENTS / "cluster.txt"
    head = [line for line in lock.read_text("utf-8").splitlines() if line.startswith("#")]
    solvers = [names_in(path) for path in sorted(REQUIREMENTS.glob("solver-py3*.txt"))]
    oldest = REQUIREMENTS / f"solver-py{OLDEST_PYTHON.replace('.', '')}.txt"
    extra = re.search(r"^cluster = \[(.*)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert extra is not None, "pyproject.toml has no extra [cluster] on one line"
    lines = freeze(python, [*re.findall(r'"(.+?)"', extra.group(1)), "-c", str(oldest)], "")
    kept = [
        line
        for line in lines
        if (name := line.split("==")[0].lower()) not in {"pip", "setuptools"}
        and not all(name in solver for solver in solvers)
    ]
    lock.write_text("\n".join([*head, *kept]) + "\n", encoding="utf-8")
    say(f"{lock.name}: {len(kept)} packages")


def main(arguments: list) -> int:
    """Relock what was named, or everything; returns 0."""
    locks = [REQUIREMENTS / (name + ".txt") for name in arguments]
    locks = locks or [*sorted(REQUIREMENTS.glob("*-py3*.txt")), REQUIREMENTS / "cluster.txt"]
    for lock in locks:
        _, named, digits = lock.stem.rpartition("-py")
        version = digits[0] + "." + digits[1:] if named else OLDEST_PYTHON
        found = interpreters.find([version])
        if found is None:
            say(f"{lock.name}: left out, its Python is not here")
        elif named:
            relock(lock, found[1])
        else:
            relock_cluster(found[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
