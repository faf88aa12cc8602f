"""GNM Head v3 (gnm_head.npz): identity and expression modes, parts by vertex groups, UVs per corner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...geometry.rotations import small_rotation
from ..derive.modes import Modes, from_blendshapes
from ..raw import RawModel, in_millimetres
from .arrays import Npz, numbers, shipped_landmarks
from .subset import keep_vertices

NAME = "GNM Head"
KEYS = ("template_vertex_positions", "vertex_identity_basis", "expression_basis", "triangles")
GAZE = 0.4  # radians of the named shapes at weight 1
# Part -> vertex groups of the file that make it up; the first that exist count.
GROUPS = {
    "eyes": ("eyes", "left_eye", "right_eye", "scleras"),
    "teeth": ("teeth",),
    "gums": ("gums",),
    "tongue": ("tongue",),
    "mouth": ("mouth_sock",),
}
HIDDEN, SHELL = "eye_interiors", "eye_exteriors"  # the iris behind the cornea is not seen in an opaque eye


def find(place: Path) -> list[Path] | None:
    """GNM's file at a place."""
    for path in [place] if place.is_file() else sorted(place.glob("*.npz")):
        if path.suffix.lower() != ".npz":
            continue
        try:
            with Npz(path) as archive:
                if archive.names.issuperset(KEYS):
                    return [path]
        except ModelError:
            if path.stem.lower().startswith("gnm"):
                return [path]  # reading it will say what is wrong with it
    return None


def read(files: list[Path]) -> RawModel:
    """Read GNM. Raises ModelError."""
    path = files[0]
    with Npz(path) as archive:

        def array(name: str, dtype: type = np.float64) -> NDArray:
            return numbers(archive.read(name), name, path, dtype)

        mean = array("template_vertex_positions")
        identity, expression = (
            array("vertex_identity_basis", np.float32),
            array("expression_basis", np.float32),
        )
        faces = array("triangles", np.int64)
        for name, basis in (("vertex_identity_basis", identity), ("expression_basis", expression)):
            if mean.ndim != 2 or basis.ndim != 3 or basis.shape[1:] != mean.shape:
                raise ModelError(
                    f"The face model {path} cannot be used: {name} has the shape {basis.shape}, the mean "
                    f"face "
                    f"{mean.shape}."
                )
        try:
            unit = in_millimetres(mean)
        except ValueError as error:
            raise ModelError(f"The face model {path} cannot be used: {error}.") from None
        mean = mean * unit
        corner_uv = array("triangle_uvs") if "triangle_uvs" in archive.names else None
        mirror = array("mirror_indices", np.int64) if "mirror_indices" in archive.names else None
        groups = _groups(archive, len(mean), path)
        names, deltas = _gaze(archive, mean, unit, path)
    moves = expression * np.float32(unit)
    if names:
        moves = np.concatenate([moves, from_blendshapes(names, deltas)])
    shape = identity * np.float32(unit)
    raw = RawModel(
        name=path.stem.replace("_", "-"),
        kind=NAME,
        mean=mean,
        faces=faces,
        shape=Modes(shape, np.ones(len(shape), np.float32)),
        expression=Modes(moves, np.ones(len(moves), np.float32)),
        corner_uv=corner_uv,
        mirror=mirror,
        landmarks=shipped_landmarks("gnm", len(mean)),
        parts=_parts(groups),
        blendshape_names=names,
        blendshape_deltas=deltas if names else None,
    )
    hidden, shell = groups.get(HIDDEN), groups.get(SHELL)
    if hidden is not None and shell is not None and (hidden & ~shell).any():
        return keep_vertices(raw, ~(hidden & ~shell))
    return raw


def _groups(archive: Npz, count: int, path: Path) -> dict[str, NDArray[np.bool_]]:
    if not {"vertex_groups", "vertex_group_names"} <= archive.names:
        return {}
    weights = numbers(archive.read("vertex_groups"), "vertex_groups", path)
    names = [str(name) for name in archive.read("vertex_group_names").ravel()]
    if weights.shape != (len(names), count):
        raise ModelError(
            f"The face model {path} cannot be used: vertex_groups has the shape {weights.shape}."
        )
    return {name: row > 0.5 for name, row in zip(names, weights, strict=True)}


def _parts(groups: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    parts = {}
    for part, names in GROUPS.items():
        found = [groups[name] for name in names if name in groups]
        if found:
            parts[part] = np.logical_or.reduce(found)
    return parts


def _gaze(
    archive: Npz, mean: NDArray[np.float64], unit: float, path: Path
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Turning eyeballs as named offsets (B, V, 3) mm, where the file has joints for them."""
    needed = {"joint_names", "template_joint_positions", "skinning_weights"}
    if not needed <= archive.names:
        return (), np.zeros((0, *mean.shape), np.float32)
    names = [str(name) for name in archive.read("joint_names").ravel()]
    joints = unit * numbers(archive.read("template_joint_positions"), "joints", path)
    weights = numbers(archive.read("skinning_weights"), "skinning_weights", path)
    if joints.shape != (len(names), 3) or weights.shape != (len(names), len(mean)):
        raise ModelError(f"The face model {path} cannot be used: its joints do not fit its mesh.")
    shapes = {}
    for joint, name in enumerate(names):
        if "eye" not in name.lower():
            continue
        side, outwards = ("_L", 1) if joints[joint, 0] > 0 else ("_R", -1)
        turns = {
            "Up": (-GAZE, 0),
            "Down": (GAZE, 0),
            "Out": (0, outwards * GAZE),
            "In": (0, -outwards * GAZE),
        }
        for direction, (x, y) in turns.items():
            shapes[f"eyeLook{direction}{side}"] = _turned(mean, joints[joint], weights[joint], x, y)
    keys = tuple(sorted(shapes))
    if not keys:
        return (), np.zeros((0, *mean.shape), np.float32)
    return keys, np.stack([shapes[key] for key in keys])


def _turned(
    mean: NDArray[np.float64], joint: NDArray[np.float64], weight: NDArray[np.float64], x: float, y: float
) -> NDArray[np.float32]:
    import torch

    rotation = small_rotation(torch.tensor([x, y, 0.0], dtype=torch.float64)).numpy()
    return (weight[:, None] * ((mean - joint) @ (rotation.T - np.eye(3)))).astype(np.float32)
