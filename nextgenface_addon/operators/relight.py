"""Turning the scene's light back, replacing it by an HDRI, and going back to the photo's."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from ..scene.relight import light_controls, reset_light, use_hdri, use_photo_light
from .base import NextGenFaceOperator

HDRI_TYPES = "*.hdr;*.exr;*.png;*.jpg;*.jpeg;*.tif;*.tiff"


class LightOperator(NextGenFaceOperator):
    """An operator on the scene's world, which has to be a photo's."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if light_controls(context.scene.world) is None:
            return "The scene is not in a photo's light. Look through a photo first"
        return ""


class NEXTGENFACE_OT_reset_light(LightOperator, bpy.types.Operator):
    """Turn the light back to where it came from, at its own strength"""

    bl_idname = "nextgenface.reset_light"
    bl_label = "Reset Light"

    def work(self, context: bpy.types.Context) -> set[str]:
        reset_light(context.scene.world)
        return {"FINISHED"}


class NEXTGENFACE_OT_use_hdri(LightOperator, bpy.types.Operator):
    """Light the scene with an HDRI instead of the photo's light. The photo's light is kept"""

    bl_idname = "nextgenface.use_hdri"
    bl_label = "Use HDRI"

    filepath: bpy.props.StringProperty(name="Image", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default=HDRI_TYPES, options={"HIDDEN"})
    pack: bpy.props.BoolProperty(
        name="Pack Image",
        description="Keep the image in the .blend file instead of linking to it",
        default=False,
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        path = Path(bpy.path.abspath(self.filepath))
        image = use_hdri(context.scene.world, path, pack=self.pack)
        if not image.is_float:
            self.report(
                {"WARNING"},
                rpt_("{name} has 8 bits and no bright lights; an .hdr or .exr gives real ones").format(
                    name=image.name
                ),
            )
        return {"FINISHED"}


class NEXTGENFACE_OT_use_photo_light(LightOperator, bpy.types.Operator):
    """Light the scene with the photo's own light again. The HDRI stays in the world's nodes"""

    bl_idname = "nextgenface.use_photo_light"
    bl_label = "Photo's Light"

    def work(self, context: bpy.types.Context) -> set[str]:
        use_photo_light(context.scene.world)
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_reset_light, NEXTGENFACE_OT_use_hdri, NEXTGENFACE_OT_use_photo_light)
