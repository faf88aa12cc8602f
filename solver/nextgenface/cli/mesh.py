"""`nextgenface-mesh`: calibrated views become a mesh; `nextgenface-mesh import-dtu` converts data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..multiview.options import add_options, typed_options
from .common import add_output_options, listening, logged_to, report_result, run_with, user_path


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
    parser.add_argument(
        "--output_dir",
        type=user_path,
        default=Path("out"),
        metavar="DIR",
        help="results in DIR/run_name (./out)",
    )
    parser.add_argument(
        "--held_out",
        nargs="*",
        default=[],
        metavar="NAME",
        help="views that are only drawn and scored at the end",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a stopped run")
    add_options(parser, MeshOptions)
    add_output_options(parser)
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
    from ..multiview.method import Request
    from ..multiview.neural_shading.method import data_set_name, reconstruct
    from ..multiview.neural_shading.options import MeshOptions

    typed = typed_options(MeshOptions, options)
    name = typed.get("run_name") or data_set_name(options.input_dir)
    request = Request(
        inputs=(options.input_dir,),
        output=options.output_dir / name,
        held_out=tuple(options.held_out),
        options=typed,
        resume=options.resume,
    )
    with listening(options) as listener:
        with logged_to(listener):
            result = reconstruct(request, listener)
        listener.close()
        report_result(result, options)
    return 0


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
        if not options.quiet and not options.json:
            print(f"{scan.name}: {len(named)} views in {target / 'views'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
