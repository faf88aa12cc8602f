"""Settings of this computer."""

# mypy: disable-error-code="valid-type"

import bpy

from .user_folders import ADDON


class NextGenFacePreferences(bpy.types.AddonPreferences):
    """Where the solver is."""

    bl_idname = ADDON

    solver_python: bpy.props.StringProperty(
        name="Solver Python",
        description="Python of the environment the solver is installed in. Empty: "
        "the NEXTGENFACE_PYTHON variable, then the environment that 'make setup' made",
        subtype="FILE_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "solver_python")


def solver_python(context: bpy.types.Context) -> str | None:
    """The preference, or None when it is empty or the add-on was registered without being installed."""
    addon = context.preferences.addons.get(ADDON)
    return (
        addon.preferences.solver_python or None
        if addon is not None and addon.preferences is not None
        else None
    )


CLASSES = (NextGenFacePreferences,)
