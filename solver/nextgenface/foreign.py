"""Checkpoints of the reference program: what their light means in our terms.

The reference exchanges the two angles when it evaluates spherical harmonics on its environment map, so its
light is the same numbers on another sphere. Here the map is made as that program saw it, and our light lobes
are read off it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rendering.deferred import CAMERA_TO_LIGHT
from .rendering.light import lobe_centres
from .rendering.sh import legacy_environment, sample_environment

_MAP_SIZE = 128


def lobes_from_foreign_sh(sh: Tensor) -> Tensor:
    """Light lobes (n, D, 3) in the light frame from the reference's `vShCoeffs` (n, B^2, 3).

    Its map is in camera axes (y down, z forward), so directions of the light frame are turned into those
    first.
    """
    directions = lobe_centres().double() * torch.tensor(CAMERA_TO_LIGHT, dtype=torch.float64)
    maps = [legacy_environment(one.double(), _MAP_SIZE, _MAP_SIZE) for one in sh]
    return torch.stack([sample_environment(m, directions) for m in maps]).float()
