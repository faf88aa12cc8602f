"""The light of a photo in closed form: non-negative least squares over the lobes.

With geometry and reflectance fixed a picture is linear in the lobe radiances, so they are solved for rather
than stepped towards. Priors: neighbouring lobes are alike, and light is nearly grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..rendering.light import LOBE_COUNT, lobe_centres

SMOOTHNESS = 2e-3  # weight of differences between neighbouring lobes, relative to the data
GREYNESS = 2e-3  # weight of each lobe's colour cast
RIDGE = 5e-4  # pull towards the mean radiance, for lobes nothing sees
_ITERATIONS = 400


@dataclass(frozen=True)
class LinearPicture:
    """Samples of a photo as a linear function of the light.

    radiance[p, c] = sum_j (base[p, c] (diffuse[p, j] + tint[c] indirect[p, j]) + glossy[p, j]) e[j, c];
    `target` (P, 3) linear, `weight` (P, 3) square-root weights of the residuals.
    """

    base: Tensor  # (P, 3)
    diffuse: Tensor  # (P, D)
    glossy: Tensor  # (P, D)
    target: Tensor  # (P, 3)
    weight: Tensor  # (P, 3)
    indirect: Tensor | None = None  # (P, D) diffuse light that comes from grey skin
    tint: Tensor | None = None  # (3,) colour that it has by real skin

    def of_channel(self, c: int) -> Tensor:
        """(P, D) radiance of channel c per unit of the lobes."""
        arriving = self.diffuse
        if self.indirect is not None and self.tint is not None:
            arriving = arriving + self.tint[c] * self.indirect
        return self.base[:, c : c + 1] * arriving + self.glossy


@lru_cache(maxsize=1)
def neighbour_laplacian() -> Tensor:
    """Graph Laplacian (D, D) of the lobes: each is tied to its six nearest ones."""
    centres = lobe_centres()
    closeness = centres @ centres.T
    closeness.fill_diagonal_(-2.0)
    nearest = closeness.topk(6, dim=1).indices
    adjacency = torch.zeros(LOBE_COUNT, LOBE_COUNT)
    adjacency.scatter_(1, nearest, 1.0)
    adjacency = torch.maximum(adjacency, adjacency.T)
    return torch.diag(adjacency.sum(1)) - adjacency


@torch.no_grad()
def solve_light(pictures: LinearPicture, start: Tensor, *, nonnegative: bool = True) -> Tensor:
    """Radiances (D, 3) >= 0 that explain the samples best, by accelerated projected gradient (FISTA).

    Not `nonnegative`: of either sign, as with spherical harmonics.
    """
    data = pictures
    count = start.shape[0]
    normal = torch.zeros(3, count, count).to(start)
    right = torch.zeros(3, count).to(start)
    for c in range(3):
        a = data.of_channel(c) * data.weight[:, c : c + 1]
        normal[c] = a.T @ a
        right[c] = a.T @ (data.target[:, c] * data.weight[:, c])
    scale = normal.diagonal(dim1=1, dim2=2).mean()
    eye = torch.eye(count).to(start)
    smooth = neighbour_laplacian().to(start) * (SMOOTHNESS * scale)
    mean = torch.full((count, count), 1.0 / count).to(start)
    ridge = (eye - mean) * (RIDGE * scale)
    own = normal + smooth + ridge
    # greyness couples the channels: sum_c (e_c - mean_c e)^2
    grey = GREYNESS * scale
    lipschitz = float(torch.linalg.matrix_norm(own, ord=2).max() + grey)

    def gradient(e: Tensor) -> Tensor:
        pulled = e - e.mean(0, keepdim=True)
        return torch.einsum("cij,cj->ci", own, e) - right + grey * pulled

    e = start.T.clone()
    y, t = e.clone(), 1.0
    for _ in range(_ITERATIONS):
        nxt = y - gradient(y) / lipschitz
        nxt = nxt.clamp(min=0) if nonnegative else nxt
        t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
        step = nxt - e
        if float((step * (y - nxt)).sum()) > 0:  # restart when momentum points uphill
            t_next = 1.0
        y = nxt + ((t - 1) / t_next) * step
        e, t = nxt, t_next
    return e.T.contiguous()
