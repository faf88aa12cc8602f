"""ICT-FaceKit's light model: a folder of OBJ files with one mesh each.

generic_neutral_mesh.obj is the mean face, identityNNN.obj are faces one standard deviation away from it,
every other OBJ is a named expression at weight 1. Parts are told by the polygons' materials.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import ModelError
from ..derive.modes import Modes, from_blendshapes
from ..raw import RawModel, in_millimetres
from .arrays import shipped_landmarks
from .objfile import ObjMesh, read_obj, read_vertices
from .subset import keep_vertices

NAME = "ICT-FaceKit"
NEUTRAL = "generic_neutral_mesh.obj"
SUBFOLDER = "FaceXModel"
_IDENTITY = re.compile(r"identity(\d+)$", re.IGNORECASE)
# Material (without M_) -> part; what is transparent or lies behind the cornea is left out.
PARTS = {"scleraleft": "eyes", "scleraright": "eyes", "teeth": "teeth", "gumstongue": "gums"}
LEFT_OUT = ("eyeblend", "eyelashes", "eyeocclusion", "lacrimalfluid", "irisleft", "irisright")
# The same by vertex numbers for the published mesh: first and last vertex (README of ICT-FaceKit).
PUBLISHED = 26719
RANGES = {"mouth": ((11248, 13293),), "gums": ((14062, 17038),), "teeth": ((17039, 21450),),
          "eyes": ((21451, 22220), (23021, 23790))}  # fmt: skip
LEFT_OUT_RANGES = ((22221, 23020), (23791, 24590), (24591, 26718))


def find(place: Path) -> list[Path] | None:
    """The OBJ files of a FaceKit folder (or of its FaceXModel folder), the neutral one first."""
    folders = (
        [place, place / SUBFOLDER] if place.is_dir() else [place.parent] if place.name == NEUTRAL else []
    )
    for folder in folders:
        if (folder / NEUTRAL).is_file():
            return [folder / NEUTRAL, *sorted(p for p in folder.glob("*.obj") if p.name != NEUTRAL)]
    return None


def read(files: list[Path]) -> RawModel:
    """Read the folder. Raises ModelError that names the OBJ file that does not fit."""
    neutral = read_obj(files[0])
    try:
        unit = in_millimetres(neutral.vertices)
    except ValueError as error:
        raise ModelError(f"The face model {files[0]} cannot be used: {error}.") from None
    identities: dict[int, np.ndarray] = {}
    expressions: dict[str, np.ndarray] = {}
    for path in files[1:]:
        vertices = read_vertices(path)
        if vertices.shape != neutral.vertices.shape:
            raise ModelError(
                f"{path} has {len(vertices)} vertices, {NEUTRAL} has {len(neutral.vertices)}: the folder "
                f"mixes "
                "different meshes. Get it again."
            )
        delta = (unit * (vertices - neutral.vertices)).astype(np.float32)
        numbered = _IDENTITY.match(path.stem)
        if numbered:
            identities[int(numbered[1])] = delta
        elif np.abs(delta).max() > 1e-4:
            expressions[path.stem] = delta
    if not identities or not expressions:
        missing = "identityNNN.obj" if not identities else "expressions such as jawOpen.obj"
        raise ModelError(
            f"The folder {files[0].parent} holds no {missing}; ICT-FaceKit's FaceXModel has them."
        )
    shape = np.stack([identities[k] for k in sorted(identities)])
    names = tuple(sorted(expressions))
    deltas = np.stack([expressions[name] for name in names])
    moves = from_blendshapes(names, deltas)
    parts, left_out = _parts(neutral)
    raw = RawModel(
        name="ict-facekit",
        kind=NAME,
        mean=unit * neutral.vertices,
        faces=neutral.faces,
        shape=Modes(shape, np.ones(len(shape), np.float32)),
        expression=Modes(moves, np.ones(len(moves), np.float32)),
        corner_uv=neutral.corner_uv,
        landmarks=shipped_landmarks("ict", len(neutral.vertices)),
        parts=parts,
        blendshape_names=names,
        blendshape_deltas=deltas,
    )
    return keep_vertices(raw, ~left_out) if left_out.any() else raw


def _parts(mesh: ObjMesh) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parts (V,) by name, and the vertices (V,) that are left out."""
    count = len(mesh.vertices)
    parts: dict[str, np.ndarray] = {}
    left_out = np.zeros(count, bool)

    def between(ranges: tuple[tuple[int, int], ...]) -> np.ndarray:
        inside = np.zeros(count, bool)
        for first, last in ranges:
            inside[first : last + 1] = True
        return inside

    if count == PUBLISHED:
        return {name: between(ranges) for name, ranges in RANGES.items()}, between(LEFT_OUT_RANGES)
    for number, name in enumerate(mesh.materials):
        plain = name.removeprefix("M_").lower()
        vertices = np.unique(mesh.faces[mesh.material == number])
        if plain in PARTS:
            parts.setdefault(PARTS[plain], np.zeros(count, bool))[vertices] = True
        elif plain in LEFT_OUT:
            left_out[vertices] = True
    return parts, left_out
