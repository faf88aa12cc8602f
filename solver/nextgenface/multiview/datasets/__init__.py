"""Data sets of calibrated pictures: one module per format, each with `read(folder) -> ViewSet` and `write`.

    views = read_views(Path("scan"))                  # the format is recognised
    views = read_views(Path("scan"), format="colmap", image_scale=2)

A new format is a module and a line in `FORMATS` (and in `detect`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ...results import RESULT
from ...views import ViewSet
from . import colmap, nds, neural_texgen, transforms
from .conventions import check
from .errors import DataSetError
from .frame import Frame
from .pictures import with_person_masks

FORMATS = {
    "nds": ".nds",
    "idr": ".idr",
    "transforms": ".transforms",
    "colmap": ".colmap",
    "fitted": ".fitted",
}
"""Name of a format -> its module here. (`neural_texgen` has UV maps instead of cameras: its own reader.)"""


def detect(path: Path) -> str:
    """The format of a folder or file. Raises DataSetError when it is none of `FORMATS`."""
    if not path.exists():
        raise DataSetError(f"There is no {path}.")
    if (path / RESULT).is_file() or path.name == RESULT:
        return "fitted"
    if transforms.find(path) is not None:
        return "transforms"
    if path.is_dir():
        if (path / "cameras.npz").is_file():
            return "idr"
        if nds.pictures_folder(path) is not None:
            return "nds"
        if colmap.model_folder(path) is not None:
            return "colmap"
    hint = ""
    if neural_texgen.is_one(path):
        hint = " It holds UV maps without cameras (NeuralTexGen), which only the method texture takes."
    raise DataSetError(
        f"{path} is no data set of a known kind: pictures with their cameras as {', '.join(FORMATS)} "
        f"(docs/multiview.md).{hint}"
    )


def read_views(
    path: Path, *, format: str = "auto", image_scale: int = 1, frame: Frame | None = None
) -> ViewSet:
    """The views of a data set in model space, the pictures reduced `image_scale` times.

    `frame` says in which unit and with which axis up the data set is written (mm, y). Raises DataSetError,
    PhotoError.
    """
    path = Path(path).expanduser()
    kind = detect(path) if format == "auto" else format
    if kind not in FORMATS:
        raise DataSetError(f"There is no data set format {kind!r}; choose one of {', '.join(FORMATS)}.")
    if not path.exists():
        raise DataSetError(f"There is no {path}.")
    views: ViewSet = import_module(FORMATS[kind], package=__name__).read(path)
    twice = sorted({name for name in views.names if views.names.count(name) > 1})
    if twice:
        raise DataSetError(f"{path} holds several views called {', '.join(twice)}; rename the files.")
    views = (frame or Frame()).views(views)
    return views if image_scale == 1 else views.scaled(1 / image_scale)


__all__ = ["FORMATS", "DataSetError", "Frame", "check", "detect", "read_views", "with_person_masks"]
