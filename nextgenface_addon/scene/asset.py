"""A head as an asset: found in the asset browser of every file, with its skin, shape keys and maps."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .results_folder import ResultsError, read_results

PREVIEW_SIZE = 256
TAG = "NextGenFace"


def mark_as_asset(head: bpy.types.Object, folder: Path | None = None) -> bool:
    """Mark a head as an asset; returns whether the result's picture could be made its preview.

    `folder`: the result it came from, whose final picture becomes the preview where it is still there.
    """
    head.asset_mark()
    data = head.asset_data
    if TAG not in data.tags:
        data.tags.new(TAG)
    if not data.description:
        data.description = "Head reconstructed from photos, with ARKit shape keys"
    picture = _final_picture(folder)
    if picture is None:
        return False
    _set_preview(head, picture)
    return True


def _final_picture(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    try:
        files = read_results(folder).photos[0].files
    except ResultsError:
        return None
    return files.get("final_png") or files.get("photo")


def _set_preview(head: bpy.types.Object, picture: Path) -> None:
    """Crop a picture to what is opaque in it, scale it, and make it the preview."""
    image = bpy.data.images.load(str(picture), check_existing=False)
    try:
        width, height = image.size
        if 0 in (width, height):
            return
        rows = np.empty(width * height * image.channels, dtype=np.float32)
        image.pixels.foreach_get(rows)
        rows = rows.reshape(height, width, image.channels)
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., : min(4, image.channels)] = rows[..., :4]
    finally:
        bpy.data.images.remove(image)
    seen = np.argwhere(rgba[..., 3] > 0)
    if not len(seen):
        return
    low, high = seen.min(axis=0), seen.max(axis=0) + 1
    part = rgba[low[0] : high[0], low[1] : high[1]]
    side = max(part.shape[:2])
    square = np.zeros((side, side, 4), np.float32)
    top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square[top : top + part.shape[0], left : left + part.shape[1]] = part
    preview = head.preview_ensure()
    preview.image_size = (PREVIEW_SIZE, PREVIEW_SIZE)
    preview.image_pixels_float.foreach_set(_resized(square, PREVIEW_SIZE).ravel())


def _resized(square: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A square RGBA picture with straight alpha, averaged down or repeated up to `size` pixels a side."""
    side = len(square)
    starts = (np.arange(size) * side / size).astype(int)
    if side < size:
        return square[starts][:, starts]
    weighted = square.copy()
    weighted[..., :3] *= square[..., 3:]
    counts = np.diff(np.append(starts, side)).astype(np.float32)
    small = np.add.reduceat(np.add.reduceat(weighted, starts, axis=0), starts, axis=1)
    small /= counts[:, None, None] * counts[None, :, None]
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small
