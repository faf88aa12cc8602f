"""The photos of the scene: camera, light and expression of each, found by what an import wrote on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bpy

from . import takeover
from .owned import PROPERTY
from .shape_keys import show_expression

PHOTO_NAME = "nextgenface_photo"
IDENTITY = "nextgenface_identity"
_SAME_PLACE = 1e-3  # metres between heads that stand in each other


@dataclass(frozen=True)
class PhotoView:
    """One photo's camera; `index` is the photo's number in its result."""

    camera: bpy.types.Object
    index: int
    name: str


def photo_view(item: bpy.types.Object | None) -> PhotoView | None:
    """The photo that an object is the camera of, or None."""
    if item is None or item.type != "CAMERA":
        return None
    _, _, role = str(item.get(PROPERTY, "")).rpartition("|")
    kind, _, number = role.partition(" ")
    if kind != "photo" or not number.isdecimal():
        return None
    return PhotoView(item, int(number), str(item.data.get(PHOTO_NAME, item.name)))


def photo_views(scene: bpy.types.Scene) -> list[PhotoView]:
    """All photos of a scene: result by result, in the photos' order."""
    found = [view for view in map(photo_view, scene.objects) if view is not None]
    return sorted(found, key=lambda view: (_prefix(view.camera), view.index))


def is_head(item: bpy.types.Object | None) -> bool:
    """Whether an object is the head of an import."""
    return item is not None and item.type == "MESH" and "|identity " in str(item.get(PROPERTY, ""))


def head_of(view: PhotoView) -> bpy.types.Object | None:
    """The head that a photo shows: its camera's parent, else the one of the same result."""
    if is_head(view.camera.parent):
        return view.camera.parent
    role = f"identity {view.camera.data.get(IDENTITY, 0)}"
    return _tagged(bpy.data.objects, f"{_prefix(view.camera)}|{role}")


def world_of(view: PhotoView) -> bpy.types.World | None:
    """The light of a photo."""
    return _tagged(bpy.data.worlds, str(view.camera[PROPERTY]))


def active_head(context: bpy.types.Context) -> bpy.types.Object | None:
    """The head that a panel or operator means: the active object's, the active camera's, else the first."""
    for item in (context.active_object, context.scene.camera):
        if is_head(item):
            return item
        if (view := photo_view(item)) is not None and (head := head_of(view)) is not None:
            return head
        if item is not None and is_head(item.parent):
            return item.parent
    return next((item for item in context.scene.objects if is_head(item)), None)


def views_of(head: bpy.types.Object, scene: bpy.types.Scene) -> list[PhotoView]:
    """The photos of one head."""
    return [view for view in photo_views(scene) if head_of(view) == head]


def look_through(scene: bpy.types.Scene, view: PhotoView) -> list[str]:
    """Switch camera, picture size, light and expression to a photo's; returns warnings.

    Other imported heads that stand in the same place are hidden, as everyone stands at the origin at first.
    Views of a method without light and expression have a camera only.
    """
    warnings: list[str] = []
    takeover.look_through(scene, view.camera)
    if IDENTITY not in view.camera.data:
        return warnings
    world = world_of(view)
    if world is not None:
        scene.world = world
    else:
        warnings.append(f"The light of {view.name} is no longer in this file; import the result again.")
    head = head_of(view)
    if head is None:
        return [*warnings, f"The head of {view.name} is no longer in this file; import the result again."]
    for other in scene.objects:
        if is_head(other) and other != head and _same_place(other, head):
            other.hide_viewport = other.hide_render = True
    head.hide_viewport = head.hide_render = False
    for layer in scene.view_layers:
        if head.name in layer.objects:
            head.hide_set(False, view_layer=layer)
    _show_collections(scene, head)
    return [*warnings, *show_expression(head, view.index)]


def _show_collections(scene: bpy.types.Scene, head: bpy.types.Object) -> None:
    for collection in scene.collection.children_recursive:
        if head.name in collection.all_objects:
            collection.hide_viewport = collection.hide_render = False


def _same_place(a: bpy.types.Object, b: bpy.types.Object) -> bool:
    return (a.matrix_world.translation - b.matrix_world.translation).length < _SAME_PLACE


def _prefix(item: Any) -> str:
    return str(item.get(PROPERTY, "")).rpartition("|")[0]


def _tagged(blocks: Iterable[Any], key: str) -> Any | None:
    return next((block for block in blocks if block.get(PROPERTY) == key), None)
