"""`nextgenface-uv`: UV maps of a mesh for every view, as NeuralTexGen takes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..events import logged_to
from .common import add_output_options, listening, run_with, say, user_path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-uv",
        description="Render the texture coordinates that every pixel of every view shows, one sample at the "
        "pixel's centre, without antialiasing: DIR/uvs/N.exr (red u, green 1 - v) and DIR/images/N.jpg, a "
        "data set for NeuralTexGen and for nextgenface-texture.",
    )
    parser.add_argument("--mesh", type=user_path, required=True, metavar="FILE", help="mesh with UVs")
    parser.add_argument(
        "--views", type=user_path, required=True, metavar="DIR", help="pictures with their cameras"
    )
    parser.add_argument("--output", type=user_path, required=True, metavar="DIR", help="the new data set")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="X",
        help="resolution of the maps over that of the pictures (default 1)",
    )
    parser.add_argument("--format", default="auto", help="format of the data set (auto)")
    parser.add_argument("--unit", choices=("mm", "cm", "m"), default="mm", help="unit of cameras and mesh")
    parser.add_argument("--up", choices=("y", "z"), default="y", help="axis of them that points up")
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not 0.05 <= options.scale <= 16:
        parser.error("--scale must be 0.05 to 16")
    return run_with(run, options)


def run(options: argparse.Namespace) -> int:
    """Render what the command line asks for."""
    from ..files import prepare_output
    from ..multiview.datasets import Frame
    from ..multiview.texture.export import write_uv_maps

    with listening(options) as listener:
        with logged_to(listener):
            count = write_uv_maps(
                options.mesh,
                options.views,
                prepare_output(options.output),
                listener,
                scale=options.scale,
                format=options.format,
                frame=Frame(options.unit, options.up),
            )
        listener.close()
    say(f"{count} UV maps are in {options.output / 'uvs'}", options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
