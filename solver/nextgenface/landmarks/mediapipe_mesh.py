"""MediaPipe FaceMesh: 468 landmarks and the irises, with the networks inside the mediapipe package.

Needs a mediapipe that still has `mp.solutions` (up to 0.10.2x); nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import EnvironmentProblem
from nextgenface.landmarks.search import Box, find_faces, quiet
from nextgenface.landmarks.tables import MEDIAPIPE_COUNT
from nextgenface.landmarks.types import Landmarks

MAX_FACES = 5


class FaceMeshDetector:
    """Detector with MediaPipe's bundled face detection and FaceMesh (with attention).

    `wanted`: how many faces have to be found before the search in small windows is left out.
    Raises `EnvironmentProblem` when mediapipe is missing or has no bundled FaceMesh.
    """

    def __init__(self, wanted: int = 1) -> None:
        self._wanted = wanted
        solutions = _solutions()
        with quiet():
            self._mesh = solutions.face_mesh.FaceMesh(
                static_image_mode=True,
                max_num_faces=MAX_FACES,
                refine_landmarks=True,
                min_detection_confidence=0.5,
            )
            # Model 0 is made for faces near the camera, 1 for small ones.
            self._finders = [
                solutions.face_detection.FaceDetection(model_selection=model, min_detection_confidence=0.5)
                for model in (0, 1)
            ]
            blank = np.zeros((256, 256, 3), np.uint8)
            for network in (self._mesh, *self._finders):
                network.process(blank)

    def detect(self, srgb8: NDArray[np.uint8]) -> list[Landmarks]:
        """Faces in an upright (H, W, 3) 8-bit sRGB picture, largest first; see `Landmarks` for units."""
        with quiet():
            return find_faces(srgb8, self._find_boxes, self._find_landmarks, self._wanted)

    def close(self) -> None:
        """Free the networks."""
        for network in (self._mesh, *self._finders):
            network.close()

    def _find_boxes(self, square: NDArray[np.uint8]) -> list[Box]:
        size = len(square)
        boxes: list[Box] = []
        for finder in self._finders:
            for detection in finder.process(square).detections or []:
                box = detection.location_data.relative_bounding_box
                boxes.append(
                    (
                        box.xmin * size,
                        box.ymin * size,
                        (box.xmin + box.width) * size,
                        (box.ymin + box.height) * size,
                    )
                )
        return boxes

    def _find_landmarks(self, square: NDArray[np.uint8]) -> list[Landmarks]:
        faces = self._mesh.process(square).multi_face_landmarks or []
        return [from_mediapipe(face.landmark, len(square)) for face in faces]


def from_mediapipe(normalised: Any, size: int, blendshapes: dict[str, float] | None = None) -> Landmarks:
    """Landmarks from MediaPipe's list of normalised ones in a square picture of `size` pixels.

    MediaPipe divides x and y by the width and height of the picture, with 0 its left and top edge
    (so that the first pixel's centre is at half a pixel), and z roughly by the width, smaller = nearer.
    """
    values = np.array([(point.x, point.y, point.z) for point in normalised], dtype=np.float64) * size
    mesh, irises = values[:MEDIAPIPE_COUNT], values[MEDIAPIPE_COUNT:]
    return Landmarks(
        scheme="mediapipe",
        indices=np.arange(MEDIAPIPE_COUNT, dtype=np.int64),
        points=mesh[:, :2].copy(),
        depth=mesh[:, 2].copy(),
        weights=np.ones(MEDIAPIPE_COUNT),
        blendshapes=blendshapes,
        irises=irises[:10, :2].copy() if len(irises) >= 10 else None,
    )


def _solutions() -> Any:
    """The module `mediapipe.solutions`."""
    try:
        with quiet():
            import mediapipe
    except ImportError as error:
        raise EnvironmentProblem(
            "the landmark detector needs the package mediapipe, which is missing; run: pip install mediapipe"
        ) from error
    solutions = getattr(mediapipe, "solutions", None)
    if solutions is None or not hasattr(solutions, "face_mesh"):
        raise EnvironmentProblem(
            f"mediapipe {mediapipe.__version__} comes without its face mesh; give a face_landmarker.task "
            "with the option landmarker (or NEXTGENFACE_LANDMARKER), or use Python 3.11 or 3.12 with "
            "mediapipe 0.10.21"
        )
    return solutions
