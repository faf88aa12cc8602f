"""`nextgenface-mesh`: calibrated views become a mesh; `nextgenface-mesh import-dtu` converts data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..multiview.options import typed_options
from .common import add_method_options, add_output_options, run_method, run_with, say, user_path


def build_parser() -> argparse.ArgumentParser:
    """The command line of a reconstruction."""
    from ..multiview.neural_shading.options import MeshOptions

    parser = argparse.ArgumentParser(
        prog="nextgenface-mesh",
        description="Reconstruct a mesh from calibrated views by neural deferred shading. The data set is a "
        "folder of pictures with their cameras (docs/multiview.md), or results of nextgenface-reconstruct. "
        "nextgenface-mesh import-dtu INPUT OUTPUT converts scans with cameras.npz.",
    )
    parser.add_argument("--input_dir", type=user_path, default=Path("data"), metavar="DIR", help="(./data)")
    add_method_options(
        parser,
        MeshOptions,
        output=("--output_dir",),
        default="out",
        shown="parent of the folder of the result, DIR/run_name",
        held_out="--held_out",
    )
    return parser


def import_parser() -> argparse.ArgumentParser:
    """The command line of the converter."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-mesh import-dtu",
        description="Convert scans in IDR's layout (image/, mask/, cameras.npz) to views/ with _k, _r and _t "
        "files and bbox.txt.",
    )
    parser.add_argument("input", type=user_path, metavar="INPUT", help="a scan, or a folder of scans")
    parser.add_argument("output", type=user_path, metavar="OUTPUT", help="folder for the converted scans")
    parser.add_argument(
        "--skip_existing", action="store_true", help="leave scans alone that are there already"
    )
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["import-dtu"]:
        return run_with(convert, import_parser().parse_args(given[1:]))
    return run_with(run, build_parser().parse_args(given))


def run(options: argparse.Namespace) -> int:
    """Reconstruct what the command line asks for."""
    from ..multiview.neural_shading.method import data_set_name
    from ..multiview.neural_shading.options import MeshOptions

    name = typed_options(MeshOptions, options).get("run_name") or data_set_name(options.input_dir)
    return run_method("mesh", MeshOptions, options, [options.input_dir], output=options.output / name)


def convert(options: argparse.Namespace) -> int:
    """Convert one scan or several."""
    from ..errors import NextGenFaceError
    from ..multiview.datasets import idr, nds

    scans = [options.input] if (options.input / "cameras.npz").is_file() else sorted(options.input.glob("*/"))
    scans = [scan for scan in scans if (scan / "cameras.npz").is_file()]
    if not scans:
        raise NextGenFaceError(f"Neither {options.input} nor a folder in it holds a cameras.npz.")
    for scan in scans:
        target = options.output / scan.name
        if options.skip_existing and (target / "views").is_dir():
            continue
        views = idr.read(scan)
        named = [replace(view, name=f"cam{number:06d}") for number, view in enumerate(views)]
        nds.write(target, replace(views, views=tuple(named)))
        say(f"{scan.name}: {len(named)} views in {target / 'views'}", options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
