"""Settings of this computer."""

# mypy: disable-error-code="valid-type"

from dataclasses import dataclass
from pathlib import Path

import bpy

from .environment import own_python
from .solver_python import find_solver_python
from .user_folders import ADDON

CLOSE_ITEMS = (
    ("STOP", "Stop with a Checkpoint", "The job stops after its current step; Resume goes on from there"),
    ("RUN_ON", "Run On", "The job goes on by itself; the list shows it when Blender is opened again"),
)


class NextGenFacePreferences(bpy.types.AddonPreferences):
    """Where the solver is, and what holds for all files."""

    bl_idname = ADDON

    solver_python: bpy.props.StringProperty(
        name="Existing Environment",
        description="Folder or Python of an environment that the solver's packages are installed in. Empty: "
        "the variable NEXTGENFACE_PYTHON, the installed environment, then the one that 'make setup' made",
        subtype="FILE_PATH",
    )
    on_close: bpy.props.EnumProperty(
        name="When Blender Closes", description="What happens to a job that runs", items=CLOSE_ITEMS
    )
    output: bpy.props.StringProperty(
        name="Results",
        description="Default folder for results. Empty: a folder beside the .blend file, or beside the photo",
        subtype="DIR_PATH",
    )
    bfm_folder: bpy.props.StringProperty(
        name="Basel Face Model",
        description="Default folder of the Basel Face Model, for the face models that need it",
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        from .operators.environment import known
        from .panels.environment import draw_environment

        layout = self.layout
        draw_environment(layout, self, known)
        box = layout.column()
        box.use_property_split = True
        box.prop(self, "on_close")
        box.prop(self, "output")
        box.prop(self, "bfm_folder")


@dataclass(frozen=True)
class Defaults:
    """Stands in for the preferences where the add-on was registered without being installed."""

    solver_python: str = ""
    on_close: str = "STOP"
    output: str = ""
    bfm_folder: str = ""


def preferences(context: bpy.types.Context) -> "NextGenFacePreferences | Defaults":
    """The add-on's preferences, or their defaults."""
    addon = context.preferences.addons.get(ADDON)
    return Defaults() if addon is None or addon.preferences is None else addon.preferences


def solver_python(context: bpy.types.Context) -> Path:
    """The Python that runs the solver, by the preferences. Raises SolverPythonError."""
    return find_solver_python(preference=preferences(context).solver_python or None, own=own_python())


CLASSES = (NextGenFacePreferences,)
