"""The preferences' part on the solver's environment: how it stands, the installer, the doctor's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import tasks
from .base import paragraphs
from .models import draw_models

if TYPE_CHECKING:
    from ..operators.environment import Known

WIDTH = 90

STATES = {
    "missing": ("The solver is not installed yet", "INFO"),
    "ready": ("The solver is installed", "CHECKMARK"),
    "outdated": ("The solver belongs to another version of the extension: press Repair", "ERROR"),
    "broken": ("The installation is not complete: press Repair", "ERROR"),
}

STAGE_TITLES = {"python": "Looking for Python", "packages": "Installing packages", "check": "Checking"}

SIGNS = {"ok": "CHECKMARK", "warning": "ERROR", "failed": "CANCEL"}


def draw_environment(
    layout: bpy.types.UILayout, preferences: bpy.types.AddonPreferences, known: Known
) -> None:
    """All of it; `known` was read before."""
    box = layout.box()
    draw_state(box, preferences, known)
    installer = tasks.get("installer")
    if installer is not None:
        status = installer.status
        if not status.done:
            title = iface_(STAGE_TITLES.get(status.stage, "Starting"))
            box.progress(factor=status.fraction, text=iface_("Stopping") if installer.cancelling else title)
            if status.note:
                box.label(text=status.note[:WIDTH], translate=False)
        elif status.state == "failed":
            paragraphs(box, status.error, icon="ERROR", most=8, width=WIDTH)
    row = box.row(align=True)
    if installer is not None and not installer.status.done:
        row.operator("nextgenface.cancel_installation", icon="CANCEL")
    elif known.installer:
        again = known.state != "missing"
        row.operator("nextgenface.install_environment", text="Repair" if again else "Install", icon="IMPORT")
        row.operator("nextgenface.remove_environment", text="Remove", icon="TRASH")
    row.operator("nextgenface.use_environment", icon="FILE_FOLDER")
    row.operator("nextgenface.open_installation_log", text="Log", icon="TEXT")
    column = box.column()
    column.use_property_split = True
    column.prop(preferences, "solver_python")
    draw_doctor(layout, known)
    draw_models(layout, known)


def draw_state(layout: bpy.types.UILayout, preferences: bpy.types.AddonPreferences, known: Known) -> None:
    """Which environment is used, in one line."""
    if preferences.solver_python:
        layout.label(text="An existing environment is used", icon="CHECKMARK" if known.python else "ERROR")
    else:
        text, icon = STATES[known.state]
        if known.state == "missing" and known.python:
            text, icon = "The environment of 'make setup' is used", "CHECKMARK"
        layout.label(text=text, icon=icon)
    if known.python:
        layout.label(text=known.python, icon="BLANK1", translate=False)
    elif known.problem:
        paragraphs(layout, known.problem, icon="BLANK1", width=WIDTH)


def draw_doctor(layout: bpy.types.UILayout, known: Known) -> None:
    """The doctor's table."""
    header, body = layout.panel("nextgenface_doctor", default_closed=not known.checks)
    header.label(text="Check of the Environment")
    header.operator("nextgenface.check_environment", icon="VIEWZOOM")
    if body is None:
        return
    doctor = tasks.get("doctor")
    if doctor is not None and not doctor.status.done:
        body.label(text="Checking; this takes some seconds", icon="TIME")
        return
    if doctor is not None and doctor.status.state == "failed":
        paragraphs(body, doctor.status.error, icon="ERROR", most=6, width=WIDTH)
    for row in known.checks:
        draw_check(body, row)


def draw_check(layout: bpy.types.UILayout, row: dict[str, Any]) -> None:
    """One line of the table: name and what was found; what is wrong and what to do below it."""
    split = layout.split(factor=0.22)
    split.label(text=row["name"], icon=SIGNS.get(row.get("status", ""), "QUESTION"), translate=False)
    column = split.column(align=True)
    for text in (row.get("found"), row.get("wrong"), row.get("action")):
        if text:
            paragraphs(column, str(text), most=3, width=WIDTH - 20)
