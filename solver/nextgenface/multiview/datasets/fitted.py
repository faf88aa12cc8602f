"""Results of our own: the photos of a results folder with the cameras that were fitted (or given) to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...results import RESULT
from ...views import Bounds, Camera, ViewSet
from .errors import DataSetError
from .pictures import load_view


def _sized(camera: Camera) -> Callable[[int, int], Camera]:
    return lambda _width, _height: camera


def read(folder: Path) -> ViewSet:
    """The photos that the folder holds. Raises DataSetError, PhotoError."""
    path = folder / RESULT if folder.is_dir() else folder
    views = []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for photo in data["photos"]:
            name = photo["files"].get("photo")
            if not name:
                continue
            K, R, t = (np.asarray(photo[key], np.float64) for key in ("K", "R", "t"))
            size = (int(photo["width"]), int(photo["height"]))
            views.append(load_view(photo["name"], path.parent / name, _sized(Camera(K, R, t, *size))))
        geometry = data.get("geometry")
        bounds = None
        if geometry:
            with np.load(path.parent / geometry, allow_pickle=False) as stored:
                bounds = Bounds.around(stored["neutral_vertices"], margin=0.05)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataSetError(f"{path} is no finished result ({problem}).") from problem
    if not views:
        raise DataSetError(f"{path} holds no photos (it was exported from a checkpoint).")
    return ViewSet(tuple(views), bounds)
