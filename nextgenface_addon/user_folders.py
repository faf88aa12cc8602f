"""Where the add-on may write: one folder of the user's, never the extension's own.

Installed as an extension that is Blender's folder for this extension (extensions/.user/…); registered from a
clone, or used without Blender, it is the solver's user data folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The add-on is this package's parent when it is installed as an extension, this package itself otherwise.
ADDON = __package__.removesuffix(".nextgenface_addon")

HOME_VARIABLE = "NEXTGENFACE_HOME"


def installed_as_extension() -> bool:
    """Whether Blender's extension manager has installed this copy."""
    return ADDON.startswith("bl_ext.")


def user_folder() -> Path:
    """The add-on's folder, made when it is missing. Raises OSError when it cannot be."""
    if installed_as_extension():
        import bpy

        return Path(bpy.utils.extension_path_user(ADDON, create=True))
    folder = solver_home()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def solver_home() -> Path:
    """The solver's data folder (models, caches): NEXTGENFACE_HOME, else inside the extension's user folder,
    else the platform's place, as `nextgenface.paths.user_data_dir` has it.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if installed_as_extension():
        return user_folder() / "data"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "NextGenFace"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "NextGenFace"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "nextgenface"
