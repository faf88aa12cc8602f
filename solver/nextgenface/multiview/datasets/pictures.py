"""Pictures and masks of a data set, as they are stored: a calibration means the pixels of the file, so no
orientation tag turns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...colour import encode_8bit, srgb_to_linear
from ...images import read_image, write_png
from ...views import Camera, View

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".exr")

MASK_FOLDERS = ("masks", "mask")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder by name, without masks that lie beside them (`NAME_mask.png`)."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return sorted(p for p in found if not p.stem.endswith("_mask"))


def read_picture(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """((H, W, 3) linear Rec.709, (H, W) alpha or None). Raises PhotoError."""
    values = read_image(path)
    alpha = values[..., 3] if values.shape[2] == 4 else None
    colour = values[..., :3] if values.shape[2] >= 3 else values.repeat(3, 2)
    if path.suffix.lower() == ".exr":
        # OpenEXR stores colours multiplied with alpha
        if alpha is not None:
            colour = colour / np.maximum(alpha, 1e-6)[..., None]
    else:
        colour = srgb_to_linear(colour)
    return np.ascontiguousarray(colour), None if alpha is None else np.ascontiguousarray(alpha)


def read_mask(path: Path) -> NDArray[np.float32]:
    """(H, W) 0..1: the alpha of a mask picture that has one which says something, else its brightness."""
    values = read_image(path)
    if values.shape[2] == 4 and values[..., 3].min() < 1:
        return np.ascontiguousarray(values[..., 3])
    return np.ascontiguousarray(values[..., :3].mean(2))


def find_mask(picture: Path) -> Path | None:
    """A separate mask: `NAME_mask.*` beside the picture, or `NAME.*` in a folder `masks` (or `mask`) beside
    the picture or beside its folder. COLMAP's `NAME.jpg.png` is found as well."""
    stems = [picture.stem, picture.name]
    places = [picture.parent / name for name in MASK_FOLDERS]
    places += [picture.parent.parent / name for name in MASK_FOLDERS]
    candidates = [picture.with_name(f"{picture.stem}_mask{suffix}") for suffix in SUFFIXES]
    candidates += [place / (stem + suffix) for place in places for stem in stems for suffix in SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)


def load_view(name: str, path: Path, camera: Callable[[int, int], Camera]) -> View:
    """A picture, its mask (alpha, or a separate file, which wins) and `camera(width, height)`.

    Raises PhotoError, and NextGenFaceError when camera or mask are for another size than the picture.
    """
    image, mask = read_picture(path)
    separate = find_mask(path)
    if separate is not None:
        mask = read_mask(separate)
    return View(name, image, camera(image.shape[1], image.shape[0]), mask)


def write_view(folder: Path, view: View) -> Path:
    """Write `NAME.png` (RGBA when there is a mask); returns its path."""
    path = folder / f"{view.name}.png"
    picture = view.image if view.mask is None else np.concatenate([view.image, view.mask[..., None]], 2)
    write_png(path, picture)
    return path


def with_person_masks(views: Iterable[View]) -> tuple[list[View], list[str]]:
    """(the views, where a mask is missing with one from MediaPipe's segmentation; names of those)."""
    from ...personmask import person_mask

    done, made = [], []
    for view in views:
        if view.mask is None:
            found = person_mask(encode_8bit(view.image))
            if found is not None:
                view = replace(view, mask=found)
                made.append(view.name)
        done.append(view)
    return done, made
