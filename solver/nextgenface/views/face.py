"""The crop around a face that is fitted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextgenface.colour import encode_8bit
from nextgenface.config import Config
from nextgenface.landmarks.types import Landmarks
from nextgenface.personmask import person_mask
from nextgenface.photos import Photo
from nextgenface.views.camera import Crop

log = logging.getLogger(__name__)

CROP_FACTOR = 1.8
"""Side of the crop over the longer side of the box of landmarks: ears, chin and hairline are inside."""

LARGEST_ENLARGEMENT = 4.0
"""A crop is enlarged at most this much: more pixels than that cost time and hold nothing."""

USUAL_LENS_MM = 50.0
"""Focal length (35 mm equivalent) assumed where nothing is known."""

SIGMA_GUESS = 0.15
SIGMA_USER = 0.25
"""Standard deviation of log focal length: of the guess, and of a value the user gave as a start.

The guess is held more tightly than lenses differ, because landmarks are biased about the focal length: with
a spread of 0.35 they took it below the guess on four of six heads whose true lens was longer.
"""


@dataclass(frozen=True)
class FaceView:
    """What is fitted: the square picture of one face, its landmarks, and what is known of the lens.

    `image` (S, S, 3) float32 linear Rec.709; `valid` (S, S) float32 0..1, the photo's transparency and 0
    beyond its border. `photo_width`, `photo_height`: pixels of the whole photo. `focal`: fitted pixels, a
    start value with the log-normal deviation `focal_prior_sigma` (0 = known, keep it); `focal_source` says
    who knew. `landmarks`: fitted pixels. `person` (S, S) 0..1: where a person is; None = not known.
    `lens`: equal for photos that EXIF says were taken with the same lens at the same zoom; None = not told.
    """

    name: str
    image: NDArray[np.float32]
    valid: NDArray[np.float32]
    crop: Crop
    photo_width: int
    photo_height: int
    focal: float
    focal_prior_sigma: float
    focal_source: str
    landmarks: Landmarks
    person: NDArray[np.float32] | None = None
    lens: str | None = None

    @property
    def size(self) -> int:
        """Side of the fitted picture in pixels."""
        return self.crop.size

    @property
    def principal(self) -> NDArray[np.float64]:
        """(2,) centre of the photo in fitted pixels: where the lens points."""
        return self.crop.to_fit(np.array((self.photo_width / 2, self.photo_height / 2)))

    def K(self, focal: float | None = None) -> NDArray[np.float64]:
        """(3, 3) intrinsics of the fitted picture for a focal length in fitted pixels (default: start)."""
        f = self.focal if focal is None else float(focal)
        return np.array(((f, 0, self.principal[0]), (0, f, self.principal[1]), (0, 0, 1.0)))

    def K_photo(self, focal: float | None = None) -> NDArray[np.float64]:
        """(3, 3) intrinsics of the whole photo for a focal length in *fitted* pixels."""
        return self.crop.K_to_photo(self.K(focal))


def face_view(photo: Photo, landmarks: Landmarks, config: Config, size: int | None = None) -> FaceView:
    """The square around one face, brought to the resolution of the fit.

    The crop is centred at the box of the landmarks (pixels of the photo) and 1.8 times as large, but not
    larger than the photo and moved into it where that is possible; what reaches beyond a narrow photo has
    `valid` 0. It is resized to `maxResolution`, but enlarged at most fourfold (then the fitted picture is
    smaller); `size` overrides, so that several photos match.
    """
    x0, y0, x1, y1 = landmarks.box
    side = crop_side(photo, landmarks)
    size = size or fitted_size([landmarks], config)
    left = _start((x0 + x1 - side) / 2, side, photo.width)
    top = _start((y0 + y1 - side) / 2, side, photo.height)
    crop = Crop(left, top, size / side, size)
    image, valid = resample(photo.linear, photo.alpha, crop)
    focal, sigma, source = choose_focal(photo, crop, config)
    spread = "known" if sigma == 0 else f"a start, spread {sigma:.0%}"
    log.info("%s: focal length %.0f px of the fitted picture (%s; %s)", photo.name, focal, source, spread)
    return FaceView(
        photo.name,
        image,
        valid,
        crop,
        photo.width,
        photo.height,
        focal,
        sigma,
        source,
        landmarks.transformed(crop),
        person_mask(encode_8bit(image)),
        photo.lens,
    )


def face_views(photos: Sequence[Photo], landmarks: Sequence[Landmarks], config: Config) -> list[FaceView]:
    """Views of several photos at one common resolution, as arrays over photos need it."""
    size = fitted_size(landmarks, config)
    return [face_view(photo, face, config, size) for photo, face in zip(photos, landmarks, strict=True)]


def fitted_size(faces: Sequence[Landmarks], config: Config) -> int:
    """Side of the fitted picture for these faces (landmarks in pixels of their photos).

    `maxResolution`, or less (a multiple of 16) where even the largest crop would have to be enlarged
    more than fourfold to reach it.
    """
    useful = LARGEST_ENLARGEMENT * max(_wanted_side(face) for face in faces)
    return int(min(config.maxResolution, max(64, int(np.ceil(useful / 16)) * 16)))


def choose_focal(photo: Photo, crop: Crop, config: Config) -> tuple[float, float, str]:
    """(focal in fitted pixels, deviation of its logarithm (0 = keep), who knew).

    A value of the user's (file, --set, API) beats EXIF, EXIF beats the shipped default. With nothing known,
    the whole photo is taken for one of a 50 mm lens on a 36 mm wide frame.
    """
    said_by = config.source("camFocalLength")
    if said_by != "default":
        sigma = SIGMA_USER if config.optimizeFocalLength else 0.0
        place = {"file": "the configuration file", "user": "the command line", "api": "the program"}[said_by]
        return config.camFocalLength, sigma, f"camFocalLength from {place}"
    if photo.focal_px is not None:
        return photo.focal_px * crop.scale, 0.0, photo.focal_note
    if config.optimizeFocalLength:
        focal = USUAL_LENS_MM / 36.0 * max(photo.width, photo.height) * crop.scale
        return focal, SIGMA_GUESS, f"unknown ({photo.focal_note}), started at {USUAL_LENS_MM:g} mm equivalent"
    return config.camFocalLength, 0.0, "default camFocalLength, because optimizeFocalLength is off"


def resample(
    linear: NDArray[np.float32], alpha: NDArray[np.float32] | None, crop: Crop
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The crop of a picture (H, W, 3) as (S, S, 3), and its validity (S, S) = alpha inside the photo.

    Reduction averages exactly the area each new pixel covers; enlargement is Catmull-Rom. Colours are
    weighted with validity, so that what is transparent or beyond the border does not bleed in. Where
    nothing is valid the picture is 0.
    """
    height, width = linear.shape[:2]
    rows, inside_y, top = _filter(crop.y0, crop.scale, crop.size, height)
    columns, inside_x, left = _filter(crop.x0, crop.scale, crop.size, width)
    y, x = slice(top, top + rows.shape[1]), slice(left, left + columns.shape[1])
    valid = inside_y[:, None] * inside_x
    if alpha is None:
        image = np.stack([rows @ linear[y, x, c] @ columns.T for c in range(3)], axis=-1)
    else:
        opaque = rows @ alpha[y, x] @ columns.T
        image = np.stack([rows @ (linear[y, x, c] * alpha[y, x]) @ columns.T for c in range(3)], axis=-1)
        # Where almost nothing is left, the quotient would be noise.
        seen = opaque > 0.02
        image = image / np.where(seen, opaque, 1.0)[..., None]
        valid = valid * np.where(seen, opaque, 0.0)
    # Rounding in the filters must not make a whole pixel look 0.9999999 valid.
    valid = np.where(valid > 1.0 - 1e-4, 1.0, np.where(valid < 1e-3, 0.0, valid))
    # Catmull-Rom overshoots at edges; light is never negative.
    image = np.where(valid[..., None] > 0, np.maximum(image, 0.0), 0.0)
    return image.astype(np.float32), valid.astype(np.float32)


