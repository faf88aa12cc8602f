"""`nextgenface-export`: a complete results folder from a checkpoint, without optimising."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .common import (
    StopFlag,
    add_config_options,
    add_output_options,
    config_from,
    logged_to,
    make_listener,
    report_result,
    run_command,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-export",
        description="Write the complete results folder of a checkpoint. "
        "Options that are not given are those the checkpoint was made with.",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a .pickle of this program or of the reference"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the results folder")
    parser.add_argument(
        "--input", metavar="PATH", help="the photo or folder of photos, where it has been moved"
    )
    add_config_options(parser)
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = build_parser().parse_args(arguments)
    return run_command(lambda: run(options), as_json=options.json)


def run(options: argparse.Namespace) -> int:
    """Export what the command line asks for."""
    # Here, because they load torch, which reads the thread settings of `run_command`.
    from ..export import export
    from ..photos import list_photos

    stop = StopFlag()
    with stop.installed():
        listener = make_listener(options, stop)
        with logged_to(listener):
            config = config_from(options)
            photos = list_photos(options.input) if options.input else []
            result = export(
                Path(options.checkpoint).expanduser(), Path(options.output), config, listener, photos
            )
        listener.close()
        report_result(result, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
