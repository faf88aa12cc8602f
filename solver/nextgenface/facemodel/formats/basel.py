"""Basel Face Model 2017 with AlbedoMM, as distributed, and every HDF5 file with the same groups.

One file has shape and expression, another one albedo; NextFace's tables are used when they lie beside them.
Coefficients keep their meaning (c has the variance of the file), because checkpoints of NextFace hold them.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError, ModelError
from ...safe_pickle import read_plain_pickle
from ..derive.modes import Modes
from ..raw import Index, RawModel
from .arrays import Hdf5, landmark_pairs, numbers, shipped_landmarks

log = logging.getLogger(__name__)

NAME = "Basel Face Model"
ENDINGS = (".h5", ".hdf5", ".hh")  # the guide prints an .hh
PREFERRED = "face12"
LEVEL_PER_F0 = 1 / 0.08  # Principled specular level: 0.5 means F0 = 0.04
DERIVED_LAYOUT = "No uvParametrization.N.pickle of NextFace lies beside it: its texture layout was derived."
_MAGIC = b"\x89HDF\r\n\x1a\n"
# Names in the file's own list of landmarks -> MediaPipe's number.
_NAMED = {
    "center.nose.tip": 4, "center.chin.tip": 152, "center.lips.upper.outer": 0, "center.lips.upper.inner": 13,
    "center.lips.lower.inner": 14, "center.lips.lower.outer": 17, "right.lips.corner": 61,
    "left.lips.corner": 291, "right.eye.corner_outer": 33, "right.eye.corner_inner": 133,
    "left.eye.corner_outer": 263, "left.eye.corner_inner": 362, "right.eye.top": 159, "right.eye.bottom": 145,
    "left.eye.top": 386, "left.eye.bottom": 374,
}  # fmt: skip


def find(place: Path) -> list[Path] | None:
    """HDF5 files at a place that hold a shape model, the chosen one first, then what completes it."""
    folder = place if place.is_dir() else place.parent
    named = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in ENDINGS]
    files = [p for p in named if _is_hdf5(p)]
    if place.is_file() and place not in files:
        return [place] if place.suffix.lower() in ENDINGS else None
    shapes = [p for p in files if _count(p, "shape/model/mean")]
    if place.is_file():
        shapes = [p for p in shapes if p == place] or [place]
    if not shapes:
        # Damaged, a saved web page, or the albedo alone: reading it will say so, the shape's
        # file first. Other HDF5 files are nobody's face model.
        known = [p for p in named if "model20" in p.name.lower()]
        return sorted(known, key=lambda p: "albedo" in p.name.lower()) or None
    sizes = {p: _count(p, "shape/model/mean") for p in shapes}
    albedo = {p: _count(p, "diffuseAlbedo/model/mean") for p in files}
    shapes.sort(key=lambda p: (sizes[p] not in albedo.values(), PREFERRED not in p.name, p.name))
    chosen = shapes[0]
    if len(shapes) > 1:
        log.info("%s holds several face models; %s is taken.", folder, chosen.name)
    others = [p for p in files if p != chosen and sizes.get(p) is None and albedo[p] in (0, sizes[chosen])]
    broken = [p for p in named if p not in files and p.name.lower().startswith("albedomodel20")]
    return [chosen, *others, *broken]


def read(files: list[Path]) -> RawModel:
    """Read a model from files that complete each other. Raises ModelError that names what is missing."""
    shown = files[0]
    with ExitStack() as stack:
        opened = [stack.enter_context(Hdf5(path)) for path in files]

        def get(name: str) -> NDArray | None:
            return next((found for source in opened if (found := source.read(name)) is not None), None)

        def need(name: str) -> NDArray:
            found = get(name)
            if found is None:
                raise ModelError(
                    f"The face model {shown} lacks the dataset {name}; a Basel Face Model has it. Is it "
                    f"another "
                    "file, for example an albedo model without the shape model beside it?"
                )
            return numbers(found, name, shown)

        def modes(group: str, count: int) -> Modes:
            basis = numbers(need(f"{group}/model/pcaBasis"), f"{group}/model/pcaBasis", shown, np.float32)
            variance = np.ravel(numbers(need(f"{group}/model/pcaVariance"), "pcaVariance", shown, np.float32))
            if basis.ndim != 2 or basis.shape[0] != 3 * count:
                raise ModelError(
                    f"The face model {shown} cannot be used: {group}/model/pcaBasis has the shape "
                    f"{basis.shape}, "
                    f"but the mean face has {count} vertices."
                )
            return Modes(np.ascontiguousarray(basis.T).reshape(-1, count, 3), variance)

        mean = need("shape/model/mean").ravel()
        if mean.size % 3 or mean.size < 150:
            raise ModelError(f"The face model {shown} cannot be used: its mean has {mean.size} numbers.")
        count = mean.size // 3
        offset = get("expression/model/mean")
        notes = []
        diffuse, diffuse_mean, specular, specular_mean = None, None, None, None
        albedo = get("diffuseAlbedo/model/mean")
        if albedo is None:
            notes.append(
                "There is no albedo model beside it (albedoModel2020_face12_albedoPart.h5 of AlbedoMM): the "
                "built-in skin model is carried over."
            )
        else:
            _same(albedo.size, mean.size, "the albedo model", shown)
            diffuse_mean = numbers(albedo, "diffuseAlbedo/model/mean", shown).reshape(count, 3)
            diffuse = modes("diffuseAlbedo", count)
            shine = get("specularAlbedo/model/mean")
            if shine is not None:
                _same(shine.size, mean.size, "the specular model", shown)
                unit = 1.0 if any(s.attribute("specular_unit") == "level" for s in opened) else LEVEL_PER_F0
                specular_mean = unit * numbers(shine, "specularAlbedo/model/mean", shown).reshape(count, 3)
                basis = numbers(need("specularAlbedo/model/pcaBasis"), "specularAlbedo", shown, np.float32)
                specular = np.ascontiguousarray(basis.T * np.float32(unit)).reshape(-1, count, 3)
        uv, mirror, rough = get("uv"), get("mirror"), get("roughness/mean")
        names = {name for source in opened for name in source.names("regions")}
        regions = {name: numbers(need(f"regions/{name}"), name, shown, np.float32) for name in sorted(names)}
        shape_names, deltas = get("blendshapes/names"), get("blendshapes/deltas")
        cells = need("shape/representer/cells")
        if cells.ndim == 2 and cells.shape[0] != 3 and cells.shape[1] == 3:
            cells = cells.T
        own = {name for source in opened for name in source.names("landmarks")}
        landmarks = {n: numbers(need(f"landmarks/{n}"), n, shown, np.int64) for n in sorted(own)}
        if not landmarks:
            landmarks = _landmarks(files[0].parent, opened[0], mean.reshape(count, 3), count)
        if uv is None:
            uv = _nextface_uv(files[0].parent, count)
            if uv is None:
                notes.append(DERIVED_LAYOUT)
        return RawModel(
            name=opened[0].attribute("name") or shown.stem,
            kind=NAME,
            mean=mean.reshape(count, 3),
            faces=np.ascontiguousarray(cells.T).astype(np.int64),
            shape=modes("shape", count),
            expression=modes("expression", count),
            expression_mean=None
            if offset is None
            else numbers(offset, "expression mean", shown).reshape(count, 3),
            diffuse_mean=diffuse_mean,
            diffuse=diffuse,
            specular_mean=specular_mean,
            specular=specular,
            roughness=None if rough is None else numbers(rough, "roughness", shown),
            uv=None if uv is None else numbers(uv, "uv", shown),
            mirror=None if mirror is None else numbers(mirror, "mirror", shown, np.int64),
            landmarks=landmarks,
            regions=regions,
            blendshape_names=() if shape_names is None else tuple(n.decode() for n in shape_names.tolist()),
            blendshape_deltas=None if deltas is None else numbers(deltas, "blendshapes", shown, np.float32),
            notes=tuple(notes),
        )


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(8) == _MAGIC
    except OSError:
        return False


def _count(path: Path, name: str) -> int:
    """Number of values of a dataset; 0 when the file cannot be read or has none."""
    try:
        with Hdf5(path) as source:
            return source.size(name)
    except ModelError:
        return 0


def _same(got: int, wanted: int, what: str, shown: Path) -> None:
    if got != wanted:
        raise ModelError(
            f"{what.capitalize()} beside {shown} is for {got // 3} vertices, the shape model has "
            f"{wanted // 3}: they belong to different versions. Use face12 with face12, or bfm with bfm."
        )


def _landmarks(folder: Path, source: Hdf5, mean: NDArray[np.float64], count: int) -> dict[str, Index]:
    """NextFace's tables beside the model, else the shipped table, else the named points in the file."""
    found: dict[str, Index] = {}
    for file, scheme, size in (("landmark_62_mp.txt", "mediapipe", 478), ("landmark_62.txt", "ibug68", 68)):
        if (folder / file).is_file():
            table = landmark_pairs(folder / file, size)[: 468 if scheme == "mediapipe" else 68]
            if table.max() < count:
                found[scheme] = table
            else:
                log.warning(
                    "%s is for another mesh than %s; it is not used.", folder / file, source.path.name
                )
    found = found or shipped_landmarks("bfm", count)
    if found:
        return found
    text = source.read("metadata/landmarks/json")
    try:
        value = np.ravel(text)[0] if text is not None else "[]"
        entries = json.loads(value.decode() if isinstance(value, bytes) else str(value))
        table = np.full(468, -1, np.int64)
        for entry in entries:
            if entry.get("id") in _NAMED:
                place = np.asarray(entry["coordinates"], np.float64)
                table[_NAMED[entry["id"]]] = int(np.linalg.norm(mean - place, axis=1).argmin())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {"mediapipe": table} if (table >= 0).sum() >= 9 else {}


def _nextface_uv(folder: Path, count: int) -> NDArray | None:
    """Texture coordinates of NextFace's uvParametrization.N.pickle, where one lies beside the model."""
    for file in sorted(folder.glob("uvParametrization.*.pickle")):
        try:
            content = read_plain_pickle(file)
        except CheckpointError as problem:
            log.warning("%s is not used: %s", file.name, problem)
            continue
        uv = content.get("uvVertices") if isinstance(content, dict) else None
        if isinstance(uv, np.ndarray) and uv.shape == (count, 2):
            return uv
        log.warning("%s is for another mesh; it is not used.", file)
    return None
