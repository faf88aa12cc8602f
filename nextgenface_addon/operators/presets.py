"""Presets of the solver's options."""

# mypy: disable-error-code="valid-type"

import bpy

from ..presets import UserPresets, values_of
from ..properties import apply_options, option_values
from ..solver_python import package_root
from ..user_folders import user_folder
from .base import NextGenFaceOperator

_user_names: list[str] = []


def user_presets() -> UserPresets:
    """The user's own presets."""
    return UserPresets(user_folder() / "presets")


def user_names() -> list[str]:
    """Names of the user's presets as of the last `refresh`. For draw()."""
    return _user_names


def refresh() -> None:
    """Look which presets the user has."""
    _user_names[:] = user_presets().names()


class NEXTGENFACE_OT_apply_preset(NextGenFaceOperator, bpy.types.Operator):
    """Set all options to this preset's values"""

    bl_idname = "nextgenface.apply_preset"
    bl_label = "Apply Preset"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(name="Preset", description="Name of the preset")

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        apply_options(settings, values_of(self.name, package_root() / "assets", user_presets()))
        settings.preset = self.name
        return {"FINISHED"}


class NEXTGENFACE_OT_save_preset(NextGenFaceOperator, bpy.types.Operator):
    """Save the options as a preset of your own; one of the same name is replaced"""

    bl_idname = "nextgenface.save_preset"
    bl_label = "Save Preset"

    name: bpy.props.StringProperty(
        name="Name", description="Name of the preset", options={"SKIP_SAVE"}, maxlen=60
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def work(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.nextgenface
        path = user_presets().save(self.name, option_values(settings))
        settings.preset = path.stem
        refresh()
        return {"FINISHED"}


class NEXTGENFACE_OT_remove_preset(NextGenFaceOperator, bpy.types.Operator):
    """Delete the preset that was used last; only presets of your own can be deleted"""

    bl_idname = "nextgenface.remove_preset"
    bl_label = "Delete Preset"

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        if context.scene.nextgenface.preset not in _user_names:
            return "Apply a preset of your own first; the others come with the add-on"
        return ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def work(self, context: bpy.types.Context) -> set[str]:
        user_presets().remove(context.scene.nextgenface.preset)
        context.scene.nextgenface.preset = "Default"
        refresh()
        return {"FINISHED"}


CLASSES = (NEXTGENFACE_OT_apply_preset, NEXTGENFACE_OT_save_preset, NEXTGENFACE_OT_remove_preset)


def register() -> None:
    refresh()
