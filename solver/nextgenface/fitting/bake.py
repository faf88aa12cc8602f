"""Vertex values to textures: every texel of the UV layout knows its triangle and place in it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..facemodel.model import FaceModel
from ..rendering.raster import rasterize

_KEPT = 2
_tables: OrderedDict[tuple[str, int], TexelTable] = OrderedDict()


@dataclass(frozen=True)
class TexelTable:
    """For a texture of T x T texels, top row first, sampled at texel centres.

    `corners` (T*T, 3) vertices, `weights` (T*T, 3) barycentric. Texels off the layout have those of the
    nearest one on it, so that borders are filled outwards; `on_face` (T, T) says which are really on it.
    """

    corners: Tensor
    weights: Tensor
    on_face: Tensor


def texel_table(model: FaceModel, resolution: int) -> TexelTable:
    """The table of a model's UV layout; the last two are kept, since making one takes a moment."""
    key = (model.hash, resolution)
    if key not in _tables:
        _tables[key] = _make_table(model, resolution)
        while len(_tables) > _KEPT:
            _tables.popitem(last=False)
    return _tables[key]


def bake_vertices(model: FaceModel, values: Tensor, resolution: int) -> Tensor:
    """Texture (T, T, C), top row first, of vertex values (V, C), borders filled outwards; differentiable."""
    table = texel_table(model, resolution)
    corners, weights = table.corners.to(values.device), table.weights.to(values)
    texels = sum(weights[:, k : k + 1] * values[corners[:, k]] for k in range(3))
    assert isinstance(texels, Tensor)
    return texels.reshape(resolution, resolution, -1)


def _make_table(model: FaceModel, resolution: int) -> TexelTable:
    uv = torch.from_numpy(np.ascontiguousarray(model.uv, np.float32))
    screen = torch.stack([uv[:, 0], 1 - uv[:, 1]], 1) * resolution
    faces = torch.from_numpy(np.ascontiguousarray(model.faces, np.int64))
    # Seen straight on from one unit away, perspective changes nothing.
    found = rasterize(screen, torch.ones(len(uv)), faces, resolution, resolution)
    on_face = torch.zeros(resolution * resolution, dtype=torch.bool)
    on_face[found.pixel] = True
    row = torch.zeros(resolution * resolution, dtype=torch.int64)
    row[found.pixel] = torch.arange(len(found.pixel))
    mask = on_face.view(resolution, resolution).numpy()
    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    source = row[torch.from_numpy(nearest[0].astype(np.int64) * resolution + nearest[1]).view(-1)]
    return TexelTable(found.corners[source], found.weights[source], torch.from_numpy(mask.copy()))
