"""Showing a head with smaller copies of its maps, for a light viewport, and going back to the full ones."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from .material import MAP_NODES
from .owned import PROPERTY

MAP_SIZE = "nextgenface_map_size"
_COPY_MARK = "@"  # role/diffuse@256 is the copy of role/diffuse


def skin_of(head: bpy.types.Object) -> bpy.types.Material | None:
    """The imported material among a head's, or None when the artist has taken it off."""
    for material in head.data.materials:
        if material is not None and PROPERTY in material and material.node_tree is not None:
            return material
    return None


def full_size(material: bpy.types.Material) -> int:
    """The longer side of the maps as they were imported, in pixels; 0 when there are none."""
    sizes = [max(image.size) for image in map(_full_image, _nodes(material)) if image is not None]
    return max(sizes, default=0)


def set_map_size(material: bpy.types.Material, size: int) -> int:
    """Show the maps with at most `size` pixels a side, 0 for all of them; returns the size that is shown.

    Copies are averaged down by whole factors, colours in linear light, and packed; the imported images stay
    as they are. Exports and bakes use what is shown.
    """
    shown = 0
    for node in _nodes(material):
        full = _full_image(node)
        if full is None:
            continue
        factor = 1
        while size and max(full.size) // factor > size and min(full.size) // factor > 1:
            factor *= 2
        before = node.image
        node.image = full if factor == 1 else _smaller(full, factor)
        # The photo's own map has to stay with the file while only its copy is in use.
        full.use_fake_user = factor != 1
        shown = max(shown, max(node.image.size))
        if before not in (full, node.image) and _is_copy(before) and before.users == 0:
            bpy.data.images.remove(before)
    material[MAP_SIZE] = size
    return shown


def _nodes(material: bpy.types.Material) -> list[bpy.types.Node]:
    found = [material.node_tree.nodes.get(name) for name in MAP_NODES]
    return [node for node in found if node is not None and node.image is not None]


def _is_copy(image: bpy.types.Image) -> bool:
    return _COPY_MARK in str(image.get(PROPERTY, "")).rpartition("/")[2]


def _full_image(node: bpy.types.Node) -> bpy.types.Image | None:
    """The imported image of a map's node, which may be showing a copy of it; None for an artist's own."""
    image = node.image
    if image is None or PROPERTY not in image:
        return None
    if not _is_copy(image):
        return image
    folder, _, role = str(image[PROPERTY]).rpartition("/")
    key = f"{folder}/{role.partition(_COPY_MARK)[0]}"
    return next((other for other in bpy.data.images if other.get(PROPERTY) == key), None)


def _smaller(full: bpy.types.Image, factor: int) -> bpy.types.Image:
    """A copy of an image with its sides divided by a power of two, made anew each time."""
    width, height = (side // factor for side in full.size)
    key = f"{full[PROPERTY]}{_COPY_MARK}{max(width, height)}"
    copy = next((image for image in bpy.data.images if image.get(PROPERTY) == key), None)
    if copy is None or tuple(copy.size) != (width, height):
        if copy is not None:
            bpy.data.images.remove(copy)
        name = f"{full.name} {max(width, height)}"
        copy = bpy.data.images.new(name, width, height, alpha=False, float_buffer=full.is_float)
        copy[PROPERTY] = key
    copy.colorspace_settings.name = full.colorspace_settings.name
    copy.alpha_mode = full.alpha_mode
    pixels = np.empty(full.size[0] * full.size[1] * full.channels, dtype=np.float32)
    full.pixels.foreach_get(pixels)
    rows = pixels.reshape(full.size[1], full.size[0], full.channels)
    coded = full.colorspace_settings.name == "sRGB"
    small = _averaged(_decoded(rows) if coded else rows, factor)
    rgba = np.ones((height, width, 4), np.float32)
    values = _encoded(small) if coded else small
    rgba[..., : full.channels] = values if full.channels >= 3 else values[..., :1]
    if full.channels < 3:
        rgba[..., :3] = values[..., :1]
    copy.pixels.foreach_set(rgba.ravel())
    copy.update()
    copy.pack()
    return copy


def _averaged(rows: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = (side // factor for side in rows.shape[:2])
    whole = rows[: height * factor, : width * factor]
    return whole.reshape(height, factor, width, factor, -1).mean(axis=(1, 3), dtype=np.float32)


def _decoded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def _encoded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    high = 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(x <= 0.0031308, x * 12.92, high).astype(np.float32)
