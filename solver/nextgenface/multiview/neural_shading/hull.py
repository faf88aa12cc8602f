"""The visual hull: what all masks leave, as a closed mesh; and the box around it when nobody gave one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates
from skimage.measure import marching_cubes

from ...errors import NextGenFaceError
from ...views import Bounds, Camera, View, ViewSet
from .consistency import contradiction, small
from .topology import Faces, Vertices, largest_piece

MARGIN = 0.06  # of the box's longest side, so that the hull can close inside the grid
ESTIMATE_GRID = 48
LEAST_PIECE = 0.02  # share of the hull's volume from which a second piece counts as a second object


class HullError(NextGenFaceError):
    """No hull: the masks have nothing in common where the box is."""


@dataclass(frozen=True)
class Hull:
    """A closed, outward-oriented mesh, and what was left out: `warnings`."""

    vertices: Vertices
    faces: Faces
    warnings: tuple[str, ...]


def visual_hull(views: ViewSet, grid: int) -> Hull:
    """The hull of all masks in the set's box, on `grid` cells along its longest side.

    Every view gives each grid point a signed distance to its silhouette (pixels times depth over focal
    length), positive inside; the smallest of all is the hull's own, so the surface is placed between grid
    points. Outside a picture nothing is seen: that carves unless the mask touches that border. Raises
    HullError naming the view that left nothing.
    """
    if views.bounds is None:
        raise HullError("The box around the object is not known: give one (bbox.txt) or let it be estimated.")
    masked = _masked(views)
    behind = [v.name for v in masked if _depth(v.camera, views.bounds.centre) <= 0]
    if behind:
        raise HullError(
            f"The middle of the box lies behind the camera of {', '.join(behind[:4])}: there is no hull. "
            + CONVENTION
        )
    points, shape, origin, cell = _lattice(views.bounds, grid)
    distances = [_signed_distance(view, points) for view in masked]
    inside = np.min(distances, axis=0)
    if not (inside > 0).any():
        raise HullError(_who_carved(masked, distances))
    field = np.pad(inside.reshape(shape), 1, constant_values=-cell)
    # Far from the surface only the sign matters; clipping keeps the interpolation honest beside it.
    corners, faces, _, _ = marching_cubes(
        np.clip(field, -2 * cell, 2 * cell), 0.0, gradient_direction="ascent"
    )
    vertices = (corners.astype(np.float64) - 1) * cell + origin
    faces = np.asarray(faces, dtype=np.int64)
    if _volume(vertices, faces) < 0:
        faces = faces[:, ::-1].copy()
    vertices, faces = _welded(vertices, faces, cell)
    whole = abs(_volume(vertices, faces))
    kept, kept_faces, pieces = largest_piece(vertices, faces)
    warnings = []
    lost = 1 - abs(_volume(kept, kept_faces)) / max(whole, 1e-12)
    if pieces > 1 and lost > LEAST_PIECE:
        warnings.append(
            f"the hull has {pieces} separate pieces; the largest is kept, {lost:.0%} of the volume is not. "
            "Two objects need two runs with a box each (--input_bbox)."
        )
    warnings += _contradiction(masked, views.bounds)
    return Hull(kept, kept_faces, tuple(warnings))


def _masked(views: ViewSet) -> list[View]:
    masked = [view for view in views if view.mask is not None]
    if not masked:
        raise HullError(
            "No view has a mask, so there is no silhouette to start from. Give pictures with alpha or mask "
            "pictures (NAME_mask.png), or start from a mesh (--initial_mesh FILE) or the face model "
            "(--initial_mesh face)."
        )
    return masked


def _contradiction(masked: list[View], bounds: Bounds) -> list[str]:
    points, _, _, cell = _lattice(bounds, ESTIMATE_GRID)
    reduced = [small(view) for view in masked]
    found = contradiction(reduced, points, np.stack([_signed_distance(v, points) > 0 for v in reduced]), cell)
    return [found] if found else []


def estimate_bounds(views: ViewSet) -> Bounds:
    """The box around what all masks see. Raises HullError when they see nothing together.

    The cube to search is centred where the rays through the masks' centroids pass closest to each other, and
    as large as the largest mask at that distance.
    """
    masked = [view for view in _masked(views) if view.mask is not None and (view.mask > 0.5).any()]
    if len(masked) < 2:
        raise HullError("The box around the object cannot be estimated from fewer than two masks: give one.")
    rays = [_centroid_ray(view) for view in masked]
    across = [np.eye(3) - np.outer(d, d) for _, d in rays]
    system = np.sum(across, axis=0)
    if np.linalg.cond(system) > 1e8:
        raise HullError("All cameras look in the same direction: the box cannot be estimated, give one.")
    centre = np.linalg.solve(system, np.sum([p @ c for p, (c, _) in zip(across, rays, strict=True)], axis=0))
    reach = float(np.max([_mask_reach(view, centre) for view in masked]))  # nan stays nan
    if not np.isfinite(reach):
        raise HullError(
            "The cameras do not look at one object: the place where their views meet lies behind a camera. "
            + CONVENTION
        )
    bounds = Bounds(centre - reach, centre + reach)
    for _ in range(2):
        points, _, _, cell = _lattice(bounds, ESTIMATE_GRID)
        distances = [_signed_distance(view, points) for view in masked]
        inside = np.min(distances, axis=0) > 0
        if not inside.any():
            raise HullError(_who_carved(masked, distances))
        found = points[inside]
        bounds = Bounds(found.min(0) - cell, found.max(0) + cell)
    return bounds


CONVENTION = (
    "Camera files must be OpenCV's: x right, y down, z forward, X_cam = R X + t. Typical mistakes are "
    "camera-to-world matrices instead of world-to-camera ones, and OpenGL axes (y up, z backward)."
)


def _lattice(bounds: Bounds, grid: int) -> tuple[Vertices, tuple[int, ...], NDArray[np.float64], float]:
    """Grid points (N, 3) of the box with a margin, their shape, first point and spacing."""
    reach = MARGIN * float(bounds.size.max())
    low, size = bounds.low - reach, bounds.size + 2 * reach
    cell = float(size.max()) / grid
    counts = np.maximum(np.ceil(size / cell).astype(int) + 1, 3)
    axes = [low[k] + cell * np.arange(counts[k]) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points, tuple(int(c) for c in counts), low, cell


def _signed_distance(view: View, points: Vertices) -> NDArray[np.float32]:
    """(N,) how far inside the view's silhouette points (N, 3) are, in the unit of the points."""
    assert view.mask is not None
    camera = view.camera
    inside = view.mask > 0.5
    # Half a pixel is taken off both sides: the boundary lies between two pixel centres.
    flat = np.maximum(distance_transform_edt(inside) - 0.5, 0) - np.maximum(
        distance_transform_edt(~inside) - 0.5, 0
    )
    if not inside.any():
        flat = np.full(inside.shape, -float(max(inside.shape)))
    pixels, depth = camera.project(points)
    behind = depth <= 0
    where = np.where(behind[:, None], 0.0, pixels) - 0.5
    clipped = np.clip(where, 0, np.array((camera.width, camera.height)) - 1.0)
    value = map_coordinates(flat, clipped[:, ::-1].T, order=1, mode="nearest")
    beyond = np.abs(where - clipped).max(1)
    # What leaves the picture over a border that the mask touches may well be the object.
    open_border = _touches(inside)
    outside = beyond > 0.5
    side_open = np.zeros(len(points), bool)
    for axis, (low, high) in enumerate(((0, 1), (2, 3))):
        side_open |= outside & open_border[low] & (where[:, axis] < 0)
        side_open |= outside & open_border[high] & (where[:, axis] > clipped[:, axis])
    value = np.where(outside & ~side_open, np.minimum(value, 0) - beyond, value)
    scaled = value * np.abs(depth) / float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
    never = float(np.ptp(points, axis=0).max())
    return np.where(behind, never, scaled).astype(np.float32)  # what lies behind a camera it cannot judge


