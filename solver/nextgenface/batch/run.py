"""A whole batch: who is to be done, handing it to a pool, and keeping the summary."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import Config
from ..errors import NextGenFaceError, OutputError
from ..files import output_error, prepare_output
from . import lease
from .child import Stop
from .local import Pool
from .records import RECORD_FILE, Record, Task, digest, facts, read_record, write_record
from .subjects import Subject, find_subjects
from .summary import Row, Summary, known_names

STALL_SECONDS = 1800.0
SUMMARY_SECONDS = 3.0
"""The summary is written anew at most this often while the batch runs, less often where that takes long."""

BATCH_LEASE = "batch-working.json"


@dataclass(frozen=True)
class BatchRequest:
    """What a command line asks for. `config` is checked; `config_file` and `set` are what it was made of.

    `retry`: those that failed in an earlier run are tried again. `command` replaces the job (for tests).
    """

    input: Path
    output: Path
    config: Config
    config_file: Path | None = None
    set: tuple[tuple[str, str], ...] = ()
    retry: bool = False
    stall_seconds: float = STALL_SECONDS
    command: tuple[str, ...] = ()


class Reporter:
    """Hears how a batch goes; this one keeps silent."""

    def begin(self, summary: Summary, todo: int) -> None:
        """The subjects are known; `todo` of them are to be worked on."""

    def subject(self, row: Row, number: int, total: int) -> None:
        """One subject has ended, the `number`-th of `total` in this run."""

    def warning(self, text: str) -> None:
        """Something was not done as asked."""


def run_batch(request: BatchRequest, pool: Pool, reporter: Reporter, stop: Stop) -> Summary:
    """Work on everybody who is not finished; returns the summary, which has been written.

    One subject's failure never stops the others; a full disk does, and so does a stop: the summary is written
    even then. Raises NextGenFaceError when the batch cannot begin.
    """
    output = prepare_output(request.output)
    with lease.held(output / BATCH_LEASE, wait=False):
        summary = plan(request, output, pool.description)
        tasks = [
            make_task(request, row.subject, summary)
            for row in summary.rows
            if row.record.state in ("waiting", "running", "stopped") and not row.subject.problem
        ]
        for note in summary.notes:
            reporter.warning(note)
        reporter.begin(summary, len(tasks))
        Keeper(summary).write()
        return _work(tasks, summary, pool, reporter, stop)


def plan(request: BatchRequest, output: Path, where: str) -> Summary:
    """The subjects and where each of them stands; makes the folders of those to be worked on."""
    found = find_subjects(request.input, output, known_names(output))
    settings = request.config.toDict()
    summary = Summary(
        output, request.input.expanduser().absolute(), uuid.uuid4().hex[:12], where, settings, [], found.notes
    )
    others = 0
    for subject in found.subjects:
        folder = output / subject.name
        record = read_record(folder)
        row = Row(subject, record)
        task = make_task(request, subject, summary)
        if subject.problem:
            row.record = Record("failed", subject.problem, "PhotoError")
        elif record.is_finished(task):
            row.update(record, folder)
            row.earlier = True
            others += record.settings != task.settings
        elif record.state == "failed" and record.same_photos(task) and not request.retry:
            row.earlier = True
        else:
            before = record if record.same_photos(task) else Record()
            row.record = replace(before, state="waiting", error="", kind="")
            try:
                _make_folder(folder)
            except OutputError as problem:
                row.record = Record("failed", str(problem), "OutputError")
        summary.rows.append(row)
    if others:
        summary.notes.append(
            f"{others} finished with other settings and are left as they are; remove their folders to have "
            "them done anew."
        )
    return summary


def _make_folder(folder: Path) -> None:
    """The folder with a record in it, by which workers elsewhere know that they share this disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise output_error(folder, problem) from problem
    if not (folder / RECORD_FILE).is_file():
        write_record(folder, Record())


def make_task(request: BatchRequest, subject: Subject, summary: Summary) -> Task:
    """One subject for a worker."""
    return Task(
        name=subject.name,
        folder=summary.output / subject.name,
        run=summary.run,
        photos=tuple(photo.absolute() for photo in subject.photos),
        photo_facts=facts(subject.photos),
        shared=subject.shared,
        config=request.config_file.absolute() if request.config_file else None,
        set=dict(request.set),
        settings=digest(summary.settings),
        threads_chosen=request.config.source("threads") != "default",
        stall_seconds=request.stall_seconds,
        command=request.command,
    )


class Keeper:
    """Writes a summary now and then."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._started = self._written = time.monotonic()
        self._pause = SUMMARY_SECONDS

    def write(self) -> None:
        """Write it now. Raises OutputError."""
        self._written = time.monotonic()
        self._summary.seconds = self._written - self._started
        self._summary.write()
        self._pause = max(SUMMARY_SECONDS, 20 * (time.monotonic() - self._written))

    def write_if_due(self) -> None:
        """Write it when the last time is long enough ago; on a full disk the next time may go well."""
        if time.monotonic() - self._written > self._pause:
            with suppress(NextGenFaceError):
                self.write()


def _work(tasks: list[Task], summary: Summary, pool: Pool, reporter: Reporter, stop: Stop) -> Summary:
    rows = {row.subject.name: row for row in summary.rows}
    keeper = Keeper(summary)
    ended, told = 0, False
    try:
        for step in pool.run(tasks, stop):
            keeper.write_if_due()
            if stop.requested and not told:
                told = True
                reporter.warning("Stopping at the end of the steps now running; once more stops at once.")
            if step is None:
                continue
            task, record = step
            row = rows[task.name]
            row.update(record, task.folder)
            if record.state != "waiting":
                ended += 1
                reporter.subject(row, ended, len(tasks))
            if record.kind == "DiskFull" and not stop.requested:
                summary.notes.append(
                    f"Stopped: the disk that holds {summary.output} is full. Free some space and begin "
                    "again; what is finished is kept."
                )
                reporter.warning(summary.notes[-1])
                stop.request()
    finally:
        keeper.write()
    return summary
