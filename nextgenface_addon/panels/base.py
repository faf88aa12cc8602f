"""What the panels of the sidebar share."""

from __future__ import annotations

import textwrap

import bpy

LINE = 46
"""Characters to a line of running text; the sidebar is narrow and its width is not told."""


class SidebarPanel:
    """Puts a panel into the 3D View's sidebar, tab NextGenFace. `bl_order` sorts: photos and run 0, settings
    10, jobs 15, result 20, animation 30.
    """

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "NextGenFace"


def paragraphs(
    layout: bpy.types.UILayout, text: str, *, icon: str = "NONE", most: int = 4, width: int = LINE
) -> None:
    """Running text, wrapped, of which at most so many lines are shown."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""]]
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(lines[:most]):
        more = "…" if number == most - 1 and len(lines) > most else ""
        column.label(text=line + more, icon=icon if number == 0 else "BLANK1", translate=False)
