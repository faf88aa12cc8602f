"""The jobs of this computer: running, waiting, stopped, finished and broken ones."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import session
from ..job_events import STATE_TITLES
from ..job_list import FoundJob
from .base import SidebarPanel
from .outcome import draw_outcome

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
    """One line: how it stands, its name, and what is done most; details below it when it is selected."""
    now, folder = session.current(), str(job.folder)
    shown = now.selected == job.folder
    row = layout.row(align=True)
    arrow = "TRIA_DOWN" if shown else "TRIA_RIGHT"
    row.operator("nextgenface.show_job", text="", icon=arrow, emboss=False).folder = folder
    title = f"{job.folder.name} ({iface_(STATE_TITLES[job.state])})"
    row.label(text=title, icon=ICONS[job.state], translate=False)
    if job.state == "running" or now.is_busy(job.folder):
        row.operator("nextgenface.cancel_job", text="", icon="CANCEL").folder = folder
        return
    if job.state == "finished":
        row.operator("nextgenface.import_job", text="", icon="IMPORT").folder = folder
    elif job.state != "broken":
        row.operator("nextgenface.resume_job", text="", icon="PLAY").folder = folder
    row.operator("nextgenface.forget_job", text="", icon="X").folder = folder
    if shown:
        draw_outcome(layout.box(), job.folder, job.status, "", job.checkpoints)


CLASSES = (NEXTGENFACE_PT_jobs,)
