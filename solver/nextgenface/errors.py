"""Errors that are meant for people: what happened, which file or setting, what to do next."""

from __future__ import annotations


class NextGenFaceError(Exception):
    """A problem the user can act on; the command line prints it without a traceback.

    The message names the file or setting and says what to do next.
    `exit_code` is what the commands return for it.
    """

    exit_code = 2


class ConfigError(NextGenFaceError):
    """A setting has a wrong name, type or value."""


class PhotoError(NextGenFaceError):
    """A photo cannot be read or used."""


class NoFaceError(PhotoError):
    """No usable face was found in a photo."""


class ModelError(NextGenFaceError):
    """A face model is missing, damaged or does not fit."""


class CheckpointError(NextGenFaceError):
    """A checkpoint is damaged, hostile, or belongs to another model or photo."""


class OutputError(NextGenFaceError):
    """Results cannot be written."""


class EnvironmentProblem(NextGenFaceError):
    """Something the solver needs (LLVM, a package, a device) is missing."""


class Cancelled(NextGenFaceError):
    """The user stopped the run; the last checkpoint is kept."""

    exit_code = 130
