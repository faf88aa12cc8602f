"""Small relief on top of the model: a smooth displacement along the normals that shading asks for.

The coefficients of a face model cannot bend every fold; before a residual is blamed on the skin, the
surface gets the chance to explain it. Updates are smoothed over the mesh, so relief grows from broad to
narrow and stays below a few millimetres.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTHING = 12  # rounds of neighbour averaging: about 4 mm on the built-in mesh
SPREAD = 1.0  # mm, prior standard deviation
LID_GAP = 0.4  # mm between an eyeball and the skin over it
MOST_LIFT = 4.0  # mm; deeper than this a vertex belongs behind the eye


class Relief:
    """d = S^k u: `raw` u (V,) is what is optimised, d (V,) mm is what moves the surface."""

    def __init__(self, faces: Tensor, count: int, movable: Tensor) -> None:
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        both = torch.cat([edges, edges.flip(1)]).unique(dim=0)
        self._to, self._from = both[:, 0], both[:, 1]
        self._share = 0.5 / torch.bincount(self._to, minlength=count).clamp(min=1).to(movable)
        self._movable = movable
        self.raw = torch.zeros(count, device=faces.device, requires_grad=True)

    def displacement(self) -> Tensor:
        """d (V,) in mm, zero where the surface must not move."""
        d = self.raw
        for _ in range(SMOOTHING):
            around = torch.zeros_like(d).index_add(0, self._to, d.index_select(0, self._from))
            d = 0.5 * d + self._share * around
        return d * self._movable

    def prior(self) -> Tensor:
        """Half the squared raw displacement in prior deviations, mean over the vertices."""
        return 0.5 * (self.raw**2).mean() / SPREAD**2


def lid_clearance(vertices: Tensor, eyes: Tensor, skin: Tensor) -> Tensor:
    """How far (V,), mm, skin has to move outwards so that no eyeball sticks through it.

    `vertices` (V, 3) mm with the expression, `eyes` (V,) 1 on the eyeballs, `skin` (V,) 1 on skin. Each
    eyeball is taken for the sphere that fits its vertices best.
    """
    lift = torch.zeros(len(vertices)).to(vertices)
    for side in (vertices[:, 0] > 0, vertices[:, 0] <= 0):
        ball = vertices[(eyes > 0.5) & side]
        if len(ball) < 10:
            continue
        # |x - c|^2 = r^2 is linear in c and r^2 - |c|^2
        rows = torch.cat([2 * ball, torch.ones(len(ball), 1).to(ball)], 1).double()
        solution = torch.linalg.lstsq(rows, (ball.double() ** 2).sum(1, keepdim=True)).solution[:, 0]
        centre = solution[:3].to(vertices)
        radius = float((solution[3] + (solution[:3] ** 2).sum()).clamp(min=0).sqrt())
        away = vertices - centre
        depth = radius + LID_GAP - away.norm(dim=1)
        near = (skin > 0.05) & (eyes < 0.5) & (depth > 0) & (depth < MOST_LIFT) & (away[:, 2] > 0)
        lift = torch.where(near, torch.maximum(lift, depth), lift)
    return lift
