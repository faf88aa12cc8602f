"""NeuralTexGen's folder: `uvs/N.exr` says which texel each pixel shows, `images/N.jpg` the photo. No cameras.

Red is u, green is 1 - v (v counts from the bottom). A pixel whose two numbers are 0, or outside 0..1, shows
nothing. Photos are resized to their UV map, as the format's description says; never the other way round,
because UV values between two patches mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...colour import encode_8bit
from ...files import atomic_path
from ...images import read_exr, write_exr
from .errors import DataSetError
from .pictures import list_pictures, read_picture

JPEG_QUALITY = 97
"""Of the photos that are written; the reference reads `.jpg` only."""


@dataclass(frozen=True)
class UvView:
    """A picture and the texel each of its pixels shows.

    `image` (H, W, 3) float32 linear Rec.709; `uv` (H, W, 2) float32, origin bottom left; `valid` (H, W) bool
    where the surface is seen; `weight` (H, W) float32 0..1: how much the pixel is to be believed.
    """

    name: str
    image: NDArray[np.float32]
    uv: NDArray[np.float32]
    valid: NDArray[np.bool_]
    weight: NDArray[np.float32] | None = None


def is_one(folder: Path) -> bool:
    """Whether this is such a folder."""
    return (folder / "uvs").is_dir() and (folder / "images").is_dir()


def read(folder: Path) -> tuple[list[UvView], list[str]]:
    """(all pairs, what was not used as it is). Raises DataSetError, PhotoError."""
    maps = {path.stem: path for path in (folder / "uvs").glob("*.exr")}
    photos = {path.stem: path for path in list_pictures(folder / "images")}
    common = sorted(maps.keys() & photos.keys(), key=lambda stem: (len(stem), stem))
    if not common:
        raise DataSetError(f"{folder} holds no pair of the same name in uvs/ (.exr) and images/.")
    notes = []
    left_over = sorted(maps.keys() ^ photos.keys())
    if left_over:
        notes.append(f"{folder}: without a partner, so not used: {', '.join(left_over[:10])}")
    views, resized = [], []
    for stem in common:
        stored = read_exr(maps[stem])
        if stored.shape[2] < 2:
            raise DataSetError(f"{maps[stem]} has no red and green channel.")
        red, green = stored[..., 0], stored[..., 1]
        image, _ = read_picture(photos[stem])
        if image.shape[:2] != red.shape:
            resized.append(stem)
            image = _resized(image, red.shape[1], red.shape[0])
        inside = (red >= 0) & (red <= 1) & (green >= 0) & (green <= 1)  # not a number is not inside either
        valid = inside & ~((red == 0) & (green == 0))
        uv = np.stack([np.where(valid, red, 0), np.where(valid, 1 - green, 0)], -1)
        views.append(UvView(stem, image, uv.astype(np.float32), valid))
    if resized:
        notes.append(
            f"photos of {len(resized)} views were resized to their UV maps: {', '.join(resized[:10])}"
        )
    return views, notes


def write(folder: Path, views: Iterable[UvView]) -> dict[str, str]:
    """Write pairs numbered from 0, as the reference wants them; returns name of the view -> number."""
    for place in ("uvs", "images"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    numbers = {}
    for number, view in enumerate(views):
        stored = np.zeros((*view.valid.shape, 3), np.float32)
        stored[..., 0], stored[..., 1] = view.uv[..., 0], 1 - view.uv[..., 1]
        # the corner (0, 0) would read as "nothing": it moves by far less than a texel
        stored[..., :2] = stored[..., :2].clip(1e-6, 1)
        write_exr(folder / "uvs" / f"{number}.exr", np.where(view.valid[..., None], stored, 0))
        with atomic_path(folder / "images" / f"{number}.jpg") as temporary:
            Image.fromarray(encode_8bit(view.image)).save(temporary, quality=JPEG_QUALITY, subsampling=0)
        numbers[view.name] = str(number)
    return numbers


def _resized(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    size, way = (width, height), Image.Resampling.BICUBIC
    planes = [Image.fromarray(image[..., k]).resize(size, way) for k in range(3)]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], -1).clip(0, None)
