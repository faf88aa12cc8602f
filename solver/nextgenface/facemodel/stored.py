"""Keeps completed models, so that a large file is prepared once and then loads in a second."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ModelError, OutputError
from ..files import atomic_path
from ..paths import user_data_dir
from . import formats
from .check import check_model
from .completion import VERSION, complete
from .formats.arrays import Npz
from .model import FaceModel

log = logging.getLogger(__name__)

COMPANIONS = (".h5", ".hdf5", ".hh", ".pkl", ".npz", ".npy", ".pickle", ".txt", ".obj")


def stored_folder() -> Path:
    """Where completed models lie; it need not exist."""
    return user_data_dir() / "cache" / "models"


def stored_path(module: ModuleType, files: list[Path], builtin_recipe: str) -> Path:
    """The file for a model made of these files as they are now (size and time of each, and what lies
    beside)."""
    digest = hashlib.sha256(f"{VERSION} {module.__name__} {_recipe()} {builtin_recipe}".encode())
    beside = (p for p in files[0].parent.iterdir() if p.suffix.lower() in COMPANIONS)
    for path in sorted({p.absolute() for p in (*files, *beside)}):
        state = path.stat()
        digest.update(f"\n{path} {state.st_size} {state.st_mtime_ns}".encode())
    digest.update(str(files[0].absolute()).encode())
    place = hashlib.sha256(str(files[0].absolute()).encode()).hexdigest()[:8]
    return stored_folder() / f"{files[0].stem}-{place}-{digest.hexdigest()[:16]}.npz"


def load_completed(
    module: ModuleType, files: list[Path], builtin_recipe: str, builtin: Callable[[], FaceModel]
) -> FaceModel:
    """The completed model of a format's files: from the store when it is there, else made and stored.

    builtin_recipe: digest of the built-in model, from which missing parts are carried over; builtin: loads
    it.
    Raises ModelError. A folder that cannot be written costs a warning and the time to do it again.
    """
    target = stored_path(module, files, builtin_recipe)
    if target.is_file():
        try:
            return read_stored(target)
        except ModelError as error:
            log.warning("%s It is made anew.", error)
    log.info("Preparing the face model %s once (%s) …", files[0], module.NAME)
    start = time.monotonic()
    model = complete(formats.read(module, files), builtin())
    problems = check_model(model)
    if problems:
        raise ModelError(f"The face model {files[0]} cannot be used: {'; '.join(problems)}.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_stored(target, model)
    except (OSError, OutputError) as error:
        log.warning(
            "The prepared face model cannot be stored (%s); it is prepared again at every start.", error
        )
        return model
    for old in target.parent.glob(f"{target.stem[:-16]}*.npz"):
        if old != target:
            old.unlink(missing_ok=True)
    log.info("Prepared in %.0f s, stored in %s.", time.monotonic() - start, target)
    return model


def write_stored(path: Path, model: FaceModel) -> None:
    """Write a model as plain arrays, uncompressed, whole or not at all. Raises OutputError."""
    arrays: dict[str, np.ndarray] = {}
    for item in fields(model):
        value = getattr(model, item.name)
        if isinstance(value, dict):
            arrays |= {f"{item.name}/{key}": entry for key, entry in value.items()}
        elif isinstance(value, np.ndarray):
            arrays[item.name] = value
        elif value is not None:
            arrays[item.name] = np.array(value, dtype=np.str_)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def read_stored(path: Path) -> FaceModel:
    """Read what `write_stored` wrote; the archive's checksums notice damage. Raises ModelError."""
    with Npz(path) as archive:
        values: dict[str, Any] = {}
        for item in fields(FaceModel):
            inside = [name for name in archive.names if name.startswith(f"{item.name}/")]
            if inside:
                values[item.name] = {name.split("/", 1)[1]: archive.read(name) for name in sorted(inside)}
            elif item.name in archive.names:
                value = archive.read(item.name)
                if value.dtype.kind == "U":
                    values[item.name] = str(value) if value.ndim == 0 else tuple(value.tolist())
                else:
                    values[item.name] = value
    try:
        return FaceModel(**values)
    except TypeError as error:
        raise ModelError(f"The stored face model {path} is of another version ({error}).") from None


def _recipe() -> str:
    """Digest of the code that reads and completes models: another recipe makes another model."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(
        [*package.glob("derive/*.py"), *package.glob("formats/*.py"), package / "completion.py"]
    ):
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
