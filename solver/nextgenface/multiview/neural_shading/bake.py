"""Colours that need no network: the shader's view-independent part at the vertices and in a texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as tf

from ...rendering.raster import rasterize
from .optimise import NeuralMesh, Target
from .regularisers import face_normals
from .topology import Faces

CHUNK = 65536
DEPTH_SLACK = 0.01  # of the object's size: how far behind the visible surface a point still counts as seen
LEAST_COSINE = 0.05


@dataclass(frozen=True)
class Seen:
    """Which cameras see points: unit directions to them (n, N, 3) and weights (n, N), 0 = not seen."""

    directions: Tensor
    weights: Tensor


@torch.no_grad()
def seen_from(mesh: NeuralMesh, targets: list[Target], points: Tensor, normals: Tensor) -> Seen:
    """How well cameras see surface points (N, 3) with normals (N, 3): cosines where nothing is in front."""
    vertices = mesh.vertices
    slack = DEPTH_SLACK * float(np.ptp(vertices.cpu().numpy(), axis=0).max())
    directions, weights = [], []
    for target in targets:
        screen, depth = target.project(vertices)
        fragments = rasterize(screen, depth, mesh.connectivity.faces, target.height, target.width)
        nearest = torch.full((target.height * target.width,), torch.inf, device=points.device)
        nearest[fragments.pixel] = fragments.interpolate(depth[:, None])[:, 0]
        at, z = target.project(points)
        inside = (z > 0) & (at >= 0).all(1) & (at[:, 0] < target.width) & (at[:, 1] < target.height)
        x = at[:, 0].clamp(0, target.width - 1).long()
        y = at[:, 1].clamp(0, target.height - 1).long()
        visible = inside & (z <= nearest[y * target.width + x] + slack)
        to_eye = tf.normalize(target.eye - points, dim=1)
        cosine = (to_eye * normals).sum(1)
        directions.append(to_eye)
        weights.append(torch.where(visible & (cosine > LEAST_COSINE), cosine, 0.0))
    return Seen(torch.stack(directions), torch.stack(weights))


@torch.no_grad()
def colours_at(mesh: NeuralMesh, points: Tensor, normals: Tensor, seen: Seen) -> Tensor:
    """(N, 3) display code values: the shader averaged over the cameras that see each point.

    Points that no camera sees are shaded as looked at along their normal.
    """
    out = []
    for rows in torch.arange(len(points), device=points.device).split(CHUNK):
        features = mesh.shader.features(points[rows])
        total = torch.zeros(len(rows), 3, device=points.device)
        weight = torch.zeros(len(rows), 1, device=points.device)
        for direction, w in zip(seen.directions, seen.weights, strict=True):
            part = w[rows, None]
            if not bool((part > 0).any()):
                continue
            total += part * mesh.shader.colour(features, normals[rows], direction[rows])
            weight += part
        alone = mesh.shader.colour(features, normals[rows], normals[rows])
        out.append(torch.where(weight > 1e-6, total / weight.clamp(min=1e-6), alone))
    return torch.cat(out) if out else points.new_zeros(0, 3)


@torch.no_grad()
def vertex_colours(mesh: NeuralMesh, targets: list[Target]) -> NDArray[np.float32]:
    """(V, 3) display code values."""
    normals = mesh.vertex_normals(face_normals(mesh.vertices, mesh.connectivity.faces))
    seen = seen_from(mesh, targets, mesh.vertices, normals)
    return np.asarray(colours_at(mesh, mesh.vertices, normals, seen).cpu().numpy(), np.float32)


@torch.no_grad()
def texture(
    mesh: NeuralMesh, targets: list[Target], uv: NDArray[np.float64], uv_faces: Faces, size: int
) -> NDArray[np.float32]:
    """(size, size, 3) display code values, top row first, filled beyond the charts.

    `uv` (U, 2), origin bottom left; `uv_faces` (F, 3) indices into it, for the mesh's faces.
    """
    flat = torch.as_tensor(uv, dtype=torch.float32, device=mesh.device) * size
    flat[:, 1] = size - flat[:, 1]
    corners = torch.as_tensor(np.ascontiguousarray(uv_faces), dtype=torch.int64, device=mesh.device)
    table = rasterize(flat, torch.ones(len(flat), device=mesh.device), corners, size, size)
    vertices = mesh.vertices
    normals = mesh.vertex_normals(face_normals(vertices, mesh.connectivity.faces))
    own = mesh.connectivity.faces[table.face]
    points = torch.einsum("nk,nkc->nc", table.weights, vertices[own])
    across = tf.normalize(torch.einsum("nk,nkc->nc", table.weights, normals[own]), dim=1)
    colours = []
    for rows in torch.arange(len(points), device=mesh.device).split(4 * CHUNK):
        seen = seen_from(mesh, targets, points[rows], across[rows])
        colours.append(colours_at(mesh, points[rows], across[rows], seen))
    picture = table.picture(torch.cat(colours)).cpu().numpy()
    covered = table.coverage().cpu().numpy() > 0
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.asarray(picture[tuple(nearest)], np.float32)
