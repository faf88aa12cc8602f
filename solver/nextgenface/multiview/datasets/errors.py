"""The error of all readers."""

from __future__ import annotations

from ...errors import NextGenFaceError


class DataSetError(NextGenFaceError):
    """A set of calibrated pictures is missing, damaged, incomplete, or in another convention than it says."""
