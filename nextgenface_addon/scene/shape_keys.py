"""Shape keys: Basis is the neutral face, one key per photo's expression, one per named blendshape."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from .axes import to_blender
from .results_folder import Geometry, PhotoResult

MADE_BY_US = "nextgenface_shape_keys"
_MAX_NAME_BYTES = 63  # before 5.0; longer names would be cut and not be found again


def key_names(photos: Sequence[PhotoResult], geometry: Geometry) -> tuple[list[str], list[str]]:
    """Names for the photos' expressions and for the blendshapes: unique and short enough for Blender."""
    taken = {"Basis", *geometry.blendshape_names}
    expressions = []
    for photo in photos:
        name, number = _shorten(f"Expression {photo.name}"), 2
        while name in taken:
            name, number = _shorten(f"Expression {photo.name}", f" {number}"), number + 1
        taken.add(name)
        expressions.append(name)
    return expressions, [_shorten(name) for name in geometry.blendshape_names]


def _shorten(name: str, suffix: str = "") -> str:
    room = _MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


def build_shape_keys(head: bpy.types.Object, photos: Sequence[PhotoResult], geometry: Geometry) -> list[str]:
    """Create or update the shape keys of `head`; returns the names of the photos' expression keys.

    New expression keys start at 1 for the first photo and 0 for the others, blendshapes at 0. Values and
    animation of keys that exist already are kept. Keys of photos that are gone are removed. Keys the artist
    made are moved along with the basis, so that they keep what they add to it.
    """
    expressions, blendshapes = key_names(photos, geometry)
    neutral = to_blender(geometry.neutral)
    if head.data.shape_keys is None:
        head.shape_key_add(name="Basis", from_mix=False)
    keys = head.data.shape_keys
    keys.use_relative = True
    ours = set(str(head.data.get(MADE_BY_US, "")).split("\n")) - {""}
    wanted = {*expressions, *blendshapes}
    for name in ours - wanted:
        if (stale := keys.key_blocks.get(name)) is not None:
            head.shape_key_remove(stale)

    basis = keys.reference_key
    before = np.empty(neutral.size, dtype=np.float32)
    basis.data.foreach_get("co", before)
    moved = neutral.ravel() - before
    if np.any(moved):
        for block in keys.key_blocks:
            if block.name not in wanted and block != basis:
                coordinates = np.empty(neutral.size, dtype=np.float32)
                block.data.foreach_get("co", coordinates)
                block.data.foreach_set("co", coordinates + moved)
    basis.data.foreach_set("co", neutral.ravel())

    offsets = [geometry.expression_offsets[photo.expression_index] for photo in photos]
    for name, offset in zip(
        [*expressions, *blendshapes], [*offsets, *geometry.blendshape_deltas], strict=True
    ):
        block = keys.key_blocks.get(name)
        if block is None:
            block = head.shape_key_add(name=name, from_mix=False)
            block.value = 1.0 if name == expressions[0] else 0.0
        block.data.foreach_set("co", (neutral + to_blender(offset)).ravel())
    head.data[MADE_BY_US] = "\n".join([*expressions, *blendshapes])
    head.data.update()
    return expressions
