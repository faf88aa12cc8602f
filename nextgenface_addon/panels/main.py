"""Photos in, head out."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import session, tasks, thumbnails
from ..jobs import Job
from ..operators.presets import user_names
from ..properties import active_photo, chosen_method
from .base import SidebarPanel, paragraphs
from .outcome import draw_outcome, draw_warnings

SHIPPED = ("Default", "Harsh Light", "Fast Preview", "Quality")


class NEXTGENFACE_UL_photos(bpy.types.UIList):
    """Photos with thumbnails."""

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
        picture = thumbnails.icon(bpy.path.abspath(item.path))
        name = bpy.path.basename(item.path)
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        part = row.row(align=True)
        part.active = item.enabled
        if picture:
            part.label(text=name, icon_value=picture, translate=False)
        else:
            part.label(text=name, icon="IMAGE_DATA", translate=False)
        if item.rotate != "0":
            part.label(text=f"{item.rotate}°", translate=False)
        if item.face > 1 or item.faces_found > 1:
            part.label(text=f"#{item.face}", icon="USER", translate=False)


class NEXTGENFACE_MT_photos(bpy.types.Menu):
    """More that can be done with the list."""

    bl_idname = "NEXTGENFACE_MT_photos"
    bl_label = "Photos"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.operator("nextgenface.find_faces", icon="VIEWZOOM")
        layout.operator("nextgenface.clear_photos", icon="TRASH")


class NEXTGENFACE_MT_presets(bpy.types.Menu):
    """Presets of all options: those that come with the add-on, and the user's own."""

    bl_idname = "NEXTGENFACE_MT_presets"
    bl_label = "Presets"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for name in SHIPPED:
            layout.operator("nextgenface.apply_preset", text=name).name = name
        names = [name for name in user_names() if name not in SHIPPED]
        if names:
            layout.separator()
        for name in names:
            layout.operator("nextgenface.apply_preset", text=name, translate=False).name = name
        layout.separator()
        layout.operator("nextgenface.save_preset", icon="ADD")
        layout.operator("nextgenface.remove_preset", icon="REMOVE")


class NEXTGENFACE_PT_main(SidebarPanel, bpy.types.Panel):
    """Photos in, head out."""

    bl_idname = "NEXTGENFACE_PT_main"
    bl_label = "NextGenFace"
    bl_order = 0

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.nextgenface
        method = chosen_method(settings)
        if len(settings.bl_rna.properties["method"].enum_items) > 1:
            layout.prop(settings, "method", text="")
        if method.input != "photos":
            row = layout.row(align=True)
            row.prop(settings, "dataset")
            row.operator("nextgenface.use_scene_cameras", text="", icon="CAMERA_DATA")
        if method.input == "photos" or (method.input == "either" and not settings.dataset):
            draw_photos(layout, settings)
        if method.takes_mesh:
            row = layout.row(align=True)
            row.prop(settings, "mesh")
            row.operator("nextgenface.use_active_mesh", text="", icon="MESH_DATA")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        split = column.split(factor=0.4, align=True)
        row = split.row()
        row.alignment = "RIGHT"
        row.label(text="Preset")
        split.menu("NEXTGENFACE_MT_presets", text=settings.preset)
        column.prop(settings, "device")
        column.prop(settings, "output")
        draw_run(layout)


def draw_photos(layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup) -> None:
    """The list, its buttons, and the selected photo's settings."""
    row = layout.row()
    row.template_list("NEXTGENFACE_UL_photos", "", settings, "photos", settings, "active_photo", rows=4)
    column = row.column(align=True)
    column.operator("nextgenface.add_photos", text="", icon="ADD")
    column.operator("nextgenface.remove_photo", text="", icon="REMOVE")
    column.menu("NEXTGENFACE_MT_photos", text="", icon="DOWNARROW_HLT")
    if len(settings.photos) > 1:
        column.separator()
        column.operator("nextgenface.move_photo", text="", icon="TRIA_UP").direction = "UP"
        column.operator("nextgenface.move_photo", text="", icon="TRIA_DOWN").direction = "DOWN"
        if chosen_method(settings).name == "face":  # the others always make one head of all photos
            layout.prop(settings, "shared_identity")
    photo = active_photo(settings)
    if photo is None:
        layout.label(text="Add photos, or drop them into the viewport", icon="INFO")
        return
    header, body = layout.panel("nextgenface_photo", default_closed=True)
    header.label(text="Selected Photo")
    if body is None:
        return
    picture = thumbnails.icon(photo.faces_picture or bpy.path.abspath(photo.path))
    if picture:
        body.template_icon(icon_value=picture, scale=7.0)
    row = body.row(align=True)
    row.prop(photo, "rotate", text="")
    row.operator("nextgenface.rotate_photo", text="", icon="LOOP_BACK").clockwise = False
    row.operator("nextgenface.rotate_photo", text="", icon="LOOP_FORWARDS").clockwise = True
    row = body.row(align=True)
    row.prop(photo, "face")
    row.operator("nextgenface.find_faces", text="", icon="VIEWZOOM")
    finder = tasks.get("faces")
    if finder is not None and not finder.status.done:
        body.label(text="Looking for faces", icon="TIME")
    elif finder is not None and finder.status.state == "failed":
        paragraphs(body, finder.status.error, icon="ERROR")
    elif photo.faces_found >= 0:
        found = iface_("Faces found: {count}").format(count=photo.faces_found)
        body.label(text=found, icon="ERROR" if photo.faces_found < photo.face else "NONE", translate=False)
    body.prop(photo, "focal35")


def draw_run(layout: bpy.types.UILayout) -> None:
    """The button, and below it the job that runs or ran last."""
    now = session.current()
    row = layout.row()
    row.scale_y = 1.4
    row.operator("nextgenface.run", icon="PLAY", text="Add to Queue" if now.running else "Reconstruct")
    job = now.job
    if job is None:
        return
    box = layout.box()
    if now.running:
        draw_progress(box, job)
    else:
        draw_outcome(box, job.folder, job.status, now.message, now.checkpoints)


def draw_progress(layout: bpy.types.UILayout, job: Job) -> None:
    """Stage, step, time left, loss, live preview, Cancel."""
    status = job.status
    text = iface_("Stopping") if job.cancelling else status.text(iface_)
    layout.progress(factor=status.fraction, text=text)
    row = layout.row()
    row.label(text=job.title, translate=False)
    if status.loss is not None:
        value = iface_("noise {value}") if status.stage == "render" else iface_("loss {value}")
        row.label(text=value.format(value=f"{status.loss:.4g}"), translate=False)
    picture = thumbnails.live_icon(str(job.folder))
    if picture:
        layout.template_icon(icon_value=picture, scale=8.0)
    draw_warnings(layout, status)
    layout.operator("nextgenface.cancel", icon="CANCEL")


CLASSES = (NEXTGENFACE_UL_photos, NEXTGENFACE_MT_photos, NEXTGENFACE_MT_presets, NEXTGENFACE_PT_main)
