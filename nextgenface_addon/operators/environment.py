"""The solver's environment: install, repair, use an existing one, remove; the doctor; what there is."""

# mypy: disable-error-code="valid-type"

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import driver, tasks
from ..environment import (
    Doctor,
    Installer,
    Need,
    State,
    can_install,
    environment_folder,
    estimate,
    state,
)
from ..jobs import JobError
from ..models import ModelList, removable
from ..preferences import preferences, solver_python
from ..reports import tail
from ..solver_python import SolverPythonError, find_solver_python
from ..user_folders import ADDON, user_folder
from .base import NextGenFaceOperator
from .jobs import show_text

INSTALLER, DOCTOR, MODELS = "installer", "doctor", "models"
MODEL_COMMAND = "model command"


@dataclass
class Known:
    """What the preferences show; files are asked in `refresh`, never while drawing."""

    state: State = "missing"
    installer: bool = False
    python: str = ""
    problem: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    removable: set[str] = field(default_factory=set)


known = Known()


def refresh() -> None:
    """Look how the environment stands."""
    known.state, known.installer = state(), can_install()
    known.checks = Doctor(user_folder()).rows()
    known.models = ModelList(user_folder()).rows()
    known.removable = {row["name"] for row in known.models if removable(row)}
    try:
        known.python, known.problem = str(solver_python(bpy.context)), ""
    except SolverPythonError as problem:
        known.python, known.problem = "", str(problem)


def blender_python() -> list[str]:
    """The Python inside Blender: isolated from the user's other Pythons, and not at a loss for letters."""
    return [sys.executable, "-I", "-X", "utf8"]


def why_offline() -> str:
    """Why nothing may be fetched from the internet; empty when it may."""
    if bpy.app.online_access:
        return ""
    if bpy.app.online_access_override:
        return "Blender was started in offline mode"
    return "Allow Online Access in Preferences > System first"


class EnvironmentOperator(NextGenFaceOperator):
    """An operator that may not run while the installer does, nor while face models are being changed."""

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if tasks.running(INSTALLER):
            return "The installation is running"
        if tasks.running(MODEL_COMMAND):
            return "A face model is being worked on; see Face Models in the preferences"
        return ""


class NEXTGENFACE_OT_install_environment(EnvironmentOperator, bpy.types.Operator):
    """Download PyTorch, Mitsuba and MediaPipe into an environment of their own in Blender's user folder, and
    check that they work; an environment that is there is made anew"""

    bl_idname = "nextgenface.install_environment"
    bl_label = "Install Solver"

    python: bpy.props.StringProperty(
        name="Python",
        description="Python 3.11, 3.12 or 3.13 to make the environment with. Empty: one is looked for, "
        "Blender's own included",
        subtype="FILE_PATH",
    )

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if not known.installer:
            return "This copy comes without the installer; choose an existing environment"
        return super().obstacle(context) or why_offline()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=440)

    def draw(self, context: bpy.types.Context) -> None:
        need = estimate_once()
        column = self.layout.column()
        text = rpt_("About {download:.1f} GB are downloaded, {disk:.1f} GB are used; {free:.1f} GB are free")
        enough = need.free > need.disk
        column.label(
            text=text.format(download=need.download, disk=need.disk, free=need.free),
            icon="INFO" if enough else "ERROR",
            translate=False,
        )
        column.label(text=str(environment_folder()), icon="FILE_FOLDER", translate=False)
        column.prop(self, "python")

    def work(self, context: bpy.types.Context) -> set[str]:
        need = estimate()
        if need.free < need.disk:
            raise JobError(
                rpt_("{disk:.1f} GB are needed in {folder}, only {free:.1f} GB are free.").format(
                    disk=need.disk, free=need.free, folder=environment_folder()
                )
            )
        _estimate.clear()
        start_installer("install", self.python or None)
        return {"FINISHED"}


_estimate: list[Need] = []


def estimate_once() -> Need:
    """The estimate of the dialog that is open: asked once, because a dialog is drawn many times."""
    if not _estimate:
        _estimate.append(estimate())
    return _estimate[0]


def start_installer(action: str, python: str | None = None) -> None:
    """Start the installer and follow it. Raises JobError."""
    installer = Installer(environment_folder())
    installer.begin(action, blender_python(), python)

    def done() -> None:
        if action == "install" and installer.status.state == "finished":
            table = Doctor(user_folder()).report
            with contextlib.suppress(OSError):  # then there is no table until Check is pressed
                table.parent.mkdir(exist_ok=True)
                (installer.folder / table.name).replace(table)
        refresh()

    tasks.run(INSTALLER, installer, done)


