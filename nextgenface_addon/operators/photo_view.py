"""What can be done with a head in the scene: its photos, expressions, maps, and keeping it as an asset."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from ..problems import AddonProblem
from ..scene.asset import mark_as_asset
from ..scene.map_size import set_map_size, skin_of
from ..scene.owned import FOLDER_PROPERTY, PROPERTY
from ..scene.photo_views import PhotoView, active_head, is_head, look_through, photo_view, photo_views
from ..scene.shape_keys import photo_expressions, show_expression
from ..scene.takeover import show_as_photo
from .base import NextGenFaceOperator

MAP_SIZES = (
    ("0", "Full", "The maps as they were imported"),
    ("1024", "1024", "Copies of at most 1024 pixels"),
    ("512", "512", "Copies of at most 512 pixels"),
    ("256", "256", "Copies of at most 256 pixels, for many heads or a slow viewport"),
)
EXPRESSION_FORMS = (
    ("KEY", "One Key", "The photo's own shape key holds the whole expression"),
    ("ARKIT", "ARKit", "Values on the ARKit shape keys, and a residual key for what they do not reach"),
)


class NEXTGENFACE_OT_look_through(NextGenFaceOperator, bpy.types.Operator):
    """Look at the scene as a photo does: its camera and picture size, its light, and its expression"""

    bl_idname = "nextgenface.look_through"
    bl_label = "Look Through Photo"
    bl_options = {"REGISTER", "UNDO"}

    camera: bpy.props.StringProperty(
        name="Camera",
        description="Camera of the photo. Empty: the active object, the scene's camera, or the first photo",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if not any(photo_view(item) for item in context.scene.objects if item.type == "CAMERA"):
            return "There is no photo in the scene. Import a result first"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        view = self._view(context)
        for warning in look_through(context.scene, view):
            self.report({"WARNING"}, warning)
        if context.window is not None:
            for area in context.window.screen.areas:
                if area.type == "VIEW_3D" and area.spaces.active.region_3d is not None:
                    area.spaces.active.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}

    def _view(self, context: bpy.types.Context) -> PhotoView:
        if self.camera:
            view = photo_view(context.scene.objects.get(self.camera))
            if view is None:
                raise AddonProblem(
                    rpt_("{name} is not the camera of a photo in this scene.").format(name=self.camera)
                )
            return view
        for item in (context.active_object, context.scene.camera):
            if (view := photo_view(item)) is not None:
                return view
        return photo_views(context.scene)[0]


class NEXTGENFACE_OT_photo_colours(NextGenFaceOperator, bpy.types.Operator):
    """Show colors as the photo holds them (view transform Standard), to compare render and photo"""

    bl_idname = "nextgenface.photo_colours"
    bl_label = "Use Photo's Colors"
    bl_options = {"REGISTER", "UNDO"}

    def work(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        show_as_photo(scene, show_world=not scene.render.film_transparent)
        return {"FINISHED"}


class HeadOperator(NextGenFaceOperator):
    """An operator on the head that is active, or whose camera is."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if active_head(context) is None:
            return "There is no imported head in the scene"
        return ""


class NEXTGENFACE_OT_show_expression(HeadOperator, bpy.types.Operator):
    """Give the head the expression of a photo, or the neutral face. Only the imported shape keys are set"""

    bl_idname = "nextgenface.show_expression"
    bl_label = "Show Expression"

    photo: bpy.props.IntProperty(
        name="Photo",
        description="Number of the photo in its result; -1: the neutral face",
        default=-1,
        min=-1,
    )
    form: bpy.props.EnumProperty(
        name="As", description="Which shape keys carry the expression", items=EXPRESSION_FORMS
    )

    def work(self, context: bpy.types.Context) -> set[str]:
        head = active_head(context)
        if self.photo >= 0 and all(item.photo != self.photo for item in photo_expressions(head)):
            raise AddonProblem(
                rpt_("{name} has no expression of a photo {photo}.").format(name=head.name, photo=self.photo)
            )
        photo = self.photo if self.photo >= 0 else None
        for warning in show_expression(head, photo, as_arkit=self.form == "ARKIT"):
            self.report({"WARNING"}, warning)
        return {"FINISHED"}


class NEXTGENFACE_OT_map_size(HeadOperator, bpy.types.Operator):
    """Show the head with smaller copies of its maps, or with the full ones. The imported maps are kept"""

    bl_idname = "nextgenface.map_size"
    bl_label = "Map Size"

    size: bpy.props.EnumProperty(
        name="Size", description="Longest side of the maps that are shown", items=MAP_SIZES
    )

    def work(self, context: bpy.types.Context) -> set[str]:
        head = active_head(context)
        material = skin_of(head)
        if material is None:
            raise AddonProblem(rpt_("{name} does not wear its imported material.").format(name=head.name))
        shown = set_map_size(material, int(self.size))
        self.report({"INFO"}, rpt_("The maps are shown with {size} pixels").format(size=shown))
        return {"FINISHED"}


class NEXTGENFACE_OT_mark_asset(HeadOperator, bpy.types.Operator):
    """Keep the head, its skin and its shape keys as an asset, to be dragged from the asset browser"""

    bl_idname = "nextgenface.mark_asset"
    bl_label = "Mark as Asset"

    def work(self, context: bpy.types.Context) -> set[str]:
        head = active_head(context)
        if head.library is not None or not is_head(head):
            raise AddonProblem(
                rpt_("{name} is linked from another file; mark it there.").format(name=head.name)
            )
        if not mark_as_asset(head, result_folder(head)):
            self.report({"WARNING"}, rpt_("The result's folder is gone, so the asset has no preview picture"))
        self.report({"INFO"}, rpt_("{name} is an asset; save the file to keep it").format(name=head.name))
        return {"FINISHED"}


def result_folder(head: bpy.types.Object) -> Path | None:
    """The results folder that a head was imported from, where it is still there."""
    folder = str(head.get(PROPERTY, "")).rpartition("|")[0]
    for collection in head.users_collection:
        folder = str(collection.get(FOLDER_PROPERTY, folder))
    path = Path(folder)
    return path if folder and path.is_dir() else None


CLASSES = (
    NEXTGENFACE_OT_look_through,
    NEXTGENFACE_OT_photo_colours,
    NEXTGENFACE_OT_show_expression,
    NEXTGENFACE_OT_map_size,
    NEXTGENFACE_OT_mark_asset,
)
