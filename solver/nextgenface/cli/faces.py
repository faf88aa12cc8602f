"""Finds the faces in photos and numbers them, so that one can be chosen before a reconstruction.

    python -m nextgenface.cli.faces --output DIR [--set KEY=VALUE] PHOTO[:ROTATE] …

Blender starts it. It writes DIR/faces.json (per photo: path, width, height, faces as boxes, picture, problem)
and DIR/faces_N.png, the photo with its faces numbered as the option `face` counts them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..errors import PhotoError
from ..files import atomic_path, prepare_output, write_text
from ..landmarks import Landmarks, create_detector
from ..photos import load_photo
from .common import add_config_options, config_from, run_command

PICTURE_SIDE = 512
"""Longest side of the numbered pictures, pixels."""


def numbered(photo: NDArray[np.uint8], faces: Sequence[Landmarks]) -> NDArray[np.uint8]:
    """A small copy of a photo (H, W, 3) with a box and a number around every face."""
    scale = min(1.0, PICTURE_SIDE / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    picture = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(14, round(max(size) / 18)))
    for number, face in enumerate(faces, start=1):
        x0, y0, x1, y1 = (float(value) * scale for value in face.box)
        draw.rectangle((x0, y0, x1, y1), outline=(255, 160, 40), width=3)
        draw.text(
            (x0 + 5, y0 + 2), str(number), fill=(255, 160, 40), font=font, stroke_width=2, stroke_fill=0
        )
    return np.asarray(picture)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. An unreadable photo is a line of the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="PHOTO[:ROTATE]")
    parser.add_argument("--output", required=True, metavar="DIR")
    add_config_options(parser)
    options = parser.parse_args(arguments)

    def work() -> int:
        folder = prepare_output(Path(options.output).expanduser().absolute())
        detector = create_detector(config_from(options))
        try:
            answer = [describe(folder, detector, i, text) for i, text in enumerate(options.photos)]
        finally:
            detector.close()
        write_text(folder / "faces.json", json.dumps(answer, ensure_ascii=False, indent=1))
        return 0

    return run_command(work)


def describe(folder: Path, detector: Any, index: int, text: str) -> dict[str, Any]:
    """What is in one photo."""
    match = re.fullmatch(r"(.*):(0|90|180|270)", text, re.DOTALL)
    path, rotate = (Path(match.group(1)), int(match.group(2))) if match else (Path(text), 0)
    row: dict[str, Any] = {"path": str(path), "faces": [], "picture": None, "problem": None}
    try:
        photo = load_photo(path, rotate=rotate)
        faces = list(detector.detect(photo.srgb8()))
    except PhotoError as problem:
        return row | {"problem": str(problem)}
    row |= {"width": photo.width, "height": photo.height}
    row["faces"] = [[round(float(value), 1) for value in face.box] for face in faces]
    row["picture"] = f"faces_{index}.png"
    with atomic_path(folder / f"faces_{index}.png") as temporary:
        Image.fromarray(numbered(photo.srgb8(), faces)).save(temporary, format="PNG")
    return row


if __name__ == "__main__":
    raise SystemExit(main())
