"""Carries what the built-in model knows of a face over to another mesh: regions, colour, gloss.

The built-in face has been laid over the other one (`registration`), so every vertex takes the values of the
nearest point of it. Eyeballs take theirs from the built-in eyeballs by direction from the centre; teeth, gums
and the inside of the mouth have one value each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry.laplacian import vertex_normals
from ..builtin.appearance import ENAMEL, GUM, MOUTH
from ..model import FaceModel
from .meshes import closest_points, pieces, unit_face_normals
from .registration import surface_faces

Array = NDArray[np.float64]
Index = NDArray[np.int64]

NEAR, FAR = 4.0, 14.0  # mm from the built-in surface: to the one a vertex belongs to it, from the other not
BEHIND = 3.0  # mm behind the surface of the face: an inside of it
PART_COLOURS = {"teeth": ENAMEL, "gums": GUM, "tongue": GUM, "mouth": MOUTH}


@dataclass(frozen=True)
class Carried:
    """Values per vertex (V) of the other mesh."""

    cover: Array  # (V,) 1 where the built-in face lies, falling to 0 beyond it
    regions: dict[str, NDArray[np.float32]]
    diffuse_mean: Array  # (V, 3)
    diffuse: NDArray[np.float32]  # (A, V, 3) the built-in albedo modes, times their standard deviations
    level: Array  # (V,)
    roughness: Array  # (V,)


@dataclass(frozen=True)
class _Places:
    """Points of the built-in surface: corners (V, 3) and weights (V, 3)."""

    corners: Index
    weights: Array

    def take(self, values: NDArray) -> Array:
        """(V, …) from values (B, …) at the built-in vertices."""
        return np.einsum("vk,vk...->v...", self.weights, values[self.corners])


def find_eyeballs(points: Array, faces: Index, right: Array, left: Array) -> NDArray[np.bool_]:
    """(V,) vertices of separate eyeballs: pieces that are round, as large as an eye, and near one.

    right, left: middles (3,) of the lids on the mean face, mm.
    """
    label = pieces(faces, len(points))
    used = np.unique(faces)
    found = np.zeros(len(points), bool)
    for piece in np.unique(label[used]):
        rows = used[label[used] == piece]
        if len(rows) < 12 or np.ptp(points[rows], axis=0).max() > 40:
            continue
        centre, radius = fit_sphere(points[rows])
        off = np.abs(np.linalg.norm(points[rows] - centre, axis=1) - radius).max()
        gap = min(np.linalg.norm(centre - right), np.linalg.norm(centre - left))
        if 8 < radius < 18 and off < 0.2 * radius and gap < 22:
            found[rows] = True
    return found


def fit_sphere(points: Array) -> tuple[Array, float]:
    """Centre (3,) and radius of the sphere nearest to points, by linear least squares."""
    rows = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(rows, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 1e-9)))


def carry_over(
    builtin: FaceModel, laid: Array, points: Array, faces: Index, parts: dict[str, NDArray[np.bool_]]
) -> Carried:
    """What the built-in model, laid over a mesh at `laid` (B, 3), says about that mesh's vertices."""
    inner_parts = np.zeros(len(points), bool)
    for inside in parts.values():
        inner_parts |= inside
    source = surface_faces(builtin)
    eyes = builtin.regions["eyes"]
    if "eyes" not in parts:
        # The other mesh closes its eyes with the surface of the eyeball: that counts as surface, too.
        source = np.concatenate([source, builtin.faces[eyes[builtin.faces].min(1) > 0.5]])
    face, weights, distance = closest_points(points, laid, source)
    places = _Places(source[face], weights)
    normal = unit_face_normals(laid, source)[face]
    behind = -(normal * (points - places.take(laid))).sum(1)
    agreement = (vertex_normals(points, faces) * normal).sum(1)
    cover = np.clip((FAR - distance) / (FAR - NEAR), 0, 1)
    regions = {name: cover * places.take(values) for name, values in builtin.regions.items()}
    # Surfaces inside the head (mouth, eye sockets, the back of the lids) are nobody's skin.
    hidden = (behind > BEHIND) | (agreement < -0.2)
    inside_mouth = hidden & (places.take(np.maximum(builtin.regions["lips"], builtin.regions["mouth"])) > 0.3)
    bare = cover * np.clip((agreement + 0.2) / 0.5, 0, 1) * ~hidden
    regions["skin"] *= bare
    regions["border"] = np.maximum(regions["border"], (1 - cover) * ~hidden)
    regions["mouth"] = np.maximum(regions["mouth"] * hidden, inside_mouth)
    for name in ("teeth", "iris", "eyes"):
        regions[name] *= 0.0 if name == "teeth" or "eyes" in parts else 1.0
    deviation = np.sqrt(builtin.diffuse_variance)
    scaled = np.moveaxis(builtin.diffuse_basis * deviation[:, None, None], 0, 1)  # (B, A, 3)
    colour, spread = places.take(builtin.diffuse_mean), places.take(scaled)
    level, rough = places.take(builtin.specular_mean.mean(1)), places.take(builtin.roughness_mean)
    spread[inside_mouth] = 0
    colour[inside_mouth] = MOUTH
    out = {"colour": colour, "spread": spread, "level": level, "rough": rough}
    if "eyes" in parts:
        _carry_eyes(builtin, points, faces, parts["eyes"], regions, out)
    for name, inside in parts.items():
        if name == "eyes" or not inside.any():
            continue
        like = "teeth" if name in ("teeth", "gums", "tongue") else "mouth"
        like_rows = builtin.regions[like] > 0.9
        colour[inside], spread[inside] = PART_COLOURS[name], 0
        level[inside], rough[inside] = (
            builtin.specular_mean[like_rows].mean(),
            builtin.roughness_mean[like_rows].mean(),
        )
        for values in regions.values():
            values[inside] = 0
        regions["mouth"][inside] = 1
        if name == "teeth":
            regions["teeth"][inside] = 1
    return Carried(
        cover=np.where(inner_parts, 1.0, cover),
        regions={name: np.clip(values, 0, 1).astype(np.float32) for name, values in regions.items()},
        diffuse_mean=np.clip(colour, 0, 1),
        diffuse=np.ascontiguousarray(np.moveaxis(spread, 1, 0), np.float32),
        level=level,
        roughness=rough,
    )


