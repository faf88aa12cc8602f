"""FLAME 2020, 2023 and 2023 Open: a pickle (read without executing it) or an .npz with the same names.

Shape and expression are linear; the jaw and the eyeballs turn around joints, so their motion becomes named
shapes, and part of the expression. Beside the model are used, when they are there: FLAME's landmark
embeddings,
and FLAME_texture.npz for the texture layout.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...geometry.rotations import small_rotation
from ...safe_pickle import read_model_pickle
from ..derive.modes import Modes, from_blendshapes
from ..raw import Index, RawModel, in_millimetres
from .arrays import Npz, numbers, shipped_landmarks

log = logging.getLogger(__name__)

NAME = "FLAME"
KEYS = ("v_template", "f", "shapedirs")
SHAPE_COMPONENTS = 300  # the first ones of shapedirs; the others are expressions
JAW, EYES = 2, (3, 4)
JAW_OPEN, JAW_SIDE, GAZE = 0.35, 0.12, 0.4  # radians of the named shapes at weight 1
_EMBEDDINGS = (
    "landmark_embedding*.np[yz]",
    "flame_static_embedding*.pkl",
    "mediapipe_landmark_embedding*.npz",
)


def find(place: Path) -> list[Path] | None:
    """FLAME's own file at a place; pickles are looked at as far as their key names."""
    candidates = [place] if place.is_file() else sorted(place.iterdir())
    named = [p for p in candidates if p.suffix.lower() in (".pkl", ".npz") and _looks_like(p)]
    # Several variants may lie together: the neutral one counts.
    named.sort(key=lambda p: ("male" in p.name.lower(), p.name))
    return named[:1] or None


def read(files: list[Path]) -> RawModel:
    """Read FLAME. Raises ModelError."""
    path = files[0]
    data = _content(path)

    def array(key: str, dtype: type = np.float64) -> NDArray:
        return numbers(np.asarray(data[key]), key, path, dtype)

    mean, dirs = array("v_template"), array("shapedirs", np.float32)
    faces = array("f", np.int64)
    if mean.ndim != 2 or mean.shape[1] != 3 or dirs.ndim != 3 or dirs.shape[:2] != mean.shape:
        raise ModelError(
            f"The face model {path} cannot be used: v_template has the shape {mean.shape}, shapedirs "
            f"{dirs.shape}."
        )
    if dirs.shape[2] <= SHAPE_COMPONENTS:
        raise ModelError(
            f"The face model {path} has {dirs.shape[2]} components; FLAME has {SHAPE_COMPONENTS} for "
            f"shape and "
            "more for expressions."
        )
    try:
        unit = in_millimetres(mean)
    except ValueError as error:
        raise ModelError(f"The face model {path} cannot be used: {error}.") from None
    vectors = np.ascontiguousarray(np.moveaxis(dirs, 2, 0) * np.float32(unit))
    names, deltas, notes = _joint_shapes(data, mean * unit, unit, path)
    expression = vectors[SHAPE_COMPONENTS:]
    if names:
        expression = np.concatenate([expression, from_blendshapes(names, deltas)])
    corner_uv = _texture_layout(path.parent, len(faces))
    shape = vectors[:SHAPE_COMPONENTS]
    return RawModel(
        name=f"flame-{path.stem}" if "flame" not in path.stem.lower() else path.stem,
        kind=NAME,
        mean=mean * unit,
        faces=faces,
        shape=Modes(shape, np.ones(len(shape), np.float32)),
        expression=Modes(expression, np.ones(len(expression), np.float32)),
        corner_uv=corner_uv,
        landmarks=_landmarks(path.parent, faces, len(mean)),
        blendshape_names=names,
        blendshape_deltas=deltas if names else None,
        notes=notes,
    )


def _looks_like(path: Path) -> bool:
    try:
        if path.suffix.lower() == ".npz":
            with Npz(path) as archive:
                return archive.names.issuperset(KEYS)
        content = path.read_bytes()
        return all(key.encode() in content for key in KEYS)
    except (ModelError, OSError):
        # Reading it will say what is wrong with it.
        return "flame" in path.stem.lower() and "texture" not in path.stem.lower()


