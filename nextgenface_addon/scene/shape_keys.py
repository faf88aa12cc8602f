"""Shape keys: Basis is the neutral face; each photo's expression is a key; ARKit's shapes are keys at zero.

A photo's expression is there twice, so that it can be animated: whole, as `Expression <photo>`, and as values
of the ARKit keys with `Residual <photo>` holding what they do not reach. Both ways give the same vertices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from .arkit import arkit_shapes, detector_weights, fitted_weights
from .axes import to_blender
from .results_folder import Geometry, PhotoResult

MADE_BY_US = "nextgenface_shape_keys"
EXPRESSIONS = "nextgenface_expressions"
AS_ARKIT = "nextgenface_expression_as_arkit"
_MAX_NAME_BYTES = 63  # before 5.0; longer names would be cut and not be found again


@dataclass(frozen=True)
class PhotoExpression:
    """One photo's expression on a head. `photo`: its index; `key`: the key that holds it whole.

    `weights`: values of the ARKit keys, to which `residual` (a key's name) adds the rest; empty where the
    model has no named shapes. `source`: "detector" for its scores, "fitted" for values solved from the mesh.
    """

    photo: int
    key: str
    residual: str
    source: str
    weights: Mapping[str, float]


def key_names(
    photos: Sequence[PhotoResult], blendshapes: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Names for photos' expressions, their residuals, blendshapes: unique, short enough for Blender."""
    shapes = [_shorten(name) for name in blendshapes]
    taken = {"Basis", *shapes}
    rows = []
    for kind in ("Expression", "Residual"):
        names = []
        for photo in photos:
            name, number = _shorten(f"{kind} {photo.name}"), 2
            while name in taken:
                name, number = _shorten(f"{kind} {photo.name}", f" {number}"), number + 1
            taken.add(name)
            names.append(name)
        rows.append(names)
    return rows[0], rows[1], shapes


def _shorten(name: str, suffix: str = "") -> str:
    room = _MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def build_shape_keys(head: bpy.types.Object, photos: Sequence[PhotoResult], geometry: Geometry) -> list[str]:
    """Create or update the shape keys of `head`; returns the names of the photos' expression keys.

    New expression keys start at 1 for the first photo and 0 for the others, all else at 0. Values and
    animation of keys that exist already are kept. Keys of photos that are gone are removed. Keys the artist
    made are moved along with the basis, so that they keep what they add to it.
    """
    shapes, deltas = arkit_shapes(geometry.blendshape_names, geometry.blendshape_deltas)
    expressions, residuals, blendshapes = key_names(photos, shapes)
    if not shapes:
        residuals = [""] * len(photos)
    wanted: dict[str, NDArray[np.float32]] = {}  # name -> offset (V, 3) mm
    described = []
    for photo, key, residual in zip(photos, expressions, residuals, strict=True):
        offset = geometry.expression_offsets[photo.expression_index]
        wanted[key] = offset
        source, weights = _weights(photo, offset, blendshapes, deltas)
        described.append(PhotoExpression(photo.index, key, residual, source, weights))
    for expression in described:
        if expression.residual:
            reached = np.tensordot([expression.weights.get(name, 0.0) for name in blendshapes], deltas, 1)
            wanted[expression.residual] = wanted[expression.key] - reached.astype(np.float32)
    wanted.update(zip(blendshapes, deltas, strict=True))
    neutral = to_blender(geometry.neutral)
    if head.data.shape_keys is None:
        head.shape_key_add(name="Basis", from_mix=False)
    keys = head.data.shape_keys
    keys.use_relative = True
    ours = set(str(head.data.get(MADE_BY_US, "")).split("\n")) - {""}
    for name in ours - set(wanted):
        if (stale := keys.key_blocks.get(name)) is not None:
            head.shape_key_remove(stale)
    _move_basis(keys, neutral, set(wanted))
    for name, offset in wanted.items():
        block = keys.key_blocks.get(name)
        if block is None:
            block = head.shape_key_add(name=name, from_mix=False)
            block.value = 1.0 if name == expressions[0] else 0.0
        block.data.foreach_set("co", (neutral + to_blender(offset)).ravel())
    head.data[MADE_BY_US] = "\n".join(wanted)
    head.data[EXPRESSIONS] = json.dumps([asdict(item) for item in described], ensure_ascii=False)
    head.data.update()
    return expressions


def _weights(
    photo: PhotoResult, offset: NDArray[np.float32], names: Sequence[str], deltas: NDArray[np.float32]
) -> tuple[str, dict[str, float]]:
    """What the ARKit values of a photo come from, and the values."""
    if not names:
        return "", {}
    scores = detector_weights(photo.blendshapes, names)
    return ("detector", scores) if scores else ("fitted", fitted_weights(offset, names, deltas))


def _move_basis(keys: bpy.types.Key, neutral: NDArray[np.float32], ours: set[str]) -> None:
    """Set the basis, and move the artist's own keys by as much."""
    basis = keys.reference_key
    before = np.empty(neutral.size, dtype=np.float32)
    basis.data.foreach_get("co", before)
    moved = neutral.ravel() - before
    if np.any(moved):
        coordinates = np.empty(neutral.size, dtype=np.float32)
        for block in keys.key_blocks:
            if block.name not in ours and block != basis:
                block.data.foreach_get("co", coordinates)
                block.data.foreach_set("co", coordinates + moved)
    basis.data.foreach_set("co", neutral.ravel())


def photo_expressions(head: bpy.types.Object) -> list[PhotoExpression]:
    """The photos' expressions on an imported head; empty for any other object."""
    if head.type != "MESH" or head.data.shape_keys is None:
        return []
    try:
        return [PhotoExpression(**item) for item in json.loads(str(head.data.get(EXPRESSIONS, "[]")))]
    except (TypeError, ValueError):  # a property that somebody has edited
        return []


def show_expression(head: bpy.types.Object, photo: int | None, *, as_arkit: bool | None = None) -> list[str]:
    """Give the head one photo's expression, or with None the neutral face; returns warnings.

    `as_arkit`: through the ARKit keys and the residual instead of the photo's own key; None: as last chosen.
    Only keys of the import are set; the artist's own keep their values.
    """
    if as_arkit is None:
        as_arkit = bool(head.data.get(AS_ARKIT, False))
    head.data[AS_ARKIT] = as_arkit
    values: dict[str, float] = {}
    for expression in photo_expressions(head):
        if expression.photo != photo:
            continue
        if as_arkit and expression.residual:
            values = {**expression.weights, expression.residual: 1.0}
        else:
            values = {expression.key: 1.0}
    keys = head.data.shape_keys
    if keys is None:
        return []
    for name in str(head.data.get(MADE_BY_US, "")).split("\n"):
        if (block := keys.key_blocks.get(name)) is not None:
            block.value = values.get(name, 0.0)
    animation = keys.animation_data
    if animation is not None and (animation.action is not None or len(animation.drivers)):
        return [f"{head.name}: its shape keys are animated, which sets them anew on the next frame."]
    return []
