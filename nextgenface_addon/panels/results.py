"""The head in the scene: its photos, its light, its maps."""

from __future__ import annotations

import bpy

from ..operators.photo_view import MAP_SIZES
from ..scene.camera import photo_overlay
from ..scene.map_size import MAP_SIZE, full_size, skin_of
from ..scene.photo_views import active_head, photo_view, photo_views, views_of
from ..scene.relight import light_controls
from .base import SidebarPanel

MOST_ROWS = 12  # of photos; more are reached by selecting their cameras


class NEXTGENFACE_PT_import(SidebarPanel, bpy.types.Panel):
    """The head that is active, and its photos."""

    bl_idname = "NEXTGENFACE_PT_import"
    bl_label = "Result"
    bl_order = 20

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        scene = context.scene
        layout.operator("nextgenface.import_result", icon="IMPORT")
        head = active_head(context)
        if head is not None:
            layout.label(text=head.name, icon="USER", translate=False)
        views = photo_views(scene) if head is None else views_of(head, scene)
        column = layout.column(align=True)
        for view in views[:MOST_ROWS]:
            chosen = view.camera == scene.camera
            icon = "VIEW_CAMERA" if chosen else "CAMERA_DATA"
            button = column.operator(
                "nextgenface.look_through", text=view.name, icon=icon, depress=chosen, translate=False
            )
            button.camera = view.camera.name
        if len(views) > MOST_ROWS:
            row = layout.row()
            row.label(text=f"… {len(views) - MOST_ROWS}", translate=False)
            row.operator("nextgenface.look_through", text="Selected Camera")
        if photo_view(scene.camera) is None:
            return
        overlay = photo_overlay(scene.camera)
        if overlay is not None:
            layout.prop(overlay, "alpha", text="Render to Photo", slider=True)
        layout.prop(scene.render, "film_transparent", text="Hide Light Behind the Head")
        if scene.view_settings.view_transform != "Standard":
            layout.operator("nextgenface.photo_colours", icon="COLOR")


class NEXTGENFACE_PT_light(SidebarPanel, bpy.types.Panel):
    """Turning, scaling and replacing the light."""

    bl_idname = "NEXTGENFACE_PT_light"
    bl_parent_id = "NEXTGENFACE_PT_import"
    bl_label = "Light"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return light_controls(context.scene.world) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        controls = light_controls(context.scene.world)
        if controls is None:
            return
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(controls.rotation, "default_value", index=2, text="Rotation")
        column.prop(controls.strength, "default_value", text="Strength")
        if controls.uses_hdri and controls.image is not None:
            layout.label(text=controls.image.name, icon="WORLD", translate=False)
        row = layout.row(align=True)
        row.operator("nextgenface.reset_light", text="Reset", icon="LOOP_BACK")
        row.operator("nextgenface.use_hdri", text="HDRI", icon="FILE_IMAGE")
        if controls.uses_hdri:
            row.operator("nextgenface.use_photo_light", text="Photo's", icon="LIGHT_SUN")


class NEXTGENFACE_PT_head(SidebarPanel, bpy.types.Panel):
    """Maps and asset."""

    bl_idname = "NEXTGENFACE_PT_head"
    bl_parent_id = "NEXTGENFACE_PT_import"
    bl_label = "Maps and Asset"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return active_head(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        head = active_head(context)
        material = skin_of(head) if head is not None else None
        if material is not None:
            full = full_size(material)
            chosen = str(material.get(MAP_SIZE, 0))
            row = layout.row(align=True)
            for size, name, _ in MAP_SIZES:
                if size == "0" or int(size) < full:
                    label = f"{name} ({full})" if size == "0" else name
                    button = row.operator("nextgenface.map_size", text=label, depress=size == chosen)
                    button.size = size
        layout.operator("nextgenface.mark_asset", icon="ASSET_MANAGER")


class NEXTGENFACE_PT_import_options(SidebarPanel, bpy.types.Panel):
    """How results are imported."""

    bl_idname = "NEXTGENFACE_PT_import_options"
    bl_parent_id = "NEXTGENFACE_PT_import"
    bl_label = "Import Options"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.nextgenface
        layout.prop(settings, "pack")
        layout.prop(settings, "takeover")
        layout.prop(settings, "show_world")


CLASSES = (
    NEXTGENFACE_PT_import,
    NEXTGENFACE_PT_light,
    NEXTGENFACE_PT_head,
    NEXTGENFACE_PT_import_options,
)
