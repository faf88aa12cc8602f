"""MediaPipe Tasks Face Landmarker: the same 478 points and 52 blendshape scores, from a `.task` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import EnvironmentProblem
from nextgenface.landmarks.mediapipe_mesh import MAX_FACES, from_mediapipe
from nextgenface.landmarks.search import Box, find_faces, quiet
from nextgenface.landmarks.types import Landmarks


class FaceLandmarkerDetector:
    """Detector with a `face_landmarker.task` bundle; works with mediapipe 0.10.21 and 1.2.

    Raises `EnvironmentProblem` when mediapipe is missing or the bundle cannot be used.
    """

    def __init__(self, task: Path, wanted: int = 1) -> None:
        self._wanted = wanted
        try:
            with quiet():
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise EnvironmentProblem(
                "the landmark detector needs the package mediapipe, which is missing; "
                "run: pip install mediapipe"
            ) from error
        self._image: Any = mediapipe.Image
        self._format: Any = mediapipe.ImageFormat.SRGB
        try:
            # Read here: the library itself cannot open paths with non-ASCII characters on every system.
            bundle = Path(task).read_bytes()
            with quiet():
                self._landmarker = vision.FaceLandmarker.create_from_options(
                    vision.FaceLandmarkerOptions(
                        base_options=BaseOptions(model_asset_buffer=bundle),
                        num_faces=MAX_FACES,
                        output_face_blendshapes=True,
                    )
                )
                self._find_landmarks(np.zeros((256, 256, 3), np.uint8))
        except (OSError, RuntimeError, ValueError) as error:
            raise EnvironmentProblem(
                f"{task} is not a usable face_landmarker.task ({_first_line(error)}); download it again"
            ) from error

    def detect(self, srgb8: NDArray[np.uint8]) -> list[Landmarks]:
        """Faces in an upright (H, W, 3) 8-bit sRGB picture, largest first; see `Landmarks` for units."""
        with quiet():
            return find_faces(srgb8, self._find_boxes, self._find_landmarks, self._wanted)

    def close(self) -> None:
        """Free the networks."""
        self._landmarker.close()

    def _find_boxes(self, square: NDArray[np.uint8]) -> list[Box]:
        # The bundle has no interface of its own for detection, so the landmarks' boxes serve.
        return [face.box for face in self._find_landmarks(square)]

    def _find_landmarks(self, square: NDArray[np.uint8]) -> list[Landmarks]:
        result = self._landmarker.detect(
            self._image(image_format=self._format, data=np.ascontiguousarray(square))
        )
        faces = []
        for number, points in enumerate(result.face_landmarks):
            scores = result.face_blendshapes[number] if result.face_blendshapes else []
            blendshapes = {score.category_name: float(score.score) for score in scores}
            faces.append(from_mediapipe(points, len(square), blendshapes or None))
        return faces


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
