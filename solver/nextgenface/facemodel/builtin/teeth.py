"""Two rigid rows of teeth in the mouth bag, so that an open mouth is not just dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_COLUMNS, ROWS = 14, 5
# Half width and depth of the dental arch, height of the visible row, all in mm.
ARCH_WIDTH, ARCH_DEPTH = 25.0, 24.0
# Texture islands (low, high corner). An island that is its own mirror image has to sit on the middle line.
UV_BOXES = (np.array([[0.38, 0.966], [0.62, 0.995]]), np.array([[0.38, 0.005], [0.62, 0.034]]))


@dataclass
class Teeth:
    """Both rows in one list, the upper one first: vertices (2n, 3) mm, uv, faces, mirror, gum (2n,)."""

    vertices: NDArray
    uv: NDArray
    faces: NDArray
    mirror: NDArray
    gum: NDArray
    gap: NDArray  # (2n,) 1 between two teeth


def build_teeth(lip_seam: NDArray) -> Teeth:
    """Rows behind the closed lips, whose middle is lip_seam (3,); texture islands in the upper corners."""
    columns = np.arange(-HALF_COLUMNS, HALF_COLUMNS + 1)
    turn = columns / HALF_COLUMNS * np.deg2rad(72)
    arch = np.stack([ARCH_WIDTH * np.sin(turn), 0 * turn, -ARCH_DEPTH * (1 - np.cos(turn))], 1)
    parts = []
    width = 2 * HALF_COLUMNS + 1
    for sign, back, edge, height, box in (
        (1, 6.5, -1.5, 12.0, UV_BOXES[0]),
        (-1, 8.0, 0.5, 11.0, UV_BOXES[1]),
    ):
        share = np.arange(ROWS) / (ROWS - 1)  # 0 at the biting edge, 1 at the gum
        grid = arch[None] * (1 - 0.04 * share[:, None, None]) + lip_seam
        grid[..., 1] += sign * (edge + height * share)[:, None]
        grid[..., 2] += -back - 0.5 * share[:, None] + 0.9 * np.sin(np.pi * share)[:, None]
        across = np.broadcast_to((columns / HALF_COLUMNS + 1) / 2, (ROWS, width))
        up = np.broadcast_to((share if sign > 0 else 1 - share)[:, None], (ROWS, width))
        uv = box[0] + np.stack([across, up], 2) * (box[1] - box[0])
        gum = np.broadcast_to(np.clip((share - 0.62) / 0.2, 0, 1)[:, None], (ROWS, width))
        gap = np.broadcast_to(0.5 - 0.5 * np.cos(np.pi * (columns + 1)), (ROWS, width))
        index = np.arange(ROWS * width).reshape(ROWS, width)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
        right = columns[:-1] < 0  # diagonals mirror at the middle
        first = np.where(right, np.stack([a, b, c]), np.stack([a, b, d]))
        second = np.where(right, np.stack([a, c, d]), np.stack([b, c, d]))
        faces = np.concatenate([first.reshape(3, -1).T, second.reshape(3, -1).T])
        parts.append(
            (grid.reshape(-1, 3), uv.reshape(-1, 2), faces[:, ::sign], index[:, ::-1].ravel(),
             gum.ravel(), gap.ravel())
        )  # fmt: skip
    count = len(parts[0][0])
    shift = (0, count)
    return Teeth(
        vertices=np.concatenate([p[0] for p in parts]),
        uv=np.concatenate([p[1] for p in parts]),
        faces=np.concatenate([p[2] + s for p, s in zip(parts, shift, strict=True)]),
        mirror=np.concatenate([p[3] + s for p, s in zip(parts, shift, strict=True)]),
        gum=np.concatenate([p[4] for p in parts]),
        gap=np.concatenate([p[5] for p in parts]),
    )
