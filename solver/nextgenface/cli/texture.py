"""`nextgenface-texture`: calibrated views of a mesh become its texture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .common import add_method_options, run_method, run_with, user_path


def build_parser() -> argparse.ArgumentParser:
    """The command line. NeuralTexGen's options are understood; those without a meaning here are named."""
    from ..multiview.texture.options import UNUSED, TextureOptions

    parser = argparse.ArgumentParser(
        prog="nextgenface-texture",
        description="Optimise the texture of a mesh from pictures with known cameras (docs/multiview.md), "
        "from the photos of a fitted face, or from a NeuralTexGen data set of UV maps.",
    )
    parser.add_argument(
        "--views",
        "--dataroot",
        type=user_path,
        required=True,
        metavar="DIR",
        help="data set: pictures with cameras, or uvs/ and images/",
    )
    parser.add_argument(
        "--mesh",
        type=user_path,
        metavar="FILE",
        help="mesh with texture coordinates: .obj, .ply, .off (default: that of the fitted face in --views)",
    )
    add_method_options(
        parser,
        TextureOptions,
        output=("--output", "--results_dir"),
        resume=("--resume", "--continue_train"),
    )
    parser.add_argument("--gpu_ids", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for name in UNUSED:
        parser.add_argument(
            f"--{name}", nargs="?", const="true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_with(run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Optimise what the command line asks for."""
    from ..multiview.texture.options import UNUSED, TextureOptions

    unused = {name: getattr(options, name) for name in (*UNUSED, "gpu_ids") if hasattr(options, name)}
    return run_method("texture", TextureOptions, options, [options.views], more=unused)


if __name__ == "__main__":
    sys.exit(main())
