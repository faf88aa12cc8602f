"""What a job tells: its events, and the status they add up to. No bpy in here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

State = Literal["created", "running", "finished", "failed", "cancelled", "stopped"]

RESULT_FILE = "result.json"

STAGES = ("pose", "photometric", "textures", "render")
STAGE_TITLES = {
    "pose": "Pose",
    "photometric": "Shape and light",
    "textures": "Textures",
    "render": "Final picture",
}

MAX_BYTES_PER_POLL = 1 << 20  # a flood of events must not hold up Blender's window


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands. `fraction` is 0..1 over all stages and never goes back."""

    state: State = "created"
    stage: str = ""
    step: int = 0
    total: int = 0
    loss: float | None = None
    eta: float | None = None
    fraction: float = 0.0
    preview: Path | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    result: Path | None = None
    exit_code: int | None = None

    @property
    def done(self) -> bool:
        return self.state in ("finished", "failed", "cancelled", "stopped")

    def text(self) -> str:
        """One line for a person."""
        if self.state == "failed":
            return self.error.splitlines()[0] if self.error else "The solver failed"
        if self.state != "running":
            return {"created": "Not started", "finished": "Finished", "cancelled": "Cancelled"}.get(
                self.state, "Stopped before it was finished"
            )
        if not self.stage:
            return "Starting the solver"
        line = STAGE_TITLES.get(self.stage, self.stage)
        if self.total:
            line += f" {self.step}/{self.total}"
        if self.eta is not None:
            line += f", {self.eta:.0f} s left"
        return line


class EventReader:
    """Reads an event file's new complete lines; tolerates a missing file, garbage and half-written lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad_lines = 0
        self._offset = 0
        self._partial = b""

    def read(self, limit: int | None = MAX_BYTES_PER_POLL) -> list[dict[str, Any]]:
        """The events since the last call, at most about `limit` bytes of them."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # begun anew by another run
                    self._offset, self._partial = 0, b""
                file.seek(self._offset)
                data = file.read() if limit is None else file.read(limit)
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_BYTES_PER_POLL:  # no event is that long
            self._partial = b""
            self.bad_lines += 1
        events = []
        for line in lines:
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except ValueError:  # also covers bytes that are not UTF-8
                self.bad_lines += 1
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                events.append(event)
            else:
                self.bad_lines += 1
        return events


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def apply_event(status: JobStatus, event: Mapping[str, Any], folder: Path) -> JobStatus:
    """The status after one event. Unknown events and ill-typed fields change nothing."""
    kind = event["event"]
    if kind == "stage" and isinstance(event.get("stage"), str):
        stage = event["stage"]
        base = STAGES.index(stage) / len(STAGES) if stage in STAGES else status.fraction
        fraction = max(status.fraction, base)
        return replace(status, stage=stage, step=0, total=0, loss=None, eta=None, fraction=fraction)
    if kind == "progress":
        stage = event["stage"] if isinstance(event.get("stage"), str) else status.stage
        step, total = int(_number(event.get("step")) or 0), int(_number(event.get("total")) or 0)
        fraction = status.fraction
        if stage in STAGES and total > 0:
            within = min(max(step / total, 0.0), 1.0)
            fraction = max(fraction, (STAGES.index(stage) + within) / len(STAGES))
        loss, eta = _number(event.get("loss")), _number(event.get("eta"))
        return replace(status, stage=stage, step=step, total=total, loss=loss, eta=eta, fraction=fraction)
    if kind == "preview" and isinstance(event.get("path"), str):
        return replace(status, preview=folder / event["path"])
    if kind == "warning" and isinstance(event.get("text"), str):
        return replace(status, warnings=(*status.warnings, event["text"])[-100:])
    if kind == "error" and isinstance(event.get("text"), str):
        return replace(status, error=event["text"])
    if kind == "done":
        result = event.get("result")
        return replace(
            status, result=folder / (result if isinstance(result, str) else RESULT_FILE), fraction=1.0
        )
    return status