def _carry_eyes(
    builtin: FaceModel,
    points: Array,
    faces: Index,
    inside: NDArray[np.bool_],
    regions: dict[str, Array],
    out: dict[str, Array],
) -> None:
    """Fill in the rows of separate eyeballs (changes `regions` and `out`)."""
    mean = builtin.shape_mean.astype(np.float64)
    own = builtin.regions["eyes"] > 0.5
    deviation = np.sqrt(builtin.diffuse_variance)
    scaled = np.moveaxis(builtin.diffuse_basis * deviation[:, None, None], 0, 1)
    middle = 0.5 * (points[inside, 0].max() + points[inside, 0].min())
    for right in (True, False):
        rows = np.nonzero(inside & ((points[:, 0] < middle) == right))[0]
        if len(rows) < 4:
            continue
        ball = own & ((mean[:, 0] < 0) == right)
        centre, radius = fit_sphere(points[rows])
        own_centre, own_radius = fit_sphere(mean[ball])
        direction = points[rows] - centre
        direction *= own_radius / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
        source = builtin.faces[ball[builtin.faces].all(1)]
        face, weights, _ = closest_points(direction + own_centre, mean, source)
        places = _Places(source[face], weights)
        for name, values in regions.items():
            values[rows] = places.take(builtin.regions[name]) if name in ("eyes", "iris") else 0.0
        out["colour"][rows] = places.take(builtin.diffuse_mean)
        out["spread"][rows] = places.take(scaled)
        out["level"][rows] = places.take(builtin.specular_mean.mean(1))
        out["rough"][rows] = places.take(builtin.roughness_mean)
