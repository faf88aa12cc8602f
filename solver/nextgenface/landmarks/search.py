"""Finding faces of any size in a photo of any size, for detectors that see a small square.

Detectors look at 128 to 192 pixels, so a small face in a large photo has to be searched for in
windows, from the whole picture down to pieces. A face that was found is then looked at again in
windows around it that its own landmarks define, so that the result does not depend on how the
photo happens to be framed.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nextgenface.landmarks.tables import IRIS_MIRROR, mediapipe_mirror
from nextgenface.landmarks.types import Landmarks

FINEST_WINDOW = 600
"""The search stops at windows of about this many pixels: a face of 60 is a tenth of it."""

WINDOW_PIXELS = 512
"""Windows larger than this are reduced to it, those below half of it are enlarged to that half."""

CLOSER_WINDOWS = (1.7, 2.1)
"""Sides of the windows for the final answer, over the longer side of the box of landmarks."""

Box = tuple[float, float, float, float]
FindBoxes = Callable[[NDArray[np.uint8]], list[Box]]
FindLandmarks = Callable[[NDArray[np.uint8]], list[Landmarks]]


@dataclass(frozen=True)
class Window:
    """A square of a photo: corner (x0, y0) and `side` in pixels; it may reach beyond the border."""

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
    """Landmarks of the face in a box (pixels of the picture), None when there is none after all.

    The detector's answer depends a little on where the window lies and which way round the face is: on
    portraits it scatters by 0.5 % of the face's size. The mean over windows around the first answer, each
    seen plainly and mirrored, scatters by 0.1 % and leaves no preference for left or right.
    """
    first = _nearest(picture, Window.around(box, 2.2), box, find_landmarks)
    if first is None:
        return None
    seen = [
        face
        for factor in CLOSER_WINDOWS
        for mirrored in (False, True)
        if (face := _nearest(picture, Window.around(first.box, factor), first.box, find_landmarks, mirrored))
    ]
    return average(seen) if seen else None


def _nearest(
    picture: NDArray[np.uint8],
    window: Window,
    box: Box,
    find_landmarks: FindLandmarks,
    mirrored: bool = False,
) -> Landmarks | None:
    """The face in a window that lies on a box (pixels of the picture) and nearest to the window's middle."""
    cut = window.cut(picture)
    if mirrored:
        found = [unmirrored(face, len(cut)) for face in find_landmarks(np.ascontiguousarray(cut[:, ::-1]))]
    else:
        found = find_landmarks(cut)
    found = [_in_photo(face, window, len(cut)) for face in found]
    found = [face for face in found if _overlap(face.box, box) > 0.15]
    middle = np.array((window.x0 + window.side / 2, window.y0 + window.side / 2))
    return min(found, key=lambda face: float(np.linalg.norm(face.points.mean(axis=0) - middle)), default=None)


def unmirrored(face: Landmarks, width: int) -> Landmarks:
    """Landmarks (all 468 of MediaPipe) found in a mirrored picture, as they lie in the picture itself."""
    order = mediapipe_mirror()
    flip, shift = np.array((-1.0, 1.0)), np.array((float(width), 0.0))
    return replace(
        face,
        points=face.points[order] * flip + shift,
        depth=None if face.depth is None else face.depth[order],
        weights=face.weights[order],
        irises=None if face.irises is None else face.irises[IRIS_MIRROR] * flip + shift,
        blendshapes=None
        if face.blendshapes is None
        else {_other_side(name): score for name, score in face.blendshapes.items()},
    )


def average(faces: Sequence[Landmarks]) -> Landmarks:
    """The mean of several detections of one face."""
    depths = [face.depth for face in faces if face.depth is not None]
    irises = [face.irises for face in faces if face.irises is not None]
    scores = [face.blendshapes for face in faces if face.blendshapes is not None]
    return replace(
        faces[0],
        points=np.mean([face.points for face in faces], axis=0),
        depth=np.mean(depths, axis=0) if depths else None,
        weights=np.mean([face.weights for face in faces], axis=0),
        irises=np.mean(irises, axis=0) if irises else None,
        blendshapes={name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
        if scores
        else None,
    )


def _other_side(name: str) -> str:
    """The blendshape of the other side of the face: eyeBlinkLeft <-> eyeBlinkRight."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


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
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # a program without a console has no standard error to protect
            yield
            return
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
