"""Lays the built-in face over another model's mean face, so that what it knows can be carried over.

Landmarks give a first alignment (a similarity, then a thin-plate spline); after that the built-in surface is
drawn to the nearest points of the other one, while its bending energy keeps neighbours together (non-rigid
iterative closest points, e.g. Amberg, Romdhani and Vetter 2007, "Optimal Step Nonrigid ICP Algorithms for
Surface Registration").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from ...geometry.laplacian import SmoothField, vertex_normals
from ..model import FaceModel
from .meshes import closest_points, unit_face_normals

Array = NDArray[np.float64]
Index = NDArray[np.int64]

STIFFNESS = (300.0, 100.0, 30.0, 10.0, 4.0)  # of the bending energy, step by step
REACH = (14.0, 10.0, 7.0, 5.0, 4.0)  # mm beyond which a nearest point is none
ANCHOR_WEIGHT = 0.6  # of a landmark beside a surface point
SPLINE_SMOOTHING = 2.0


@dataclass(frozen=True)
class Anchor:
    """Landmarks known on both faces: vertices of the built-in model (N,), points (N, 3), weights (N,)."""

    vertices: Index
    points: Array
    weights: Array


def similarity(source: Array, target: Array, weights: Array) -> tuple[float, Array, Array]:
    """Scale, rotation (3, 3) and shift (3,) that take points to points best (Umeyama 1991)."""
    w = weights / weights.sum()
    a, b = w @ source, w @ target
    p, q = source - a, target - b
    u, s, vt = np.linalg.svd((q * w[:, None]).T @ p)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / (w @ (p**2).sum(1)))
    return scale, rotation, b - scale * rotation @ a


def surface_faces(model: FaceModel) -> Index:
    """Triangles of the built-in model that lie on the outside of the face: skin and lips, no eyes, no
    mouth."""
    inner = np.maximum(model.regions["eyes"], model.regions["mouth"])
    return model.faces[inner[model.faces].max(1) < 0.5]


def register(builtin: FaceModel, anchors: Anchor, points: Array, faces: Index) -> Array:
    """Positions (B, 3) of the built-in model's vertices on the surface `points` (V, 3), `faces` (F, 3).

    `faces` are those of the other model's skin. Eyeballs and teeth of the built-in model ride along rigidly.
    """
    mean = builtin.shape_mean.astype(np.float64)
    scale, rotation, shift = similarity(mean[anchors.vertices], anchors.points, anchors.weights)
    start = scale * mean @ rotation.T + shift
    spline = RBFInterpolator(
        start[anchors.vertices],
        anchors.points - start[anchors.vertices],
        kernel="thin_plate_spline",
        smoothing=SPLINE_SMOOTHING / np.maximum(anchors.weights, 1e-3),
    )
    skin = surface_faces(builtin)
    used = np.unique(skin)
    number = np.full(len(mean), -1)
    number[used] = np.arange(len(used))
    local = number[skin]
    here = start[used] + spline(start[used])
    field = SmoothField(here, local)
    target_normals = unit_face_normals(points, faces)
    on = number[anchors.vertices]
    known = on >= 0
    pull = np.zeros(len(used))
    np.add.at(pull, on[known], ANCHOR_WEIGHT * anchors.weights[known])
    goal = np.zeros((len(used), 3))
    np.add.at(goal, on[known], (ANCHOR_WEIGHT * anchors.weights[known])[:, None] * anchors.points[known])
    for stiffness, reach in zip(STIFFNESS, REACH, strict=True):
        face, weights, distance = closest_points(here, points, faces)
        nearest = np.einsum("pk,pkd->pd", weights, points[faces[face]])
        agreement = (vertex_normals(here, local) * target_normals[face]).sum(1)
        trust = np.clip(1 - (distance / reach) ** 2, 0, 1) * np.clip((agreement - 0.3) / 0.4, 0, 1)
        # The rim of the template continues the face over hair and ears: other heads differ there.
        trust *= 1 - 0.7 * np.clip(builtin.regions["border"][used], 0, 1)
        total = trust + pull
        right = trust[:, None] * (nearest - here) + goal - pull[:, None] * here
        system = (sp.diags(total + 1e-6) + stiffness * field.energy).tocsc()
        here = here + _factorised(system).solve(right)
    out = start + spline(start)
    for part in ("eyes", "mouth"):
        _carry_rigidly(out, mean, used, here, builtin.regions[part] > 0.5)
    out[used] = here
    return out


def _factorised(system: sp.csc_matrix) -> sparse_linalg.SuperLU:
    """Factors of a symmetric positive definite matrix (SuperLU is quicker when it is told so)."""
    return sparse_linalg.splu(
        system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )


def _carry_rigidly(out: Array, mean: Array, used: Index, here: Array, part: NDArray[np.bool_]) -> None:
    """Move each side of a part (changes `out`) with the skin around it, by a similarity."""
    for side in (mean[:, 0] < 0, mean[:, 0] >= 0):
        rows = np.nonzero(part & side)[0]
        if not len(rows):
            continue
        centre = mean[rows].mean(0)
        near = np.exp(-0.5 * ((np.linalg.norm(mean[used] - centre, axis=1) - 10) / 8.0) ** 2)
        scale, rotation, shift = similarity(mean[used], here, near + 1e-9)
        out[rows] = scale * mean[rows] @ rotation.T + shift
