"""The formats of face models, one file each; docs/face-models.md says how to add one.

A format recognises its files by what is in them and reads them into a `RawModel`. Nothing else in the solver
knows which format a model came from.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from ...errors import ModelError
from ..raw import RawModel, check_raw
from . import basel, flame, gnm, ict

FORMATS: tuple[ModuleType, ...] = (basel, flame, gnm, ict)
"""Each module has NAME (for people), find(place) -> files or None, and read(files) -> RawModel."""


def find(place: Path) -> tuple[ModuleType, list[Path]] | None:
    """The format of a file or folder and the files that belong to it; None when none is recognised."""
    for module in FORMATS:
        files = module.find(place)
        if files:
            return module, files
    return None


def read(module: ModuleType, files: list[Path]) -> RawModel:
    """Read and check files of a format. Raises ModelError that names the file and what is wrong."""
    shown = ", ".join(str(path) for path in files[:3]) + (" …" if len(files) > 3 else "")
    try:
        raw: RawModel = module.read(files)
    except ModelError:
        raise
    except MemoryError:
        raise ModelError(f"The face model {shown} does not fit into memory.") from None
    except Exception as problem:  # whatever a damaged file leads to
        raise ModelError(
            f"The face model {shown} cannot be read as {module.NAME}: it is damaged or of another kind "
            f"({type(problem).__name__}: {str(problem)[:160]}). Get the file again."
        ) from problem
    check_raw(raw, shown)
    return raw
