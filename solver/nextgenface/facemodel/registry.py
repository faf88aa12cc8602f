"""Finds, builds, loads and checks face models."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..errors import ModelError, OutputError
from ..paths import asset, asset_folders, user_data_dir
from . import formats
from .check import check_model as check_model
from .hdf5 import is_complete, read_model, trim, write_model
from .model import FaceModel
from .stored import load_completed

log = logging.getLogger(__name__)

BUILTIN = "builtin"
BASEL = "bfm"
BASEL_FORM = "https://faces.dmi.unibas.ch/bfm/bfm2017.html"
ALBEDO_PAGE = "https://github.com/waps101/AlbedoMM/releases"


class ModelChoice(Protocol):
    """What `load_model` asks of a Config."""

    model: str  # "builtin", "bfm", a name in the user's models folder, or a path
    path: str  # folder of the Basel Face Model
    trimPca: bool


@dataclass(frozen=True)
class ModelEntry:
    """One line of the list of models. path is None for a built-in model that was not built yet."""

    name: str
    path: Path | None
    note: str


def models_folder() -> Path:
    """Where built and user models lie; it need not exist."""
    return user_data_dir() / "models"


def builtin_recipe() -> str:
    """Digest (hex) of everything that makes the built-in model: its source code and the assets it reads."""
    package = Path(__file__).parent
    sources = sorted((package / "builtin").glob("*.py"))
    sources += [package.parent / "geometry" / name for name in ("laplacian.py", "subdivision.py")]
    sources += [asset("landmarks/ibug68.txt")]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    digest.update(asset("canonical_face.npz").read_bytes())
    return digest.hexdigest()


def builtin_path() -> Path:
    """Where the built-in model of this version is stored once it is built; it need not exist."""
    return models_folder() / f"nextgenface-builtin-{builtin_recipe()[:12]}.h5"


def builtin_files() -> list[Path]:
    """The files that hold the built-in model of this version, best first; empty before it is built.

    The Blender extension ships one among its assets, so that nobody with the extension has to build it.
    """
    stored = builtin_path()
    places = [stored, *(folder / "models" / stored.name for folder in asset_folders())]
    return [place for place in places if place.is_file()]


def build_builtin(force: bool = False, say: Callable[[str], None] = log.info) -> FaceModel:
    """The built-in model, from a file if one is whole, else built (seconds) and stored for the next time.

    Several processes may do this at once: each writes its own temporary file and renames it. A folder that
    cannot be written costs a warning and the time to build again.
    """
    for file in [] if force else builtin_files():
        try:
            return read_model([file])
        except ModelError as error:
            say(f"{error} It is not used.")
    target = builtin_path()
    from .builtin import build_model  # heavy: scipy's solvers are only needed here

    say(f"Building the built-in face model once ({target}) …")
    start = time.monotonic()
    model = replace(build_model(asset("canonical_face.npz").parent), hash=builtin_recipe()[:32])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_model(target, model)
    except (OSError, OutputError) as error:
        log.warning("The built-in face model cannot be stored (%s); it is built again at every start.", error)
        return model
    for old in target.parent.glob("nextgenface-builtin-*.h5"):
        if old != target:
            old.unlink(missing_ok=True)
    say(f"Built in {time.monotonic() - start:.0f} s, {target.stat().st_size / 1e6:.1f} MB.")
    return read_model([target])


def find_place(name: str, basel_folder: Path | None = None) -> Path:
    """The file or folder of a model given by name or path. Raises ModelError that says where was looked."""
    if name == BASEL:
        # A folder that somebody named must be there; the one among the user's models is for when nobody did.
        folder = basel_folder if basel_folder is not None else models_folder() / BASEL
        if folder.exists() and formats.find(folder) is not None:
            return folder
        raise ModelError(_no_basel_model(basel_folder))
    place = Path(name).expanduser()
    for candidate in (place, models_folder() / name, models_folder() / f"{name}.h5"):
        if candidate.exists():
            return candidate
    known = ", ".join(entry.name for entry in list_models())
    raise ModelError(
        f"There is no face model '{name}'. Known models: {known}; or give the path of a model's file or "
        f"folder. "
        "nextgenface-models list shows what can be installed."
    )


def _no_basel_model(folder: Path | None) -> str:
    looked = (
        f"in {folder}" if folder is not None else "in ./data/baselMorphableModel and ./baselMorphableModel"
    )
    return (
        f"The Basel Face Model was not found {looked}. Ask for it with the form at {BASEL_FORM}, then put "
        "model2017-1_face12_nomouth.h5 from there and albedoModel2020_face12_albedoPart.h5 from "
        f"{ALBEDO_PAGE} into one folder, and set 'path' (or NEXTGENFACE_DATA_DIR) to it. "
        "Without it, choose the built-in model: model = builtin."
    )


def load_place(place: Path, trim_pca: bool = False) -> FaceModel:
    """The model in a file or folder of any format; what its files lack is derived once and kept.

    Raises ModelError when nothing is recognised there, or when it is damaged.
    """
    found = formats.find(place)
    if found is None:
        kinds = ", ".join(module.NAME for module in formats.FORMATS)
        raise ModelError(
            f"{place} holds no .h5 face model, nor one of another known format ({kinds}). Check 'model' and "
            "'path'; docs/face-models.md says which files are needed."
        )
    module, files = found
    if len(files) == 1 and is_complete(files[0]):
        model = read_model(files)
        problems = check_model(model)
        if problems:
            raise ModelError(f"The face model {files[0]} cannot be used: {'; '.join(problems)}.")
    else:
        model = load_completed(module, files, builtin_recipe(), build_builtin)
    for note in model.notes:
        log.info("%s: %s", model.name, note)
    return trim(model) if trim_pca else model


def load_model(config: ModelChoice) -> FaceModel:
    """The face model that `config.model` names; the built-in one is built on first use.

    Raises ModelError when a file is missing, damaged, or lacks something the solver needs.
    """
    name = str(getattr(config, "model", BUILTIN) or BUILTIN)
    trim_pca = bool(getattr(config, "trimPca", False))
    if name == BUILTIN:
        model = build_builtin()
        return trim(model) if trim_pca else model
    find = getattr(config, "modelFolder", None)
    folder = find() if callable(find) else Path(str(getattr(config, "path", "."))).expanduser()
    return load_place(find_place(name, folder), trim_pca)


def list_models() -> list[ModelEntry]:
    """The built-in model and what lies in the user's models folder: files and folders."""
    built = next(iter(builtin_files()), None)
    note = "is built on first use" if built is None else f"built, {built.stat().st_size / 1e6:.1f} MB"
    entries = [ModelEntry(BUILTIN, built, note)]
    folder = models_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(("nextgenface-builtin-", ".")):
            continue
        if path.is_dir():
            size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            entries.append(ModelEntry(path.name, path, f"{size / 1e6:.1f} MB"))
        elif path.suffix == ".h5":
            entries.append(ModelEntry(path.stem, path, f"{path.stat().st_size / 1e6:.1f} MB"))
    return entries