def _content(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".npz":
        with Npz(path) as archive:
            wanted = (*KEYS, "J_regressor", "weights", "posedirs", "kintree_table")
            return {key: archive.read(key) for key in wanted if key in archive.names or key in KEYS}
    data = read_model_pickle(path)
    if not isinstance(data, dict) or not set(KEYS) <= data.keys():
        raise ModelError(f"The face model {path} lacks {', '.join(KEYS)}; it is not FLAME.")
    return data


def _joint_shapes(
    data: dict[str, Any], mean: NDArray[np.float64], unit: float, path: Path
) -> tuple[tuple[str, ...], NDArray[np.float32], tuple[str, ...]]:
    """What jaw and eyeballs do at moderate angles, as named offsets (B, V, 3) mm."""
    none = (), np.zeros((0, *mean.shape), np.float32), ()
    if not {"J_regressor", "weights"} <= data.keys():
        return none
    regressor, weights = (numbers(np.asarray(data[k]), k, path) for k in ("J_regressor", "weights"))
    if regressor.shape != (5, len(mean)) or weights.shape != (len(mean), 5):
        log.warning("%s: the joints are not FLAME's (%s); jaw and eyes stay still.", path, regressor.shape)
        return none
    joints = regressor @ mean
    correctives = None
    if "posedirs" in data:
        correctives = numbers(np.asarray(data["posedirs"]), "posedirs", path)
        if correctives.shape != (len(mean), 3, 36):
            correctives = None

    def turned(joint: int, x: float, y: float) -> NDArray[np.float32]:
        import torch

        rotation = small_rotation(torch.tensor([x, y, 0.0], dtype=torch.float64)).numpy()
        rest = mean
        if correctives is not None:
            feature = np.zeros(36)
            feature[9 * (joint - 1) : 9 * joint] = (rotation - np.eye(3)).ravel()
            rest = mean + unit * correctives @ feature
        moved = (rest - joints[joint]) @ rotation.T + joints[joint]
        return (rest + weights[:, joint, None] * (moved - rest) - mean).astype(np.float32)

    shapes = {
        "jawOpen": turned(JAW, JAW_OPEN, 0),
        "jawLeft": turned(JAW, 0, JAW_SIDE),
        "jawRight": turned(JAW, 0, -JAW_SIDE),
    }
    for joint in EYES:
        left = joints[joint, 0] > joints[:, 0].mean()
        side, outwards = ("_L", 1) if left else ("_R", -1)
        shapes[f"eyeLookUp{side}"] = turned(joint, -GAZE, 0)
        shapes[f"eyeLookDown{side}"] = turned(joint, GAZE, 0)
        shapes[f"eyeLookOut{side}"] = turned(joint, 0, outwards * GAZE)
        shapes[f"eyeLookIn{side}"] = turned(joint, 0, -outwards * GAZE)
    names = tuple(sorted(shapes))
    note = "Jaw and eyes turn around joints in FLAME; here they are linear shapes, exact at moderate angles."
    return names, np.stack([shapes[name] for name in names]), (note,)


def _landmarks(folder: Path, faces: Index, count: int) -> dict[str, Index]:
    """FLAME's embeddings beside the model, else the shipped table. Nearest vertices stand for points."""
    found: dict[str, Index] = {}
    for pattern in _EMBEDDINGS:
        for file in sorted(folder.glob(pattern)):
            try:
                content = _embedding(file)
            except ModelError as problem:
                log.warning("%s is not used: %s", file, problem)
                continue
            for faces_key, weights_key in (
                ("full_lmk_faces_idx", "full_lmk_bary_coords"),
                ("lmk_face_idx", "lmk_b_coords"),
            ):
                if faces_key not in content or weights_key not in content:
                    continue
                face = np.asarray(content[faces_key]).reshape(-1).astype(np.int64)
                weights = np.asarray(content[weights_key], np.float64).reshape(-1, 3)
                if len(face) != len(weights) or face.min() < 0 or face.max() >= len(faces):
                    log.warning("%s is for another mesh; it is not used.", file)
                    continue
                vertices = faces[face, weights.argmax(1)]
                if "landmark_indices" in content:
                    table = np.full(468, -1, np.int64)
                    at = np.asarray(content["landmark_indices"]).reshape(-1).astype(np.int64)
                    inside = (at >= 0) & (at < 468)
                    table[at[inside]] = vertices[inside]
                    found.setdefault("mediapipe", table)
                elif len(vertices) == 68:
                    found.setdefault("ibug68", vertices)
                elif len(vertices) == 51:
                    found.setdefault("ibug68", np.r_[np.full(17, -1), vertices].astype(np.int64))
    return found or shipped_landmarks("flame", count)


def _embedding(file: Path) -> dict[str, Any]:
    if file.suffix == ".npz":
        with Npz(file) as archive:
            return {name: archive.read(name) for name in archive.names}
    start = 0
    if file.suffix == ".npy":
        head = file.read_bytes()[:12]
        if head[:6] != b"\x93NUMPY":
            raise ModelError(f"{file} is not a NumPy file.")
        length = 2 if head[6] == 1 else 4
        start = 8 + length + int.from_bytes(head[8 : 8 + length], "little")
    content = read_model_pickle(file, start)
    while isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no table of landmarks.")
    return content


def _texture_layout(folder: Path, count: int) -> NDArray[np.float64] | None:
    """(F, 3, 2) texture coordinates of FLAME_texture.npz or AlbedoMM's FLAME file, where one is there."""
    for file in sorted(folder.glob("*.npz")):
        try:
            with Npz(file) as archive:
                if not {"vt", "ft"} <= archive.names:
                    continue
                vt, ft = (
                    numbers(archive.read("vt"), "vt", file),
                    numbers(archive.read("ft"), "ft", file, np.int64),
                )
        except ModelError as problem:
            log.warning("%s is not used: %s", file, problem)
            continue
        if (
            ft.shape == (count, 3)
            and vt.ndim == 2
            and vt.shape[1] >= 2
            and ft.min() >= 0
            and ft.max() < len(vt)
        ):
            return np.ascontiguousarray(vt[ft][..., :2])
        log.warning("%s is for another mesh; it is not used.", file)
    return None
