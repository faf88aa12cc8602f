"""A subject's pictures beside the truth, for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nextgenface.images import read_exr, read_image, write_png
from numpy.typing import NDArray

Array = NDArray[np.float32]


def write_sheet(truth: Path, folder: Path) -> None:
    """Write `sheet.png`, truth first in every row; pictures that a subject does not have stay black.

    Photo, render, coverage; second light, fitted head, mean head; albedo, fitted head, mean head.
    """
    rows = [
        [truth / "photo_linear.exr", folder / "render.exr", folder / "coverage.png"],
        [truth / "relit_linear.exr", folder / "relit.exr", folder / "mean_relit.exr"],
        [truth / "albedo.exr", folder / "albedo.exr", folder / "mean_albedo.exr"],
    ]
    size = read_exr(folder / "render.exr").shape[:2]
    write_png(
        folder / "sheet.png",
        np.concatenate([np.concatenate([_shown(p, size) for p in row], 1) for row in rows]),
    )


def _shown(path: Path, size: tuple[int, ...]) -> Array:
    """A picture (H, W, 3) of linear values; masks as they are."""
    if not path.is_file():
        return np.zeros((*size, 3), np.float32)
    picture = read_image(path)
    return np.asarray(np.broadcast_to(picture[..., :3], (*size, 3)), np.float32)
