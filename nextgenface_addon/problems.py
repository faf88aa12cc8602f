"""Errors that are meant for people. No bpy in here."""

from __future__ import annotations


class AddonProblem(Exception):
    """Something the user can put right: the message names the file or setting and says what to do.

    Operators show it as it is; every other exception is a fault of ours and becomes a report file.
    """
