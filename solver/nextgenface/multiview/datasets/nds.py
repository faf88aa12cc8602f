"""Neural Deferred Shading's folder: `NAME.png`, `NAME_k.txt`, `NAME_r.txt`, `NAME_t.txt`, `bbox.txt`.

OpenCV convention, X_cam = R X + t, pixel centres at +0.5. The picture's alpha is the mask; JPEG and separate
masks are read as well. `bbox.txt` (two rows: minimum, maximum) lies with the pictures or one folder up.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...files import write_text
from ...views import Bounds, Camera, ViewSet
from .errors import DataSetError
from .pictures import list_pictures, load_view, write_view

PARTS = {"k": (3, 3), "r": (3, 3), "t": (3,)}


def pictures_folder(folder: Path) -> Path | None:
    """The folder with the pictures: `folder` itself or its `views`; None when this is no such data set."""
    return next((p for p in (folder, folder / "views") if any(p.glob("*_k.txt"))), None)


def read(folder: Path) -> ViewSet:
    """All views of the folder. Raises DataSetError, PhotoError."""
    place = pictures_folder(folder)
    if place is None:
        raise DataSetError(f"{folder} holds no camera files NAME_k.txt.")
    views = []
    for path in list_pictures(place):
        K, R, t = (_numbers(place / f"{path.stem}_{part}.txt", shape) for part, shape in PARTS.items())
        views.append(load_view(path.stem, path, partial(Camera, K, R, t)))
    if not views:
        raise DataSetError(f"{place} holds cameras but no pictures.")
    boxes = [p / "bbox.txt" for p in (place, place.parent) if (p / "bbox.txt").is_file()]
    return ViewSet(tuple(views), Bounds(*_numbers(boxes[0], (2, 3))) if boxes else None)


def write(folder: Path, views: ViewSet) -> None:
    """Write `folder`/views and `folder`/bbox.txt (when the bounds are known). Raises OutputError."""
    place = folder / "views"
    place.mkdir(parents=True, exist_ok=True)
    for view in views:
        write_view(place, view)
        for part, values in (("k", view.camera.K), ("r", view.camera.R), ("t", view.camera.t)):
            write_text(place / f"{view.name}_{part}.txt", _text(values))
    if views.bounds is not None:
        write_text(folder / "bbox.txt", _text(np.stack([views.bounds.low, views.bounds.high])))


def _text(values: NDArray[np.float64]) -> str:
    return "".join(" ".join(f"{x:.17g}" for x in np.atleast_1d(row)) + "\n" for row in values)


def _numbers(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        values = np.loadtxt(path, dtype=np.float64)
    except FileNotFoundError:
        raise DataSetError(f"{path} is missing: every picture needs its _k, _r and _t files.") from None
    except (OSError, ValueError) as problem:
        raise DataSetError(f"{path} cannot be read as numbers ({problem}).") from problem
    if values.size != np.prod(shape) or not np.isfinite(values).all():
        raise DataSetError(f"{path} must hold {' x '.join(map(str, shape))} finite numbers.")
    return values.reshape(shape)
