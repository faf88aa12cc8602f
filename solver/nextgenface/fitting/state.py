"""What a fit knows: one dataclass that every stage reads and returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..facemodel.model import FaceModel
from ..views import FaceView

SH_BANDS = 9
"""Spherical-harmonics bands of the interchange form (81 coefficients per channel)."""


@dataclass(frozen=True)
class FaceState:
    """Parameters of a fit: n photos, m identities (1 when the identity is shared, else n).

    All tensors are float32; coefficients are un-whitened (see `FaceModel`), angles in radians, lengths in
    mm, focal lengths and principal points in pixels of the fitted picture, textures top row first.
    Stages never change a state in place; they return a new one.
    """

    shape: Tensor  # (m, K)
    albedo: Tensor  # (m, A)
    expression: Tensor  # (n, E)
    rotation: Tensor  # (n, 3) Euler angles, R = Rz Ry Rx
    translation: Tensor  # (n, 3) mm
    focals: Tensor  # (n,)
    principal: Tensor  # (n, 2)
    sh: Tensor  # (n, 81, 3) radiance, light frame
    environment: Tensor  # (n, D, 3) radiance of the light lobes, light frame
    width: int  # fitted picture, pixels
    height: int
    model_name: str
    model_hash: str
    shared: bool = False
    stage: int = 0
    seed: int = 0
    gloss: Tensor | None = None  # (m,) factor on the model's specular level
    displacement: Tensor | None = None  # (m, V) mm along the model-space vertex normal
    diffuse: Tensor | None = None  # (m, T, T, 3) linear Rec.709 base colour
    specular: Tensor | None = None  # (m, T, T, 3) Principled specular level
    roughness: Tensor | None = None  # (m, T, T, 1) Principled roughness
    trust: Tensor | None = None  # (n,) say of each photo in what they share, 0 = left out as an outlier
    confidence: Tensor | None = None  # (m, T, T), 1 = seen well, 0 = completed

    @property
    def photo_count(self) -> int:
        """Number of photos n."""
        return int(self.rotation.shape[0])

    @property
    def identity_count(self) -> int:
        """Number of identities m."""
        return int(self.shape.shape[0])

    def identity_of(self, photo: int) -> int:
        """Index of the identity that a photo shows."""
        return photo if self.identity_count > 1 else 0

    def to(self, device: torch.device | str) -> FaceState:
        """The same state with every tensor on `device`."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in self.__dict__.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass
class StageReport:
    """How a stage went; `losses` holds one value per step."""

    name: str
    steps: int
    cap: int
    converged: bool
    seconds: float
    losses: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def loss(self) -> float:
        """The last loss, or NaN when no step ran."""
        return self.losses[-1] if self.losses else float("nan")


def initial_state(
    model: FaceModel, views: list[FaceView], *, shared: bool, seed: int, device: str
) -> FaceState:
    """A mean face in front of each camera, lit from the camera's side.

    The pose is only a start: frontal, at the distance where the face fills its landmark box.
    """
    from ..rendering.light import LOBE_COUNT, frontal_environment, lobes_to_sh

    n = len(views)
    m = 1 if shared else n
    sizes = {(v.image.shape[1], v.image.shape[0]) for v in views}
    if len(sizes) != 1:
        raise ValueError(f"views differ in size: {sorted(sizes)}; face_view gives all the same size")
    width, height = sizes.pop()
    face_height = float(model.shape_mean[:, 1].max() - model.shape_mean[:, 1].min())
    translation = torch.zeros(n, 3)
    rotation = torch.zeros(n, 3)
    rotation[:, 0] = torch.pi
    focals = torch.zeros(n)
    principal = torch.zeros(n, 2)
    for i, view in enumerate(views):
        points = view.landmarks.points[view.landmarks.weights > 0]
        low, high = points.min(0), points.max(0)
        centre = (low + high) / 2
        focals[i] = float(view.focal)
        principal[i] = torch.as_tensor(view.principal, dtype=torch.float32)
        distance = float(view.focal) * face_height / max(float(high[1] - low[1]), 1.0)
        offset = (torch.as_tensor(centre, dtype=torch.float32) - principal[i]) * distance / focals[i]
        translation[i] = torch.tensor([float(offset[0]), float(offset[1]), distance])
    environment = frontal_environment().expand(n, LOBE_COUNT, 3).clone()
    state = FaceState(
        shape=torch.zeros(m, model.shape_basis.shape[0]),
        albedo=torch.zeros(m, model.diffuse_basis.shape[0]),
        expression=torch.zeros(n, model.expression_basis.shape[0]),
        rotation=rotation,
        translation=translation,
        focals=focals,
        principal=principal,
        sh=lobes_to_sh(environment, SH_BANDS),
        environment=environment,
        width=width,
        height=height,
        model_name=model.name,
        model_hash=model.hash,
        shared=shared,
        seed=seed,
    )
    return state.to(device)
