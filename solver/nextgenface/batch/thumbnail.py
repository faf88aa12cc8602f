"""One subject's picture on the contact sheet: the face in the photo, and the reconstruction over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import atomic_path
from .records import THUMBNAIL

SIDE = 192
"""Pixels of each of the two pictures."""

MARGIN = 0.25
"""What is shown around the face, as a share of its longer side."""


def write_thumbnail(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `thumbnail.jpg` for the first photo of a results folder. Raises OutputError or OSError."""
    files = result["photos"][0]["files"]
    with Image.open(folder / files["photo"]) as photo, Image.open(folder / files["final_png"]) as final:
        before, head = photo.convert("RGBA"), final.convert("RGBA")
    after = before.copy()
    after.alpha_composite(head)
    box = face_box(head, before.size)
    sheet = Image.new("RGB", (2 * SIDE, SIDE))
    for i, picture in enumerate((before, after)):
        small = picture.convert("RGB").crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (i * SIDE, 0))
    with atomic_path(folder / THUMBNAIL) as temporary:
        sheet.save(temporary, format="JPEG", quality=88)


def face_box(head: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square around what covers in `head`, with a margin; the whole width where nothing does."""
    left, top, right, bottom = head.getchannel("A").getbbox() or (0, 0, *size)
    half = round(max(right - left, bottom - top) * (0.5 + MARGIN))
    x, y = (left + right) // 2, (top + bottom) // 2
    return (x - half, y - half, x + half, y + half)
