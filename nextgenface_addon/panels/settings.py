"""The solver's options: those that matter first open, the others in closed sub-panels."""

from __future__ import annotations

import bpy

from ..option_types import Group
from ..options import GROUPS
from ..properties import chosen_method
from .base import SidebarPanel


class NEXTGENFACE_PT_settings(SidebarPanel, bpy.types.Panel):
    """Options of the chosen method."""

    bl_idname = "NEXTGENFACE_PT_settings"
    bl_label = "Settings"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 10

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.nextgenface
        method = chosen_method(settings)
        if method.input == "photos":
            layout.prop(settings, "config")
        wanted = method.option_groups
        for group in GROUPS:
            if group.name in wanted:
                draw_group(layout, group, settings.options)


def draw_group(layout: bpy.types.UILayout, group: Group, options: bpy.types.PropertyGroup) -> None:
    """One group of options."""
    body = layout.column()
    if group.closed:
        header, body = layout.panel(f"nextgenface_options_{group.name}", default_closed=True)
        header.label(text=group.label)
    if body is not None:
        for option in group.options:
            body.prop(options, option.key)


CLASSES = (NEXTGENFACE_PT_settings,)
