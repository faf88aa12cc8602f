"""Calibrated pictures of one object from several sides: what the multi-view methods share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import adaptive_avg_pool2d

from ..errors import NextGenFaceError
from .camera import Camera

Sampling = Literal["random", "sequential", "sequential_shuffled"]


@dataclass(frozen=True)
class View:
    """One calibrated picture.

    `image` (H, W, 3) float32 linear Rec.709, as large as the camera says; `mask` (H, W) float32 0..1, where
    the object is; None = not known. `exposure`: factor by which the picture is brighter than the set's
    common scale (1 where nothing is known).
    """

    name: str
    image: NDArray[np.float32]
    camera: Camera
    mask: NDArray[np.float32] | None = None
    exposure: float = 1.0

    def __post_init__(self) -> None:
        expected = (self.camera.height, self.camera.width)
        for what, array in (("picture", self.image), ("mask", self.mask)):
            if array is not None and array.shape[:2] != expected:
                raise NextGenFaceError(
                    f"View {self.name}: the {what} has {array.shape[1]} x {array.shape[0]} pixels, its "
                    f"camera {expected[1]} x {expected[0]}. Give the camera of exactly this picture."
                )

    def scaled(self, factor: float) -> View:
        """The view at `factor` times its resolution (at most 1): areas are averaged, colours by the mask, so
        that nothing from outside it bleeds in."""
        camera = self.camera.scaled(factor)
        size = (camera.height, camera.width)
        if size == self.image.shape[:2]:
            return replace(self, camera=camera)
        if self.mask is None:
            return View(self.name, _area_mean(self.image, size), camera, None, self.exposure)
        weight = _area_mean(self.mask[..., None], size)
        plain, inside = _area_mean(self.image, size), _area_mean(self.image * self.mask[..., None], size)
        image = np.where(weight > 1e-3, inside / np.maximum(weight, 1e-3), plain)
        return View(self.name, image, camera, weight[..., 0], self.exposure)


def _area_mean(array: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, C) -> (*size, C), each pixel the mean of the area it covers."""
    planes = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32))
    return np.ascontiguousarray(adaptive_avg_pool2d(planes, size).numpy().transpose(1, 2, 0))


@dataclass(frozen=True)
class Bounds:
    """An axis-aligned box: `low` and `high` (3,), in the units of the cameras."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64).reshape(3))
        if not (
            np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low < self.high).all()
        ):
            raise NextGenFaceError(
                f"A bounding box needs finite numbers with its minimum below its maximum on every axis, not "
                f"{self.low.tolist()} to {self.high.tolist()}."
            )

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) middle of the box."""
        return (self.low + self.high) / 2

    @property
    def size(self) -> NDArray[np.float64]:
        """(3,) lengths of the sides."""
        return self.high - self.low

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) corners."""
        grid = np.stack(np.meshgrid(*np.stack([self.low, self.high]).T, indexing="ij"), -1)
        return grid.reshape(8, 3)

    @staticmethod
    def around(points: ArrayLike, margin: float = 0.0) -> Bounds:
        """The box of points (N, 3), every side moved outwards by `margin` times the longest side."""
        points = np.asarray(points, dtype=np.float64)
        low, high = points.min(0), points.max(0)
        reach = margin * float((high - low).max())
        return Bounds(low - reach, high + reach)


@dataclass(frozen=True)
class Normalisation:
    """x_normal = (x - centre) * scale, the same for all axes."""

    centre: NDArray[np.float64]
    scale: float

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) points into the normal cube."""
        return np.asarray((np.asarray(points, dtype=np.float64) - self.centre) * self.scale)

    def undo(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) points of the normal cube back."""
        return np.asarray(np.asarray(points, dtype=np.float64) / self.scale + self.centre)

    def camera(self, camera: Camera) -> Camera:
        """The camera that sees the normalised points where `camera` sees the original ones."""
        return replace(camera, t=self.scale * (camera.R @ self.centre + camera.t))


@dataclass(frozen=True)
class ViewSet:
    """Several views of one object, in one space, and the box around it (None = not known)."""

    views: tuple[View, ...]
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[View]:
        return iter(self.views)

    def __getitem__(self, index: int) -> View:
        return self.views[index]

    @property
    def names(self) -> list[str]:
        """Names of the views, in their order."""
        return [view.name for view in self.views]

    @property
    def cameras(self) -> list[Camera]:
        """Cameras of the views, in their order."""
        return [view.camera for view in self.views]

    def normalised(self) -> tuple[ViewSet, Normalisation]:
        """The set with its box's longest side at 2 around the origin, and the way back.

        Raises NextGenFaceError when the bounds are not known.
        """
        if self.bounds is None:
            raise NextGenFaceError("The box around the object is not known: give one (bbox.txt).")
        way = Normalisation(self.bounds.centre, 2.0 / float(self.bounds.size.max()))
        box = Bounds(way.apply(self.bounds.low), way.apply(self.bounds.high))
        return ViewSet(tuple(replace(v, camera=way.camera(v.camera)) for v in self.views), box), way

    def scaled(self, factor: float) -> ViewSet:
        """All views at `factor` times their resolution (at most 1)."""
        return ViewSet(tuple(view.scaled(factor) for view in self.views), self.bounds)

    def split(self, held_out: Sequence[str]) -> tuple[ViewSet, ViewSet]:
        """(views to learn from, views to test with); `held_out` names the latter. Raises NextGenFaceError."""
        unknown = sorted(set(held_out) - set(self.names))
        if unknown:
            raise NextGenFaceError(
                f"No view is called {', '.join(unknown)}; there are {', '.join(self.names)}."
            )
        kept = tuple(v for v in self.views if v.name not in held_out)
        return ViewSet(kept, self.bounds), ViewSet(
            tuple(v for v in self.views if v.name in held_out), self.bounds
        )

    def batches(self, size: int, sampling: Sampling = "random", *, seed: int = 0) -> Iterator[list[int]]:
        """Endless lists of `size` view numbers.

        `random` draws each list without repetition (with, when `size` exceeds the number of views);
        `sequential` goes round; `sequential_shuffled` goes round in a new order each time.
        """
        count = len(self.views)
        if count == 0 or size < 1:
            raise NextGenFaceError(f"Cannot draw {size} of {count} views.")
        rng = np.random.default_rng(seed)
        queue: list[int] = []
        while True:
            if sampling == "random":
                yield [int(i) for i in rng.choice(count, size, replace=size > count)]
                continue
            while len(queue) < size:
                order = np.arange(count)
                queue += (rng.permutation(order) if sampling == "sequential_shuffled" else order).tolist()
            yield queue[:size]
            queue = queue[size:]
