"""The pictures of `make gui-test` for the documentation: trimmed, side by side.

    python tools/gui_test_pictures.py OUT      needs Pillow; writes panel.png and blender_result.png into OUT

Called by tools/gui_test.py. docs/images holds copies of the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

PANELS = ("panel_photo", "panel_running", "panel_after")
GAP = 12
RESULT_WIDTH = 900


def panel(path: Path) -> Image.Image:
    """The sidebar without what is empty below it and without its tabs."""
    picture = Image.open(path).convert("RGB")
    rows = np.asarray(picture, dtype=np.int16)[:, : picture.width - 40]
    busy = np.flatnonzero(np.abs(rows - rows[:, :1]).max(axis=(1, 2)) > 12)
    bottom = int(busy[-1]) + 8 if len(busy) else picture.height
    return picture.crop((0, 0, picture.width - 28, min(bottom, picture.height)))


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in a row, aligned at the top, on white."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    result = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    x = 0
    for picture in pictures:
        result.paste(picture, (x, 0))
        x += picture.width + GAP
    return result


def main(out: Path) -> None:
    """Make what can be made of the pictures that are there."""
    panels = [out / f"{name}.png" for name in PANELS]
    if all(path.is_file() for path in panels):
        side_by_side([panel(path) for path in panels]).save(out / "panel.png", optimize=True)
    result = out / "result.png"
    if result.is_file():
        picture = Image.open(result).convert("RGB")
        height = round(picture.height * RESULT_WIDTH / picture.width)
        picture = picture.resize((RESULT_WIDTH, height), Image.Resampling.LANCZOS)
        picture.save(out / "blender_result.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
