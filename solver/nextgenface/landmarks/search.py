"""Finding faces of any size in a photo of any size, for detectors that see a small square.

Detectors look at 128 to 192 pixels, so a small face in a large photo has to be searched for in
windows, from the whole picture down to pieces. A face that was found is then looked at again in a
window around it, twice: the second time in a window that its own landmarks define, so that the
result does not depend on how the photo happens to be framed.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nextgenface.landmarks.types import Landmarks

FINEST_WINDOW = 600
"""The search stops at windows of about this many pixels: a face of 60 is a tenth of it."""

WINDOW_PIXELS = 512
"""Windows larger than this are reduced to it, those below half of it are enlarged to that half."""

Box = tuple[float, float, float, float]
FindBoxes = Callable[[NDArray[np.uint8]], list[Box]]
FindLandmarks = Callable[[NDArray[np.uint8]], list[Landmarks]]


@dataclass(frozen=True)
class Window:
    """A square of a photo: corner (x0, y0) and `side` in pixels of the photo; it may reach beyond the border."""

    x0: int
    y0: int
    side: int

    @classmethod
    def around(cls, box: Box, factor: float) -> Window:
        """The square with the centre of a box (x0, y0, x1, y1) and `factor` times its longer side."""
        side = max(8, round(max(box[2] - box[0], box[3] - box[1]) * factor))
        return cls(round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2), side)

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(S, S, 3) the picture in this window, black beyond the border, brought to a size detectors like."""
        height, width = picture.shape[:2]
        x0, x1 = np.clip((self.x0, self.x0 + self.side), 0, width)
        y0, y1 = np.clip((self.y0, self.y0 + self.side), 0, height)
        square = np.zeros((self.side, self.side, 3), np.uint8)
        square[y0 - self.y0 : y1 - self.y0, x0 - self.x0 : x1 - self.x0] = picture[y0:y1, x0:x1]
        size = min(max(self.side, WINDOW_PIXELS // 2), WINDOW_PIXELS)
        if size == self.side:
            return square
        # BICUBIC in Pillow widens with the reduction, so it is free of aliasing both ways.
        return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))

    def to_photo(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """(L, 2) points of a cut of `size` pixels, in pixels of the photo."""
        return points * (self.side / size) + np.array((self.x0, self.y0), dtype=np.float64)


def windows(width: int, height: int) -> Iterator[list[Window]]:
    """Levels of windows over a photo, from one that holds all of it (with a border around) to small ones."""
    longest = max(width, height)
    yield [Window.around((0, 0, width, height), 1.5), Window.around((0, 0, width, height), 1.0)]
    side = longest
    while side > FINEST_WINDOW:
        side = round(side / 2)
        yield [Window(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]


def _starts(length: int, side: int) -> list[int]:
    """Starts of windows that overlap by at least half and cover a length."""
    if length <= side:
        return [round((length - side) / 2)]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def find_faces(
    picture: NDArray[np.uint8], find_boxes: FindBoxes, find_landmarks: FindLandmarks, wanted: int
) -> list[Landmarks]:
    """Faces in a picture (H, W, 3), largest first.

    `find_boxes` proposes faces in a window, `find_landmarks` gives the landmarks of all faces in one;
    both in pixels of the window. Smaller windows are searched until `wanted` faces are found.
    """
    faces: list[Landmarks] = []
    tried: list[Box] = []
    for level, squares in enumerate(windows(picture.shape[1], picture.shape[0])):
        for window in squares:
            cut = window.cut(picture)
            for box in find_boxes(cut):
                corners = window.to_photo(np.array(box).reshape(2, 2), len(cut)).reshape(4)
                candidate: Box = (corners[0], corners[1], corners[2], corners[3])
                if any(_overlap(candidate, other) > 0.4 for other in tried):
                    continue
                tried.append(candidate)
                face = look_closer(picture, candidate, find_landmarks)
                if face is not None and all(_overlap(face.box, other.box) < 0.3 for other in faces):
                    faces.append(face)
                    tried.append(face.box)
        # The whole picture alone misses faces that the second level finds: look at both before being content.
        if len(faces) >= wanted and level >= 1:
            break
    return sorted(faces, key=lambda face: -face.size)


def look_closer(picture: NDArray[np.uint8], box: Box, find_landmarks: FindLandmarks) -> Landmarks | None:
    """Landmarks of the face in a box (pixels of the picture), None when there is none after all."""
    face = None
    for factor in (2.2, 1.8):
        window = Window.around(box, factor)
        cut = window.cut(picture)
        found = [_in_photo(one, window, len(cut)) for one in find_landmarks(cut)]
        found = [one for one in found if _overlap(one.box, box) > 0.15]
        if not found:
            return None
        middle = window.x0 + window.side / 2, window.y0 + window.side / 2
        face = min(found, key=lambda one: float(np.hypot(*(one.points.mean(axis=0) - middle))))
        box = face.box
    return face


def _in_photo(face: Landmarks, window: Window, size: int) -> Landmarks:
    return replace(
        face,
        points=window.to_photo(face.points, size),
        depth=None if face.depth is None else face.depth * (window.side / size),
        irises=None if face.irises is None else window.to_photo(face.irises, size),
    )


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (areas - width * height)


_quiet_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what MediaPipe's C++ side writes to the process's standard error while it starts.

    It logs past Python, so the file descriptor itself is redirected, for as short as possible.
    """
    with _quiet_lock, warnings.catch_warnings(), open(os.devnull, "wb") as nowhere:
        warnings.simplefilter("ignore")
        sys.stderr.flush()
        saved = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
