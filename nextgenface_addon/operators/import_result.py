"""Import of a finished results folder."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy

from ..properties import TAKEOVER_ITEMS
from ..scene.importer import ImportOptions, import_result
from ..scene.results_folder import ResultsError


class NEXTGENFACE_OT_import_result(bpy.types.Operator):
    """Bring a finished results folder into the scene, or update what an earlier import of it made"""

    bl_idname = "nextgenface.import_result"
    bl_label = "Import Result"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    pack: bpy.props.BoolProperty(
        name="Pack Images",
        description="Keep the images in the .blend file instead of linking to them",
        default=True,
    )
    takeover: bpy.props.EnumProperty(
        name="Use Photo's View", description="When the scene takes the photo's view", items=TAKEOVER_ITEMS
    )
    show_world: bpy.props.BoolProperty(
        name="Show Light",
        description="Show the light's map behind the head instead of transparency",
        default=False,
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.scene.nextgenface
        self.pack, self.takeover, self.show_world = settings.pack, settings.takeover, settings.show_world
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        options = ImportOptions(pack=self.pack, takeover=self.takeover, show_world=self.show_world)
        try:
            report = import_result(context, Path(bpy.path.abspath(self.directory)), options)
        except ResultsError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in report.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, report.text())
        if report.took_over and context.area is not None and context.area.type == "VIEW_3D":
            context.space_data.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}


class NEXTGENFACE_OT_look_through(bpy.types.Operator):
    """Look through the selected photo's camera at the photo's size"""

    bl_idname = "nextgenface.look_through"
    bl_label = "Look Through Photo"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = context.active_object
        if item is None or item.type != "CAMERA" or "nextgenface_resolution" not in item.data:
            cls.poll_message_set("Select a photo's camera")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..scene.takeover import look_through

        look_through(context.scene, context.active_object)
        if context.area is not None and context.area.type == "VIEW_3D":
            context.space_data.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_import_result, NEXTGENFACE_OT_look_through)
