"""Landmarks of a model's mean face: tables of its file where they make sense, else found in pictures
of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...colour import linear_to_srgb
from ...config import Config
from ...errors import ModelError, NextGenFaceError
from ...geometry.laplacian import vertex_normals
from ...landmarks import create_detector
from ...landmarks.tables import feature_points, mediapipe_mirror
from ...rendering.raster import rasterize
from ..model import FaceModel
from .registration import Anchor, similarity

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Index = NDArray[np.int64]

PICTURE, DISTANCE, FOCAL = 640, 900.0, 1750.0  # pixels, mm, pixels: a portrait lens
VIEWS = (0.0, -0.15, 0.15, -0.3, 0.3)  # radians by which the head is turned for another look
SKIN = (0.42, 0.27, 0.20)  # linear; a face without texture is found more surely in the colour of skin
LIGHT = np.array([0.35, 0.45, 0.82])
CONTOUR_WEIGHT = 0.15  # jaw and cheek outline are where a picture shows them, not where a point of skin is
FIT_MEDIAN, FIT_WORST = 7.0, 40.0  # mm by which real faces differ from the built-in one after alignment
NEEDED = 9


@dataclass(frozen=True)
class FoundLandmarks:
    """Landmarks in one scheme: indices (N,) of the scheme, points (N, 3) mm on the mean face."""

    scheme: str
    indices: Index
    points: Array


def from_tables(tables: dict[str, Index], points: Array) -> list[FoundLandmarks]:
    """The tables of a file as points of its mean face (V, 3)."""
    found = []
    for scheme, table in tables.items():
        if scheme in ("mediapipe", "ibug68"):
            indices = np.nonzero(table >= 0)[0]
            found.append(FoundLandmarks(scheme, indices, points[table[indices]]))
    return found


def anchor(found: list[FoundLandmarks], builtin: FaceModel) -> Anchor:
    """Those landmarks as vertices of the built-in model with weights; sharp features lead."""
    vertices, places, weights = [], [], []
    for marks in found:
        table = builtin.landmarks[marks.scheme]
        inside = marks.indices < len(table)
        rows = table[marks.indices[inside]]
        contour = builtin.regions["border"][rows] > 0.05
        if marks.scheme == "ibug68":
            contour |= marks.indices[inside] < 17
        sharp = np.isin(marks.indices[inside], feature_points(marks.scheme))
        vertices.append(rows)
        places.append(marks.points[inside])
        weights.append(np.where(contour, CONTOUR_WEIGHT, np.where(sharp, 1.0, 0.5)))
    rows, first = np.unique(np.concatenate(vertices), return_index=True)
    keep = rows >= 0
    return Anchor(rows[keep], np.concatenate(places)[first][keep], np.concatenate(weights)[first][keep])


def misfit(anchors: Anchor, builtin: FaceModel) -> str:
    """Why landmarks cannot be those of a face, in words; empty when they can."""
    if len(anchors.vertices) < NEEDED:
        return f"only {len(anchors.vertices)} of them"
    mean = builtin.shape_mean[anchors.vertices].astype(np.float64)
    scale, rotation, shift = similarity(mean, anchors.points, anchors.weights)
    gap = np.linalg.norm(scale * mean @ rotation.T + shift - anchors.points, axis=1) / scale
    gap = gap[anchors.weights > CONTOUR_WEIGHT]
    if not 0.6 < scale < 1.6:
        return f"they span a face {scale:.2f} times as large as usual"
    if rotation[2, 2] < 0.7 or rotation[1, 1] < 0.7:
        return "they show a face that does not look along z with y up"
    if np.median(gap) > FIT_MEDIAN or gap.max() > FIT_WORST:
        return f"they are {np.median(gap):.0f} mm (median) off those of a face"
    return ""


def detect(points: Array, faces: Index, colour: Array | None) -> FoundLandmarks:
    """MediaPipe's landmarks, found in drawings of a mean face; `colour` (V, 3) linear or None.

    Raises ModelError when no face is seen or the detector is missing.
    """
    shaded = _shade(points, faces, colour)
    head = points.max(0)[2], 0.5 * (points.max(0) + points.min(0))
    centre = np.array([head[1][0], head[1][1], head[0] - 80.0])
    seen: list[Array] = []
    try:
        detector = create_detector(Config())
        try:
            for height in (0.0, 60.0, 110.0):  # a bust has its face above the middle
                middle = centre + [0, height, 0]
                seen = [_look(detector, points, faces, shaded, middle, turn) for turn in VIEWS]
                if np.isfinite(seen[0]).any():
                    break
        finally:
            detector.close()
    except NextGenFaceError as problem:
        raise ModelError(
            f"The landmarks of the face model have to be found in a picture of it: {problem}"
        ) from None
    stack = np.stack(seen)  # (views, 468, 3)
    count = np.isfinite(stack[:, :, 0]).sum(0)
    if (count > 0).sum() < 100:
        raise ModelError(
            "No face is seen in a picture of the model's mean face. Give it a table of landmarks; "
            "docs/face-models.md says how."
        )
    # A mean face is as good as symmetric, the detector is not: both sides are averaged.
    flip = np.array([-1.0, 1.0, 1.0])
    middle_line = np.nanmedian(0.5 * (stack + stack[:, mediapipe_mirror()])[..., 0])
    stack = stack - [middle_line, 0, 0]
    both = np.concatenate([stack, stack[:, mediapipe_mirror()] * flip])
    chosen = np.nonzero(np.isfinite(both[:, :, 0]).any(0))[0]
    places = np.nanmedian(both[:, chosen], axis=0) + [middle_line, 0, 0]
    return FoundLandmarks("mediapipe", chosen, places)


def _shade(points: Array, faces: Index, colour: Array | None) -> Array:
    normals = vertex_normals(points, faces)
    base = np.broadcast_to(np.array(SKIN), points.shape) if colour is None else np.clip(colour, 0, 1)
    light = 0.35 + 0.9 * np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0, None)
    return base * light[:, None]


def _look(detector: object, points: Array, faces: Index, shaded: Array, centre: Array, turn: float) -> Array:
    """Points (468, 3) of the mesh under the landmarks of one drawing; NaN where there is none."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.diag([1.0, -1.0, -1.0]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    camera = torch.as_tensor((points - centre) @ rotation.T + [0, 0, DISTANCE], dtype=torch.float32)
    screen = FOCAL * camera[:, :2] / camera[:, 2:].clamp(min=1.0) + PICTURE / 2
    with torch.no_grad():
        seen = rasterize(screen, camera[:, 2], torch.as_tensor(faces), PICTURE, PICTURE)
        values = seen.interpolate(torch.as_tensor(shaded, dtype=torch.float32))
        places = seen.interpolate(torch.as_tensor(points, dtype=torch.float32))
        picture = seen.picture(values, 0.25).numpy()
        where = seen.picture(places, float("nan")).numpy()
    srgb = (linear_to_srgb(np.clip(picture, 0, 1)) * 255).round().astype(np.uint8)
    found = detector.detect(srgb)  # type: ignore[attr-defined]
    out = np.full((468, 3), np.nan)
    if found:
        at = np.floor(found[0].points).astype(int)
        inside = ((at >= 0) & (at < PICTURE)).all(1)
        out[found[0].indices[inside]] = where[at[inside, 1], at[inside, 0]]
    return out
