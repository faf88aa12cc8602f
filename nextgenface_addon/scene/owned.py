"""Finds the datablocks of an earlier import, so that importing again updates them instead of adding copies.

Every datablock we make carries a custom property with the results folder and the datablock's role in it.
Names are not used for that: artists rename things, and Blender adds .001 when a name is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PROPERTY = "nextgenface_id"
FOLDER_PROPERTY = "nextgenface_folder"


class Owner:
    """One results folder's datablocks."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder.resolve().as_posix()
        self.updated = False

    def key(self, role: str) -> str:
        return f"{self.prefix}|{role}"

    def find(self, collection: Any, role: str) -> Any | None:
        """The datablock with this role in `bpy.data.<collection>`, or None. Linked libraries are not ours
        to change.
        """
        key = self.key(role)
        for block in collection:
            if block.library is None and block.get(PROPERTY) == key:
                return block
        return None

    def tag(self, block: Any, role: str) -> Any:
        block[PROPERTY] = self.key(role)
        return block

    def owns(self, block: Any | None) -> bool:
        """Whether a datablock was made by an import of this folder."""
        return block is not None and str(block.get(PROPERTY, "")).startswith(self.prefix + "|")
