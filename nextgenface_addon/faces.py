"""Asks the solver which faces the photos show. No bpy in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .child import Child
from .job_events import JobStatus
from .jobs import EXIT_OK, JobError, PhotoInput, explain_exit, solver_environment
from .solver_python import solver_folder


@dataclass(frozen=True)
class FoundFaces:
    """What a photo shows: how many faces, the picture with their numbers, or what is wrong with it."""

    path: str
    count: int
    picture: Path | None
    problem: str


class FaceFinder(Child):
    """Runs `nextgenface.cli.faces`; its answer and its pictures lie in the folder."""

    stages = ("faces",)

    def begin(self, python: Path, photos: Sequence[PhotoInput]) -> None:
        """Start the search. Raises JobError."""
        named = [f"{photo.path}:{photo.rotate}" for photo in photos]
        command = [str(python), "-B", "-m", "nextgenface.cli.faces", "--output", str(self.folder), *named]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in (*self.folder.glob("faces*.png"), *self.folder.glob("faces.json")):
                old.unlink()
            self.launch(command, solver_environment(solver_folder()))
        except OSError as problem:
            raise JobError(f"The search cannot be started: {problem.strerror or problem}.") from problem

    def final_status(self, code: int | None) -> JobStatus:
        status = replace(self.status, exit_code=code)
        if self.was_cancelled:
            return replace(status, state="cancelled")
        if code == EXIT_OK:
            return replace(status, state="finished")
        return replace(status, state="failed", error=explain_exit(code, self.folder))

    def answer(self) -> list[FoundFaces]:
        """One entry per photo, in order; empty when the search has not ended well."""
        try:
            rows = json.loads((self.folder / "faces.json").read_text(encoding="utf-8"))
            return [
                FoundFaces(
                    str(row["path"]),
                    len(row["faces"]),
                    self.folder / row["picture"] if row["picture"] else None,
                    str(row["problem"] or ""),
                )
                for row in rows
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []
