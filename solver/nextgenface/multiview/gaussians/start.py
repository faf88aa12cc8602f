"""Where the Gaussians begin: on a surface that is known, else on the hull that the masks leave."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from ...colour import linear_to_srgb
from ...errors import NextGenFaceError
from ...views import Bounds, View, ViewSet
from .splats import Splats

Points = NDArray[np.float64]

TRIES = 40
"""Points thrown into the box for each one that is wanted."""
HEAD_DEPTH = 1.25
"""Depth of a head from the tip of the nose to the back, per height of a face model's face and neck."""
SKIN = 0.04
"""Depth of the layer under the hull's surface that points are taken from, per longest side of the box."""


def scene_box(views: ViewSet) -> Bounds:
    """The box around the object: what the set says, else what all cameras look at.

    The guess is a cube around the point nearest to all viewing rays through the middles of the masks; its
    half side is what the narrowest mask shows at that distance.
    """
    if views.bounds is not None:
        return views.bounds
    system, right = np.zeros((3, 3)), np.zeros(3)
    for view in views:
        camera = view.camera
        middle, _ = _extent(view)
        ray = camera.R.T @ np.linalg.solve(camera.K, np.array([*middle, 1.0]))
        across = np.eye(3) - np.outer(ray, ray) / (ray @ ray)
        system += across
        right += across @ camera.centre
    if np.linalg.cond(system) > 1e8:
        raise NextGenFaceError(
            "The cameras all look the same way, so the place of the object is not known. "
            "Give its box (bbox.txt)."
        )
    centre = np.linalg.solve(system, right)
    reach = []
    for view in views:
        _, half = _extent(view)
        _, depth = view.camera.project(centre[None])
        if depth[0] <= 0:
            raise NextGenFaceError(
                f"The camera of view {view.name} looks away from what the others see. Check that the cameras "
                "are OpenCV's: X_cam = R X + t with z forward."
            )
        reach.append(half * depth[0] / view.camera.K[0, 0])
    return Bounds(centre - 1.1 * max(reach), centre + 1.1 * max(reach))


def head_box(box: Bounds, vertices: Points) -> Bounds:
    """The box, no deeper than a head whose fitted face has these vertices (V, 3).

    Masks of a few frontal photos leave the depth open.
    """
    height = float(np.ptp(vertices[:, 1]))
    front = float(vertices[:, 2].max())
    low, high = box.low.copy(), box.high.copy()
    low[2], high[2] = front - HEAD_DEPTH * height, front + 0.1 * height
    return Bounds(low, high)


def _extent(view: View) -> tuple[Points, float]:
    """Middle (2,) of a view's mask and half of its longer side, pixels; of the picture without one."""
    rows, columns = np.nonzero(view.mask > 0.5) if view.mask is not None else (np.empty(0), np.empty(0))
    if rows.size == 0:
        size = np.array([view.camera.width, view.camera.height], dtype=np.float64)
        return size / 2, float(size.max() / 2)
    low = np.array([columns.min(), rows.min()], dtype=np.float64)
    high = np.array([columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return (low + high) / 2, float((high - low).max() / 2)


def hull_points(
    views: ViewSet, box: Bounds, count: int, random: np.random.Generator
) -> tuple[Points, Points]:
    """`count` points (N, 3) just under the surface of the masks' hull, and outward directions (N, 3).

    Raises NextGenFaceError when the masks leave nothing, naming the view that took the most.
    """
    points = random.uniform(box.low, box.high, (TRIES * count, 3))
    depth = np.full(len(points), np.inf)
    removed: dict[str, int] = {}
    for view in views:
        if view.mask is None:
            continue
        camera = view.camera
        # Beyond a picture's edge its mask goes on as at the edge: what the picture cuts off may be there.
        field = distance_transform_edt(view.mask > 0.5) - distance_transform_edt(view.mask <= 0.5)
        pixel, z = camera.project(points)
        column = np.clip(np.nan_to_num(pixel[:, 0]), 0, camera.width - 1).astype(np.int64)
        row = np.clip(np.nan_to_num(pixel[:, 1]), 0, camera.height - 1).astype(np.int64)
        here = np.where(z > 0, field[row, column] * z / camera.K[0, 0], -np.inf)
        removed[view.name] = int(((here <= 0) & (depth > 0)).sum())
        depth = np.minimum(depth, here)
    left = depth > 0
    if not left.any():
        worst = max(removed, key=lambda name: removed[name])
        raise NextGenFaceError(
            f"No point in the box is inside all masks; view {worst} rules out the most. Check its camera "
            "(OpenCV: X_cam = R X + t, z forward), its mask, and the box."
        )
    points, depth = points[left], depth[left]
    layer = SKIN * float(box.size.max())
    shallow = depth < layer if np.isfinite(depth).any() else np.ones(len(points), dtype=bool)
    if shallow.sum() >= count:
        points = points[shallow]
    points = points[random.permutation(len(points))[:count]]
    outward = points - points.mean(0)
    return points, outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)


def surface_points(
    vertices: Points, faces: NDArray[np.integer], count: int, random: np.random.Generator
) -> tuple[Points, Points]:
    """`count` points (N, 3) spread evenly over triangles, and the triangles' normals (N, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    chosen = random.choice(len(faces), count, p=area / area.sum())
    u, v = random.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    points = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    return points, normal[chosen] / np.maximum(area[chosen, None], 1e-12)


def point_colours(views: ViewSet, points: Points, normals: Points) -> NDArray[np.float32]:
    """Colours (N, 3) sRGB 0..1: the mean of the pictures, weighted by how squarely each sees the point."""
    total = np.full((len(points), 3), 1e-4 * 0.5)
    weight = np.full(len(points), 1e-4)
    for view in views:
        camera = view.camera
        pixel, z = camera.project(points)
        column = np.clip(np.floor(pixel[:, 0]), 0, camera.width - 1).astype(np.int64)
        row = np.clip(np.floor(pixel[:, 1]), 0, camera.height - 1).astype(np.int64)
        towards = camera.centre - points
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        facing = np.maximum((towards * normals).sum(1), 0) ** 4 * (z > 0)
        if view.mask is not None:
            facing = facing * view.mask[row, column]
        total += facing[:, None] * np.clip(linear_to_srgb(view.image[row, column]), 0, 1)
        weight += facing
    return np.asarray(total / weight[:, None], dtype=np.float32)


def first_splats(
    views: ViewSet, points: Points, normals: Points, *, degree: int, largest: float, device: str
) -> Splats:
    """Round Gaussians at points, as large as their neighbours are far, at most `largest` (mm)."""
    near = cKDTree(points).query(points, k=min(4, len(points)))[0].reshape(len(points), -1)
    spacing = near[:, 1:].mean(1) if near.shape[1] > 1 else np.full(len(points), largest)
    return Splats.from_points(
        torch.as_tensor(points, dtype=torch.float32, device=device),
        torch.as_tensor(point_colours(views, points, normals), device=device),
        scale=torch.as_tensor(np.clip(0.6 * spacing, 1e-3, largest), dtype=torch.float32, device=device),
        opacity=0.5,
        degree=degree,
    )
