"""`nextgenface-gaussians`: a few views of a head become a cloud of Gaussians."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .common import add_method_options, run_method, run_with, user_path


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
        "--input",
        required=True,
        nargs="+",
        type=user_path,
        metavar="PATH",
        help="a folder, or several photos",
    )
    parser.add_argument(
        "--mesh",
        type=user_path,
        metavar="PATH",
        help="a mesh file or results folder in the cameras' space whose surface the Gaussians start on",
    )
    add_method_options(parser, Options)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_with(run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Make the head that the command line asks for."""
    from ..multiview.gaussians.options import Options

    return run_method("gaussians", Options, options, options.input)


if __name__ == "__main__":
    sys.exit(main())
