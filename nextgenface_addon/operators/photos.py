"""The list of photos."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from ..properties import active_photo
from .base import NextGenFaceOperator

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".webp", ".exr", ".bmp")
IMAGE_TYPES = ";".join("*" + suffix for suffix in SUFFIXES)
SIDEBAR_TAB = "NextGenFace"


class NEXTGENFACE_OT_add_photos(NextGenFaceOperator, bpy.types.Operator):
    """Add photos of a face to the list"""

    bl_idname = "nextgenface.add_photos"
    bl_label = "Add Photos"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: bpy.props.CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"}
    )
    filter_glob: bpy.props.StringProperty(default=IMAGE_TYPES, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.directory and self.files:  # dropped into the viewport
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        known = {bpy.path.abspath(photo.path) for photo in settings.photos}
        added = 0
        for file in self.files:
            path = Path(self.directory) / file.name
            if not path.is_file():
                self.report({"WARNING"}, rpt_("{path} is not a file").format(path=path))
            elif str(path) not in known:
                settings.photos.add().path = str(path)
                known.add(str(path))
                added += 1
        if not added:
            self.report({"WARNING"}, rpt_("No photos were added"))
            return {"CANCELLED"}
        settings.active_photo = len(settings.photos) - 1
        return {"FINISHED"}


class PhotoOperator(NextGenFaceOperator):
    """An operator on the photo that is selected in the list."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if not context.scene.nextgenface.photos:
            return "There are no photos in the list"
        return ""


class NEXTGENFACE_OT_remove_photo(PhotoOperator, bpy.types.Operator):
    """Take the selected photo off the list; the file is not touched"""

    bl_idname = "nextgenface.remove_photo"
    bl_label = "Remove Photo"

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        settings.photos.remove(min(settings.active_photo, len(settings.photos) - 1))
        settings.active_photo = max(0, min(settings.active_photo, len(settings.photos) - 1))
        return {"FINISHED"}


class NEXTGENFACE_OT_clear_photos(PhotoOperator, bpy.types.Operator):
    """Take all photos off the list; the files are not touched"""

    bl_idname = "nextgenface.clear_photos"
    bl_label = "Remove All Photos"

    def work(self, context: bpy.types.Context) -> set[str]:
        context.scene.nextgenface.photos.clear()
        context.scene.nextgenface.active_photo = 0
        return {"FINISHED"}


class NEXTGENFACE_OT_move_photo(PhotoOperator, bpy.types.Operator):
    """Move the selected photo in the list; the first one's view and expression are shown after the import"""

    bl_idname = "nextgenface.move_photo"
    bl_label = "Move Photo"

    direction: bpy.props.EnumProperty(
        name="Direction", items=(("UP", "Up", "Towards the top"), ("DOWN", "Down", "Towards the end"))
    )

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        index = min(settings.active_photo, len(settings.photos) - 1)
        target = index + (-1 if self.direction == "UP" else 1)
        if not 0 <= target < len(settings.photos):
            return {"CANCELLED"}
        settings.photos.move(index, target)
        settings.active_photo = target
        return {"FINISHED"}


class NEXTGENFACE_OT_rotate_photo(PhotoOperator, bpy.types.Operator):
    """Turn the selected photo by a quarter; the file is not touched"""

    bl_idname = "nextgenface.rotate_photo"
    bl_label = "Rotate Photo"

    clockwise: bpy.props.BoolProperty(name="Clockwise", default=True)

    def work(self, context: bpy.types.Context) -> set[str]:
        photo = active_photo(context.scene.nextgenface)
        photo.rotate = str((int(photo.rotate) + (90 if self.clockwise else 270)) % 360)
        return {"FINISHED"}


class NEXTGENFACE_FH_photos(bpy.types.FileHandler):
    """Photos dropped into the viewport while the NextGenFace tab is open go to the list."""

    bl_idname = "NEXTGENFACE_FH_photos"
    bl_label = "NextGenFace Photos"
    bl_import_operator = "nextgenface.add_photos"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        area = context.area
        if area is None or area.type != "VIEW_3D" or not context.space_data.show_region_ui:
            return False
        return any(r.type == "UI" and r.active_panel_category == SIDEBAR_TAB for r in area.regions)


CLASSES = (
    NEXTGENFACE_OT_add_photos,
    NEXTGENFACE_OT_remove_photo,
    NEXTGENFACE_OT_clear_photos,
    NEXTGENFACE_OT_move_photo,
    NEXTGENFACE_OT_rotate_photo,
    NEXTGENFACE_FH_photos,
)
