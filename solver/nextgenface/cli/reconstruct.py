"""`nextgenface-reconstruct`: a photo, or a folder of photos, becomes results folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from ..config import Config
from ..errors import Cancelled, NextGenFaceError
from ..events import logged_to
from ..photos import list_photos
from ..run import Request, reconstruct
from .common import (
    EXIT_BUG,
    add_common_options,
    config_from,
    listening,
    report_result,
    run_with,
    user_path,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-reconstruct",
        description="Reconstruct the face in a photo: shape, skin, pose, expression and light. "
        "The results go to OUTPUT/<photo name without extension>/.",
    )
    parser.add_argument(
        "--input", required=True, type=user_path, metavar="PATH", help="a photo, or a folder of photos"
    )
    parser.add_argument(
        "--output", default="./output", type=user_path, metavar="DIR",
        help="parent of the results (default: ./output)",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", type=user_path, metavar="FILE", help="go on from this checkpoint of the same photos"
    )
    parser.add_argument(
        "--sharedIdentity",
        action="store_true",
        help="the photos of a folder show one person; else one result each",
    )
    for stage, what in ((1, "pose"), (2, "light, shape and skin"), (3, "textures")):
        parser.add_argument(
            f"--skipStage{stage}", action="store_true", help=f"do not run stage {stage} ({what})"
        )
    parser.add_argument(
        "--face", type=int, metavar="N", help="1 = the largest face in the photo, 2 = the second largest, …"
    )
    add_common_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_with(run, build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Reconstruct what the command line asks for."""
    with listening(options) as listener:
        with logged_to(listener):
            config = config_from(options)
        requests = list(plan(options, config))
        failed = 0
        for number, request in enumerate(requests, start=1):
            try:
                report_result(reconstruct(request, listener), options)
            except Cancelled:
                raise
            except NextGenFaceError as problem:
                if len(requests) == 1:
                    raise
                # One bad photo does not stop the others.
                failed += 1
                listener.warning(
                    f"{request.inputs[0]} was not reconstructed ({number} of {len(requests)}): {problem}"
                )
        if failed:
            listener.warning(f"{failed} of {len(requests)} photos could not be reconstructed.")
            return EXIT_BUG
    return 0


def plan(options: argparse.Namespace, config: Config) -> Iterator[Request]:
    """One request per results folder: one for a photo or a person, else one for each photo."""
    source, output, checkpoint = options.input, options.output, options.checkpoint
    photos = list_photos(source)
    skip = frozenset(stage for stage in (1, 2, 3) if getattr(options, f"skipStage{stage}"))
    if options.sharedIdentity or source.is_file():
        name = source.stem if source.is_file() else source.absolute().name
        yield Request(photos, output / name, config, options.sharedIdentity, checkpoint, skip)
        return
    if checkpoint is not None and len(photos) > 1:
        raise NextGenFaceError(
            "A checkpoint belongs to one photo or one person: give --input one photo, or add "
            "--sharedIdentity."
        )
    taken: set[str] = set()
    for photo in photos:
        # a.png and a.jpg are two people; the second keeps its extension in the folder's name.
        name = photo.stem if photo.stem not in taken else photo.name
        taken.add(name)
        yield Request([photo], output / name, config, False, checkpoint, skip)


if __name__ == "__main__":
    sys.exit(main())
