"""The solver's environment that the preferences install, and questions to it. No bpy in here.

The work is done by tools/solver_environment.py in a process of its own; a zip without it (the store's) offers
an existing environment only.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .child import Child, read_json
from .job_events import JobStatus
from .jobs import EXIT_CANCELLED, EXIT_OK, JobError, explain_exit, solver_environment
from .solver_python import environment_python, package_root, solver_folder
from .user_folders import user_folder

STAMP = "nextgenface-stamp.json"
DISK_GB = {"cpu": 2.4, "cuda": 6.5}
DOWNLOAD_GB = {"cpu": 0.6, "cuda": 3.2}

State = Literal["missing", "ready", "outdated", "broken"]
"""`outdated`: made for another version of the extension. `broken`: its Python is gone, or it never passed the
check."""


def installer_script() -> Path:
    """The script that makes environments; the store's zip does not have it."""
    return package_root() / "tools" / "solver_environment.py"


def can_install() -> bool:
    """Whether this copy of the add-on brings the installer."""
    return installer_script().is_file()


def environment_folder() -> Path:
    """The folder with the environment, its log and the installer's events."""
    return user_folder() / "environment"


def own_python(folder: Path | None = None) -> Path | None:
    """The Python of the installed environment when it can be used, also when it is outdated."""
    folder = environment_folder() if folder is None else folder
    return environment_python(folder / "solver") if state(folder) in ("ready", "outdated") else None


def state(folder: Path | None = None) -> State:
    """How the installed environment stands."""
    folder = environment_folder() if folder is None else folder
    stamp = read_json(folder / "solver" / STAMP)
    if not (folder / "solver").exists():
        return "missing"
    if not stamp.get("checked") or not environment_python(folder / "solver").is_file():
        return "broken"
    return "ready" if stamp.get("lock") == lock_hash(str(stamp.get("python"))) else "outdated"


def lock_hash(version: str) -> str | None:
    """The hash of this copy's lock for a Python version, as tools/environments.py stamps it."""
    path = package_root() / "requirements" / f"solver-py{version.replace('.', '')}.txt"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@dataclass(frozen=True)
class Need:
    """What an installation takes: gigabytes to fetch and on disk, and what is free."""

    download: float
    disk: float
    free: float
    cuda: bool


def estimate(folder: Path | None = None) -> Need:
    """What an installation would take on this machine."""
    folder = environment_folder() if folder is None else folder
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    nvidia = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    kind = "cuda" if nvidia and sys.platform != "win32" else "cpu"
    return Need(DOWNLOAD_GB[kind], DISK_GB[kind], shutil.disk_usage(existing).free / 1e9, kind == "cuda")


class Installer(Child):
    """Installs or removes the environment; its events and its console.log lie in `<folder>/install`."""

    stages = ("python", "packages", "check")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "install", cancel_grace=10.0, terminate_grace=5.0)
        self.environment = folder
        self.action = "install"

    def begin(self, action: str, interpreter: Sequence[str], python: str | None = None) -> None:
        """Start `install` or `remove`; `interpreter` runs the script, `python` is what the environment is
        made with. Raises JobError.
        """
        self.action = action
        command = [*interpreter, "-B", str(installer_script()), action, str(self.environment)]
        if python:
            command += ["--python", python]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.launch(command, solver_environment(solver_folder()))
        except OSError as problem:
            raise JobError(f"{self.folder} cannot be written: {problem.strerror or problem}.") from problem

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code, eta=None, result=None)
        if code == EXIT_CANCELLED or self.was_cancelled:
            return replace(status, state="cancelled", error="")
        good = state(self.environment) == ("ready" if self.action == "install" else "missing")
        if code == EXIT_OK and good:
            return replace(status, state="finished", fraction=1.0)
        return replace(status, state="failed", error=status.error or explain_exit(code, self.folder))


class Doctor(Child):
    """Runs the solver's check of its environment; `rows` holds the table afterwards."""

    stages = ("check",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "doctor", cancel_grace=1.0)

    @property
    def report(self) -> Path:
        """The table as JSON."""
        return self.folder / "doctor.json"

    def begin(self, python: Path) -> None:
        """Start the check with the solver's Python. Raises JobError."""
        command = [str(python), "-B", "-m", "nextgenface.cli.doctor", "--output", str(self.report)]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.report.unlink(missing_ok=True)
            self.launch(command, solver_environment(solver_folder()))
        except OSError as problem:
            raise JobError(f"The check cannot be started: {problem.strerror or problem}.") from problem

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code)
        if self.was_cancelled:
            return replace(status, state="cancelled")
        if self.rows():
            return replace(status, state="finished")
        return replace(status, state="failed", error=explain_exit(code, self.folder))

    def rows(self) -> list[dict[str, Any]]:
        """The table of the last check: name, status, found, wrong, action; empty when there is none."""
        checks = read_json(self.report).get("checks")
        rows = checks if isinstance(checks, list) else []
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)]