def _touches(inside: NDArray[np.bool_]) -> tuple[bool, bool, bool, bool]:
    """Whether a mask reaches the left, right, top and bottom border over more than a few pixels."""
    least = 3
    return (
        bool(inside[:, 0].sum() >= least),
        bool(inside[:, -1].sum() >= least),
        bool(inside[0].sum() >= least),
        bool(inside[-1].sum() >= least),
    )


def _who_carved(masked: list[View], distances: list[NDArray[np.float32]]) -> str:
    """Why nothing is left, for people: the view to blame, or the box, or the convention."""
    empty = [view.name for view in masked if view.mask is not None and not (view.mask > 0.5).any()]
    if empty:
        return f"Nothing is left of the visual hull: the mask of {', '.join(empty[:4])} is empty."
    alone = [view.name for view, d in zip(masked, distances, strict=True) if not (d > 0).any()]
    if len(alone) == len(masked):
        return (
            "Nothing is left of the visual hull: no view sees its object inside the box. The box misses the "
            f"object, or the cameras are wrong. {CONVENTION}"
        )
    if alone:
        return (
            f"Nothing is left of the visual hull: {', '.join(alone[:4])} alone sees nothing of its object "
            f"inside the box. Check this view's camera files and mask. {CONVENTION}"
        )
    kept = np.stack(distances) > 0
    spared = [(kept.sum(0) >= len(masked) - 1) & ~row for row in kept]
    blamed = [view.name for view, row in zip(masked, spared, strict=True) if row.any()]
    total = sum(int(row.any()) for row in spared)
    if total == 1:
        return (
            f"Nothing is left of the visual hull: {blamed[0]} carves away what all other views leave. Check "
            "its camera files and its mask (or leave the view out)."
        )
    return (
        "Nothing is left of the visual hull: the views contradict each other"
        + (f" (without one of {', '.join(blamed[:4])} something is left)" if blamed else "")
        + f". {CONVENTION}"
    )