class NEXTGENFACE_OT_cancel_installation(NextGenFaceOperator, bpy.types.Operator):
    """Stop the installation; what it has made so far is removed"""

    bl_idname = "nextgenface.cancel_installation"
    bl_label = "Cancel"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if not tasks.running(INSTALLER):
            return "No installation is running"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        child = tasks.get(INSTALLER)
        if child is not None:
            child.cancel()
        return {"FINISHED"}


class NEXTGENFACE_OT_remove_environment(EnvironmentOperator, bpy.types.Operator):
    """Delete the installed environment; results, presets and face models stay"""

    bl_idname = "nextgenface.remove_environment"
    bl_label = "Remove Solver"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or (
            "No environment has been installed here"
            if known.state == "missing" or not known.installer
            else ""
        )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def work(self, context: bpy.types.Context) -> set[str]:
        start_installer("remove")
        return {"FINISHED"}


class NEXTGENFACE_OT_use_environment(EnvironmentOperator, bpy.types.Operator):
    """Choose the folder or the Python of an environment that the solver's packages are installed in; it is
    checked at once"""

    bl_idname = "nextgenface.use_environment"
    bl_label = "Use Existing"

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or (
            "The add-on is not installed; set NEXTGENFACE_PYTHON instead"
            if context.preferences.addons.get(ADDON) is None
            else ""
        )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        python = find_solver_python(preference=self.filepath.rstrip("/\\"))
        preferences(context).solver_python = str(python)
        context.preferences.is_dirty = True
        start_doctor(context)
        return {"FINISHED"}


class NEXTGENFACE_OT_check_environment(EnvironmentOperator, bpy.types.Operator):
    """Check the solver's environment and list the face models; takes some seconds"""

    bl_idname = "nextgenface.check_environment"
    bl_label = "Check"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        return super().obstacle(context) or ("The check is running" if tasks.running(DOCTOR) else "")

    def work(self, context: bpy.types.Context) -> set[str]:
        start_doctor(context)
        doctor = tasks.get(DOCTOR)
        if driver.windowless() and doctor is not None and doctor.status.state != "finished":
            raise JobError(doctor.status.error)
        return {"FINISHED"}


def start_doctor(context: bpy.types.Context) -> None:
    """Check the environment, then ask for the models. Raises SolverPythonError, JobError."""
    python = solver_python(context)
    doctor = Doctor(user_folder())

    def then() -> None:
        refresh()
        start_list(python)

    doctor.begin(python)
    tasks.run(DOCTOR, doctor, then)


def start_list(python: Path) -> None:
    """Ask which face models there are. Raises JobError."""
    models = ModelList(user_folder())
    models.begin(python, bpy.path.abspath(preferences(bpy.context).bfm_folder))
    tasks.run(MODELS, models, refresh)


class NEXTGENFACE_OT_open_installation_log(NextGenFaceOperator, bpy.types.Operator):
    """Show what the installer and pip have said, in Blender's text editor"""

    bl_idname = "nextgenface.open_installation_log"
    bl_label = "Open Log"

    def work(self, context: bpy.types.Context) -> set[str]:
        folder = environment_folder()
        said = [tail(path, 200_000) for path in (folder / "install" / "console.log", folder / "solver.log")]
        show_text(context, "NextGenFace installation.log", "\n".join(part for part in said if part) or "-")
        return {"FINISHED"}


class NEXTGENFACE_OT_open_preferences(NextGenFaceOperator, bpy.types.Operator):
    """Show the add-on's preferences, where the solver is installed and checked"""

    bl_idname = "nextgenface.open_preferences"
    bl_label = "Open Preferences"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if context.preferences.addons.get(ADDON) is None:
            return "The add-on is not installed; set NEXTGENFACE_PYTHON instead"
        return ""

    def work(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.preferences.addon_show(module=ADDON)
        refresh()
        return {"FINISHED"}


CLASSES = (
    NEXTGENFACE_OT_install_environment,
    NEXTGENFACE_OT_cancel_installation,
    NEXTGENFACE_OT_remove_environment,
    NEXTGENFACE_OT_use_environment,
    NEXTGENFACE_OT_check_environment,
    NEXTGENFACE_OT_open_installation_log,
    NEXTGENFACE_OT_open_preferences,
)


def register() -> None:
    try:
        refresh()
    except OSError as problem:  # a read-only home; the add-on still has to register
        known.problem = str(problem)
