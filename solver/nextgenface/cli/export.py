"""`nextgenface-export`: a complete results folder from a checkpoint, without optimising."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..events import Listener
from .common import add_common_options, config_from, run_with, solve, user_path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-export",
        description="Write the complete results folder of a checkpoint. "
        "Options that are not given are those the checkpoint was made with.",
    )
    parser.add_argument(
        "checkpoint",
        type=user_path,
        metavar="CHECKPOINT",
        help="a .pickle of this program or of the reference",
    )
    parser.add_argument("--output", required=True, type=user_path, metavar="DIR", help="the results folder")
    parser.add_argument(
        "--input",
        type=user_path,
        metavar="PATH",
        help="the photo or folder of photos, where it has been moved",
    )
    add_common_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_with(run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Export what the command line asks for."""
    # Here, because they load torch, which reads the thread settings of `run_command`.
    from ..export import export
    from ..photos import list_photos

    def work(listener: Listener) -> Path:
        photos = list_photos(options.input) if options.input else []
        return export(options.checkpoint, options.output, config_from(options), listener, photos)

    return solve(options, work)


if __name__ == "__main__":
    sys.exit(main())
