"""The list of photos."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy

IMAGE_TYPES = "*.png;*.jpg;*.jpeg;*.tif;*.tiff;*.webp;*.exr"


class NEXTGENFACE_OT_add_photos(bpy.types.Operator):
    """Add photos of a face to the list"""

    bl_idname = "nextgenface.add_photos"
    bl_label = "Add Photos"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    files: bpy.props.CollectionProperty(type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default=IMAGE_TYPES, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        known = {bpy.path.abspath(photo.path) for photo in settings.photos}
        added = 0
        for file in self.files:
            path = Path(self.directory) / file.name
            if not path.is_file():
                self.report({"WARNING"}, f"{path} is not a file")
            elif str(path) not in known:
                settings.photos.add().path = str(path)
                added += 1
        if not added:
            self.report({"WARNING"}, "No photos were added")
            return {"CANCELLED"}
        settings.active_photo = len(settings.photos) - 1
        return {"FINISHED"}


class NEXTGENFACE_OT_remove_photo(bpy.types.Operator):
    """Take the selected photo off the list; the file is not touched"""

    bl_idname = "nextgenface.remove_photo"
    bl_label = "Remove Photo"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.scene.nextgenface.photos:
            cls.poll_message_set("There are no photos in the list")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        settings.photos.remove(min(settings.active_photo, len(settings.photos) - 1))
        settings.active_photo = max(0, min(settings.active_photo, len(settings.photos) - 1))
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_add_photos, NEXTGENFACE_OT_remove_photo)
