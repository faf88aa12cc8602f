"""The jobs of this computer: running, waiting, stopped, finished and broken ones."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import session
from ..job_events import STATE_TITLES
from ..job_list import FoundJob
from .base import SidebarPanel

MOST_SHOWN = 12

ICONS = {
    "running": "PLAY",
    "created": "TIME",
    "finished": "CHECKMARK",
    "cancelled": "PAUSE",
    "stopped": "PAUSE",
    "failed": "ERROR",
    "broken": "ERROR",
}


class NEXTGENFACE_PT_jobs(SidebarPanel, bpy.types.Panel):
    """Jobs, newest first."""

    bl_idname = "NEXTGENFACE_PT_jobs"
    bl_label = "Jobs"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 15

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        self.layout.operator("nextgenface.refresh_jobs", text="", icon="FILE_REFRESH", emboss=False)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        jobs = session.current().listed()
        if not jobs:
            layout.label(text="No jobs yet", icon="INFO")
        column = layout.column(align=True)
        for job in jobs[:MOST_SHOWN]:
            draw_job(column, job)


def draw_job(layout: bpy.types.UILayout, job: FoundJob) -> None:
    """One line: how it stands, its name, and what can be done."""
    folder = str(job.folder)
    row = layout.row(align=True)
    title = f"{job.folder.name} ({iface_(STATE_TITLES[job.state])})"
    row.label(text=title, icon=ICONS[job.state], translate=False)
    buttons = row.row(align=True)
    buttons.alignment = "RIGHT"
    if job.state in ("running", "created"):
        if job.state == "created" and not session.current().is_busy(job.folder):
            buttons.operator("nextgenface.resume_job", text="", icon="PLAY").folder = folder
        else:
            buttons.operator("nextgenface.cancel_job", text="", icon="CANCEL").folder = folder
    elif job.state == "finished":
        buttons.operator("nextgenface.import_job", text="", icon="IMPORT").folder = folder
    elif job.state != "broken":
        buttons.operator("nextgenface.resume_job", text="", icon="PLAY").folder = folder
    buttons.operator("nextgenface.open_folder", text="", icon="FILE_FOLDER").folder = folder
    if job.state not in ("running",):
        buttons.operator("nextgenface.forget_job", text="", icon="X").folder = folder


CLASSES = (NEXTGENFACE_PT_jobs,)
