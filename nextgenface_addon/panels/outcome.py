"""How a job ended, in one sentence, and the buttons that help."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface_

from ..job_events import JobStatus
from ..jobs import checkpoint_path
from .base import paragraphs

HELP = {
    "JobError": "PREFERENCES",
    "EnvironmentProblem": "PREFERENCES",
    "ModelError": "PREFERENCES",
    "NoFaceError": "FACES",
    "MemoryError": "PREVIEW",
}
"""Which button helps, by the class of the solver's error."""

ENDED_BY_SYSTEM = (-9, 137)
WARNINGS = 4
"""As many are shown."""


def draw_outcome(
    layout: bpy.types.UILayout, folder: Path, status: JobStatus, message: str, stages: tuple[int, ...]
) -> None:
    """The job in `folder`, which does not run. `stages`: the checkpoints that can be imported."""
    name = folder.name
    if status.state == "finished":
        layout.label(text=f"{name}: {status.text(iface_)}", icon="CHECKMARK", translate=False)
        if message:
            paragraphs(layout, message, icon="INFO", most=3)
        draw_warnings(layout, status)
        button = layout.operator("nextgenface.import_job", icon="IMPORT", text="Import / Update")
        button.folder = str(folder)
    elif status.state == "created":
        layout.label(text=f"{name}: {status.text(iface_)}", icon="TIME", translate=False)
        layout.operator("nextgenface.resume_job", text="Start", icon="PLAY").folder = str(folder)
    else:
        icon = "INFO" if status.state in ("cancelled", "stopped") else "ERROR"
        paragraphs(layout, f"{name}: {status.text(iface_)}", icon=icon, most=5)
        draw_help(layout, folder, status)
    if stages:
        row = layout.row(align=True)
        row.label(text="Stage")
        for stage in stages:
            button = row.operator("nextgenface.import_result", text=str(stage), translate=False)
            button.filepath = str(checkpoint_path(folder, stage))
    row = layout.row(align=True)
    row.operator("nextgenface.open_folder", icon="FILE_FOLDER", text="Folder").folder = str(folder)
    row.operator("nextgenface.open_log", icon="TEXT", text="Log").folder = str(folder)


def draw_warnings(layout: bpy.types.UILayout, status: JobStatus) -> None:
    """The last warnings: what was not used as asked, such as an engine that does not work here."""
    for warning in status.warnings[-WARNINGS:]:
        paragraphs(layout, warning, icon="ERROR", most=3)
    more = len(status.warnings) - WARNINGS
    if more > 0:
        text = iface_("More warnings in the log: {count}").format(count=more)
        layout.label(text=text, icon="BLANK1", translate=False)


def draw_help(layout: bpy.types.UILayout, folder: Path, status: JobStatus) -> None:
    """The buttons that help after a job that did not finish."""
    kind = HELP.get(status.kind, "")
    if not kind and status.exit_code in ENDED_BY_SYSTEM:
        kind = "PREVIEW"
    if kind == "PREFERENCES" or "preferences" in status.error:
        layout.operator("nextgenface.open_preferences", icon="PREFERENCES")
    elif kind == "FACES":
        layout.operator("nextgenface.find_faces", icon="VIEWZOOM")
    elif kind == "PREVIEW":
        layout.operator("nextgenface.apply_preset", text="Use Fast Preview").name = "Fast Preview"
    if status.state != "broken":
        layout.operator("nextgenface.resume_job", icon="PLAY").folder = str(folder)
    if status.state == "failed" and status.exit_code not in (2, None):
        layout.operator("nextgenface.write_report", icon="GREASEPENCIL").folder = str(folder)
