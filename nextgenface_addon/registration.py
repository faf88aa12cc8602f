"""What is registered, in which order. Imported only inside `register()` because it needs bpy."""

from __future__ import annotations

import bpy

from . import panels, preferences, properties, session
from .operators import import_result, photos, run

CLASSES: tuple[type, ...] = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *photos.CLASSES,
    *run.CLASSES,
    *import_result.CLASSES,
    *panels.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.nextgenface = bpy.props.PointerProperty(type=properties.NextGenFaceSettings)


def unregister() -> None:
    run.stop_timer()
    session.shut_down()
    del bpy.types.Scene.nextgenface
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
