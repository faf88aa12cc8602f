"""What a job tells: its events, and the status they add up to. No bpy in here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .methods import METHODS

State = Literal["created", "running", "finished", "failed", "cancelled", "stopped", "broken"]
"""`stopped`: ended without a word, as when the machine went down. `broken`: its job.json cannot be read."""

RESULT_FILE = "result.json"

STAGE_TITLES = {name: title for method in METHODS for name, title in method.stages}
FACE_STAGES = tuple(name for name, _ in METHODS[0].stages)

# A flood of events must not hold up Blender's window: this much is read and parsed in a few ms.
MAX_BYTES_PER_POLL = 1 << 15
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands. `fraction` is 0..1 over all stages and never goes back.

    `kind`: the class of the solver's error. `note`: what a step says about itself, for a person.
    """

    state: State = "created"
    stage: str = ""
    step: int = 0
    total: int = 0
    loss: float | None = None
    eta: float | None = None
    fraction: float = 0.0
    preview: Path | None = None
    preview_number: int = 0  # the file keeps its name, so this tells that there is a new picture
    warnings: tuple[str, ...] = ()
    error: str = ""
    kind: str = ""
    note: str = ""
    result: Path | None = None
    exit_code: int | None = None

    @property
    def done(self) -> bool:
        return self.state in ("finished", "failed", "cancelled", "stopped", "broken")

    def text(self, translate: Callable[[str], str] = str) -> str:
        """One line for a person, its words passed through `translate`."""
        if self.state in ("failed", "broken"):
            return self.error.splitlines()[0] if self.error else translate("The solver failed")
        if self.state != "running":
            return translate(STATE_TITLES[self.state])
        if not self.stage:
            return translate("Starting the solver")
        line = translate(STAGE_TITLES.get(self.stage, self.stage))
        if self.total:
            line += f" {self.step}/{self.total}"
        if self.eta is not None and self.step != 1:  # the first step tells little: kernels are compiled
            line += ", " + translate("{time} left").format(time=duration(self.eta))
        return line


STATE_TITLES = {
    "created": "Waiting",
    "running": "Running",
    "finished": "Finished",
    "cancelled": "Cancelled",
    "stopped": "Stopped before it was finished",
    "failed": "Failed",
    "broken": "Damaged",
}


def duration(seconds: float) -> str:
    """A time span for people: 45 s, 3 min, 1 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class EventReader:
    """Reads an event file's new complete lines; tolerates a missing file, garbage and half-written lines.

    `caught_up` is False after a `read` whose limit left something unread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad_lines = 0
        self.caught_up = True
        self._offset = 0
        self._partial = b""

    def skip_to_last(self, size: int) -> None:
        """Begin at the last `size` bytes, with the first whole line there."""
        try:
            length = self.path.stat().st_size
        except OSError:
            return
        if length > size:
            self._offset, self._partial = length - size, b"cut off: "

    def read(self, limit: int | None = MAX_BYTES_PER_POLL) -> list[dict[str, Any]]:
        """The events since the last call, at most about `limit` bytes of them."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # begun anew by another run
                    self._offset, self._partial = 0, b""
                file.seek(self._offset)
                data = file.read() if limit is None else file.read(limit)
        except OSError:  # not there yet, or on a drive that is gone for the moment
            self.caught_up = True
            return []
        self._offset += len(data)
        self.caught_up = limit is None or len(data) < limit
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LONGEST_LINE:  # no event is that long
            self._partial = b""
            self.bad_lines += 1
        events = []
        for line in lines:
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # also bytes that are not UTF-8
                self.bad_lines += 1
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                events.append(event)
            else:
                self.bad_lines += 1
        return events


def _number(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def apply_event(
    status: JobStatus, event: Mapping[str, Any], folder: Path, stages: Sequence[str] = FACE_STAGES
) -> JobStatus:
    """The status after one event; `stages` are all stages of the job in order. Unknown events and ill-typed
    fields change nothing.
    """
    kind = event["event"]
    if kind == "stage" and isinstance(event.get("stage"), str):
        stage = event["stage"]
        base = stages.index(stage) / len(stages) if stage in stages else status.fraction
        fraction = max(status.fraction, base)
        return replace(status, stage=stage, step=0, total=0, loss=None, eta=None, note="", fraction=fraction)
    if kind == "progress":
        stage = event["stage"] if isinstance(event.get("stage"), str) else status.stage
        step, total = int(_number(event.get("step")) or 0), int(_number(event.get("total")) or 0)
        within = min(max(step / total, 0.0), 1.0) if total > 0 else 0.0
        fraction = status.fraction
        if stage in stages:
            fraction = max(fraction, (stages.index(stage) + within) / len(stages))
        note = event["note"] if isinstance(event.get("note"), str) else status.note
        return replace(
            status,
            stage=stage,
            step=step,
            total=total,
            loss=_number(event.get("loss")),
            eta=_number(event.get("eta")),
            note=note,
            fraction=fraction,
        )
    if kind == "preview" and isinstance(event.get("path"), str):
        return replace(status, preview=folder / event["path"], preview_number=status.preview_number + 1)
    if kind == "warning" and isinstance(event.get("text"), str):
        if event["text"] in status.warnings:  # a stage says again what an earlier one has said
            return status
        return replace(status, warnings=(*status.warnings, event["text"])[-100:])
    if kind == "error" and isinstance(event.get("text"), str):
        return replace(status, error=event["text"], kind=str(event.get("kind") or ""))
    if kind == "done":
        result = event.get("result")
        return replace(
            status, result=folder / (result if isinstance(result, str) else RESULT_FILE), fraction=1.0
        )
    return status
