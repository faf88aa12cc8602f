"""The space of a data set -> model space: millimetres, y up (docs/conventions.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...views import Bounds, Camera, ViewSet

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
"""Millimetres of a unit."""

UPS = {"y": np.eye(3), "z": np.array(((1.0, 0, 0), (0, 0, 1.0), (0, -1.0, 0)))}
"""Which axis points up -> rotation into model space. With z up, faces look along -y, as Blender's do."""


@dataclass(frozen=True)
class Frame:
    """How a data set and the mesh that belongs to it are written."""

    unit: str = "mm"
    up: str = "y"

    @property
    def is_model_space(self) -> bool:
        """Whether nothing has to change."""
        return self.unit == "mm" and self.up == "y"

    def points(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) points into model space."""
        return np.asarray(points, np.float64) @ UPS[self.up].T * UNITS[self.unit]

    def camera(self, camera: Camera) -> Camera:
        """The camera that sees in model space what `camera` sees in the data set's."""
        return replace(camera, R=camera.R @ UPS[self.up].T, t=camera.t * UNITS[self.unit])

    def views(self, views: ViewSet) -> ViewSet:
        """All views and their bounds in model space."""
        if self.is_model_space:
            return views
        bounds = views.bounds
        if bounds is not None:
            bounds = Bounds.around(self.points(bounds.corners))
        return ViewSet(tuple(replace(v, camera=self.camera(v.camera)) for v in views), bounds)
