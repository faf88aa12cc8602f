"""The active object and the scene's cameras as input of the methods for many views."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from ..scene.scene_views import background, write_mesh, write_views
from ..scene.texture_target import remember
from ..user_folders import user_folder
from .base import NextGenFaceOperator


def export_folder(name: str) -> Path:
    """Where a scene's mesh or views are written: beside the .blend, else in the extension's folder."""
    base = Path(bpy.data.filepath).parent / "nextgenface" if bpy.data.filepath else user_folder()
    clean = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return base / "scene" / clean


class NEXTGENFACE_OT_use_active_mesh(NextGenFaceOperator, bpy.types.Operator):
    """Start from the active object's mesh. A texture comes back to its material"""

    bl_idname = "nextgenface.use_active_mesh"
    bl_label = "Use Active Object"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if context.active_object is None or context.active_object.type != "MESH":
            return "Select a mesh"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        item = context.active_object
        path = export_folder(item.name) / "mesh.obj"
        write_mesh(item, path)
        remember(item, path)
        context.scene.nextgenface.mesh = str(path)
        self.report({"INFO"}, rpt_("{name} was written to {path}").format(name=item.name, path=path))
        return {"FINISHED"}


class NEXTGENFACE_OT_use_scene_cameras(NextGenFaceOperator, bpy.types.Operator):
    """Use the scene's cameras and their background images as the data set"""

    bl_idname = "nextgenface.use_scene_cameras"
    bl_label = "Use Scene Cameras"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if not any(background(item) is not None for item in context.scene.objects):
            return "No camera of the scene has a background image"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        folder = export_folder(context.scene.name)
        names = write_views(context.scene, folder)
        context.scene.nextgenface.dataset = str(folder)
        self.report(
            {"INFO"}, rpt_("{count} views were written to {path}").format(count=len(names), path=folder)
        )
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_use_active_mesh, NEXTGENFACE_OT_use_scene_cameras)
