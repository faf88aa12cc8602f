"""Face models in HDF5: the groups of the Basel Face Model 2017 and AlbedoMM, plus what NextGenFace adds.

The same reader serves the built-in model, a Basel-style pair of files and a user's own file;
docs/face-models.md lists the groups. A basis is stored as (3V, K) with vertex-major x, y, z rows and
orthonormal columns.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..files import atomic_path
from .formats.arrays import Hdf5
from .model import FaceModel

log = logging.getLogger(__name__)

SCHEMA = 1
TRIMMED_SIZE = 80
_PARTS = {
    "shape": "shape",
    "expression": "expression",
    "diffuse": "diffuseAlbedo",
    "specular": "specularAlbedo",
}
_LEVEL_PER_F0 = 1 / 0.08  # Principled specular level: 0.5 means F0 = 0.04
_DEFAULT_LEVEL, _DEFAULT_ROUGHNESS = 0.35, 0.5


def content_hash(model: FaceModel) -> str:
    """SHA-256 (hex) of every array of the model, whatever file it came from."""
    digest = hashlib.sha256()
    for item in fields(model):
        value = getattr(model, item.name)
        if item.name in ("name", "hash", "notes") or value is None:
            continue
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for key, entry in sorted(entries):
            digest.update(f"{item.name}/{key}".encode())
            array = np.asarray(entry)
            if array.dtype.kind in "US":
                digest.update("\n".join(array.tolist()).encode())
            else:
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def trim(model: FaceModel, size: int = TRIMMED_SIZE) -> FaceModel:
    """The model with every basis cut to the same size: `size`, or the smallest basis if that is smaller."""
    count = min(size, len(model.shape_basis), len(model.expression_basis), len(model.diffuse_basis))
    cut = {
        f"{part}_{kind}": getattr(model, f"{part}_{kind}")[:count]
        for part in ("shape", "expression", "diffuse")
        for kind in ("basis", "variance")
    }
    return replace(
        model,
        **cut,
        specular_basis=model.specular_basis[:count],
        native={part: matrix[:count] for part, matrix in model.native.items()},
        hash=f"{model.hash[:12]}-{count}",
    )


def write_model(path: Path, model: FaceModel, half: bool = True) -> None:
    """Writes a model; whole or not at all. half: bases as 16-bit floats (3 digits), else 32-bit.

    Raises OutputError when the place cannot be written.
    """
    kind = np.float16 if half else np.float32

    def put(file: h5py.File, name: str, array: NDArray, dtype: type | None = None) -> None:
        data = np.asarray(array, dtype=dtype)
        if data.size < 2000:
            file.create_dataset(name, data=data)
        else:
            file.create_dataset(name, data=data, compression="gzip", compression_opts=4, shuffle=True)

    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w") as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["name"] = model.name
            file.attrs["specular_unit"] = "level"
            if model.notes:
                file.attrs["notes"] = "\n".join(model.notes)
            for part, group in _PARTS.items():
                basis = getattr(model, f"{part}_basis")
                put(file, f"{group}/model/mean", getattr(model, f"{part}_mean").reshape(-1), np.float32)
                put(file, f"{group}/model/pcaBasis", basis.reshape(len(basis), -1).T, kind)
                if part != "specular":
                    put(file, f"{group}/model/pcaVariance", getattr(model, f"{part}_variance"), np.float32)
            put(file, "specularAlbedo/model/pcaVariance", model.diffuse_variance, np.float32)
            put(file, "shape/representer/cells", model.faces.T, np.int32)
            put(file, "uv", model.uv, np.float32)
            put(file, "mirror", model.mirror, np.int32)
            put(file, "roughness/mean", model.roughness_mean, np.float32)
            for scheme, table in model.landmarks.items():
                put(file, f"landmarks/{scheme}", table, np.int32)
            for name, weights in model.regions.items():
                put(file, f"regions/{name}", weights, np.float32)
            for part, matrix in model.native.items():
                put(file, f"native/{part}", matrix, np.float32)
            if model.blendshape_deltas is not None:
                file["blendshapes/names"] = np.array(model.blendshape_names, dtype="S")
                put(file, "blendshapes/deltas", model.blendshape_deltas, kind)
        # The hash is that of the rounded values, as every reader will see them.
        stored = read_model([temporary], verify=False)
        digest = content_hash(stored)
        with h5py.File(temporary, "a") as file:
            file.attrs["content_hash"] = digest
            file.attrs["hash"] = model.hash or digest


def is_complete(path: Path) -> bool:
    """Whether one file holds everything a `FaceModel` needs, so that nothing has to be derived."""
    needed = ("shape/model/mean", "diffuseAlbedo/model/mean", "uv", "mirror")
    try:
        with Hdf5(path) as file:
            return all(file.has(name) for name in needed) and bool(file.names("landmarks"))
    except ModelError:
        return False


class _Sources:
    """Looks every dataset up in the first of several files that has it."""

    def __init__(self, files: Sequence[Hdf5]) -> None:
        self.files = files
        self.missing: list[str] = []

    def get(self, name: str, required: bool = True) -> NDArray | None:
        for file in self.files:
            found = file.read(name)
            if found is not None:
                return found
        if required:
            self.missing.append(name)
        return None

    def names(self, group: str) -> list[str]:
        found: dict[str, None] = {}
        for file in self.files:
            found |= dict.fromkeys(file.names(group))
        return list(found)

    def attribute(self, name: str) -> str:
        for file in self.files:
            if found := file.attribute(name):
                return found
        return ""


def read_model(paths: Sequence[Path], trim_pca: bool = False, verify: bool = True) -> FaceModel:
    """Reads a model from one file, or from several that complete each other (shape, albedo, extras).

    Any number of vertices and components. trim_pca cuts all bases to the same size (at most 80). verify
    compares the arrays with the hash in the file, where there is one. Raises ModelError that names the file
    and what is missing or damaged.
    """
    shown = ", ".join(str(p) for p in paths)
    try:
        with ExitStack() as stack:
            sources = _Sources([stack.enter_context(Hdf5(p)) for p in paths])
            model = _read(sources, shown)
            expected, identity = sources.attribute("content_hash"), sources.attribute("hash")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"The face model {shown} cannot be read: it is damaged or not HDF5 ({error}). Get the file again."
        ) from error
    if verify:
        actual = content_hash(model)
        if expected and actual != expected:
            raise ModelError(
                f"The face model {shown} is damaged: its content does not match its hash. Get it again."
            )
        model = replace(model, hash=identity or actual)
    return trim(model) if trim_pca else model


def _read(sources: _Sources, shown: str) -> FaceModel:
    mean, basis, variance = {}, {}, {}
    for part, group in _PARTS.items():
        needed = part in ("shape", "diffuse")
        mean[part] = sources.get(f"{group}/model/mean", needed)
        basis[part] = sources.get(f"{group}/model/pcaBasis", needed or part == "expression")
        variance[part] = sources.get(f"{group}/model/pcaVariance", needed or part == "expression")
    cells = sources.get("shape/representer/cells")
    uv, mirror = sources.get("uv"), sources.get("mirror")
    schemes = {name: sources.get(f"landmarks/{name}") for name in sources.names("landmarks")}
    if not schemes:
        sources.missing.append("landmarks/mediapipe")
    if sources.missing:
        raise ModelError(
            f"The face model {shown} lacks {', '.join(sources.missing)}. docs/face-models.md says how to add "
            "them in a file of their own beside the model."
        )
    assert mean["shape"] is not None and cells is not None and uv is not None and mirror is not None
    count = mean["shape"].size // 3

    def vertices(part: str) -> NDArray[np.float32]:
        value = mean[part]
        if value is None:
            return np.zeros((count, 3), np.float32)
        return np.ascontiguousarray(value, dtype=np.float32).reshape(count, 3)

    def modes(part: str, like: int = 0) -> NDArray[np.float32]:
        value = basis[part]
        if value is None:
            return np.zeros((like, count, 3), np.float32)
        return np.ascontiguousarray(value.T, dtype=np.float32).reshape(-1, count, 3)

    diffuse_basis = modes("diffuse")
    if mean["specular"] is None:
        log.warning(
            "The face model %s has no specular albedo: a constant level %s is used.", shown, _DEFAULT_LEVEL
        )
        specular_mean = np.full((count, 3), _DEFAULT_LEVEL, np.float32)
        specular_basis = np.zeros_like(diffuse_basis)
    else:
        unit = 1.0 if sources.attribute("specular_unit") == "level" else _LEVEL_PER_F0
        specular_mean = (vertices("specular") * unit).astype(np.float32)
        specular_basis = (modes("specular", len(diffuse_basis)) * np.float32(unit)).astype(
            np.float32, copy=False
        )
    rough = sources.get("roughness/mean", required=False)
    if rough is None:
        log.warning("The face model %s has no roughness: a constant %s is used.", shown, _DEFAULT_ROUGHNESS)
        rough = np.full(count, _DEFAULT_ROUGHNESS)
    regions = {
        name: np.asarray(sources.get(f"regions/{name}"), np.float32) for name in sources.names("regions")
    }
    if "skin" not in regions:
        log.warning("The face model %s has no region 'skin': the whole mesh counts as skin.", shown)
        regions["skin"] = np.ones(count, np.float32)
    native = {part: np.asarray(sources.get(f"native/{part}"), np.float32) for part in sources.names("native")}
    notes = sources.attribute("notes")
    names = sources.get("blendshapes/names", required=False)
    deltas = sources.get("blendshapes/deltas", required=False)
    return FaceModel(
        name=sources.attribute("name") or Path(shown.split(", ")[0]).stem,
        hash="",
        shape_mean=vertices("shape"),
        shape_basis=modes("shape"),
        shape_variance=np.asarray(variance["shape"], np.float32),
        expression_mean=vertices("expression"),
        expression_basis=modes("expression"),
        expression_variance=np.asarray(variance["expression"], np.float32),
        diffuse_mean=vertices("diffuse"),
        diffuse_basis=diffuse_basis,
        diffuse_variance=np.asarray(variance["diffuse"], np.float32),
        specular_mean=specular_mean,
        specular_basis=specular_basis,
        roughness_mean=np.asarray(rough, np.float32).reshape(count),
        faces=np.ascontiguousarray(cells.T, dtype=np.int64),
        uv=np.ascontiguousarray(uv, dtype=np.float32),
        mirror=np.asarray(mirror, np.int64),
        landmarks={name: np.asarray(table, np.int64) for name, table in schemes.items()},
        regions=regions,
        blendshape_names=() if names is None else tuple(n.decode() for n in names.tolist()),
        blendshape_deltas=None if deltas is None else np.ascontiguousarray(deltas, dtype=np.float32),
        native=native,
        notes=tuple(notes.splitlines()),
    )
