"""`nextgenface-export`: a complete results folder from a checkpoint, without optimising."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .common import (
    add_common_options,
    config_from,
    listening,
    logged_to,
    report_result,
    run_with,
    user_path,
)


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
    options = build_parser().parse_args(arguments)
    return run_with(run, options)


def run(options: argparse.Namespace) -> int:
    """Export what the command line asks for."""
    # Here, because they load torch, which reads the thread settings of `run_command`.
    from ..export import export
    from ..photos import list_photos

    with listening(options) as listener:
        with logged_to(listener):
            config = config_from(options)
            photos = list_photos(options.input) if options.input else []
            result = export(options.checkpoint, options.output, config, listener, photos)
        listener.close()
        report_result(result, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