def _centroid_ray(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Camera centre and unit direction through the centroid of its mask."""
    assert view.mask is not None
    rows, columns = np.nonzero(view.mask > 0.5)
    pixel = np.array((columns.mean() + 0.5, rows.mean() + 0.5, 1.0))
    direction = view.camera.R.T @ np.linalg.solve(view.camera.K, pixel)
    return view.camera.centre, direction / np.linalg.norm(direction)


def _mask_reach(view: View, centre: NDArray[np.float64]) -> float:
    """Half the size of the view's mask at the distance of a point; not finite when it lies behind."""
    assert view.mask is not None
    rows, columns = np.nonzero(view.mask > 0.5)
    extent = float(max(np.ptp(rows), np.ptp(columns))) + 1
    depth = float(_depth(view.camera, centre))
    return extent * depth / float(view.camera.K[0, 0]) * 0.75 if depth > 0 else float("nan")


def _depth(camera: Camera, point: NDArray[np.float64]) -> float:
    return float((camera.R @ point + camera.t)[2])


def _volume(vertices: Vertices, faces: Faces) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def _welded(vertices: Vertices, faces: Faces, cell: float) -> tuple[Vertices, Faces]:
    """The surface without the zero-area slivers that marching cubes leaves where it meets a grid point.

    Moves each vertex a little towards the mean of its neighbours, which keeps the topology.
    """
    total, degree = np.zeros_like(vertices), np.zeros(len(vertices))
    for k in range(3):
        for j in range(3):
            if j != k:
                np.add.at(total, faces[:, k], vertices[faces[:, j]])
                np.add.at(degree, faces[:, k], 1)
    mean = total / np.maximum(degree, 1)[:, None]
    step = np.clip(0.5 * (mean - vertices), -0.25 * cell, 0.25 * cell)
    return vertices + step, faces
