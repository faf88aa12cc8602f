"""Recordings of faces onto the head's ARKit shape keys."""

# mypy: disable-error-code="valid-type"

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from ..scene.face_action import apply_take
from ..scene.live_link import read_take
from ..scene.photo_views import active_head
from .photo_view import HeadOperator


class NEXTGENFACE_OT_load_take(HeadOperator, bpy.types.Operator):
    """Load a Live Link Face recording (.csv) onto the head's ARKit shape keys as an action. The same file again replaces its action"""  # noqa: E501 - Blender shows it as one tooltip

    bl_idname = "nextgenface.load_take"
    bl_label = "Load Face Recording"

    filepath: bpy.props.StringProperty(name="Recording", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.csv", options={"HIDDEN"})
    start: bpy.props.IntProperty(
        name="Start Frame", description="Frame of the scene that the recording begins at", default=1
    )
    frame_rate: bpy.props.FloatProperty(
        name="Timecode Rate",
        description="Frames a second that the recording's timecode counts in; 0: told from the file. "
        "Set it when a short recording plays too fast or too slowly",
        default=0.0,
        min=0.0,
        soft_max=60.0,
    )
    set_range: bpy.props.BoolProperty(
        name="Set Scene Range", description="Let the scene play just the recording", default=False
    )

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        why = super().obstacle(context)
        if not why and active_head(context).data.shape_keys is None:
            why = "The head has no shape keys"
        return why

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath:  # dropped
            return self.execute(context)
        self.start = context.scene.frame_start
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        path = Path(bpy.path.abspath(self.filepath))
        take = read_take(path, self.frame_rate)
        render = context.scene.render
        report = apply_take(
            active_head(context), take, path.stem, start=self.start, fps=render.fps / render.fps_base
        )
        if self.set_range:
            context.scene.frame_start, context.scene.frame_end = int(report.first), round(report.last)
        if take.lost:
            self.report({"WARNING"}, rpt_("{n} frames without a face were left out").format(n=take.lost))
        if report.missing:
            shapes = ", ".join(report.missing)
            self.report({"WARNING"}, rpt_("The head has no shape keys for {shapes}").format(shapes=shapes))
        text = rpt_("{action}: {count} frames of {rate} a second, from {first} to {last}")
        self.report(
            {"INFO"},
            text.format(
                action=report.action,
                count=len(take.times),
                rate=f"{take.frame_rate:g}",
                first=f"{report.first:g}",
                last=round(report.last),
            ),
        )
        return {"FINISHED"}


class NEXTGENFACE_FH_take(bpy.types.FileHandler):
    """A recording that is dropped into the 3D view goes onto the head."""

    bl_idname = "NEXTGENFACE_FH_take"
    bl_label = "Live Link Face Recording"
    bl_import_operator = "nextgenface.load_take"
    bl_file_extensions = ".csv"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return (
            context.area is not None and context.area.type == "VIEW_3D" and active_head(context) is not None
        )


CLASSES = (NEXTGENFACE_OT_load_take, NEXTGENFACE_FH_take)
