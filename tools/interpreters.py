"""Finds the Pythons on this machine: PATH, pyenv's versions, the usual folders. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECK = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
"""What an interpreter must manage: be what its name says and be able to make a virtual environment."""


def candidates(version: str) -> list[Path]:
    """Paths that may be a Python of this version ("3.11"), the most likely first; they need not work."""
    name = "python" + version
    found: list[Path] = []
    if "%d.%d" % sys.version_info[:2] == version:
        # Inside a virtual environment, the interpreter it was made from.
        found.append(Path(getattr(sys, "_base_executable", sys.executable)))
    on_path = shutil.which(name)
    if on_path:
        found.append(Path(on_path))
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found += sorted(pyenv.glob("versions/" + version + ".*/bin/" + name), reverse=True)
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"):
        found.append(Path(folder) / name)
    if sys.platform == "win32":
        digits = version.replace(".", "")
        local = Path(os.environ.get("LOCALAPPDATA", ""))
        found.append(local / "Programs" / "Python" / ("Python" + digits) / "python.exe")
    return found


def works(python: Path, version: str) -> bool:
    """Whether this interpreter runs, has this version and can make virtual environments."""
    try:
        done = subprocess.run([str(python), "-c", CHECK], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find(versions: list[str]) -> tuple[str, Path] | None:
    """The first of these versions that is there, and its interpreter; None when there is none.

    A pyenv shim of a version that is not switched on is found on PATH but does not run; it is passed over.
    """
    for version in versions:
        for python in candidates(version):
            if works(python, version):
                return version, python
    return None
