"""Details that the coarse template cannot hold, pressed into the fine mesh along its normals."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ...geometry.laplacian import distance_to_polyline, vertex_normals
from . import indices as ix
from .regions import both_sides, bump, nostril_centre, sigmoid
from .template import EYE_RADIUS, FLIP, TEMPLATE_COUNT


def lift_lids_off_eyes(points: NDArray, centres: NDArray, skin: NDArray, clearance: float = 0.8) -> NDArray:
    """Pushes lid skin that would cut into an eyeball out to its surface plus `clearance` mm.

    points (V, 3), centres (2, 3), skin (V,) weight 1 where the vertex is outer skin.
    """
    result = points.copy()
    for centre in centres:
        ray = result - centre
        distance = np.linalg.norm(ray, axis=1)
        near = (distance < EYE_RADIUS + clearance) & (ray[:, 2] > 0)
        target = EYE_RADIUS + clearance * skin
        scale = np.where(near, np.maximum(target / np.maximum(distance, 1e-6), 1), 1)
        scale = np.where(skin > 0.02, scale, 1)
        result = centre + ray * scale[:, None]
    return result


def relax(points: NDArray, faces: NDArray, weight: NDArray, steps: int) -> NDArray:
    """Moves vertices (V, 3) towards the mean of their neighbours, by weight (V,) in 0..1, several times."""
    count = len(points)
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = sp.csr_matrix((np.ones(len(sides)), sides.T), shape=(count, count))
    graph = ((graph + graph.T) > 0).astype(float)
    mean = sp.diags(1 / np.maximum(np.asarray(graph.sum(1)).ravel(), 1)) @ graph
    for _ in range(steps):
        points = points + 0.5 * weight[:, None] * (mean @ points - points)
    return points


def sculpt(
    points: NDArray, faces: NDArray, groups: dict[str, NDArray], centres: NDArray
) -> tuple[NDArray, NDArray]:
    """Adds lip volume, lip seam, philtrum, lid crease, alar crease and nostrils.

    Returns new points (V, 3) and the weight (V,) of the inside of the nostrils.
    """
    landmarks = points[:TEMPLATE_COUNT]
    normals = vertex_normals(points, faces)
    open_skin = (1 - groups["mouth"]) * (1 - groups["lid_rim"])

    def line(vertices: tuple[int, ...] | list[int], width: float, ends: float = 0.0) -> NDArray:
        """Gaussian ridge along a row of template vertices and its mirror image, `width` mm."""
        path = landmarks[list(vertices)]

        def side(p: NDArray) -> NDArray:
            return np.exp(-0.5 * (distance_to_polyline(p, path) / width) ** 2)

        return both_sides(side, points)

    height = np.zeros(len(points))
    # Lips: fuller in the middle of each lip, sharp step at the red border, groove at the seam.
    height += 0.75 * line(ix.UPPER_LIP_ROWS[1], 1.5) + 0.9 * line(ix.LOWER_LIP_ROWS[1], 2.0)
    height += 0.45 * line(ix.LOWER_LIP_ROWS[2], 1.6) + 0.35 * bump(points, landmarks[12], (2.6, 1.8, 4))
    height += 0.25 * line(ix.UPPER_LIP_ROWS[0], 0.9)
    height -= 0.35 * line((18, 83, 182), 3.0)
    # Philtrum: a shallow groove between two soft ridges.
    groove = 0.5 * (landmarks[164] + landmarks[0])
    height -= 0.55 * bump(points, groove, (1.9, 4.5, 8))
    height += 0.35 * both_sides(lambda p: bump(p, groove + [-4.2, 0, 0], (1.5, 4.5, 8)), points)
    # Upper lid crease, the fold above it, and a soft lower lid.
    crease = np.array([landmarks[v] for v in ix.RIGHT_UPPER_CREASE])
    lid_edge = landmarks[[161, 160, 159, 158, 157]]
    fold = 0.58 * crease + 0.42 * lid_edge

    def crease_height(p: NDArray) -> NDArray:
        groove_line = np.exp(-0.5 * (distance_to_polyline(p, fold) / 0.9) ** 2)
        above = np.exp(-0.5 * (distance_to_polyline(p, fold + [0, 2.4, 0.6]) / 1.5) ** 2)
        return -1.0 * groove_line + 0.9 * above

    height += np.where(points[:, 0] < 0, crease_height(points), crease_height(points * FLIP))
    height += 0.35 * line((144, 145, 153), 1.2) - 0.25 * line(ix.RIGHT_LOWER_CREASE, 2.0)
    # Wings of the nose.
    height -= 0.9 * line(ix.RIGHT_ALAR_CREASE, 1.4)
    height += 0.35 * both_sides(lambda p: bump(p, landmarks[[48, 115, 219]].mean(0), (3.5, 4, 4)), points)
    result = points + (height * open_skin)[:, None] * normals
    # Nostrils go up and back into the nose.
    nostril = nostril_centre(landmarks)

    def opening(grow: float, lower: float) -> NDArray:
        size = np.array([2.5, 2.9, 3.7]) + grow
        centre = nostril + [0, -lower, -lower]
        return both_sides(lambda p: np.exp(-(np.linalg.norm((p - centre) / size, axis=1) ** 4)), points)

    result += opening(0.0, 0.0)[:, None] * np.array([0, 5.0, -1.2])
    # The template is rough where its triangles crowd: corners of the mouth, edge of the nostrils, wings.
    rough = 0.8 * both_sides(
        lambda p: bump(p, landmarks[[61, 78]].mean(0) + [-1, 0, 0], (3.5, 2.5, 5)), points
    )
    rough += 0.6 * both_sides(lambda p: bump(p, nostril, (6.5, 4.5, 6)), points)
    rough += 0.6 * both_sides(lambda p: bump(p, landmarks[[129, 64]].mean(0), (4, 6, 5)), points)
    result = relax(result, faces, np.clip(rough, 0, 0.8) * open_skin, 6)
    skin = np.clip(1 - 2.5 * groups["lid_rim"], 0, 1) * sigmoid(
        (30 - np.abs(points[:, 1] - centres[0, 1])) / 2
    )
    return lift_lids_off_eyes(result, centres, skin), np.maximum(
        opening(0.4, 0.0), opening(0.2, 1.6)
    ) * open_skin
