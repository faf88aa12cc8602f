"""The face model as a starting mesh: fitted to landmarks that calibrated views agree on.

Every view in which a face is found gives a ray per landmark; rays are intersected, robustly, and the model is
laid through the points. No photometric stage is needed: the pictures speak afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...colour import encode_8bit
from ...config import Config
from ...errors import NextGenFaceError, NoFaceError
from ...facemodel.model import FaceModel
from ...facemodel.registry import load_model
from ...fitting.marks import landmark_vertices
from ...landmarks import create_detector
from ...landmarks.types import Landmarks, select_face
from ...views import View, ViewSet

PIXEL_SIGMA = 0.012
"""Of the box of landmarks: how far a landmark is off in one view, where it is seen."""

POINT_SIGMA = 1.2
"""mm, how far an intersected landmark is off."""

ROUNDS = 12
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FaceStart:
    """The fitted model in the space of the views.

    A model-space point x (mm) lies at scale * (rotation @ x) + translation. `shape` (V, 3): mean face and
    identity; `expression` (V, 3): what the expression adds; both in model space. `faces` (F, 3), `uv` (V, 2),
    `names` (B) and `deltas` (B, V, 3) of the blendshapes are the model's. `seen_in`: names of views.
    """

    faces: NDArray[np.int64]
    uv: Array
    names: tuple[str, ...]
    deltas: Array
    shape: Array
    expression: Array
    rotation: Array
    translation: Array
    scale: float
    seen_in: tuple[str, ...]

    @property
    def vertices(self) -> Array:
        """(V, 3) in the space of the views."""
        return self.scale * (self.shape + self.expression) @ self.rotation.T + self.translation

    def directions(self, offsets: Array) -> Array:
        """(..., 3) differences in model space, in the space of the views."""
        return self.scale * offsets @ self.rotation.T


def fit_face(views: ViewSet, config: Config) -> FaceStart:
    """The face model in the space of calibrated views. Raises NextGenFaceError, ModelError, NoFaceError."""
    model = load_model(config)
    found = find_landmarks(views, config)
    if len(found) < 2:
        raise NoFaceError(
            f"A face was found in {len(found)} of {len(views)} views; starting from it needs two. Start from "
            "the visual hull instead (--initial_mesh vh32)."
        )
    home = landmark_vertices(model, found[0][1])
    points, sigma = intersect([(view, marks) for view, marks in found])
    usable = (home >= 0) & np.isfinite(sigma)
    return _lay(model, home[usable], points[usable], sigma[usable], tuple(v.name for v, _ in found))


def fitted_before(folder: Path) -> FaceStart:
    """The face of a results folder, whose photos are the views. Raises NextGenFaceError."""
    path = folder / "geometry.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            offsets = np.asarray(stored["expression_offsets"], np.float64)
            return FaceStart(
                np.asarray(stored["faces"], np.int64),
                np.asarray(stored["uv"], np.float64),
                tuple(str(name) for name in stored["blendshape_names"]),
                np.asarray(stored["blendshape_deltas"], np.float64),
                np.asarray(stored["neutral_vertices"], np.float64),
                offsets.mean(0),
                np.eye(3),
                np.zeros(3),
                1.0,
                ("the fit's own photos",),
            )
    except (OSError, ValueError, KeyError) as problem:
        raise NextGenFaceError(
            f"{path} cannot be read ({problem}). Give the results folder of a fitted face."
        ) from problem


def find_landmarks(views: ViewSet, config: Config) -> list[tuple[View, Landmarks]]:
    """The views in which a face is found, with its landmarks in the view's pixels."""
    found = []
    detector = create_detector(config)
    try:
        for view in views:
            picture = view.image
            if view.mask is not None:
                # A plain backdrop: detectors are not made for faces that are cut out over black.
                picture = picture * view.mask[..., None] + 0.4 * (1 - view.mask[..., None])
            faces = detector.detect(encode_8bit(picture))
            try:
                height, width = view.image.shape[:2]
                found.append((view, select_face(faces, config.face, view.name, width, height)))
            except NoFaceError:
                continue
    finally:
        detector.close()
    return found


