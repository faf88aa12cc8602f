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
