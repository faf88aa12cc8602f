"""`nextgenface-batch`: many people, on this machine or on a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..batch.child import Stop
from ..batch.local import LocalPool, Pool, default_workers, visible_gpus
from ..batch.records import SUMMARY_JSON
from ..batch.run import STALL_SECONDS, BatchRequest, Reporter, run_batch
from ..batch.summary import Row, Summary
from ..config import Config
from ..events import JsonlListener
from .common import (
    EXIT_BUG,
    EXIT_CANCELLED,
    StopFlag,
    add_common_options,
    config_from,
    run_with,
    settings_from,
    user_path,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-batch",
        description="Reconstruct many people: one for each photo of a folder, one for each of its "
        "sub-folders (photos of one person), or one for each line of a list. What is finished is not done "
        "again; what was stopped goes on. OUTPUT/summary.html shows what has become of everybody.",
    )
    parser.add_argument(
        "--input", required=True, type=user_path, metavar="FOLDER|LIST",
        help="a folder of photos and of sub-folders, or a text file with one path a line",
    )  # fmt: skip
    parser.add_argument(
        "--output", required=True, type=user_path, metavar="DIR", help="parent of the results folders"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="subjects at a time (default: as cores and memory allow)"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="use the workers of this Dask cluster, e.g. tcp://host:8786"
    )
    parser.add_argument("--retry", action="store_true", help="try those again that failed in an earlier run")
    parser.add_argument(
        "--timeout", type=float, default=STALL_SECONDS, metavar="SECONDS",
        help="give a subject up that has made no progress for so long (default %(default).0f; 0: never)",
    )  # fmt: skip
    add_common_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error("--workers must be at least 1")
    if options.workers is not None and options.scheduler:
        parser.error("--workers is for this machine; with --scheduler the cluster has its own workers")
    if options.timeout < 0:
        parser.error("--timeout must not be negative")
    return run_with(run, options)


def run(options: argparse.Namespace) -> int:
    """Work on everybody; 0 when all are finished, 1 when somebody failed, 130 after a stop."""
    reporter = CommandReporter(options)
    config = config_from(options)
    config.validate()
    for text in config.warnings:
        reporter.warning(text)
    request = BatchRequest(
        input=options.input,
        output=options.output,
        config=config,
        config_file=Path(options.config).expanduser() if options.config else None,
        set=tuple(dict(settings_from(options)).items()),
        retry=options.retry,
        stall_seconds=options.timeout,
    )
    stop = Stop()
    with BatchStopFlag(stop).installed(), open_pool(options, config, reporter) as pool:
        summary = run_batch(request, pool, reporter, stop)
    reporter.end(summary)
    if stop.requested:
        return EXIT_CANCELLED
    return EXIT_BUG if summary.counts()["finished"] < len(summary.rows) else 0


@contextmanager
def open_pool(options: argparse.Namespace, config: Config, reporter: Reporter) -> Iterator[Pool]:
    """The workers that the command line asks for. Raises NextGenFaceError."""
    if not options.scheduler:
        gpus = visible_gpus() if config.device != "cpu" else ()
        yield LocalPool(options.workers or default_workers(gpus), gpus)
        return
    from ..batch.cluster import DaskPool
    from ..files import prepare_output

    with DaskPool(options.scheduler) as pool:
        for text in pool.check(prepare_output(options.output)):
            reporter.warning(text)
        if pool.gpus and config.device == "cpu":
            reporter.warning("The workers declare GPUs, but device is cpu; add --device cuda to use them.")
        yield pool


class BatchStopFlag(StopFlag):
    """Ctrl-C: the first stops everybody at the end of their step, the second at once."""

    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self._stop = stop

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self._stop.request(hurry=self.requested)
        self.requested = True


class CommandReporter(Reporter):
    """Prints a line for each subject, or one JSON object; with `--quiet` only what needs a look."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._quiet = bool(options.quiet)
        self._json = JsonlListener(sys.stdout) if options.json else None

    def _say(self, text: str) -> None:
        if not self._quiet and self._json is None:
            print(text, flush=True)

    def begin(self, summary: Summary, todo: int) -> None:
        """Say what is to be done, and what is not."""
        rows = summary.rows
        earlier = [row for row in rows if row.earlier]
        failed = sum(row.record.state == "failed" for row in earlier)
        if self._json:
            self._json.write("batch", subjects=len(rows), todo=todo, where=summary.where)
        words = [f"{todo} of {len(rows)} subjects to do, with {summary.where}"]
        if len(earlier) > failed:
            words.append(f"{len(earlier) - failed} finished earlier")
        if failed:
            words.append(f"{failed} failed earlier (--retry tries them again)")
        self._say("; ".join(words) + ".")
        for row in rows:
            if row.record.state == "failed" and not row.earlier:
                self.failure(row)

    def subject(self, row: Row, number: int, total: int) -> None:
        """Say how one subject ended."""
        record = row.record
        if self._json:
            self._json.write(
                "subject", name=row.subject.name, status=record.state, seconds=record.seconds,
                error=record.error, number=number, total=total,
            )  # fmt: skip
        metrics = "".join(f", {key} {value:.4g}" for key, value in row.facts.get("metrics", {}).items())
        self._say(f"[{number}/{total}] {row.subject.name}: {record.state}, {record.seconds:.1f} s{metrics}")
        if record.state == "failed":
            self.failure(row)

    def failure(self, row: Row) -> None:
        """Say why a subject failed."""
        print(f"failed: {row.subject.name}: {row.record.error}", file=sys.stderr, flush=True)

    def warning(self, text: str) -> None:
        """Say what was not done as asked."""
        if self._json:
            self._json.write("warning", text=text)
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def end(self, summary: Summary) -> None:
        """Say what has become of everybody."""
        counts = {state: number for state, number in summary.counts().items() if number}
        if self._json:
            self._json.write("done", result=str(summary.output / SUMMARY_JSON), counts=counts)
        told = ", ".join(f"{number} {state}" for state, number in counts.items())
        self._say(f"{told} in {summary.seconds:.0f} s. See {summary.output / 'summary.html'}")


if __name__ == "__main__":
    sys.exit(main())
