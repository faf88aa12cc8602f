"""`nextgenface-texture`: calibrated views of a mesh become its texture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..multiview.options import add_options, typed_options
from .common import add_output_options, listening, logged_to, report_result, run_with, user_path


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
    parser.add_argument(
        "--output",
        "--results_dir",
        type=user_path,
        default=Path("output"),
        metavar="DIR",
        help="folder of the result (default: ./output)",
    )
    parser.add_argument(
        "--heldOut",
        nargs="*",
        default=[],
        metavar="NAME",
        help="views that are not learned from but drawn and scored at the end",
    )
    parser.add_argument(
        "--resume",
        "--continue_train",
        action="store_true",
        help="go on from the checkpoint of a stopped run in the output folder",
    )
    add_options(parser, TextureOptions)
    parser.add_argument("--gpu_ids", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for name in UNUSED:
        parser.add_argument(
            f"--{name}", nargs="?", const="true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_with(run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Optimise what the command line asks for."""
    from ..multiview.method import Request
    from ..multiview.texture.method import reconstruct
    from ..multiview.texture.options import UNUSED, TextureOptions

    typed = typed_options(TextureOptions, options)
    typed |= {name: getattr(options, name) for name in (*UNUSED, "gpu_ids") if hasattr(options, name)}
    request = Request(
        inputs=(options.views,),
        output=options.output,
        mesh=options.mesh,
        held_out=tuple(options.heldOut),
        options=typed,
        resume=options.resume,
    )
    with listening(options) as listener:
        with logged_to(listener):
            result = reconstruct(request, listener)
        listener.close()
        report_result(result, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
