"""What the commands share: options, listeners, signals, exit codes, errors for people, running a method."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..config import Config
from ..errors import Cancelled, ConfigError, NextGenFaceError
from ..events import BarListener, CancelWhen, JsonlListener, Listener, QuietListener, Tee, logged_to
from ..multiview.options import add_options, typed_options

EXIT_BUG = 1
EXIT_USER = 2
EXIT_CANCELLED = 130


class StopFlag:
    """Turns the first Ctrl-C (SIGINT, SIGTERM, CTRL_BREAK) into a request to stop between two steps.

    A second one interrupts at once, for people whose step never ends.
    """

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def installed(self) -> Iterator[StopFlag]:
        """Listen to the signals inside the block; the handlers from before come back after it."""
        names = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGBREAK"):
            names.append(signal.SIGBREAK)
        before = {name: signal.signal(name, self) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def listener(self) -> CancelWhen:
        """A listener that passes the request on to the solve."""
        return CancelWhen(lambda: self.requested)


def share_cores() -> None:
    """Let waiting threads sleep instead of spin, unless the user has chosen; call before importing torch.

    On cores that other programs use as well, spinning OpenMP threads made a fit ten times slower.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """`--quiet` and `--json`, which exclude each other."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="print only warnings and errors")
    group.add_argument(
        "--json", action="store_true", help="print events as one JSON object a line on standard output"
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--set`, `--device`, `--seed`."""
    parser.add_argument(
        "--config", metavar="FILE", help="ini file with options (default: the shipped default.ini)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one option; may be repeated, beats the file",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute")
    parser.add_argument("--seed", type=int, help="seed; the same seed gives the same result")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What every command that computes understands: options of the solve, and how much is said."""
    add_config_options(parser)
    add_output_options(parser)


def add_method_options(
    parser: argparse.ArgumentParser,
    options: type[Any],
    *,
    output: Sequence[str] = ("--output",),
    default: str = "output",
    shown: str = "folder of the result",
    held_out: str = "--heldOut",
    resume: Sequence[str] = ("--resume",),
) -> None:
    """What every method for many views takes beside its inputs; `options` are its own.

    Flags are parameters, because the programs whose command lines these follow spell them each in its own
    way.
    """
    parser.add_argument(
        *output,
        dest="output",
        type=user_path,
        default=Path(default),
        metavar="DIR",
        help=f"{shown} (default: ./{default})",
    )
    parser.add_argument(
        held_out,
        dest="held_out",
        nargs="*",
        default=[],
        metavar="NAME",
        help="views that are not learned from but drawn and scored at the end",
    )
    parser.add_argument(
        *resume,
        dest="resume",
        action="store_true",
        help="go on from the checkpoint of a stopped run in the folder of the result",
    )
    add_options(parser, options)
    add_output_options(parser)


def user_path(text: str) -> Path:
    """A path as a person types it: ~ is the home folder. For argparse's `type`."""
    return Path(text).expanduser()


def config_from(arguments: argparse.Namespace) -> Config:
    """The options that a command line asks for: file, then `--set`, then `--device`, `--seed`, `--face`."""
    config = Config()
    if arguments.config:
        config.fillFromDicFile(arguments.config)
    for key, value in settings_from(arguments):
        config.set(key, value)
    return config


def settings_from(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """What a command line sets beside the file, in this order; later ones win. Raises ConfigError."""
    settings = []
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {item!r}: write it as --set key=value, for example --set rtSamples=200")
        settings.append((key.strip(), value))
    for name in ("device", "seed", "face"):
        value = getattr(arguments, name, None)
        if value is not None:
            settings.append((name, str(value)))
    return settings


def make_listener(arguments: argparse.Namespace, stop: StopFlag, *more: Listener) -> Tee:
    """The listener that the command line asks for: a progress bar, nothing but warnings, or JSON lines."""
    if getattr(arguments, "json", False):
        main: Listener = JsonlListener(sys.stdout)
    elif arguments.quiet:
        main = QuietListener()
    else:
        main = BarListener()
    return Tee(main, stop.listener(), *more)


@contextmanager
def listening(arguments: argparse.Namespace) -> Iterator[Tee]:
    """The listener that the command line asks for. Inside the block Ctrl-C makes it ask for a stop."""
    stop = StopFlag()
    with stop.installed():
        listener = make_listener(arguments, stop)
        try:
            yield listener
        finally:
            listener.close()


def solve(arguments: argparse.Namespace, work: Callable[[Listener], Path]) -> int:
    """Do `work` with the listener that the command line asks for; say where its `result.json` is."""
    with listening(arguments) as listener:
        with logged_to(listener):
            result = work(listener)
        listener.close()
        report_result(result, arguments)
    return 0


def run_method(
    name: str,
    options: type[Any],
    arguments: argparse.Namespace,
    inputs: Sequence[Path],
    *,
    output: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> int:
    """Run a method for many views on what `add_method_options` understood.

    `output` where it is not the typed one; `more` settings than `options` has.
    """
    from ..multiview.method import Request, method

    request = Request(
        inputs=tuple(inputs),
        output=output or arguments.output,
        mesh=getattr(arguments, "mesh", None),
        held_out=tuple(arguments.held_out),
        options=typed_options(options, arguments) | dict(more or {}),
        resume=arguments.resume,
    )
    return solve(arguments, lambda listener: method(name)(request, listener))


def run_with(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """`run_command` for a command whose work takes its parsed arguments."""
    return run_command(lambda: run(arguments), as_json=arguments.json)


def run_command(work: Callable[[], int], *, as_json: bool = False) -> int:
    """Run a command's work; turn what goes wrong into one message on standard error and an exit code.

    0 or what `work` returns; 2 for what the user can put right, 130 for a stop, 1 for a fault of the program,
    which is the only case with a traceback.
    """
    share_cores()
    try:
        return work()
    except NextGenFaceError as problem:
        report_error(str(problem), type(problem).__name__, as_json=as_json)
        return problem.exit_code
    except KeyboardInterrupt:
        report_error("Stopped.", Cancelled.__name__, as_json=as_json)
        return EXIT_CANCELLED
    except BrokenPipeError:
        # The reader of our standard output went away; nobody is left to tell.
        sys.stderr.close()
        return EXIT_BUG
    except Exception as problem:
        traceback.print_exc()
        report_error(
            f"This is a fault of NextGenFace: {type(problem).__name__}: {problem}. Please report it with "
            "the lines above.",
            type(problem).__name__,
            as_json=as_json,
        )
        return EXIT_BUG


def report_error(text: str, kind: str, *, as_json: bool) -> None:
    """Say what went wrong, once, on standard error; with `--json` also as an event."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    if as_json:
        JsonlListener(sys.stdout).write("error", text=text, kind=kind)


def report_result(result: Path, options: argparse.Namespace) -> None:
    """Say where the result is."""
    if options.json:
        JsonlListener(sys.stdout).write("done", result=str(result))
    say(f"The result is in {result.parent}", options)


def say(text: str, options: argparse.Namespace) -> None:
    """Print a line for people, unless the command line asks for silence or JSON."""
    if not options.quiet and not options.json:
        print(text, flush=True)


def check_stop(listener: Listener) -> None:
    """Raise Cancelled when the listener asks for a stop."""
    if listener.cancelled():
        raise Cancelled("Stopped.")
