"""Finds, builds, loads and checks face models."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, OutputError
from ..geometry.laplacian import face_normals
from ..paths import asset, asset_folders, user_data_dir
from .hdf5 import read_model, trim, write_model
from .model import FaceModel

log = logging.getLogger(__name__)

BUILTIN = "builtin"
BASEL = "bfm"
_TOLERANCE = 1e-3


class ModelChoice(Protocol):
    """What `load_model` asks of a Config."""

    model: str  # "builtin", "bfm", the name of a file in the user's models folder, or a path
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


def resolve_files(name: str, basel_folder: Path | None = None) -> list[Path]:
    """Files of a model given by name or path. Raises ModelError that says where was looked."""
    if name == BASEL:
        if basel_folder is None:
            raise ModelError(
                "No folder with the Basel Face Model was found. Set 'path' (or NEXTGENFACE_DATA_DIR) to the "
                "folder with its .h5 files, or use model = builtin."
            )
        place = basel_folder
    else:
        place = Path(name).expanduser()
        if not place.exists() and (models_folder() / f"{name}.h5").is_file():
            place = models_folder() / f"{name}.h5"
    if place.is_dir():
        files = sorted(place.glob("*.h5"))
        if not files:
            raise ModelError(f"The folder {place} holds no .h5 face model. Check 'model' and 'path'.")
        return files
    if not place.is_file():
        known = ", ".join(entry.name for entry in list_models())
        raise ModelError(
            f"There is no face model '{name}'. Known models: {known}; or give the path of an .h5 file."
        )
    return [place]


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
    files = resolve_files(name, folder)
    model = read_model(files, trim_pca=trim_pca)
    problems = check_model(model)
    if problems:
        raise ModelError(
            f"The face model {', '.join(map(str, files))} cannot be used: {'; '.join(problems)}."
        )
    return model


def list_models() -> list[ModelEntry]:
    """The built-in model and the .h5 files in the user's models folder."""
    built = next(iter(builtin_files()), None)
    note = "is built on first use" if built is None else f"built, {built.stat().st_size / 1e6:.1f} MB"
    entries = [ModelEntry(BUILTIN, built, note)]
    for path in sorted(models_folder().glob("*.h5")):
        if not path.name.startswith(("nextgenface-builtin-", ".")):
            entries.append(ModelEntry(path.stem, path, f"{path.stat().st_size / 1e6:.1f} MB"))
    return entries


def check_model(model: FaceModel) -> list[str]:
    """What is wrong with a model, in words; empty when it can be used."""
    count = model.vertex_count
    problems = _check_sizes(model)
    if problems:
        return problems
    for part in ("shape", "expression", "diffuse"):
        basis, variance = getattr(model, f"{part}_basis"), getattr(model, f"{part}_variance")
        flat = basis.reshape(len(basis), -1)
        error = float(np.abs(flat @ flat.T - np.eye(len(flat))).max()) if len(flat) else 0.0
        if error > _TOLERANCE:
            problems.append(f"the {part} basis is not orthonormal (off by {error:.2g})")
        if (variance < 0).any() or (
            np.diff(variance) > 1e-6 * max(float(variance.max(initial=0)), 1e-9)
        ).any():
            problems.append(f"the {part} variances are negative or not in descending order")
    if not np.array_equal(model.mirror[model.mirror], np.arange(count)):
        problems.append("the mirror table is not its own inverse")
    if model.uv.min() < 0 or model.uv.max() > 1:
        problems.append("uv leaves the range 0..1")
    if model.diffuse_mean.min() < 0 or model.diffuse_mean.max() > 1:
        problems.append("the mean albedo leaves the range 0..1")
    spread = np.ptp(model.shape_mean, axis=0)
    if not 80 < float(spread.max()) < 800:
        problems.append(f"the mean face is {spread.max():.3g} units large: millimetres are expected")
    crosses = face_normals(model.shape_mean, model.faces)
    if float(crosses[:, 2].sum()) <= 0:
        problems.append("the triangles run clockwise: the face is inside out")
    return problems


def _check_sizes(model: FaceModel) -> list[str]:
    """Shapes, index ranges and finite numbers: what the other checks rely on."""
    count = model.vertex_count
    problems: list[str] = []

    def expect(label: str, array: NDArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            problems.append(f"{label} has shape {array.shape}, not {shape}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            problems.append(f"{label} holds numbers that are not finite")

    for part in ("shape", "expression", "diffuse"):
        size = len(getattr(model, f"{part}_variance"))
        expect(f"{part}_mean", getattr(model, f"{part}_mean"), (count, 3))
        expect(f"{part}_basis", getattr(model, f"{part}_basis"), (size, count, 3))
        expect(f"{part}_variance", getattr(model, f"{part}_variance"), (size,))
    expect("specular_mean", model.specular_mean, (count, 3))
    expect("specular_basis", model.specular_basis, model.diffuse_basis.shape)
    expect("roughness_mean", model.roughness_mean, (count,))
    expect("uv", model.uv, (count, 2))
    expect("mirror", model.mirror, (count,))
    for name, weights in model.regions.items():
        expect(f"region {name}", weights, (count,))
    if model.blendshape_deltas is not None:
        expect("blendshape_deltas", model.blendshape_deltas, (len(model.blendshape_names), count, 3))
    tables = {"faces": model.faces, "mirror": model.mirror}
    tables |= {f"landmarks {name}": table for name, table in model.landmarks.items()}
    for label, table in tables.items():
        lowest = -1 if label.startswith("landmarks") else 0
        if table.size == 0 or table.min() < lowest or table.max() >= count:
            problems.append(f"{label} points to vertices that do not exist")
    if model.faces.ndim != 2 or model.faces.shape[1] != 3:
        problems.append("faces are not triangles")
    return problems
