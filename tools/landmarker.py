"""Fetches MediaPipe's face_landmarker.task, which the solver needs on Python 3.13, with its hash checked."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

ADDRESS = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
VARIABLE = "NEXTGENFACE_LANDMARKER"


def user_data_dir() -> Path:
    """The folder that nextgenface.paths.user_data_dir() names; that module needs no packages."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "solver"))
    try:
        from nextgenface.paths import user_data_dir as folder

        return folder()
    finally:
        sys.path.pop(0)


def ensure() -> str:
    """Have the file, or say in one sentence where to put it."""
    named = os.environ.get(VARIABLE)
    if named and Path(named).is_file():
        return "face_landmarker.task: " + named
    target = user_data_dir() / "face_landmarker.task"
    if target.is_file():
        return "face_landmarker.task: " + str(target)
    try:
        with urllib.request.urlopen(ADDRESS, timeout=30) as response:
            content = response.read()
    except OSError as problem:
        return (
            f"face_landmarker.task is missing and could not be fetched ({problem}). With Python 3.13 "
            f"faces are found only with it: download {ADDRESS}, put it at {target} or name it in {VARIABLE}."
        )
    if hashlib.sha256(content).hexdigest() != SHA256:
        return f"face_landmarker.task from {ADDRESS} is not the file that was expected; it was not kept."
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(target)
    return "face_landmarker.task: fetched to " + str(target)
