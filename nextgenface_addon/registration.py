"""What is registered, in which order. Imported only inside `register()` because it needs bpy.

A module brings `CLASSES` and, where it needs more, `register()` and `unregister()`, called after its classes
are there and before they go. A new file of operators or panels is one line in MODULES.
"""

from __future__ import annotations

from types import ModuleType

import bpy

from . import cli, driver, preferences, properties, session, tasks, thumbnails, translations
from .operators import animation as animation_operators
from .operators import (
    environment,
    faces,
    import_result,
    jobs,
    models,
    photo_view,
    photos,
    presets,
    relight,
    run,
    scene_views,
)
from .panels import animation, main, results, settings
from .panels import jobs as jobs_panel

MODULES: tuple[ModuleType, ...] = (
    translations,
    properties,
    preferences,
    thumbnails,
    tasks,
    photos,
    faces,
    presets,
    run,
    jobs,
    environment,
    models,
    import_result,
    photo_view,
    relight,
    scene_views,
    animation_operators,
    main,
    settings,
    jobs_panel,
    results,
    animation,
    driver,
    cli,
)

CLASSES: tuple[type, ...] = tuple(cls for module in MODULES for cls in module.CLASSES)


def register() -> None:
    for module in MODULES:
        for cls in module.CLASSES:
            bpy.utils.register_class(cls)
        if hasattr(module, "register"):
            module.register()


def unregister() -> None:
    session.shut_down()
    for module in reversed(MODULES):
        if hasattr(module, "unregister"):
            module.unregister()
        for cls in reversed(module.CLASSES):
            bpy.utils.unregister_class(cls)
