"""The built-in face sampled anew: other vertices, other triangles, the same statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
import torch
from nextgenface.config import Config
from nextgenface.facemodel.derive.meshes import closest_points
from nextgenface.facemodel.derive.modes import Modes, orthonormal
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import load_model
from nextgenface.rendering.raster import rasterize
from scipy.spatial import Delaunay, cKDTree


@lru_cache(maxsize=1)
def source() -> FaceModel:
    """The built-in model."""
    return load_model(Config())


def named(name: str) -> np.ndarray:
    """Offsets (B, 3) mm of one of the built-in model's named shapes."""
    deltas = source().blendshape_deltas
    assert deltas is not None
    return deltas[source().blendshape_names.index(name)]


@dataclass(frozen=True)
class Sampled:
    """A mesh whose vertices are weighted means of built-in vertices: matrix (V, B), faces (F, 3)."""

    matrix: sp.csr_matrix
    faces: np.ndarray
    eyes: np.ndarray  # (V,) bool
    teeth: np.ndarray  # (V,) bool

    def take(self, values: np.ndarray) -> np.ndarray:
        """(V, …) from (B, …)."""
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        return np.asarray(self.matrix @ flat).reshape(self.matrix.shape[0], *values.shape[1:])

    def modes(self, basis: np.ndarray, variance: np.ndarray, count: int, seed: int) -> Modes:
        """`count` orthonormal modes: those of the built-in model, filled up with faint smooth ones."""
        scaled = np.stack([self.take(m) for m in basis * np.sqrt(variance)[:, None, None]])[:count]
        points = self.take(source().shape_mean)
        rng = np.random.default_rng(seed)
        missing = count - len(scaled)
        size = float(np.sqrt((scaled[-1] ** 2).mean())) * 0.03
        waves = rng.normal(size=(missing, 3, 3)) / 9.0
        phase = rng.uniform(0, 2 * np.pi, (missing, 1, 3))
        extra = size * np.sin(np.einsum("vd,kdc->kvc", points, waves) + phase)
        return orthonormal(
            Modes(np.concatenate([scaled, extra]).astype(np.float32), np.ones(count, np.float32))
        )[0]


def _rows(corners: np.ndarray, weights: np.ndarray) -> sp.csr_matrix:
    count = len(corners)
    return sp.csr_matrix(
        (weights.ravel(), (np.repeat(np.arange(count), 3), corners.ravel())), (count, source().vertex_count)
    )


def mask_mesh(vertices: int) -> Sampled:
    """A face mask of exactly so many vertices that closes eyes and mouth, as a scanner sees a face."""
    face = source()
    mean = torch.as_tensor(face.shape_mean)
    axis_z = -45.0
    angle = torch.atan2(mean[:, 0], mean[:, 2] - axis_z)
    radius = torch.sqrt(mean[:, 0] ** 2 + (mean[:, 2] - axis_z) ** 2)
    height = torch.clamp((mean[:, 1].max() - mean[:, 1]), min=0)
    size = np.sqrt(vertices / 0.60)
    for _ in range(40):
        side = int(size)
        screen = torch.stack([(angle / 3.4 + 0.5) * side, height / float(height.max()) * side], 1)
        seen = rasterize(screen, 1e4 - radius, torch.as_tensor(face.faces), side, side)
        corners = seen.corners.numpy()
        inner = face.regions["mouth"][corners].max(1) > 0.5
        flat = face.regions["border"][corners].max(1) > 0.75
        keep = ~(inner | flat)
        if keep.sum() >= vertices:
            break
        size *= 1.02
    pixel = seen.pixel.numpy()[keep]
    order = np.argsort(pixel)
    pixel, corners, weights = pixel[order], corners[keep][order], seen.weights.numpy()[keep][order]
    weights = np.clip(weights, 0, 1) / np.clip(weights, 0, 1).sum(1, keepdims=True)
    # Cut the outermost rows of the forehead until the number is exact.
    number = np.full(side * side, -1)
    number[pixel[len(pixel) - vertices :]] = np.arange(vertices)
    corners, weights = corners[len(pixel) - vertices :], weights[len(pixel) - vertices :]
    grid = number.reshape(side, side)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    quads = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    faces = np.concatenate(quads)
    faces = faces[(faces >= 0).all(1)]
    nothing = np.zeros(vertices, bool)
    return Sampled(_rows(corners, weights), faces, nothing, nothing)


def head_mesh(spacing: float, teeth: bool, seed: int) -> Sampled:
    """The face with open eyes and lips, two eyeballs and, if asked for, teeth; triangles of about
    `spacing` mm."""
    face = source()
    inner = np.maximum(face.regions["eyes"], face.regions["teeth"])
    skin = face.faces[inner[face.faces].max(1) < 0.5]
    flat = np.c_[face.uv, np.zeros(len(face.uv))].astype(np.float64)
    scale = np.sqrt(_area(face.shape_mean, skin) / _area(flat, skin))
    rng = np.random.default_rng(seed)
    step = spacing / scale
    grid = np.stack(np.meshgrid(np.arange(0, 1, step), np.arange(0, 1, step)), -1).reshape(-1, 2)
    grid = grid + rng.uniform(-0.25, 0.25, grid.shape) * step
    rims = np.unique(_rim(skin))
    grid = np.concatenate([face.uv[rims].astype(np.float64), grid])
    found, weights, distance = closest_points(np.c_[grid, np.zeros(len(grid))], flat, skin)
    near_rim = cKDTree(face.uv[rims]).query(grid)[0]
    keep = (distance < 1e-6) & ((near_rim > 0.6 * step) | (np.arange(len(grid)) < len(rims)))
    grid, found, weights = grid[keep], found[keep], weights[keep]
    triangles = Delaunay(grid).simplices.astype(np.int64)
    middle = np.c_[grid[triangles].mean(1), np.zeros(len(triangles))]
    triangles = triangles[closest_points(middle, flat, skin)[2] < 1e-6]
    a, b, c = (grid[triangles[:, k]] for k in range(3))
    turned = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
    triangles[turned] = triangles[turned][:, ::-1]
    used, local = np.unique(triangles, return_inverse=True)
    matrix = [_rows(skin[found[used]], weights[used])]
    faces = [local.reshape(-1, 3)]
    count = len(used)
    marks = {"eyes": [np.zeros(count, bool)], "teeth": [np.zeros(count, bool)]}
    for part in ("eyes", "teeth") if teeth else ("eyes",):
        inside = face.faces[face.regions[part][face.faces].min(1) > 0.5]
        rows, index = np.unique(inside, return_inverse=True)
        matrix.append(sp.identity(face.vertex_count, format="csr")[rows])
        faces.append(index.reshape(-1, 3) + count)
        count += len(rows)
        for name, mark in marks.items():
            mark.append(np.full(len(rows), name == part))
    stacked = {name: np.concatenate(mark) for name, mark in marks.items()}
    return Sampled(sp.vstack(matrix, format="csr"), np.concatenate(faces), stacked["eyes"], stacked["teeth"])


def _area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def _rim(faces: np.ndarray) -> np.ndarray:
    sides = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], 2).reshape(-1, 2), axis=1)
    edges, uses = np.unique(sides, axis=0, return_counts=True)
    return edges[uses == 1]