def intersect(found: Sequence[tuple[View, Landmarks]]) -> tuple[Array, Array]:
    """Points (L, 3) nearest to the rays of each landmark, and how far off they are (L,), inf = unknown.

    Re-weighted least squares of the distance between ray and point in pixels (Cauchy weights), so that a view
    that guesses a hidden landmark does not pull.
    """
    centres = np.stack([view.camera.centre for view, _ in found])
    rays = np.stack([_rays(view, marks.points) for view, marks in found])  # (n, L, 3)
    pixel = np.stack([_pixel_scale(view, marks) for view, marks in found])
    trust = np.stack([marks.weights for _, marks in found])
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # (n, L, 3, 3)
    weight = trust.copy()
    points = np.zeros((rays.shape[1], 3))
    spread = np.full(rays.shape[1], np.inf)
    for _ in range(ROUNDS):
        system = np.einsum("nl,nlij->lij", weight, across) + 1e-9 * np.eye(3)
        right = np.einsum("nl,nlij,nj->li", weight, across, centres)
        points = np.linalg.solve(system, right[..., None])[..., 0]
        offset = points[None] - centres[:, None]
        gap = np.linalg.norm(np.einsum("nlij,nlj->nli", across, offset), axis=-1)
        sigma = pixel[:, None] * np.maximum(np.einsum("nli,nli->nl", offset, rays), 1e-6)
        weight = trust / (sigma**2 * (1 + (gap / sigma) ** 2))
        covariance = np.linalg.inv(system)
        spread = np.sqrt(np.trace(covariance, axis1=1, axis2=2))
    views_that_agree = ((gap < 3 * sigma) & (trust > 0)).sum(0)
    return points, np.where(views_that_agree >= 2, spread, np.inf)


def _rays(view: View, pixels: Array) -> Array:
    """(L, 3) unit directions in the space of the views."""
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], 1)
    rays = np.linalg.solve(view.camera.K, homogeneous.T).T @ view.camera.R
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _pixel_scale(view: View, marks: Landmarks) -> float:
    """Size of a landmark's error per unit of distance."""
    return PIXEL_SIGMA * marks.size / float(view.camera.K[0, 0])


def _lay(
    model: FaceModel, vertices: NDArray[np.int64], points: Array, sigma: Array, seen_in: tuple[str, ...]
) -> FaceStart:
    """The model through points (L, 3) at its vertices: similarity and coefficients, in turns."""
    if len(points) < 12:
        raise NextGenFaceError(
            f"Only {len(points)} landmarks agree between the views. Are the cameras those of these pictures?"
        )
    mean = model.shape_mean + model.expression_mean
    shape = model.shape_basis * np.sqrt(model.shape_variance)[:, None, None]
    expression = model.expression_basis * np.sqrt(model.expression_variance)[:, None, None]
    both = np.concatenate([shape, expression]).astype(np.float64)
    rows = both[:, vertices].reshape(len(both), -1).T  # (3L, K + E)
    start = mean[vertices].astype(np.float64)
    z = np.zeros(len(both))
    weight = np.ones(len(points))
    scale, rotation, translation = 1.0, np.eye(3), np.zeros(3)
    for _ in range(ROUNDS):
        current = start + (rows @ z).reshape(-1, 3)
        scale, rotation, translation = similarity(current, points, weight)
        local = (points - translation) @ rotation / scale
        noise = np.hypot(POINT_SIGMA, sigma / scale)
        off = np.linalg.norm(local - current, axis=1) / noise
        weight = 1 / (noise**2 * (1 + (off / 3) ** 2))
        tall = np.repeat(weight, 3)[:, None]
        # Neighbouring landmarks are off together: a hundred of them are worth all.
        share = min(1.0, 100 / len(points))
        normal = share * rows.T @ (tall * rows) + np.eye(len(both))
        z = np.linalg.solve(normal, share * rows.T @ (tall[:, 0] * (local - start).reshape(-1)))
    count = len(shape)
    deltas = model.blendshape_deltas
    return FaceStart(
        model.faces.astype(np.int64),
        np.asarray(model.uv, np.float64),
        tuple(model.blendshape_names),
        np.zeros((0, *mean.shape)) if deltas is None else np.asarray(deltas, np.float64),
        mean + np.tensordot(z[:count], shape, 1),
        np.tensordot(z[count:], expression, 1),
        rotation,
        translation,
        scale,
        seen_in,
    )


def similarity(source: Array, target: Array, weight: Array) -> tuple[float, Array, Array]:
    """Scale, rotation (3, 3), translation (3,) that take `source` (N, 3) to `target`: Umeyama (1991)."""
    w = weight / weight.sum()
    centre_s, centre_t = w @ source, w @ target
    s, t = source - centre_s, target - centre_t
    u, d, vt = np.linalg.svd((t * w[:, None]).T @ s)
    sign = np.array((1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))))
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / (w @ (s**2).sum(1)))
    return scale, rotation, centre_t - scale * rotation @ centre_s
