"""The preferences' part on the face models: what is installed, what could be, and what is being done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import tasks
from ..models import ModelCommand
from .base import paragraphs

if TYPE_CHECKING:
    from ..operators.environment import Known

WIDTH = 90

RUNNING = {
    "add": "{name} is being copied and checked",
    "check": "{name} is being checked",
    "remove": "{name} is being removed",
    "download": "{name} is being downloaded",
}

FINISHED = {
    "add": "{name} was added and can be used",
    "check": "{name} can be used",
    "remove": "{name} was removed",
    "download": "{name} was downloaded and can be used",
}


def draw_models(layout: bpy.types.UILayout, known: Known) -> None:
    """The face models that can be chosen by name, and those that could be installed."""
    header, body = layout.panel("nextgenface_models", default_closed=True)
    header.label(text="Face Models")
    header.operator("nextgenface.list_models", text="", icon="FILE_REFRESH")
    header.operator("nextgenface.add_model", icon="FILE_FOLDER")
    # The buttons above can be pressed while the list is closed, so what becomes of them is always shown.
    shown = layout if body is None else body
    listing = tasks.get("models")
    command = tasks.get("model command")
    if isinstance(command, ModelCommand):
        draw_command(shown, command)
    if listing is not None and listing.status.state == "failed":
        paragraphs(shown, listing.status.error, icon="ERROR", most=4, width=WIDTH)
    if body is None:
        return
    if not known.models:
        body.label(text="Press Check to list them", icon="INFO")
    for row in known.models:
        draw_model(body.box(), row, removable=row["name"] in known.removable)


def draw_command(layout: bpy.types.UILayout, command: ModelCommand) -> None:
    """What is being done to a model, or how it ended."""
    status = command.status
    if not status.done:
        text = iface_(RUNNING[command.action]).format(name=command.name)
        if command.action != "download":
            layout.label(text=text, icon="TIME", translate=False)
            return
        row = layout.row()
        row.progress(factor=status.fraction, text=iface_("Stopping") if command.cancelling else text)
        row.operator("nextgenface.cancel_model_download", icon="CANCEL")
        if status.note:
            layout.label(text=status.note[:WIDTH], translate=False)
    elif status.state == "failed":
        paragraphs(layout, f"{command.name}: {status.error}", icon="ERROR", most=6, width=WIDTH)
    elif status.state == "cancelled":
        text = iface_("The download of {name} was stopped; the next one goes on from there")
        layout.label(text=text.format(name=command.name), icon="INFO", translate=False)
    else:
        text = iface_(FINISHED[command.action]).format(name=command.name)
        layout.label(text=text, icon="CHECKMARK", translate=False)
        for note in command.result_notes:
            paragraphs(layout, note, icon="BLANK1", most=3, width=WIDTH)


def draw_model(layout: bpy.types.UILayout, row: dict[str, Any], *, removable: bool) -> None:
    """One model: name, title and buttons; below them size, licence, source and what there is to say."""
    name, installed = row["name"], bool(row.get("installed"))
    head = layout.row()
    title = f"{name}: {row.get('title') or ''}"
    head.label(text=title, icon="CHECKMARK" if installed else "DOT", translate=False)
    buttons = head.row(align=True)
    if installed or removable:
        buttons.operator("nextgenface.check_model", text="Check", icon="VIEWZOOM").model = name
    if removable:
        buttons.operator("nextgenface.remove_model", text="Remove", icon="TRASH").model = name
    if not installed and not removable:
        if row.get("downloadable"):
            buttons.operator("nextgenface.download_model", text="Download", icon="IMPORT").model = name
        buttons.operator("nextgenface.add_model", icon="FILE_FOLDER").model = name
    below = layout.column(align=True)
    for text in facts(row, installed):
        paragraphs(below, text, icon="BLANK1", most=2, width=WIDTH)


def facts(row: dict[str, Any], installed: bool) -> list[str]:
    """The lines below a model's name."""
    size = row.get("size_mb") if installed else row.get("download_mb")
    lines = [
        iface_("Size: {size} MB").format(size=size) if size else "",
        iface_("Licence: {licence}").format(licence=row.get("licence") or iface_("not known")),
        iface_("Source: {source}").format(source=row.get("source") or iface_("not known")),
        str(row.get("note") or ""),
        str(row.get("path") or ""),
    ]
    return [line for line in lines if line]
