"""Import of a finished results folder or of a checkpoint: from the panel, File > Import, or by dropping."""

# mypy: disable-error-code="valid-type"

from dataclasses import replace
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver
from ..checkpoints import export_request, exported_folder, is_checkpoint
from ..preferences import solver_python
from ..problems import AddonProblem
from ..properties import ImportChoices
from ..scene.importer import ImportOptions, ImportReport, import_result
from .base import NextGenFaceOperator
from .run import start_job

FILE_TYPES = ".json;.pickle;.pkl"


class ChoosingOperator(ImportChoices, NextGenFaceOperator):
    """An operator that offers the choices of an import."""


class NEXTGENFACE_OT_import_result(ChoosingOperator, bpy.types.Operator):
    """Bring a results folder or a checkpoint (stageN_output.pickle) into the scene. A folder that was imported before is updated; a checkpoint is completed by the solver first, without running its stages again"""  # noqa: E501 - Blender shows it as one tooltip

    bl_idname = "nextgenface.import_result"
    bl_label = "Import Result"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    filter_glob: bpy.props.StringProperty(default="result.json;*.pickle;*.pkl", options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.scene.nextgenface
        self.pack, self.takeover, self.show_world = settings.pack, settings.takeover, settings.show_world
        if self.filepath or self.directory:  # dropped, or called by a button that knows the folder
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        path = Path(bpy.path.abspath(self.filepath or self.directory))
        if is_checkpoint(path):
            done = exported_folder(path)
            if done is None:
                return self.completed(context, path)
            path = done
        options = ImportOptions(pack=self.pack, takeover=self.takeover, show_world=self.show_world)
        report = import_result(context, path, options)
        for warning in report.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, report.text())
        _select(context, report)
        _show(context, report)
        return {"FINISHED"}

    def completed(self, context: bpy.types.Context, checkpoint: Path) -> set[str]:
        """Have the solver complete a checkpoint; the result is imported when it is there."""
        if not checkpoint.is_file():
            raise AddonProblem(rpt_("There is no checkpoint at {path}.").format(path=checkpoint))
        entry = start_job(context, export_request(checkpoint), solver_python(context))
        if isinstance(entry.target, driver.Target):  # asked for just now, whatever the panel says of jobs
            entry.target = replace(entry.target, auto_import=True)
        if not driver.windowless():
            self.report({"INFO"}, rpt_("The solver completes the checkpoint; then it is imported"))
            return {"FINISHED"}
        driver.wait()
        status = entry.job.status
        if status.state != "finished" or entry.message:
            raise AddonProblem(entry.message or status.error or status.text())
        return {"FINISHED"}


def _select(context: bpy.types.Context, report: ImportReport) -> None:
    """After a first import the head is what the artist works on."""
    context.view_layer.update()  # before that it does not know the new objects
    head = context.view_layer.objects.get(report.heads[0]) if report.heads else None
    if report.updated or head is None or context.mode != "OBJECT":
        return
    for item in context.selected_objects:
        item.select_set(False)
    head.select_set(True)
    context.view_layer.objects.active = head


def _show(context: bpy.types.Context, report: ImportReport) -> None:
    """Where the scene took the photo's view, show it in the 3D views of the window as it is rendered."""
    if not report.took_over or report.updated or context.window is None:
        return
    for area in context.window.screen.areas:
        if area.type == "VIEW_3D":
            space = area.spaces.active
            if space.region_3d is not None:
                space.region_3d.view_perspective = "CAMERA"
            space.shading.type = "MATERIAL"
            space.shading.use_scene_world = space.shading.use_scene_lights = True


class NEXTGENFACE_FH_result(bpy.types.FileHandler):
    """A result.json or a checkpoint that is dropped into the 3D view is imported."""

    bl_idname = "NEXTGENFACE_FH_result"
    bl_label = "NextGenFace Result"
    bl_import_operator = "nextgenface.import_result"
    bl_file_extensions = FILE_TYPES

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in ("VIEW_3D", "OUTLINER")


def draw_menu(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    """The entry in File > Import."""
    menu.layout.operator(
        "nextgenface.import_result", text="NextGenFace Result or Checkpoint (.json, .pickle)"
    )


CLASSES = (NEXTGENFACE_OT_import_result, NEXTGENFACE_FH_result)


def register() -> None:
    bpy.types.TOPBAR_MT_file_import.append(draw_menu)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_import.remove(draw_menu)
