"""`nextgenface-gaussians`: a few views of a head become a cloud of Gaussians."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..multiview.options import add_options, typed_options
from .common import StopFlag, add_output_options, logged_to, make_listener, report_result, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from ..multiview.gaussians.options import Options

    parser = argparse.ArgumentParser(
        prog="nextgenface-gaussians",
        description="Make a Gaussian-splat head from a few views. INPUT is a folder of pictures with their "
        "cameras, a results folder of nextgenface-reconstruct, or photos of one head without cameras: then "
        "a face is fitted to them first.",
    )
    parser.add_argument(
        "--input", required=True, nargs="+", type=Path, metavar="PATH", help="a folder, or several photos"
    )
    parser.add_argument(
        "--output",
        default=Path("output"),
        type=Path,
        metavar="DIR",
        help="folder of the result (default: ./output)",
    )
    parser.add_argument(
        "--mesh",
        type=Path,
        metavar="PATH",
        help="a mesh file or results folder in the cameras' space whose surface the Gaussians start on",
    )
    parser.add_argument(
        "--heldOut",
        nargs="*",
        default=[],
        metavar="NAME",
        help="views that are not learned from but drawn and scored at the end",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of a stopped run in DIR"
    )
    add_options(parser, Options)
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = build_parser().parse_args(arguments)
    return run_command(lambda: run(options), as_json=options.json)


def run(options: argparse.Namespace) -> int:
    """Make the head that the command line asks for."""
    from ..multiview.gaussians.method import reconstruct
    from ..multiview.gaussians.options import Options
    from ..multiview.method import Request

    request = Request(
        inputs=tuple(path.expanduser() for path in options.input),
        output=options.output.expanduser(),
        mesh=options.mesh.expanduser() if options.mesh else None,
        held_out=tuple(options.heldOut),
        options=typed_options(Options, options),
        resume=options.resume,
    )
    stop = StopFlag()
    with stop.installed():
        listener = make_listener(options, stop)
        with logged_to(listener):
            report_result(reconstruct(request, listener), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
