"""What became of everybody: `summary.json`, `summary.csv`, and the contact sheet `summary.html`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import OutputError
from ..files import write_bytes, write_text
from .contact_sheet import contact_sheet
from .records import (
    RESULT_FILE,
    SUMMARY_FILES,
    SUMMARY_JSON,
    THUMBNAIL,
    Record,
    as_json,
    read_json,
    result_facts,
)
from .subjects import Subject

SCHEMA = 1
STATES = ("finished", "failed", "stopped", "waiting")


@dataclass
class Row:
    """One subject in the summary. `earlier`: what stands here was done by an earlier run."""

    subject: Subject
    record: Record
    earlier: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Its state, as the summary tells it: who is being worked on is not done yet."""
        return "waiting" if self.record.state == "running" else self.record.state

    def update(self, record: Record, folder: Path) -> None:
        """Take over what has become of it."""
        self.record = record
        self.facts = result_facts(folder) if record.state == "finished" else {}

    def entry(self, output: Path) -> dict[str, Any]:
        """As in `summary.json`; paths of results are relative to the summary."""
        name, finished = self.subject.name, self.record.state == "finished"
        thumbnail = finished and (output / name / THUMBNAIL).is_file()
        return {
            "name": name,
            "source": str(self.subject.source),
            "photos": len(self.subject.photos),
            "status": self.status,
            "earlier": self.earlier,
            "seconds": self.record.seconds,
            "attempts": self.record.attempts,
            "error": self.record.error,
            "kind": self.record.kind,
            "metrics": self.facts.get("metrics", {}),
            "stages": self.facts.get("stages", {}),
            "peak_mb": self.facts.get("peak_mb"),
            "warnings": [*self.facts.get("warnings", []), *self.record.warnings],
            "result": f"{name}/{RESULT_FILE}" if finished else None,
            "thumbnail": f"{name}/{THUMBNAIL}" if thumbnail else None,
        }


@dataclass
class Summary:
    """A whole batch. `seconds`: wall time of this run so far; `notes`: what was not done as asked."""

    output: Path
    input: Path
    run: str
    where: str
    settings: dict[str, Any]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """How many subjects are in each state."""
        found = Counter(row.status for row in self.rows)
        return {state: found[state] for state in STATES}

    def to_json(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "input": str(self.input),
            "output": str(self.output),
            "run": self.run,
            "where": self.where,
            "seconds": round(self.seconds, 3),
            "counts": self.counts(),
            "warnings": self.notes,
            "config": self.settings,
            "subjects": [row.entry(self.output) for row in self.rows],
        }

    def write(self) -> None:
        """Write all three files. Raises OutputError."""
        content = self.to_json()
        writers = (write_text, write_bytes, write_text)
        texts = (as_json(content), as_csv(content["subjects"]).encode("utf-8-sig"), contact_sheet(content))
        for name, text, write in zip(SUMMARY_FILES, texts, writers, strict=True):
            write(self.output / name, text)  # type: ignore[operator]


def as_csv(entries: Sequence[dict[str, Any]]) -> str:
    """One line a subject; every metric and every stage that anybody has is a column."""
    metrics = sorted({name for entry in entries for name in entry["metrics"]})
    stages = list(dict.fromkeys(name for entry in entries for name in entry["stages"]))
    plain = ["name", "status", "earlier", "seconds", "attempts", "photos"]
    ending = ["peak_mb", "error", "kind", "source"]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([*plain, *metrics, *(f"{stage}_seconds" for stage in stages), *ending])
    for entry in entries:
        values = [entry[key] for key in plain]
        values += [entry["metrics"].get(name) for name in metrics]
        values += [entry["stages"].get(name) for name in stages]
        writer.writerow(["" if v is None else v for v in [*values, *(entry[key] for key in ending)]])
    return stream.getvalue()


def known_names(output: Path) -> dict[str, str]:
    """Folder names by source path, as an earlier run gave them; empty when there was none."""
    entries = read_json(output / SUMMARY_JSON).get("subjects") or []
    try:
        return {str(entry["source"]): str(entry["name"]) for entry in entries}
    except (TypeError, KeyError) as problem:
        raise OutputError(
            f"{output / SUMMARY_JSON} is damaged ({problem}). Remove it; finished results are found again."
        ) from problem
