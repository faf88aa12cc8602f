"""Facial landmarks: detectors and the tables that relate their numberings.

Detectors are imported only when they are created, so a package that is not used need not be there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nextgenface.errors import ConfigError
from nextgenface.landmarks.types import Detector, Landmarks, select_face
from nextgenface.paths import user_data_dir

if TYPE_CHECKING:
    from nextgenface.config import Config

__all__ = ["Detector", "Landmarks", "create_detector", "find_landmarker", "select_face"]


def create_detector(config: Config) -> Detector:
    """The detector that the options ask for.

    MediaPipe: its Face Landmarker when a `face_landmarker.task` is found (see `find_landmarker`),
    else the FaceMesh inside the package. Raises `ConfigError` for a named file that does not exist
    and `EnvironmentProblem` when a package is missing.
    """
    wanted = max(config.face, 1)
    if config.lamdmarksDetectorType == "fan":
        from nextgenface.landmarks.fan import FanDetector

        return FanDetector.from_files(config.fanWeights, device=config.resolveDevice())
    task = find_landmarker(config)
    if task is not None:
        from nextgenface.landmarks.mediapipe_tasks import FaceLandmarkerDetector

        return FaceLandmarkerDetector(task, wanted)
    from nextgenface.landmarks.mediapipe_mesh import FaceMeshDetector

    return FaceMeshDetector(wanted)


def find_landmarker(config: Config) -> Path | None:
    """The `face_landmarker.task` to use: option `landmarker`, else NEXTGENFACE_LANDMARKER, else the user
    data folder; None when there is none. `ConfigError` when the first two name a file that does not exist.
    """
    for said_by, text in (("landmarker", config.landmarker), ("NEXTGENFACE_LANDMARKER", _environment())):
        if text:
            path = Path(text).expanduser()
            if not path.is_file():
                raise ConfigError(
                    f"{said_by} names {path}, which does not exist; give a face_landmarker.task"
                )
            return path
    path = user_data_dir() / "face_landmarker.task"
    return path if path.is_file() else None


def _environment() -> str:
    return os.environ.get("NEXTGENFACE_LANDMARKER", "")
