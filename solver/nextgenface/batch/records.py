"""What is known about one subject: `subject.json` in its folder, and what its result tells."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..files import write_text

RECORD_FILE = "subject.json"
RESULT_FILE = "result.json"
THUMBNAIL = "thumbnail.jpg"
SUMMARY_JSON = "summary.json"
SUMMARY_FILES = (SUMMARY_JSON, "summary.csv", "summary.html")

State = Literal["waiting", "running", "finished", "failed", "stopped"]
"""`waiting`: not begun; `stopped`: begun, and goes on from its last checkpoint the next time."""

IGNORED_SETTINGS = ("threads", "device")
"""Options that change how fast a result comes, not what it is."""


@dataclass(frozen=True)
class Task:
    """One subject as a worker gets it, on this machine or another; plain values only.

    `photo_facts`: name and size of every photo, by which a finished result is known to be of these photos.
    `settings`: a digest of all options. `stall_seconds`: how long a job may show no progress (0: for ever).
    `command`: what the job folder is appended to; empty for this Python and `nextgenface.job`.
    """

    name: str
    folder: Path
    run: str
    photos: tuple[Path, ...]
    photo_facts: tuple[tuple[str, int], ...]
    shared: bool
    config: Path | None
    set: Mapping[str, str]
    settings: str
    threads_chosen: bool = False
    stall_seconds: float = 0.0
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The content of `subject.json`. `run` names the batch run that wrote it, `attempts` counts within it.

    `seconds`: wall time of all attempts that led here, over all runs. `child`: the job's process on `host`.
    """

    state: State = "waiting"
    error: str = ""
    kind: str = ""
    seconds: float = 0.0
    attempts: int = 0
    run: str = ""
    settings: str = ""
    photo_facts: tuple[tuple[str, int], ...] = ()
    host: str = ""
    child: int = 0
    warnings: tuple[str, ...] = field(default=())

    def same_photos(self, task: Task) -> bool:
        """Whether it is about the task's photos, wherever they have been moved since."""
        return self.photo_facts == task.photo_facts

    def is_finished(self, task: Task) -> bool:
        """Whether the folder holds the finished result of the task's photos."""
        return self.state == "finished" and self.same_photos(task) and (task.folder / RESULT_FILE).is_file()


def read_record(folder: Path) -> Record:
    """The record of a folder; that of a subject not yet begun where there is none or it is damaged."""
    raw = read_json(folder / RECORD_FILE)
    try:
        raw["photo_facts"] = tuple((str(name), int(size)) for name, size in raw.get("photo_facts") or ())
        raw["warnings"] = tuple(raw.get("warnings") or ())
        numbers = {"seconds": float(raw.get("seconds", 0)), "attempts": int(raw.get("attempts", 0))}
    except (TypeError, ValueError):
        return Record()
    known = {item.name for item in fields(Record)}
    record = Record(**{key: value for key, value in {**raw, **numbers}.items() if key in known})
    return record if record.state in get_args(State) else Record()


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a folder. Raises OutputError."""
    write_text(folder / RECORD_FILE, as_json({"schema": 1, **asdict(record)}))


def as_json(value: Mapping[str, Any]) -> str:
    """JSON for people, as all files of a batch are written."""
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def facts(photos: Sequence[Path]) -> tuple[tuple[str, int], ...]:
    """Name and size in bytes of every photo; -1 for one that has just gone."""
    return tuple((photo.name, photo.stat().st_size if photo.is_file() else -1) for photo in photos)


def digest(settings: Mapping[str, object]) -> str:
    """A short name for a set of options; those in `IGNORED_SETTINGS` do not count."""
    kept = {key: settings[key] for key in sorted(settings) if key not in IGNORED_SETTINGS}
    return hashlib.sha256(json.dumps(kept, ensure_ascii=False).encode()).hexdigest()[:16]


def result_facts(folder: Path) -> dict[str, Any]:
    """What the summary tells of a finished result: `metrics` (means over its photos), `stages` (seconds),
    `peak_mb` and `warnings`.
    """
    result = read_json(folder / RESULT_FILE)
    stages = result.get("stages") or {}
    metrics = {}
    for name, value in (result.get("metrics") or {}).items():
        values = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, (int, float))]
        if values and all(math.isfinite(v) for v in values):
            metrics[name] = round(sum(values) / len(values), 4)
    return {
        "metrics": metrics,
        "stages": {name: stage.get("seconds") for name, stage in stages.items()},
        "peak_mb": max((stage.get("peak_mb") or 0.0 for stage in stages.values()), default=None),
        "warnings": [str(text) for text in result.get("warnings") or ()],
    }
