"""Photos in, head out."""

from __future__ import annotations

import bpy

from .. import session
from .base import SidebarPanel


class NEXTGENFACE_UL_photos(bpy.types.UIList):
    """Photos by file name."""

    bl_idname = "NEXTGENFACE_UL_photos"

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: bpy.types.AnyType,
        item: bpy.types.AnyType,
        icon: int,
        active_data: bpy.types.AnyType,
        active_property: str,
        index: int = 0,
        flt_flag: int = 0,
    ) -> None:
        layout.label(text=bpy.path.basename(item.path), icon="IMAGE_DATA", translate=False)


class NEXTGENFACE_PT_main(SidebarPanel, bpy.types.Panel):
    """Photos in, head out."""

    bl_idname = "NEXTGENFACE_PT_main"
    bl_label = "NextGenFace"
    bl_order = 0

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.nextgenface
        row = layout.row()
        row.template_list("NEXTGENFACE_UL_photos", "", settings, "photos", settings, "active_photo", rows=3)
        column = row.column(align=True)
        column.operator("nextgenface.add_photos", text="", icon="ADD")
        column.operator("nextgenface.remove_photo", text="", icon="REMOVE")

        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        if len(settings.photos) > 1:
            column.prop(settings, "shared_identity")
        column.prop(settings, "output")
        column.prop(settings, "config")

        now = session.current()
        if now.running:
            status = now.status
            layout.progress(factor=status.fraction, text=status.text())
            layout.operator("nextgenface.cancel", icon="CANCEL")
        else:
            row = layout.row()
            row.scale_y = 1.4
            row.operator("nextgenface.run", icon="PLAY")
            if now.job is not None:
                layout.label(text=now.status.text(), translate=False)
            for line in now.message.splitlines()[:4]:
                layout.label(
                    text=line, icon="ERROR" if now.status.state == "failed" else "INFO", translate=False
                )


CLASSES = (NEXTGENFACE_UL_photos, NEXTGENFACE_PT_main)
