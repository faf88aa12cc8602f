"""Data sets of calibrated pictures: one module per format, each with `read(folder) -> ViewSet` and `write`.

    views = read_views(Path("scan"))                  # the format is recognised
    views = read_views(Path("scan"), format="colmap", image_scale=2)

A new format is a module and a line in `FORMATS` (and in `detect`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ...views import ViewSet
from .errors import DataSetError

FORMATS = {
    "nds": ".nds",
}
"""Name of a format -> its module here."""


def detect(path: Path) -> str:
    """The format of a folder or file. Raises DataSetError when it is none of `FORMATS`."""
    from . import nds

    if not path.exists():
        raise DataSetError(f"There is no {path}.")
    if path.is_dir() and nds.pictures_folder(path) is not None:
        return "nds"
    raise DataSetError(
        f"{path} is no data set of a known kind. Give a folder with pictures and their cameras: "
        f"{', '.join(FORMATS)} (docs/multiview.md)."
    )


def read_views(path: Path, *, format: str = "auto", image_scale: int = 1) -> ViewSet:
    """The views of a data set, the pictures reduced `image_scale` times. Raises DataSetError, PhotoError."""
    path = Path(path).expanduser()
    kind = detect(path) if format == "auto" else format
    if kind not in FORMATS:
        raise DataSetError(f"There is no data set format {kind!r}; choose one of {', '.join(FORMATS)}.")
    views: ViewSet = import_module(FORMATS[kind], package=__name__).read(path)
    return views if image_scale == 1 else views.scaled(1 / image_scale)


__all__ = ["FORMATS", "DataSetError", "detect", "read_views"]