def crop_side(photo: Photo, landmarks: Landmarks) -> float:
    """Side of the square around a face in pixels of the photo (the landmarks' pixels)."""
    return float(min(_wanted_side(landmarks), max(photo.width, photo.height)))


def _wanted_side(landmarks: Landmarks) -> float:
    x0, y0, x1, y1 = landmarks.box
    return CROP_FACTOR * max(x1 - x0, y1 - y0)


def _start(wanted: float, side: float, length: int) -> float:
    """Where a crop begins along one axis: inside the photo if it fits, else with the photo in its middle."""
    return float(np.clip(wanted, 0.0, length - side)) if side <= length else (length - side) / 2


def _filter(
    start: float, scale: float, size: int, length: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """How to resample a line of `length` pixels into `size` new ones, from `start` on.

    Returns the matrix (size, n) whose rows sum to 1 (0 beyond the line), the share (size,) of each new pixel
    that lies on the line, and the first of the n source pixels that the matrix reads.
    """
    first = int(np.clip(np.floor(start) - 2, 0, length - 1))
    last = int(np.clip(np.ceil(start + size / scale) + 2, first + 1, length))
    source = np.arange(first, last)
    if scale <= 1.0:
        edges = start + np.arange(size + 1) / scale
        low, high = edges[:-1, None], edges[1:, None]
        weights = np.clip(np.minimum(high, source + 1) - np.maximum(low, source), 0.0, None) * scale
        share = weights.sum(axis=1)
    else:
        centres = start + (np.arange(size) + 0.5) / scale
        distance = np.abs(centres[:, None] - (source + 0.5))
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
        share = ((centres >= 0) & (centres <= length)).astype(np.float64)
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0)) * share[:, None]
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total > 1e-6, total, 1.0)
    return weights.astype(np.float32), share.astype(np.float32), first
