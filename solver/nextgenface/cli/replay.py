"""`nextgenface-replay`: a turntable of a checkpoint as PNG frames and an animation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, NextGenFaceError, OutputError
from ..events import Listener, logged_to
from ..files import atomic_path, prepare_output
from ..images import write_png
from .common import (
    add_common_options,
    check_stop,
    config_from,
    listening,
    run_with,
    say,
    user_path,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nextgenface-replay",
        description="Turn a checkpoint's head to and fro in the light of its photo: PNGs and an animation.",
    )
    parser.add_argument(
        "checkpoint", nargs="?", type=user_path, metavar="CHECKPOINT", help="a .pickle, after any stage"
    )
    parser.add_argument("--input", type=user_path, metavar="CHECKPOINT", help="the same, as an option")
    parser.add_argument(
        "--output", required=True, type=user_path, metavar="DIR", help="folder for frames and animation"
    )
    parser.add_argument(
        "--photo", type=int, default=0, metavar="N", help="which photo of the checkpoint (default 0)"
    )
    parser.add_argument(
        "--frames", type=int, default=48, metavar="N", help="frames of one swing (default 48)"
    )
    parser.add_argument(
        "--angle", type=float, default=30.0, metavar="DEG", help="degrees to each side (default 30)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="longer side (default: that of the fitted picture)"
    )
    parser.add_argument("--fps", type=int, default=24, help="frames per second of the animation (default 24)")
    parser.add_argument(
        "--format", choices=("webp", "mp4", "png"), default="webp", help="animation, or png: frames only"
    )
    add_common_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if (options.checkpoint is None) == (options.input is None):
        parser.error("give one checkpoint, either as CHECKPOINT or with --input")
    for name, low, high in (("frames", 1, 2000), ("fps", 1, 240), ("size", 16, 4096), ("angle", -180, 180)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            parser.error(f"--{name} must be {low} to {high}")
    return run_with(run, options)


def run(options: argparse.Namespace) -> int:
    """Draw what the command line asks for."""
    with listening(options) as listener:
        with logged_to(listener):
            frames = draw(options, listener)
        listener.close()
        folder = options.output
        if options.format != "png":
            path = folder / f"turntable_{options.photo}.{options.format}"
            write_animation(path, frames, options.fps)
            folder = path
        say(f"The turntable is in {folder}", options)
    return 0


def draw(options: argparse.Namespace, listener: Listener) -> list[NDArray[np.uint8]]:
    """Draw and write all frames. Raises Cancelled between two of them."""
    # Here, because they load torch, which reads the thread settings of `run_command`.
    from ..checkpoint import default_photos, load_checkpoint
    from ..export import checkpoint_config, open_state
    from ..turntable import single_photo, turntable

    folder = prepare_output(options.output)
    checkpoint = load_checkpoint(options.checkpoint or options.input)
    if not 0 <= options.photo < checkpoint.photo_count:
        raise CheckpointError(
            f"{checkpoint.path} holds {checkpoint.photo_count} photo(s); --photo {options.photo} is none."
        )
    config = checkpoint_config(checkpoint, config_from(options))
    state, model = open_state(checkpoint, config, default_photos(checkpoint), listener)
    size = options.size or max(state.width, state.height)
    frames = []
    listener.stage("render")
    pictures = turntable(
        single_photo(state, options.photo),
        model,
        config,
        frames=options.frames,
        degrees=options.angle,
        size=size,
    )
    for number, frame in enumerate(pictures):
        write_png(folder / f"frame_{options.photo}_{number:04d}.png", frame)
        frames.append(frame)
        listener.progress("render", number + 1, options.frames, float("nan"))
        check_stop(listener)
    return frames


def write_animation(path: Path, frames: list[NDArray[np.uint8]], fps: int) -> None:
    """Write an endless WebP or an MP4. Raises OutputError."""
    with atomic_path(path) as temporary:
        if path.suffix == ".webp":
            from PIL import Image

            pictures = [Image.fromarray(frame) for frame in frames]
            pictures[0].save(
                temporary,
                save_all=True,
                append_images=pictures[1:],
                duration=round(1000 / fps),
                loop=0,
                quality=85,
            )
            return
        try:
            import cv2
        except ImportError as problem:
            raise NextGenFaceError(
                "MP4 needs OpenCV, which is not installed; use --format webp."
            ) from problem
        # Video codecs want even sizes.
        height, width = (side - side % 2 for side in frames[0].shape[:2])
        video = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not video.isOpened():
            raise OutputError(f"This OpenCV cannot write {path}; use --format webp.")
        for frame in frames:
            video.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        video.release()


if __name__ == "__main__":
    sys.exit(main())
