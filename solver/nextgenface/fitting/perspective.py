"""The guide's `camera`: rigid motion into camera space and the perspective projection of n photos."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.rotations import euler_to_matrix


class PerspectiveCamera:
    """A pinhole camera at the origin: x right, y down, z forward; it holds no parameters of its own."""

    def __init__(self, device: str) -> None:
        self.device = device

    def transformVertices(self, vertices: Tensor, translation: Tensor, rotation: Tensor) -> Tensor:
        """Model space (n, V, 3) to camera space, mm; translation (n, 3), rotation (n, 3) Euler angles."""
        return vertices @ euler_to_matrix(rotation).transpose(1, 2) + translation[:, None]

    def project(self, cameraVertices: Tensor, focals: Tensor, centers: Tensor) -> Tensor:
        """Pixels (n, V, 2) of camera-space points (n, V, 3); focals (n,) and centres (n, 2) in pixels."""
        inverse_depth = torch.reciprocal(cameraVertices[..., 2:])
        return focals[:, None, None] * cameraVertices[..., :2] * inverse_depth + centers[:, None]
