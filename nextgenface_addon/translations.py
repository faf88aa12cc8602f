"""The interface in other languages: assets/translations/<locale>.json, English text -> translation.

Everything that the panels, operators and properties say goes through Blender's translation: labels and
tooltips by themselves, composed texts through `pgettext_iface` and `pgettext_rpt`. To add a language, copy
de.json, name it as Blender names the locale (fr, ja_JP, …) and translate the values.
"""

from __future__ import annotations

import json
import logging

import bpy

from .solver_python import package_root

CONTEXTS = ("*", "Operator")
"""Blender looks up operators' names in a context of their own."""

log = logging.getLogger(__name__)

Catalogue = dict[str, dict[tuple[str, str], str]]


def read_catalogues() -> Catalogue:
    """All translations that come with the add-on, as Blender wants them. A damaged file is left out."""
    found: Catalogue = {}
    for path in sorted((package_root() / "assets" / "translations").glob("*.json")):
        try:
            texts = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = {
                (context, str(text)): str(translation)
                for text, translation in texts.items()
                for context in CONTEXTS
            }
        except (OSError, ValueError, AttributeError) as problem:
            log.warning("%s is not used: %s", path, problem)
    return found


CLASSES = ()


def register() -> None:
    bpy.app.translations.register(__name__, read_catalogues())


def unregister() -> None:
    bpy.app.translations.unregister(__name__)
