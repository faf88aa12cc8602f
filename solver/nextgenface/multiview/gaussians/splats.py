"""A cloud of anisotropic Gaussians: its parameters as they are learned and as they are meant."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from . import harmonics


@dataclass
class Splats:
    """N Gaussians. float32 tensors, all on one device; lengths in the units of the cameras (mm).

    `positions` (N, 3); `log_scales` (N, 3), natural logarithms of the standard deviations along the axes;
    `rotations` (N, 4), quaternions w, x, y, z of any length, from the axes to space; `opacity_logits` (N,);
    `base` (N, 3) and `bands` (N, K - 1, 3), K = 1, 4, 9 or 16: colour by direction, the constant part and
    the rest (see `harmonics`).
    """

    positions: Tensor
    log_scales: Tensor
    rotations: Tensor
    opacity_logits: Tensor
    base: Tensor
    bands: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def scales(self) -> Tensor:
        """Standard deviations (N, 3)."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Opacities (N,) in 0..1."""
        return torch.sigmoid(self.opacity_logits)

    @property
    def axes(self) -> Tensor:
        """Rotation matrices (N, 3, 3), columns = axes of the Gaussians in space."""
        return quaternion_matrices(self.rotations)

    @property
    def sh(self) -> Tensor:
        """All coefficients of colour (N, K, 3)."""
        return torch.cat([self.base[:, None], self.bands], 1)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics."""
        return harmonics.degree_of(1 + self.bands.shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, chosen: Tensor) -> Splats:
        """The Gaussians that an index or a mask names, detached."""
        return Splats(**{name: value.detach()[chosen] for name, value in self.tensors().items()})

    def detached(self) -> Splats:
        """A copy without gradients."""
        return Splats(**{name: value.detach().clone() for name, value in self.tensors().items()})

    @staticmethod
    def joined(parts: list[Splats]) -> Splats:
        """All Gaussians of several clouds, detached."""
        rows = [part.tensors() for part in parts]
        return Splats(**{name: torch.cat([row[name].detach() for row in rows]) for name in rows[0]})

    @staticmethod
    def from_points(
        positions: Tensor, colours: Tensor, *, scale: Tensor | float, opacity: float = 0.5, degree: int = 0
    ) -> Splats:
        """Round Gaussians at points (N, 3) with colours (N, 3) 0..1 sRGB and one standard deviation each."""
        count = len(positions)
        wide = torch.as_tensor(scale, dtype=torch.float32, device=positions.device).expand(count)
        rotations = positions.new_zeros(count, 4)
        rotations[:, 0] = 1
        return Splats(
            positions=positions.float().clone(),
            log_scales=wide.log()[:, None].repeat(1, 3),
            rotations=rotations,
            opacity_logits=torch.full_like(positions[:, 0], opacity).logit(),
            base=((colours - 0.5) / harmonics.BAND0).contiguous(),
            bands=colours.new_zeros(count, harmonics.coefficient_count(degree) - 1, 3),
        )


def quaternion_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4) w, x, y, z of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
