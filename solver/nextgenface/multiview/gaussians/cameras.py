"""Cameras that are learned along with the Gaussians: a small turn and shift each, one shared focal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ...geometry.rotations import small_rotation
from ...views import Camera
from .rendering import Pinhole

SHIFT_RATE = 0.5
MOST_FOCAL_CHANGE = 0.4
"""The natural logarithm of the shared focal factor stays within this."""


class Rig(Protocol):
    """What the training asks of a set of cameras. `learn`: whether its tensors are optimised; `rates`:
    learning rates of the tensors by name, relative to the option `cameraRate`.
    """

    learn: bool
    rates: dict[str, float]

    def pinhole(self, index: int, width: int | None = None) -> Pinhole:
        """Camera `index` for a picture `width` pixels wide, differentiable where it is learned."""

    def tensors(self) -> dict[str, Tensor]:
        """What is learned, by name."""

    def set_tensors(self, values: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""

    def hold(self) -> None:
        """Keep what is learned in its bounds; called after every step."""


class CameraRig:
    """The cameras of a set of views, fixed or with residuals that are learned.

    `turn` (n, 3): rotation vectors about the point `pivot` (3,), radians; `shift` (n, 3): camera-space mm;
    `log_focal` (1,): logarithm of one factor on all focal lengths and on the distances to the pivot, so that
    its size in the pictures stays and only the perspective changes. All start at zero.
    """

    def __init__(self, cameras: Sequence[Camera], pivot: Tensor, half: float, *, learn: bool = False) -> None:
        """`half`: half the size of the scene, mm; a shift moves the pictures about as much as a turn does."""
        self.device = pivot.device
        self.cameras = list(cameras)
        self.pivot = pivot
        self.learn = learn
        self.rates = {"turn": 1.0, "shift": SHIFT_RATE * half, "log_focal": 1.0}
        self.turn = torch.zeros(len(cameras), 3, device=pivot.device, requires_grad=learn)
        self.shift = torch.zeros(len(cameras), 3, device=pivot.device, requires_grad=learn)
        self.log_focal = torch.zeros(1, device=pivot.device, requires_grad=learn)

    def pinhole(self, index: int, width: int | None = None) -> Pinhole:
        """Camera `index` for a picture `width` pixels wide (None: its own), residuals included."""
        camera = self.cameras[index]
        base = Pinhole.of(camera if width is None else camera.scaled(width / camera.width), self.device)
        if not self.learn:
            return base
        turned = small_rotation(self.turn[index]) @ base.R
        centre = base.R @ self.pivot + base.t + self.shift[index]
        farther = self.log_focal.exp()
        return Pinhole(
            focal=base.focal * farther,
            principal=base.principal,
            R=turned,
            t=torch.cat([centre[:2], centre[2:] * farther]) - turned @ self.pivot,
            width=base.width,
            height=base.height,
        )

    def current(self) -> list[Camera]:
        """The cameras as they are now, of the original pictures."""
        if not self.learn:
            return list(self.cameras)
        with torch.no_grad():
            return [self.pinhole(i).camera() for i in range(len(self.cameras))]

    def tensors(self) -> dict[str, Tensor]:
        """The residuals by name."""
        return {"turn": self.turn, "shift": self.shift, "log_focal": self.log_focal}

    def set_tensors(self, values: dict[str, Tensor]) -> None:
        """Put residuals back that `tensors` gave."""
        with torch.no_grad():
            for name, value in self.tensors().items():
                value.copy_(values[name])

    def hold(self) -> None:
        """Keep the focal length in its bounds."""
        with torch.no_grad():
            self.log_focal.clamp_(-MOST_FOCAL_CHANGE, MOST_FOCAL_CHANGE)
