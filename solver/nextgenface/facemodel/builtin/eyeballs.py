"""Two rigid eyeballs behind the lids: polar patches of a sphere with a slightly raised cornea."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .template import EYE_RADIUS, FLIP

SECTORS = 32
IRIS_ANGLE = float(np.arcsin(5.9 / EYE_RADIUS))  # the iris of an adult is about 11.8 mm wide
PUPIL_ANGLE = float(np.arcsin(1.9 / EYE_RADIUS))
_RING_DEGREES = (4.5, 8.4, 9.8, 13.5, 18, 23, 27.5, 29.5, 31.5, 36, 43, 51, 60, 70, 80)
_UV_RADIUS = 0.05


@dataclass
class Eyeballs:
    """Both eyeballs in one list, the subject's right one first.

    vertices (2n, 3) mm, uv (2n, 2), faces (f, 3), mirror (2n,), angle (2n,) from the optical axis in radians.
    """

    vertices: NDArray
    uv: NDArray
    faces: NDArray
    mirror: NDArray
    angle: NDArray


def build_eyeballs(right_centre: NDArray) -> Eyeballs:
    """Eyeballs looking along +z; their texture islands lie in the two lower corners of the UV square."""
    turn = np.arange(SECTORS) * 2 * np.pi / SECTORS
    rings = np.deg2rad(_RING_DEGREES)
    angle = np.concatenate([[0.0], np.repeat(rings, SECTORS)])
    around = np.concatenate([[0.0], np.tile(turn, len(rings))])
    inside = np.clip(1 - (angle / (1.08 * IRIS_ANGLE)) ** 2, 0, 1)
    radius = EYE_RADIUS + 0.9 * inside**1.5
    circle = np.stack([np.cos(around), np.sin(around)], 1)
    points = radius[:, None] * np.c_[circle * np.sin(angle)[:, None], np.cos(angle)] + right_centre
    uv = np.array([0.075, 0.075]) + _UV_RADIUS * circle * (angle / rings[-1])[:, None]

    step = np.arange(SECTORS)
    following = (step + 1) % SECTORS
    faces = [np.stack([np.zeros(SECTORS, int), 1 + step, 1 + following], 1)]
    for ring in range(len(rings) - 1):
        a, b = 1 + ring * SECTORS + step, 1 + ring * SECTORS + following
        faces += [np.stack([a, a + SECTORS, b + SECTORS], 1), np.stack([a, b + SECTORS, b], 1)]
    right = np.concatenate(faces)
    count = len(points)
    table = np.arange(count)
    return Eyeballs(
        vertices=np.concatenate([points, points * FLIP]),
        uv=np.concatenate([uv, uv * [-1, 1] + [1, 0]]),
        faces=np.concatenate([right, count + right[:, ::-1]]),
        mirror=np.concatenate([table + count, table]),
        angle=np.concatenate([angle, angle]),
    )
