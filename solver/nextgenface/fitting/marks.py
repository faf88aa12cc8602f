"""The points of a photo that vertices of the model have to meet: landmarks, and the middles of the irises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..facemodel.model import FaceModel
from ..landmarks.tables import MEDIAPIPE_COUNT, feature_points
from ..landmarks.types import Landmarks

Array = NDArray[np.float64]

INDEPENDENT_POINTS = 50.0  # what all the landmarks between sharp features are worth together
FEATURE_WEIGHT = 6.0  # eyelids, lips and brows are seen sharply
IRIS_WEIGHT = 12.0  # gaze alone follows it, and a millimetre is five degrees
# gap between the lids, in iris diameters, at which an iris starts to count and counts fully
OPEN_LIDS = (0.3, 0.7)
_LIDS = ((159, 145), (386, 374))  # MediaPipe's middles of the upper and lower lid, right eye and left eye
IRIS_MIDDLES = (MEDIAPIPE_COUNT, MEDIAPIPE_COUNT + 5)  # landmark numbers, right and left


@dataclass(frozen=True)
class Marks:
    """L points of one photo: model `vertices` (L,), `points` (L, 2) pixels of the fitted picture, `weights`
    (L,) for squared errors in units of `LANDMARK_SIGMA`, `indices` (L,) their numbers in the scheme, `depth`
    of the first D points as in `Landmarks`, or None."""

    vertices: NDArray[np.int64]
    points: Array
    weights: Array
    indices: NDArray[np.int64]
    depth: Array | None


def seen_marks(model: FaceModel, landmarks: Landmarks) -> Marks:
    """The marks of a photo's landmarks (in the fitted picture). Raises ModelError as `landmark_vertices`."""
    home = landmark_vertices(model, landmarks)
    kept = np.nonzero((home >= 0) & (landmarks.weights > 0))[0]
    vertices, points = home[kept], landmarks.points[kept].astype(np.float64)
    weights, indices = landmark_weights(landmarks)[kept], landmarks.indices[kept]
    depth = None if landmarks.depth is None else landmarks.depth[kept].astype(np.float64)
    if landmarks.irises is not None:
        eyes, open_ = iris_vertices(model), _openness(landmarks)
        seen = np.nonzero((eyes >= 0) & (open_ > 0))[0]
        vertices = np.concatenate([vertices, eyes[seen]])
        points = np.concatenate([points, landmarks.irises[[0, 5]][seen]])
        weights = np.concatenate([weights, IRIS_WEIGHT * open_[seen]])
        indices = np.concatenate([indices, np.array(IRIS_MIDDLES)[seen]])
    return Marks(vertices, points, weights, indices, depth)


def iris_vertices(model: FaceModel) -> NDArray[np.int64]:
    """Vertices in the middle of the right and the left iris (2,), -1 where the model has no iris."""
    found = np.full(2, -1, np.int64)
    iris = model.regions.get("iris")
    if iris is None:
        return found
    for k, side in enumerate((-1, 1)):
        rows = np.nonzero((iris > 0.5) & (model.shape_mean[:, 0] * side > 0))[0]
        if len(rows):
            place = model.shape_mean[rows]
            middle = 0.5 * (place.min(0) + place.max(0))[:2]
            found[k] = rows[np.linalg.norm(place[:, :2] - middle, axis=1).argmin()]
    return found


def _openness(landmarks: Landmarks) -> Array:
    """(2,) 0..1, how far the irises of landmarks with irises are uncovered by the lids."""
    assert landmarks.irises is not None
    out = np.zeros(2)
    row = {int(index): k for k, index in enumerate(landmarks.indices)}
    for k, (upper, lower) in enumerate(_LIDS):
        if upper in row and lower in row:
            iris = landmarks.irises[5 * k : 5 * k + 5]
            diameter = 2 * np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
            gap = np.linalg.norm(landmarks.points[row[upper]] - landmarks.points[row[lower]])
            share = gap / max(float(diameter), 1e-6)
            out[k] = np.clip((share - OPEN_LIDS[0]) / (OPEN_LIDS[1] - OPEN_LIDS[0]), 0, 1)
    return out


def landmark_vertices(model: FaceModel, landmarks: Landmarks) -> NDArray[np.int64]:
    """Vertex of each landmark, -1 where the model has none: (L,)."""
    table = model.landmarks.get(landmarks.scheme)
    if table is None:
        raise ModelError(
            f"The face model {model.name} has no landmark table for '{landmarks.scheme}' points. "
            "Choose the other landmark detector (lamdmarksDetectorType) or add the table to the model file."
        )
    inside = landmarks.indices < len(table)
    return np.where(inside, table[np.minimum(landmarks.indices, len(table) - 1)], -1)


def landmark_weights(landmarks: Landmarks) -> Array:
    """Weight of each landmark (L,), for squared errors in units of `LANDMARK_SIGMA`.

    Points on sharp features count `FEATURE_WEIGHT` each; the others, which a detector interpolates, share
    `INDEPENDENT_POINTS` between them.
    """
    trust = landmarks.weights.astype(np.float64)
    features = np.isin(landmarks.indices, feature_points(landmarks.scheme))
    shared = min(1.0, INDEPENDENT_POINTS / max(trust[~features].sum(), 1e-9))
    return trust * np.where(features, FEATURE_WEIGHT, shared)
