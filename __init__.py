"""NextGenFace as a Blender extension: photos of a face become a relightable head.

Blender imports this file and calls `register`; everything lives in nextgenface_addon. Nothing of Blender is
imported before that, so the folder is also just a folder to Python's other tools.
"""

from __future__ import annotations

__all__ = ("register", "unregister")


def register() -> None:
    """Register the add-on with Blender."""
    from . import nextgenface_addon

    nextgenface_addon.register()


def unregister() -> None:
    """Undo `register()`."""
    from . import nextgenface_addon

    nextgenface_addon.unregister()
