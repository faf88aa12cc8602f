"""Small pictures for the panels. Blender reads them in threads of its own; nothing here waits for a file."""

from __future__ import annotations

import time
from pathlib import Path

import bpy
import bpy.utils.previews

RETRY_SECONDS = 10.0

_collection: bpy.utils.previews.ImagePreviewCollection | None = None
_wanted: list[str] = []
_missing: dict[str, float] = {}  # pictures that were not there, and when they are looked for again
_live: dict[str, tuple[int, str]] = {}  # what the live preview shows: its number and its name


def register() -> None:
    global _collection
    _collection = bpy.utils.previews.new()


def unregister() -> None:
    global _collection
    if bpy.app.timers.is_registered(_load_wanted):
        bpy.app.timers.unregister(_load_wanted)
    if _collection is not None:
        bpy.utils.previews.remove(_collection)
    _collection = None
    _wanted.clear()
    _missing.clear()
    _live.clear()


def icon(path: str) -> int:
    """The icon of a picture, 0 while it is not there yet. For draw(): touches no file."""
    if _collection is None:
        return 0
    found = _collection.get(path)
    if found is not None:
        return found.icon_id
    if path and path not in _wanted and time.monotonic() >= _missing.get(path, 0.0):
        _wanted.append(path)
        if not bpy.app.timers.is_registered(_load_wanted):
            bpy.app.timers.register(_load_wanted, first_interval=0.01)
    return 0


def _load_wanted() -> float | None:
    """The timer behind `icon`: one picture a tick, so that a hundred photos do not hold up the window."""
    if _collection is None or not _wanted:
        return None
    path = _wanted.pop(0)
    if not _is_file(path):
        _missing[path] = time.monotonic() + RETRY_SECONDS
    elif path not in _collection:
        _collection.load(path, path, "IMAGE")
        redraw()
    return 0.01 if _wanted else None


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def show_live(key: str, path: Path | None, number: int) -> None:
    """Load the newest live preview of a job; called when the job has written one."""
    if _collection is None or path is None or _live.get(key, (0, ""))[0] == number:
        return
    if not _is_file(str(path)):
        return
    name = f"{path}#{number}"
    picture = _collection.load(name, str(path), "IMAGE")
    # Asking for the size loads it at once; left to Blender, the panel would flash its loading icon each time.
    _ = tuple(picture.image_size)
    _, before = _live.get(key, (0, ""))
    _live[key] = (number, name)
    if before in _collection:
        del _collection[before]


def live_icon(key: str) -> int:
    """The icon of a job's live preview, 0 when there is none. For draw()."""
    if _collection is None or key not in _live:
        return 0
    found = _collection.get(_live[key][1])
    return found.icon_id if found is not None else 0


def redraw() -> None:
    """Redraw the sidebars and the preferences."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                area.tag_redraw()


CLASSES = ()
