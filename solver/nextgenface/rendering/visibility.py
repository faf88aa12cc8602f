"""Which directions of the sky each vertex sees: one orthographic depth map per direction.

Depth maps instead of rays keep the deferred engine in torch alone; at about one millimetre per texel their
error is below the blur of the light lobes (20 degrees).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .raster import corner_weights, visible_faces


def _frame(direction: Tensor) -> Tensor:
    """Rows: two axes across `direction` and the direction itself, (3, 3)."""
    helper = torch.zeros(3, dtype=direction.dtype, device=direction.device)
    helper[int(direction.abs().argmin())] = 1.0
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, direction), dim=0)
    return torch.stack([x, torch.linalg.cross(direction, x), direction])


@torch.no_grad()
def vertex_visibility(
    vertices: Tensor,
    normals: Tensor,
    faces: Tensor,
    directions: Tensor,
    *,
    at: Tensor | None = None,
    resolution: int = 192,
    bias: float = 1.2,
) -> Tensor:
    """Fraction of light that reaches each vertex from each direction: (V, Q) float32 in 0..1.

    `vertices` (V, 3) mm, `normals` (V, 3) unit, `faces` (F, 3), `directions` (Q, 3) unit vectors towards the
    light in the frame of the vertices. A vertex counts as shadowed when something lies more than about
    `bias` mm in front of it; four neighbouring depth samples soften the border. Directions below a vertex's
    horizon are 0. Both sides of a face cast shadows. With `at` (U,) only these vertices are looked
    at: (U, Q).
    """
    at = torch.arange(len(vertices), device=vertices.device) if at is None else at
    normals = normals[at]
    out = torch.zeros(len(directions), len(at), dtype=vertices.dtype, device=vertices.device)
    for q, direction in enumerate(directions):
        facing = normals @ direction
        lit = torch.nonzero(facing > 0)[:, 0]
        if lit.numel() == 0:
            continue
        local = vertices @ _frame(direction).T
        low, high = local.min(0).values, local.max(0).values
        texel = float((high - low)[:2].max()) / (resolution - 3)
        screen = (local[:, :2] - low[:2]) / texel + 1.0
        depth = -local[:, 2]  # smaller is nearer to the light
        owner = visible_faces(screen, depth, faces, resolution, resolution, orthographic=True).view(-1)
        covered = torch.nonzero(owner >= 0)[:, 0]
        corners = faces.index_select(0, owner.index_select(0, covered)).view(-1)
        w = corner_weights(screen.index_select(0, corners).view(-1, 3, 2), covered, resolution)
        w = w / w.sum(1, keepdim=True)
        zmap = screen.new_full((resolution * resolution,), torch.inf)
        zmap[covered] = (w * depth.index_select(0, corners).view(-1, 3)).sum(1)
        # slope-scaled bias: a texel across a slanted surface spans texel * tan(angle) of depth
        cos = facing.index_select(0, lit).clamp_(min=0.05)
        allowed = bias + texel * torch.sqrt(1 - cos * cos) / cos
        seen_from = at.index_select(0, lit)
        column, row = (screen.index_select(0, seen_from) - 0.5).T.contiguous().unbind(0)
        left, top = column.floor(), row.floor()
        right_share, lower_share = column - left, row - top
        first = top.long().clamp_(0, resolution - 2) * resolution + left.long().clamp_(0, resolution - 2)
        nearest = depth.index_select(0, seen_from) - allowed
        light = torch.zeros_like(cos)
        for j, down in enumerate((1 - lower_share, lower_share)):
            for i, across in enumerate((1 - right_share, right_share)):
                z = zmap.index_select(0, first + (j * resolution + i))
                light += across * down * (z >= nearest)
        out[q, lit] = light
    return out.T.contiguous()
