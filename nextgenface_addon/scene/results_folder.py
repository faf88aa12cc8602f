"""Reads and checks a results folder (schema 1, docs/architecture.md). No bpy in here.

The folder may come from anywhere, so nothing in it is trusted: no pickled objects are loaded, every array's
shape is checked, and file names must stay inside the folder.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..problems import AddonProblem

SCHEMA = 1
METHODS = ("face",)
NEEDED_FILES = ("diffuse", "environment")
_MAX_ROTATION_ERROR = 1e-3
_MAX_SKEW = 1e-6


class ResultsError(AddonProblem):
    """A results folder cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Geometry:
    """One person's mesh. Lengths in mm, model space (x to the subject's left, y up, z out of the face).

    neutral (V,3) float32 · faces (F,3) int32 · uv (V,2) float32, origin bottom left ·
    expression_offsets (n,V,3) float32 · blendshape_names B names · blendshape_deltas (B,V,3) float32.
    """

    neutral: NDArray[np.float32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    expression_offsets: NDArray[np.float32]
    blendshape_names: tuple[str, ...]
    blendshape_deltas: NDArray[np.float32]


@dataclass(frozen=True)
class PhotoResult:
    """One photo's camera and files. X_cam = R·X_model + t in mm (OpenCV axes); K in pixels of the photo.
    `blendshapes`: the detector's scores by ARKit name, 0..1; empty where it gave none.
    """

    name: str
    index: int
    identity: int
    width: int
    height: int
    K: NDArray[np.float64]
    R: NDArray[np.float64]
    t: NDArray[np.float64]
    expression_index: int
    geometry: str
    files: Mapping[str, Path]
    blendshapes: Mapping[str, float]


@dataclass(frozen=True)
class ResultsFolder:
    """A checked results folder. `geometries` is keyed by the photos' `identity`."""

    folder: Path
    name: str
    method: str
    version: str
    photos: tuple[PhotoResult, ...]
    geometries: Mapping[int, Geometry]
    warnings: tuple[str, ...]


def read_head(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and the content of its `result.json`, whatever the method. Raises ResultsError.

    `folder` may also be the path of the `result.json` itself.
    """
    folder = Path(folder)
    if folder.name == "result.json" and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise ResultsError(f"{folder} is not a folder. Choose the folder that holds result.json.")
    path = folder / "result.json"
    if not path.is_file():
        job = (
            " The job has not finished: let it run, or resume it." if (folder / "job.json").is_file() else ""
        )
        raise ResultsError(f"{folder} holds no result.json, so it is not a finished result.{job}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}). Run the reconstruction again.") from error
    if not isinstance(data, dict):
        raise ResultsError(f"{path} does not hold a JSON object. Run the reconstruction again.")
    schema = data.get("schema")
    if schema != SCHEMA:
        advice = "Update the extension" if isinstance(schema, int) and schema > SCHEMA else "Run it again"
        raise ResultsError(f"{path} has schema {schema!r}; this version reads schema {SCHEMA}. {advice}.")
    return folder, data


def read_results(folder: Path) -> ResultsFolder:
    """Read and check `result.json` of a face and the geometry it names. Raises ResultsError.

    `folder` may also be the path of the `result.json` itself.
    """
    folder, data = read_head(folder)
    path = folder / "result.json"
    method = data.get("method")
    if method not in METHODS:
        raise ResultsError(f"{path} holds the method {method!r}; this version imports {', '.join(METHODS)}.")
    entries = data.get("photos")
    if not isinstance(entries, list) or not entries:
        raise ResultsError(f"{path} lists no photos. Run the reconstruction again.")

    warnings = [str(text) for text in data.get("warnings") or [] if isinstance(text, str)]
    default_geometry = data.get("geometry", "geometry.npz")
    photos = tuple(_photo(entry, i, folder, default_geometry, warnings) for i, entry in enumerate(entries))
    geometries: dict[int, Geometry] = {}
    names: dict[int, str] = {}
    for photo in photos:
        known = names.setdefault(photo.identity, photo.geometry)
        if known != photo.geometry:
            raise ResultsError(
                f"{path}: identity {photo.identity} has two geometries, {known} and {photo.geometry}."
            )
        if photo.identity not in geometries:
            geometries[photo.identity] = read_geometry(inside(folder, photo.geometry))
        count = len(geometries[photo.identity].expression_offsets)
        if not 0 <= photo.expression_index < count:
            raise ResultsError(
                f"{path}: photo {photo.name!r} has expression_index {photo.expression_index}, "
                f"but {photo.geometry} holds {count} expressions."
            )
    name = data.get("name")
    name = name if isinstance(name, str) and name else photos[0].name
    stage = data.get("stage")
    return ResultsFolder(
        folder=folder,
        # A checkpoint on the way is imported beside the whole result, to be compared with it.
        name=f"{name} stage {stage}" if stage in (1, 2) else name,
        method=method,
        version=str(data.get("version", "")),
        photos=photos,
        geometries=geometries,
        warnings=tuple(warnings),
    )


def inside(folder: Path, name: object) -> Path:
    """The path of a file named in result.json, refused when it leaves the folder."""
    if not isinstance(name, str) or not name:
        raise ResultsError(f"{folder / 'result.json'} names a file as {name!r}; a text was expected.")
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ResultsError(f"{folder / 'result.json'} names {name!r}, which lies outside the results folder.")
    return folder / name


def _array(value: object, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise ResultsError(f"result.json: {what} must be {'×'.join(map(str, shape))} finite numbers.")
    return array


def _integer(entry: Mapping[str, Any], key: str, default: int | None, what: str) -> int:
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ResultsError(f"result.json: {what} has {key} = {value!r}; a whole number was expected.")
    return value


def _photo(
    entry: object, position: int, folder: Path, default_geometry: str, warnings: list[str]
) -> PhotoResult:
    if not isinstance(entry, dict):
        raise ResultsError(f"result.json: photo {position} is not a JSON object.")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        name = f"photo {position}"
    what = f"photo {name!r}"
    width, height, K, R, t = read_camera(entry, what)
    files: dict[str, Path] = {}
    listed = entry.get("files")
    for key, value in (listed if isinstance(listed, dict) else {}).items():
        if value is None:
            continue
        path = inside(folder, value)
        if path.is_file():
            files[key] = path
        elif key in NEEDED_FILES:
            raise ResultsError(f"{path} is missing. Run the reconstruction again, or export the checkpoint.")
        elif key in ("photo", "specular", "roughness"):
            warnings.append(f"{path.name} is missing and was left out.")
    for key in NEEDED_FILES:
        if key not in files:
            raise ResultsError(f"result.json: {what} names no {key} file. Run the reconstruction again.")
    return PhotoResult(
        name=name,
        index=_integer(entry, "index", position, what),
        identity=_integer(entry, "identity", 0, what),
        width=width,
        height=height,
        K=K,
        R=R,
        t=t,
        expression_index=_integer(entry, "expression_index", position, what),
        geometry=entry.get("geometry") or default_geometry,
        files=files,
        blendshapes=_scores(entry.get("blendshapes"), what),
    )


def read_camera(
    entry: Mapping[str, Any], what: str
) -> tuple[int, int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(width, height, K, R, t) of a photo's entry, checked; `what` names it. Raises ResultsError."""
    width, height = _integer(entry, "width", None, what), _integer(entry, "height", None, what)
    if width < 1 or height < 1:
        raise ResultsError(f"result.json: {what} has the size {width}×{height}.")
    K = _array(entry.get("K"), (3, 3), f"K of {what}")
    R = _array(entry.get("R"), (3, 3), f"R of {what}")
    t = _array(np.ravel(np.asarray(entry.get("t", ()), dtype=object)), (3,), f"t of {what}")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise ResultsError(f"result.json: K of {what} has a focal length that is not positive.")
    if abs(K[0, 1]) > _MAX_SKEW * K[0, 0]:
        raise ResultsError(f"result.json: K of {what} has skew, which Blender's camera does not know.")
    if np.abs(R @ R.T - np.eye(3)).max() > _MAX_ROTATION_ERROR or np.linalg.det(R) < 0:
        raise ResultsError(f"result.json: R of {what} is not a rotation.")
    # The nearest rotation: JSON digits and float32 leave errors that would shear Blender's camera.
    u, _, vt = np.linalg.svd(R)
    return width, height, K, u @ vt, t


def _scores(value: object, what: str) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(score, (int, float)) and math.isfinite(score) for score in value.values()
    ):
        raise ResultsError(f"result.json: the blendshapes of {what} are not numbers by name.")
    return {str(name): float(score) for name, score in value.items()}


def read_geometry(path: Path) -> Geometry:
    """Read and check a `geometry.npz`. Raises ResultsError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ResultsError(
            f"{path} is missing or damaged ({error}). Run the reconstruction again."
        ) from error

    def floats(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Array `key` with the given shape, where -1 is any length."""
        value = data.get(key)
        if (
            value is None
            or value.dtype.kind not in "fiu"
            or value.ndim != len(shape)
            or any(want not in (-1, have) for want, have in zip(shape, value.shape, strict=True))
        ):
            text = "×".join("any" if n < 0 else str(n) for n in shape)
            raise ResultsError(
                f"{path}: {key} is missing or not of shape {text}. Run the reconstruction again."
            )
        result = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(result).all():
            raise ResultsError(
                f"{path}: {key} holds values that are not finite. Run the reconstruction again."
            )
        return result

    neutral = floats("neutral_vertices", (-1, 3))
    count = len(neutral)
    faces = floats("faces", (-1, 3))
    indices = np.ascontiguousarray(data["faces"], dtype=np.int32)
    if count == 0 or len(faces) == 0 or indices.min() < 0 or indices.max() >= count:
        raise ResultsError(
            f"{path}: the faces do not fit the {count} vertices. Run the reconstruction again."
        )
    extent = float(np.ptp(neutral, axis=0).max())
    if not math.isfinite(extent) or extent <= 0:
        raise ResultsError(f"{path}: all vertices are in one place. Run the reconstruction again.")
    names = data.get("blendshape_names", np.empty(0, dtype="U1"))
    if names.ndim != 1 or (names.size and names.dtype.kind != "U"):
        raise ResultsError(f"{path}: blendshape_names is not a list of texts.")
    has_shapes = len(names) > 0
    return Geometry(
        neutral=neutral,
        faces=indices,
        uv=floats("uv", (count, 2)),
        expression_offsets=floats("expression_offsets", (-1, count, 3)),
        blendshape_names=tuple(str(name) for name in names),
        blendshape_deltas=(
            floats("blendshape_deltas", (len(names), count, 3))
            if has_shapes
            else np.zeros((0, count, 3), np.float32)
        ),
    )
