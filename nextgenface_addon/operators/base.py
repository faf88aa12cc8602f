"""The base of all operators: what goes wrong becomes a sentence, and what should not, a report to send."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import session
from ..problems import AddonProblem
from ..reports import report_text, write_report
from ..user_folders import ADDON, user_folder

log = logging.getLogger(__name__)

Work = Callable[[bpy.types.Context], set[str]]


class NextGenFaceOperator:
    """Mixin before bpy.types.Operator: write `work(context)` instead of `execute`.

    `obstacle(context)` instead of `poll` says why it cannot be used now. An AddonProblem is shown as it is.
    Any other exception is written to a report file, whose path is shown.
    `invoke` and `modal` bodies go through `self.guarded(context, function)`.
    """

    bl_options = {"REGISTER"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """What the operator does; returns {'FINISHED'} or {'CANCELLED'}."""
        raise NotImplementedError

    @classmethod
    def obstacle(cls, context: bpy.types.Context) -> str:
        """Why the operator cannot be used now, for its tooltip; empty when it can."""
        return ""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        obstacle = cls.obstacle(context)
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.guarded(context, self.work)

    def guarded(self, context: bpy.types.Context, work: Work) -> set[str]:
        """Run `work(context)`; whatever it raises is reported, and the operator is cancelled."""
        try:
            return work(context)
        except AddonProblem as problem:
            self.report({"ERROR"}, str(problem))
        except Exception as error:
            log.exception("%s", self.bl_idname)
            self.report({"ERROR"}, fault_message(self, error))
        return {"CANCELLED"}


def fault_message(operator: bpy.types.Operator, error: Exception) -> str:
    """One sentence on a fault of ours, with the report's place when it could be written."""
    what = f"{type(error).__name__}: {error}"
    facts = blender_facts() | {
        "operator": operator.bl_idname,
        "properties": dict(operator.properties.items()),
    }
    path = save_report(f"NextGenFace: {operator.bl_idname} failed", facts, traceback.format_exc())
    if path is None:
        return rpt_("This is a fault of NextGenFace ({what}). The report could not be written").format(
            what=what
        )
    return rpt_("This is a fault of NextGenFace ({what}). Please send the report {path}").format(
        what=what, path=path
    )


def blender_facts() -> dict[str, object]:
    """What a report says about this Blender."""
    return {
        "blender": bpy.app.version_string,
        "build": f"{bpy.app.build_hash.decode()} {bpy.app.build_platform.decode()}",
        "add-on": ADDON,
        "background": bpy.app.background,
        "online access": bpy.app.online_access,
        "NEXTGENFACE variables": {k: v for k, v in os.environ.items() if k.startswith("NEXTGENFACE_")},
    }


def save_report(title: str, facts: dict[str, object], details: str, job: Path | None = None) -> Path | None:
    """Write a report into the user's folder; None when even that fails."""
    current = session.current().job
    folder = job if job is not None else current.folder if current is not None else None
    try:
        return write_report(user_folder() / "reports", report_text(title, facts, details, folder))
    except OSError:
        log.exception("the report cannot be written")
        return None
