"""Leaves out vertices of a model: helper meshes that are invisible or transparent in their own renderer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..derive.modes import Modes
from ..raw import RawModel


def keep_vertices(raw: RawModel, keep: NDArray[np.bool_]) -> RawModel:
    """The model with the vertices where `keep` (V,); triangles with any other vertex go, too.

    Modes that moved nothing else than the vertices that went are left out.
    """
    rows = np.nonzero(keep)[0]
    number = np.full(raw.count, -1, np.int64)
    number[rows] = np.arange(len(rows))
    faces = number[raw.faces]
    whole = (faces >= 0).all(1)

    def modes(value: Modes) -> Modes:
        vectors = value.vectors[:, rows]
        moving = ~(np.einsum("kvd,kvd->k", vectors, vectors) <= 1e-12)  # NaN stays, to be refused later
        return Modes(np.ascontiguousarray(vectors[moving]), value.variance[moving])

    def per_vertex(values: NDArray | None) -> NDArray | None:
        return None if values is None else values[rows]

    mirror = None
    if raw.mirror is not None:
        image = number[raw.mirror[rows]]
        mirror = image if (image >= 0).all() else None
    return replace(
        raw,
        mean=raw.mean[rows],
        faces=faces[whole],
        shape=modes(raw.shape),
        expression=modes(raw.expression),
        expression_mean=per_vertex(raw.expression_mean),
        uv=per_vertex(raw.uv),
        corner_uv=None if raw.corner_uv is None else raw.corner_uv[whole],
        mirror=mirror,
        landmarks={s: np.where(t >= 0, number[t], -1) for s, t in raw.landmarks.items()},
        parts={name: inside[rows] for name, inside in raw.parts.items()},
        regions={name: weights[rows] for name, weights in raw.regions.items()},
        blendshape_deltas=None if raw.blendshape_deltas is None else raw.blendshape_deltas[:, rows],
    )
