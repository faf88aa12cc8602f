"""The face models in the preferences: list, add from files, check, remove, download."""

# mypy: disable-error-code="valid-type"

from collections.abc import Sequence
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver, tasks
from ..jobs import JobError
from ..models import Action, ModelCommand, name_for
from ..preferences import preferences, solver_python
from ..user_folders import user_folder
from .base import NextGenFaceOperator
from .environment import DOCTOR, MODEL_COMMAND, MODELS, EnvironmentOperator, start_list, why_offline

FILE_TYPES = "*.h5;*.hh;*.npz;*.npy;*.pkl;*.pickle;*.obj;*.txt"


class ModelOperator(EnvironmentOperator):
    """An operator that runs the command for face models, of which there is one at a time."""

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or (
            "The check is running" if tasks.running(DOCTOR) or tasks.running(MODELS) else ""
        )


def start(context: bpy.types.Context, action: Action, name: str, paths: Sequence[Path] = ()) -> None:
    """Run the command on one model; the list is read anew when it has ended. Raises SolverPythonError,
    JobError.
    """
    python = solver_python(context)
    command = ModelCommand(user_folder(), action, name)
    command.begin(python, paths, bpy.path.abspath(preferences(context).bfm_folder))

    def then() -> None:
        if action != "check":
            start_list(python)

    tasks.run(MODEL_COMMAND, command, then)
    if driver.windowless() and command.status.state != "finished":
        raise JobError(command.status.error or rpt_("The download was stopped."))


class NEXTGENFACE_OT_list_models(ModelOperator, bpy.types.Operator):
    """List the face models: what is installed, and what could be"""

    bl_idname = "nextgenface.list_models"
    bl_label = "List Face Models"

    def work(self, context: bpy.types.Context) -> set[str]:
        start_list(solver_python(context))
        models = tasks.get(MODELS)
        if driver.windowless() and models is not None and models.status.state != "finished":
            raise JobError(models.status.error)
        return {"FINISHED"}


class NEXTGENFACE_OT_add_model(ModelOperator, bpy.types.Operator):
    """Copy the files of one face model, or the folder they lie in, into your models; they are kept only if
    the solver can use them"""

    bl_idname = "nextgenface.add_model"
    bl_label = "Add from File"

    model: bpy.props.StringProperty(
        name="Model Name",
        description="Name under which it is chosen. Empty: the name of the first file, or of the folder",
        options={"SKIP_SAVE"},
    )
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    files: bpy.props.CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"SKIP_SAVE", "HIDDEN"}
    )
    filter_glob: bpy.props.StringProperty(default=FILE_TYPES, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        if not self.directory:
            raise JobError(rpt_("Choose the files of a face model, or its folder."))
        folder = Path(bpy.path.abspath(self.directory))
        # A browser in which nothing was selected gives one file without a name: the folder is meant.
        paths = [folder / file.name for file in self.files if file.name] or [folder]
        start(context, "add", self.model.strip() or name_for(paths[0]), paths)
        return {"FINISHED"}


class ListedModelOperator(ModelOperator):
    """An operator that does its `action` with one model of the list."""

    model: bpy.props.StringProperty(name="Model Name", options={"SKIP_SAVE"})

    def work(self, context: bpy.types.Context) -> set[str]:
        start(context, self.action, self.model)
        return {"FINISHED"}


class NEXTGENFACE_OT_check_model(ListedModelOperator, bpy.types.Operator):
    """Load this face model as a reconstruction does and test that it can be used"""

    bl_idname = "nextgenface.check_model"
    bl_label = "Check Face Model"
    action = "check"


class NEXTGENFACE_OT_remove_model(ListedModelOperator, bpy.types.Operator):
    """Delete this face model from your models; the files it was added from stay where they are"""

    bl_idname = "nextgenface.remove_model"
    bl_label = "Remove Face Model"
    action = "remove"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)


class NEXTGENFACE_OT_download_model(ListedModelOperator, bpy.types.Operator):
    """Download this openly licensed face model from its makers and compare it with the published checksums"""

    bl_idname = "nextgenface.download_model"
    bl_label = "Download Face Model"
    action = "download"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or why_offline()


class NEXTGENFACE_OT_cancel_model_download(NextGenFaceOperator, bpy.types.Operator):
    """Stop the download; what has arrived is kept, and the next download goes on from there"""

    bl_idname = "nextgenface.cancel_model_download"
    bl_label = "Cancel"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        command = tasks.get(MODEL_COMMAND)
        if not isinstance(command, ModelCommand) or command.status.done or command.action != "download":
            return "No download is running"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        command = tasks.get(MODEL_COMMAND)
        if command is not None:
            command.cancel()
        return {"FINISHED"}


CLASSES = (
    NEXTGENFACE_OT_list_models,
    NEXTGENFACE_OT_add_model,
    NEXTGENFACE_OT_check_model,
    NEXTGENFACE_OT_remove_model,
    NEXTGENFACE_OT_download_model,
    NEXTGENFACE_OT_cancel_model_download,
)
