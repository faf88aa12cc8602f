"""A face model as its file has it becomes one the solver can use: what is missing is derived, once.

Every format goes this way. Landmarks come from the file's tables or from pictures of the mean face; with them
the built-in face is laid over the mean face, and regions, skin colour and gloss are carried over where the
file has none of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .derive.carry import carry_over, find_eyeballs
from .derive.landmarks import anchor, detect, from_tables, misfit
from .derive.layout import pack, unwrap
from .derive.meshes import closest_points, mean_edge, midpoint_step, pieces, split_seams
from .derive.mirror import mirror_gap, mirror_table
from .derive.modes import Modes, orthonormal
from .derive.registration import Anchor, register, surface_faces
from .model import FaceModel
from .raw import RawModel

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Floats = NDArray[np.float32]

VERSION = 1  # raise it when the same file leads to another model: completed models are then made anew
COARSE = 3.2  # mm of mean side in the face above which triangles are split in four
MIRROR_GAP = 6.0  # mm, median, beyond which a file's mirror table is none
LANDMARK_REACH = 6.0  # mm from the surface beyond which the model has no such landmark
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (263, 362, 386, 374)


def complete(raw: RawModel, builtin: FaceModel) -> FaceModel:
    """The whole model of a file. Raises ModelError when no face can be found in it."""
    raw, anchors = find_anchors(raw, builtin)
    parts = dict(raw.parts)
    laid = register(builtin, anchors, raw.mean, _skin(raw.faces, parts, raw.count))
    if "eyes" not in parts:
        table = builtin.landmarks["mediapipe"]
        middles = (laid[table[list(side)]].mean(0) for side in (RIGHT_EYE, LEFT_EYE))
        eyes = find_eyeballs(raw.mean, raw.faces, *middles)
        if eyes.any():
            parts["eyes"] = eyes
            laid = register(builtin, anchors, raw.mean, _skin(raw.faces, parts, raw.count))
    raw = replace(raw, parts=parts)
    raw = _lay_out(raw, builtin, laid)
    raw = _refine(raw, laid, builtin)
    carried = carry_over(builtin, laid, raw.mean, raw.faces, raw.parts)
    assert raw.uv is not None
    mirror = raw.mirror
    if mirror is None or mirror_gap(raw.mean, mirror) > MIRROR_GAP:
        mirror = mirror_table(raw.mean, raw.faces, raw.uv)
    native: dict[str, Floats] = {}
    bases: dict[str, Modes] = {}
    diffuse = raw.diffuse
    if diffuse is None:
        diffuse = Modes(carried.diffuse, np.ones(len(carried.diffuse), np.float32))
    for name, modes in (("shape", raw.shape), ("expression", raw.expression), ("diffuse", diffuse)):
        bases[name], turn = orthonormal(modes)
        if turn is not None and not (name == "diffuse" and raw.diffuse is None):
            native[name] = turn
    if raw.specular is None:
        specular = np.zeros_like(bases["diffuse"].vectors)
    elif "diffuse" in native:
        # The modes that drive gloss turn with those of colour: level = S c, and c = pinv(T) c'.
        back = np.linalg.pinv(native["diffuse"].astype(np.float64))
        specular = np.einsum("kn,kvd->nvd", back, raw.specular).astype(np.float32)
    else:
        specular = raw.specular
    if raw.diffuse_mean is not None:
        carried_mean = np.clip(raw.diffuse_mean, 0, 1)
    else:
        carried_mean = carried.diffuse_mean
    if raw.specular_mean is not None:
        level = np.clip(raw.specular_mean, 0, 1)
    else:
        level = np.repeat(carried.level[:, None], 3, axis=1)
    return FaceModel(
        name=raw.name,
        hash=raw_hash(raw, builtin),
        shape_mean=_single(raw.mean),
        shape_basis=bases["shape"].vectors,
        shape_variance=bases["shape"].variance,
        expression_mean=_single(
            np.zeros_like(raw.mean) if raw.expression_mean is None else raw.expression_mean
        ),
        expression_basis=bases["expression"].vectors,
        expression_variance=bases["expression"].variance,
        diffuse_mean=_single(carried_mean),
        diffuse_basis=bases["diffuse"].vectors,
        diffuse_variance=bases["diffuse"].variance,
        specular_mean=_single(level),
        specular_basis=specular,
        roughness_mean=_single(carried.roughness if raw.roughness is None else raw.roughness),
        faces=raw.faces,
        uv=_single(np.clip(raw.uv, 0, 1)),
        mirror=mirror,
        landmarks=_landmark_tables(raw, builtin, laid),
        regions=carried.regions | raw.regions,
        blendshape_names=raw.blendshape_names,
        blendshape_deltas=raw.blendshape_deltas,
        native=native,
        notes=raw.notes,
    )


def find_anchors(raw: RawModel, builtin: FaceModel) -> tuple[RawModel, Anchor]:
    """Landmarks that lay the built-in face over this one: the file's tables, or found in pictures of it.

    Returns the model without tables that cannot be those of its face, and with a note of that.
    """
    found = from_tables(raw.landmarks, raw.mean)
    if found:
        anchors = anchor(found, builtin)
        problem = misfit(anchors, builtin)
        if not problem:
            return raw, anchors
        note = f"Its landmark table does not fit its mean face ({problem}); landmarks were found instead."
        raw = replace(raw, landmarks={}, notes=(*raw.notes, note))
    neutral = raw.mean if raw.expression_mean is None else raw.mean + raw.expression_mean
    return raw, anchor([detect(neutral, raw.faces, raw.diffuse_mean)], builtin)


def raw_hash(raw: RawModel, builtin: FaceModel) -> str:
    """SHA-256 (32 hex digits) of what coefficients and maps of this model mean."""
    digest = hashlib.sha256(f"completed {VERSION}".encode())
    arrays: list[NDArray | None] = [raw.mean, raw.expression_mean, raw.faces, raw.uv, raw.diffuse_mean]
    for modes in (raw.shape, raw.expression, raw.diffuse):
        arrays += [] if modes is None else [modes.vectors, modes.variance]
    for array in arrays:
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    if raw.diffuse is None:
        digest.update(builtin.hash.encode())
    return digest.hexdigest()[:32]


def _skin(faces: Index, parts: dict[str, NDArray[np.bool_]], count: int) -> Index:
    """Triangles that belong to no part."""
    inner = np.zeros(count, bool)
    for inside in parts.values():
        inner |= inside
    return faces[~inner[faces].any(1)]


def _single(values: NDArray) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float32)


def _lay_out(raw: RawModel, builtin: FaceModel, laid: Array) -> RawModel:
    """The model with one texture coordinate per vertex, inside the unit square and without overlaps."""
    corner_uv = raw.corner_uv
    if corner_uv is None and raw.uv is not None:
        corner_uv = raw.uv[raw.faces]
    if corner_uv is None:
        _, _, distance = closest_points(raw.mean, laid, surface_faces(builtin))
        corner_uv = unwrap(raw.mean, raw.faces, np.clip((14 - distance) / 10, 0, 1))
    else:
        group = np.zeros(len(raw.faces), np.int64)
        for number, inside in enumerate(raw.parts.values(), start=1):
            group[inside[raw.faces].any(1)] = number
        if "eyes" in raw.parts:
            eyes = np.nonzero(group == 1 + list(raw.parts).index("eyes"))[0]
            label = pieces(raw.faces[eyes], raw.count)[raw.faces[eyes, 0]]
            group[eyes] = group.max() + 1 + np.unique(label, return_inverse=True)[1]
        corner_uv = pack(corner_uv, group)
    if raw.uv is not None and np.array_equal(corner_uv, raw.uv[raw.faces]):
        return raw
    source, faces, uv = split_seams(raw.faces, corner_uv, raw.count)
    copies = sp.csr_matrix((np.ones(len(source)), (np.arange(len(source)), source)), (len(source), raw.count))
    mirror = raw.mirror if len(source) == raw.count else None  # copies at seams have no entry in it
    return replace(_mapped(raw, copies, faces), uv=uv, corner_uv=None, mirror=mirror)


def _refine(raw: RawModel, laid: Array, builtin: FaceModel) -> RawModel:
    """The model with triangles small enough for landmarks and skin colour, which live at vertices."""
    _, _, distance = closest_points(raw.mean, laid, surface_faces(builtin))
    face = raw.faces[distance[raw.faces].max(1) < 4.0]
    if not len(face) or mean_edge(raw.mean, face) < COARSE:
        return raw
    matrix, faces = midpoint_step(raw.faces, raw.count)
    return replace(_mapped(raw, matrix, faces), mirror=None)


def _mapped(raw: RawModel, matrix: sp.csr_matrix, faces: Index) -> RawModel:
    """Every value per vertex through a matrix (V', V) that keeps the first V vertices."""

    def rows(values: NDArray | None) -> NDArray | None:
        if values is None:
            return None
        flat = values.reshape(len(values), -1)
        return np.asarray(matrix.astype(values.dtype) @ flat).reshape(matrix.shape[0], *values.shape[1:])

    def stacked(values: NDArray) -> NDArray:
        count, _, size = values.shape
        flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], count * size)
        moved = np.asarray(matrix.astype(values.dtype) @ flat).reshape(matrix.shape[0], count, size)
        return np.ascontiguousarray(np.moveaxis(moved, 0, 1))

    def modes(value: Modes) -> Modes:
        return Modes(stacked(value.vectors), value.variance)

    mean = rows(raw.mean)
    assert mean is not None
    parts = {name: np.asarray(matrix @ inside.astype(np.float64)) > 0.5 for name, inside in raw.parts.items()}
    regions = {name: np.asarray(matrix @ weights, np.float32) for name, weights in raw.regions.items()}
    return replace(
        raw,
        mean=mean,
        faces=faces,
        shape=modes(raw.shape),
        expression=modes(raw.expression),
        expression_mean=rows(raw.expression_mean),
        diffuse_mean=rows(raw.diffuse_mean),
        diffuse=None if raw.diffuse is None else modes(raw.diffuse),
        specular_mean=rows(raw.specular_mean),
        specular=None if raw.specular is None else stacked(raw.specular),
        roughness=rows(raw.roughness),
        uv=rows(raw.uv),
        parts=parts,
        regions=regions,
        blendshape_deltas=None if raw.blendshape_deltas is None else stacked(raw.blendshape_deltas),
    )


def _landmark_tables(raw: RawModel, builtin: FaceModel, laid: Array) -> dict[str, Index]:
    """Both schemes: the file's own entries, all others from the built-in face that was laid over."""
    skin = _skin(raw.faces, raw.parts, raw.count)
    face, weights, distance = closest_points(laid, raw.mean, skin)
    corner = skin[face, weights.argmax(1)]
    tables = {}
    for scheme in ("mediapipe", "ibug68"):
        vertices = builtin.landmarks[scheme]
        table = np.where(distance[vertices] < LANDMARK_REACH, corner[vertices], -1)
        own = raw.landmarks.get(scheme)
        if own is not None:
            size = min(len(own), len(table))
            table[:size] = np.where(own[:size] >= 0, own[:size], table[:size])
        tables[scheme] = np.asarray(table, np.int64)
    return tables
