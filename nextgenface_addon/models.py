"""The face models: asks the solver which there are; has it add, check, remove, download. No bpy in here.

`nextgenface.cli.models` answers with one JSON value on a line of its own; its progress and its messages come
between, because both outputs of a child go to one file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from .child import CONSOLE_FILE, Child
from .job_events import JobStatus
from .jobs import EXIT_CANCELLED, EXIT_OK, JobError, explain_exit, solver_environment
from .reports import tail
from .solver_python import solver_folder
from .user_folders import solver_home

BUILTIN = "builtin"
BASEL_VARIABLE = "NEXTGENFACE_DATA_DIR"

Action = Literal["add", "check", "remove", "download"]

PROGRESS = re.compile(r"(\d+)/(\d+) (.+): ([\d.]+) of ([\d.]+) MB$")
"""As the download says it: which file of how many, its name, what has arrived."""


def answer(folder: Path) -> Any:
    """The last JSON list or object that a child has printed; None when there is none."""
    try:
        lines = (folder / CONSOLE_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if line.startswith(("[", "{")):
            try:
                return json.loads(line)
            except (ValueError, RecursionError):  # a message that only begins like one
                continue
    return None


def removable(row: Mapping[str, Any]) -> bool:
    """Whether a model of the list lies among the user's own, which alone can be removed."""
    path = row.get("path")
    return row["name"] != BUILTIN and isinstance(path, str) and Path(path).parent == solver_home() / "models"


def name_for(path: Path) -> str:
    """A model's name made of a file's or folder's: letters, digits, dots and dashes."""
    stem = path.stem if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")


class ModelsChild(Child):
    """Runs `nextgenface.cli.models`."""

    stages = ()

    def ask(self, python: Path, arguments: Sequence[str], basel: str) -> None:
        """Start the command; `basel` is the folder of the Basel Face Model, empty for where the solver looks
        by itself. Raises JobError.
        """
        environment = solver_environment(solver_folder())
        if basel:
            environment[BASEL_VARIABLE] = basel
        command = [str(python), "-B", "-m", "nextgenface.cli.models", *arguments]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.launch(command, environment)
        except OSError as problem:
            raise JobError(
                f"The command for face models cannot be started: {problem.strerror or problem}."
            ) from problem


class ModelList(ModelsChild):
    """Asks which face models there are; `rows` holds them afterwards."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "model-list", cancel_grace=1.0)

    def begin(self, python: Path, basel: str = "") -> None:
        """Start the question; `basel` as for `ask`. Raises JobError."""
        self.ask(python, ["list", "--json"], basel)

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code)
        if code == EXIT_OK:
            return replace(status, state="finished")
        return replace(status, state="failed", error=explain_exit(code, self.folder))

    def rows(self) -> list[dict[str, Any]]:
        """What `list --json` says of each model: name, title, kind, installed, path, size_mb, licence,
        source, commercial, downloadable, download_mb, note. Empty when the question failed.
        """
        rows = answer(self.folder)
        return [
            row
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict) and isinstance(row.get("name"), str)
        ]


class ModelCommand(ModelsChild):
    """Adds, checks, removes or downloads one model; `result_notes` then holds what the solver says of it."""

    def __init__(self, folder: Path, action: Action, name: str) -> None:
        super().__init__(folder / "model-command", cancel_grace=5.0)
        self.action = action
        self.name = name
        self.result_notes: list[str] = []

    def begin(self, python: Path, paths: Sequence[Path] = (), basel: str = "") -> None:
        """Start it; `paths` are the files or the folder of a model to add, `basel` as for `ask`. Raises
        JobError.
        """
        if self.action == "add":
            arguments = ["add", *(str(path) for path in paths), "--name", self.name]
        else:
            arguments = [self.action, self.name]
        self.ask(python, [*arguments, "--json"], basel)

    @property
    def facts(self) -> dict[str, Any]:
        """The answer: ok, and problem or vertices, triangles, notes and so on; empty when there is none."""
        found = answer(self.folder)
        if isinstance(found, list):  # `check` takes several models
            found = found[0] if found else None
        return found if isinstance(found, dict) else {}

    def poll(self) -> JobStatus:
        """As every child; a download also says how far it is."""
        if not super().poll().done and self.action == "download":
            self.status = with_progress(self.status, tail(self.folder / CONSOLE_FILE, 1000))
        return self.status

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code, note="")
        facts = self.facts
        if code == EXIT_OK and facts.get("ok") is True:  # even when it was cancelled too late
            notes = facts.get("notes")
            self.result_notes = [str(note) for note in notes] if isinstance(notes, list) else []
            return replace(status, state="finished", fraction=1.0)
        if self.was_cancelled or code == EXIT_CANCELLED:
            return replace(status, state="cancelled")
        problem = facts.get("problem")
        if not isinstance(problem, str) or not problem:
            problem = explain_exit(code, self.folder)
        return replace(status, state="failed", error=problem)


def with_progress(status: JobStatus, said: str) -> JobStatus:
    """The status after the last line of progress in what a download has said."""
    for line in reversed(said.splitlines()):
        match = PROGRESS.match(line)
        if match is not None:
            file, files, arrived, size = (float(match[number]) for number in (1, 2, 4, 5))
            fraction = (file - 1.0 + arrived / max(size, 1e-6)) / max(files, 1.0)
            fraction = min(max(fraction, status.fraction), 1.0)
            return replace(status, stage="download", note=line, fraction=fraction)
    return status
