"""The Blender side of NextGenFace: panels, operators, and the import of a results folder.

Importing this package does not import bpy, so `jobs`, `solver_python` and `scene.results_folder`
can be used and tested without Blender. The parts that need bpy are imported by `register()`.
"""

from __future__ import annotations

__all__ = ("register", "unregister")


def register() -> None:
    """Register all classes and scene properties with Blender."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Undo `register()`: timers, properties and classes are removed; a running solver is told to stop."""
    from . import registration

    registration.unregister()
