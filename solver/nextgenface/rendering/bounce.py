"""Light from skin to skin: traced once per geometry update, then linear in the light.

The surface is cut into patches of about a centimetre. What a vertex gets from a patch is the form factor
between a point and a disc (Wallace et al. 1989), for pairs that face each other; a vertex's factors are
scaled to the share of its sky that tracing found blocked, so that a white body in white surroundings is
white. Light between patches goes on for `ORDERS` reflections.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

PATCHES = 400  # on the whole surface, about
ORDERS = 2  # further reflections between patches: skin returns half of the light at most
LEAST_BLOCKED = 0.004  # share of the sky; below it nothing is gathered
LARGEST_SCALE = 3.0  # of a vertex's form factors: what blocks its sky may lie beyond what it faces
BLOCK = 2048  # vertices at a time


@dataclass(frozen=True)
class Bounce:
    """Which patches every used vertex sees.

    `patches` (P,) vertex numbers that stand for the patches, `visible` (P, Q) their view of the sky,
    `share` (U, P) of irradiance a used vertex gets of a patch's radiosity, `between` (P, P) the same from
    patch to patch.
    """

    patches: Tensor
    visible: Tensor
    share: Tensor
    between: Tensor

    def at(self, rows: Tensor) -> Bounce:
        """Only these rows of the used vertices."""
        return replace(self, share=self.share[rows])

    def gathered(self, irradiance: Tensor, albedo: Tensor) -> Tensor:
        """Irradiance (U, C) that used vertices get from skin; `irradiance` (P, C) and `albedo` (P, C or 1) of
        the patches."""
        leaving = first = albedo * irradiance
        for _ in range(ORDERS):
            leaving = first + albedo * (self.between @ leaving)
        return self.share @ leaving


@torch.no_grad()
def trace_bounce(
    points: Tensor, normals: Tensor, faces: Tensor, visible: Tensor, openness: Tensor, used: Tensor
) -> Bounce:
    """The exchange of light of a surface.

    `points`, `normals` (V, 3), `faces` (F, 3), `visible` (V, Q) of the sky's directions, `openness` (V,) the
    cosine-weighted share of the sky each vertex sees, `used` (U,) the vertices that will be asked for.
    """
    patches, centre, facing, area = _patches(points, normals, faces)
    blocked = (1 - openness).clamp(0, 1)

    def factors(rows: Tensor) -> Tensor:
        return _form_factors(points[rows], normals[rows], blocked[rows], centre, facing, area)

    share, between = (torch.cat([factors(some) for some in rows.split(BLOCK)]) for rows in (used, patches))
    # Most patches (the back of the head) are seen by no used vertex, neither directly nor by one reflection.
    weight = share.sum(0)
    kept = torch.nonzero(weight + weight @ between > 1e-3)[:, 0]
    return Bounce(
        patches[kept],
        visible[patches[kept]],
        share[:, kept].contiguous(),
        between[kept][:, kept].contiguous(),
    )


def _patches(points: Tensor, normals: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(representative vertices (P,), centres (P, 3), unit normals (P, 3), areas (P,)): cells of space, split
    where sides of a thin part meet in one."""
    corner = points[faces]
    across = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1)
    area = torch.zeros(len(points)).to(points)
    for k in range(3):
        area = area.index_add(0, faces[:, k], across / 6)
    size = (area.sum() / PATCHES).sqrt()
    cell = ((points - points.min(0).values) / size).long()
    octant = (normals > 0).long()
    key = torch.cat([cell, octant], 1)
    _, label = torch.unique(key, dim=0, return_inverse=True)
    count = int(label.max()) + 1
    weight = area.clamp(min=1e-9)[:, None]

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, values.shape[1]).to(points).index_add(0, label, values)

    whole = total(weight)
    centre = total(points * weight) / whole
    facing = torch.nn.functional.normalize(total(normals * weight), dim=1)
    away = (points - centre[label]).norm(dim=1)
    nearest = torch.full((count,), torch.inf).to(points).scatter_reduce(0, label, away, "amin")
    chosen = torch.nonzero(away <= nearest[label])[:, 0]
    patches = torch.zeros(count, dtype=torch.long, device=points.device).scatter(0, label[chosen], chosen)
    return patches, centre, facing, whole[:, 0]


def _form_factors(
    points: Tensor, normals: Tensor, blocked: Tensor, centre: Tensor, facing: Tensor, area: Tensor
) -> Tensor:
    """(N, P) shares of irradiance; rows sum to `blocked` (N,), where anything is faced."""
    # From point to centre c - x: all products, so that no (N, P, 3) array is needed.
    squared = torch.cdist(points, centre, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    leaving = (normals @ centre.T - (normals * points).sum(1, keepdim=True)).clamp(min=0)
    arriving = (points @ facing.T - (centre * facing).sum(1)).clamp(min=0)
    factor = leaving * arriving * area / (squared.clamp(min=1e-6) * (torch.pi * squared + area))
    scale = blocked[:, None] / factor.sum(1, keepdim=True).clamp(min=1e-6)
    return factor * scale.clamp(max=LARGEST_SCALE) * (blocked[:, None] > LEAST_BLOCKED)
