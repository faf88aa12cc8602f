"""Reads the CSV files that the Live Link Face app records: ARKit values over time. No bpy in here.

First line: Timecode, BlendShapeCount (both spellings are about), then the names. Then a line a frame, with a
timecode of hours:minutes:seconds:frames, where the frames may have a fraction.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..problems import AddonProblem
from .arkit import arkit_name

FRAME_RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 120.0)
_USUAL_RATE = 60.0
_MILLISECONDS = 1000.0  # what other programs write in the place of frames
_DAY = 24 * 3600.0
_LARGEST_FILE = 500_000_000


class LiveLinkError(AddonProblem):
    """A recording cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Take:
    """A recording. `names`: ARKit's, B of them; `times` (n,) seconds from the first frame, ascending;
    `values` (n, B) 0..1; `frame_rate` of the timecode; `ignored`: columns that are no face shape (the head's
    and eyes' angles); `lost`: frames without values, as while no face was seen.
    """

    names: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    frame_rate: float
    ignored: tuple[str, ...]
    lost: int


def read_take(path: Path, frame_rate: float = 0.0) -> Take:
    """Read a recording; `frame_rate` of its timecode, 0 to tell it from the file. Raises LiveLinkError."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise LiveLinkError(f"{path} is larger than a recording can be.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise LiveLinkError(f"{path} cannot be read as a CSV file ({problem}).") from problem
    header = [cell.strip() for cell in rows[0]] if rows else []
    if not header or header[0].lower() != "timecode":
        raise LiveLinkError(
            f"{path} does not begin with a Timecode column. Choose the .csv of a Live Link Face recording."
        )
    columns = {column: name for column, cell in enumerate(header) if (name := arkit_name(cell)) is not None}
    if not columns:
        raise LiveLinkError(f"{path} has no column with the name of an ARKit face shape.")
    ignored = tuple(cell for i, cell in enumerate(header) if i >= 2 and i not in columns and cell)
    codes: list[tuple[int, float]] = []
    values: list[list[float]] = []
    lost = 0
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns):
            lost += 1
            continue
        try:
            codes.append(_timecode(row[0]))
            values.append([float(row[column]) for column in columns])
        except ValueError as problem:
            raise LiveLinkError(f"{path}, line {number}: {problem}.") from problem
    if not values:
        raise LiveLinkError(f"{path} holds no frame with face values.")
    array = np.array(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise LiveLinkError(f"{path} holds values that are not finite.")
    rate = frame_rate or _guess_rate(codes)
    times = np.array([seconds + frames / rate for seconds, frames in codes])
    times += _DAY * np.cumsum(np.diff(times, prepend=times[0]) < -_DAY / 2)  # past midnight
    # A clock that was set back would fold the recording over itself.
    times = np.maximum.accumulate(times - times[0])
    keep = np.append(np.diff(times) > 0, True)
    return Take(tuple(columns.values()), times[keep], array[keep], rate, ignored, lost)


def _timecode(text: str) -> tuple[int, float]:
    """Whole seconds since midnight, and frames with their fraction."""
    parts = text.strip().replace(";", ":").split(":")
    if len(parts) != 4:
        raise ValueError(f"{text!r} is not a timecode of hours:minutes:seconds:frames")
    hours, minutes, seconds = (int(part) for part in parts[:3])
    frames = float(parts[3])
    if not (0 <= minutes < 60 and 0 <= seconds < 60 and 0 <= frames < 1000):
        raise ValueError(f"{text!r} is not a timecode of hours:minutes:seconds:frames")
    return hours * 3600 + minutes * 60 + seconds, frames


def _guess_rate(codes: list[tuple[int, float]]) -> float:
    """The frame rate that a timecode counts in: the largest frame number says it after a full second."""
    highest = max(frames for _, frames in codes)
    if codes[-1][0] - codes[0][0] < 2 and highest < FRAME_RATES[0]:
        return _USUAL_RATE
    return next((rate for rate in FRAME_RATES if highest < rate), _MILLISECONDS)
