"""What to do with a result."""

from __future__ import annotations

import bpy

from .base import SidebarPanel


class NEXTGENFACE_PT_import(SidebarPanel, bpy.types.Panel):
    """What to do with a result."""

    bl_idname = "NEXTGENFACE_PT_import"
    bl_label = "Result"
    bl_order = 20

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.nextgenface
        layout.prop(settings, "pack")
        layout.prop(settings, "takeover")
        layout.prop(settings, "show_world")
        row = layout.row(align=True)
        row.operator("nextgenface.import_result", icon="IMPORT")
        row.operator("nextgenface.open_folder", icon="FILE_FOLDER")
        layout.operator("nextgenface.look_through", icon="CAMERA_DATA")


CLASSES = (NEXTGENFACE_PT_import,)
