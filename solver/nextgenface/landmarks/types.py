"""What a landmark detector returns, and how one of several faces is chosen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import NoFaceError
from nextgenface.landmarks.tables import EYE_CORNERS

if TYPE_CHECKING:
    from nextgenface.views import Crop

log = logging.getLogger(__name__)

CUT_REFUSE = 0.15
"""Share of a face (area of the box of its landmarks) outside the photo above which it is refused."""

LYING = 60.0
"""Degrees of roll above which the photo was probably turned."""


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one face in one picture. L points.

    `scheme` names the numbering ("mediapipe", "ibug68"), which is also the key of
    `FaceModel.landmarks`; row i is landmark `indices[i]` of that scheme.
    `points` are pixels of the picture, (0.5, 0.5) the centre of the top-left one.
    `depth` is in the same pixels, larger = farther from the camera, with an arbitrary origin;
    a weak cue, learned by the detector. `weights` (0..1) say how far a point is to be trusted;
    0 = do not use. `blendshapes`: ARKit names -> 0..1 where the detector gives them.
    `irises` (10, 2): the right iris (centre, then four points around), then the left one.
    """

    scheme: str
    indices: NDArray[np.int64]  # (L,)
    points: NDArray[np.float64]  # (L, 2)
    depth: NDArray[np.float64] | None  # (L,)
    weights: NDArray[np.float64]  # (L,)
    blendshapes: dict[str, float] | None = None
    irises: NDArray[np.float64] | None = field(default=None)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) around all points, pixels."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def size(self) -> float:
        """Side of the square of the same area as the box, pixels: what 'largest face' means."""
        x0, y0, x1, y1 = self.box
        return float(np.sqrt(max(x1 - x0, 0.0) * max(y1 - y0, 0.0)))

    def transformed(self, crop: Crop) -> Landmarks:
        """The same landmarks in pixels of the fitted picture."""
        return replace(
            self,
            points=crop.to_fit(self.points),
            depth=None if self.depth is None else self.depth * crop.scale,
            irises=None if self.irises is None else crop.to_fit(self.irises),
        )

    @property
    def roll(self) -> float:
        """Degrees by which the line between the eyes is turned clockwise in the picture; 0 = upright."""
        right, left = (self.points[self.indices == index][0] for index in EYE_CORNERS[self.scheme])
        return float(np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0])))

    def share_outside(self, width: int, height: int) -> float:
        """Share of the box's area that lies beyond the border of a picture of that size, 0..1."""
        x0, y0, x1, y1 = self.box
        inside = max(0.0, min(x1, width) - max(x0, 0.0)) * max(0.0, min(y1, height) - max(y0, 0.0))
        return 1.0 - inside / max((x1 - x0) * (y1 - y0), 1e-9)

    def outside(self, width: int, height: int) -> NDArray[np.bool_]:
        """(L,) whether each point lies beyond the border of a picture of that size."""
        return np.asarray((self.points < 0).any(axis=1) | (self.points > (width, height)).any(axis=1))


class Detector(Protocol):
    """Finds faces in a picture."""

    def detect(self, srgb8: NDArray[np.uint8]) -> list[Landmarks]:
        """Faces in an upright (H, W, 3) 8-bit sRGB picture, the largest first; empty when there is none."""
        ...

    def close(self) -> None:
        """Free what the detector holds."""
        ...


def select_face(faces: Sequence[Landmarks], number: int, photo: str, width: int, height: int) -> Landmarks:
    """The face to reconstruct: the largest for `number` 0 or 1, the second largest for 2, and so on.

    `photo` names the picture in messages; `width`, `height` are its size in pixels. A face with more
    than 15 % of its area beyond the border is refused; with less, the landmarks out there get weight
    0 (their places are guesses) and the log says so. A face that lies on its side is warned about.
    Raises `NoFaceError`.
    """
    if not faces:
        raise NoFaceError(
            f"no face was found in {photo}; use a photo in which the face is upright, in focus, "
            "at least 60 pixels high and not covered"
        )
    position = max(number, 1) - 1
    if position >= len(faces):
        found = "only one face was" if len(faces) == 1 else f"only {len(faces)} faces were"
        raise NoFaceError(f"{found} found in {photo}; face {number} does not exist, choose a smaller number")
    face = faces[position]
    share = face.share_outside(width, height)
    if share > CUT_REFUSE:
        raise NoFaceError(
            f"the face in {photo} is cut by the border of the picture ({share:.0%} of it lies outside); "
            "use a photo that shows the whole face"
        )
    if abs(face.roll) > LYING:
        log.warning(
            "%s: the face lies on its side (turned by %.0f degrees); turn the photo", photo, face.roll
        )
    outside = face.outside(width, height)
    if outside.any():
        log.warning("%s: the face is cut by the border (%.0f %% of it lies outside)", photo, share * 100)
        face = replace(face, weights=np.where(outside, 0.0, face.weights))
    return face
