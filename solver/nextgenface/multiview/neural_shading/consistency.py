"""Whether the views can show one object at all: a view that contradicts the others, cameras from one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import NextGenFaceError
from ...views import View, ViewSet
from .topology import Vertices

LEAST_VIEWS = 4  # of three views one cannot say which of them is wrong
PICTURE = 256  # pixels, longest side of the pictures in which silhouettes are compared
LACKING = 0.03
"""Share of the silhouettes that the hull does not fill, above which the views contradict each other."""

TOO_LARGE = 0.1
"""The same of one view's silhouette, above which its mask shows too much."""

EXPLAINED = 0.4
"""A view is to blame when without it no more than this share of what is lacking stays."""

SAME_PLACE, ONE_SIDE = 3.0, 60.0
"""Largest angle between two cameras in degrees: below, they are one; below, they look from one side."""


def small(view: View) -> View:
    """The view with at most `PICTURE` pixels a side."""
    return view.scaled(min(1.0, PICTURE / max(view.camera.width, view.camera.height)))


def contradiction(views: Sequence[View], points: Vertices, inside: NDArray[np.bool_], cell: float) -> str:
    """What is wrong with the views in words, "" when their masks belong together.

    `inside` (n, N): which of the grid points (N, 3), `cell` apart, each of the small masks allows. A true
    mask is filled by the hull of all others; a wrong one carves away what the others have to show.
    """
    if len(views) < LEAST_VIEWS:
        return ""
    blocks = [_Blocks(view, points, cell) for view in views]
    carvers = (~inside).sum(0)
    lacking = np.array([b.unfilled(carvers == 0) for b in blocks])
    without = []
    for k, alone in enumerate(inside):
        spared = (carvers == 0) | ((carvers == 1) & ~alone)
        without.append(np.mean([b.unfilled(spared) for j, b in enumerate(blocks) if j != k]))
    best = int(np.argmin(without))
    if lacking.mean() > LACKING and without[best] < EXPLAINED * np.delete(lacking, best).mean():
        return (
            f"{views[best].name} contradicts the others: because of it the hull fills {lacking.mean():.0%} "
            f"less than the masks show, without it {without[best]:.0%}. Check its camera files and its mask, "
            "or leave it out"
        )
    large = [view.name for view, share in zip(views, lacking, strict=True) if share > TOO_LARGE]
    if 0 < len(large) <= len(views) // 3:
        return (
            f"{', '.join(large)}: the mask shows much that the other views leave no room for. Check the mask "
            "and the camera files, or leave this out"
        )
    if lacking.mean() > LACKING:
        return (
            f"the masks contradict each other: {lacking.mean():.0%} of what they show is not in the hull of "
            "all. Check the cameras, that the masks show one object, and that nothing moved meanwhile"
        )
    return ""


class _Blocks:
    """A mask in blocks as large as a grid cell looks, and the block that every grid point falls into."""

    def __init__(self, view: View, points: Vertices, cell: float) -> None:
        assert view.mask is not None
        camera = view.camera
        pixels, depth = camera.project(points)
        side = max(1, int(np.ceil(1.5 * cell * camera.K[0, 0] / max(float(np.median(depth)), 1e-9))))
        rows, columns = camera.height // side, camera.width // side
        part = view.mask[: rows * side, : columns * side].reshape(rows, side, columns, side)
        at = np.floor(pixels / side)
        seen = (depth > 0) & (at >= 0).all(1) & (at[:, 0] < columns) & (at[:, 1] < rows)
        self._seen = np.flatnonzero(seen)
        self._block = (at[seen, 1] * columns + at[seen, 0]).astype(np.int64)
        in_box = np.zeros(rows * columns, bool)
        in_box[self._block] = True
        self._needed = (part.min((1, 3)) > 0.5).reshape(-1) & in_box

    def unfilled(self, chosen: NDArray[np.bool_]) -> float:
        """Share of the mask's whole blocks in which none of the chosen points lies."""
        filled = np.zeros(len(self._needed), bool)
        filled[self._block[chosen[self._seen]]] = True
        return float((self._needed & ~filled).sum() / max(self._needed.sum(), 1))


def check_sides(views: ViewSet, centre: NDArray[np.float64]) -> list[str]:
    """What to say about where the cameras stand around the object. Raises NextGenFaceError when all stand
    in one place."""
    towards = np.stack([view.camera.centre - centre for view in views])
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    widest = float(np.degrees(np.arccos(np.clip((towards @ towards.T).min(), -1, 1))))
    if widest < SAME_PLACE:
        raise NextGenFaceError(
            f"All cameras see the object from one direction (within {widest:.1f} degrees), so nothing tells "
            "its depth. Take pictures from several sides, or check the camera files."
        )
    if widest < ONE_SIDE:
        return [
            f"all cameras look from one side, within {widest:.0f} degrees: silhouettes hardly hold the "
            "depth. Add views from further round; for a face start from the face model (--initial_mesh face)"
        ]
    return []
