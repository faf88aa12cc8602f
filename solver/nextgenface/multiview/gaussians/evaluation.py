"""How well Gaussians show a view, and how much of them floats outside the object."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...views import Bounds, View
from .cameras import CameraRig
from .losses import photometric_loss
from .pictures import make_target
from .rendering import Engine, Pinhole, render
from .splats import Splats

ALIGN_STEPS = 120
COARSE_ABOVE = 128  # pixels
ALIGN_RATE = 0.002  # radians; shifts in half boxes


def drawn(splats: Splats, view: View, width: int, *, engine: Engine = "auto") -> tuple[Tensor, Tensor]:
    """A view's camera's picture (h, w, 3) of Gaussians over black, sRGB code values, and its alpha (h, w)."""
    camera = view.camera.scaled(width / view.camera.width)
    with torch.no_grad():
        seen = render(splats, Pinhole.of(camera, splats.positions.device), engine=engine)
    return seen.image.clamp(0, 1), seen.alpha


def psnr(splats: Splats, view: View, width: int, *, engine: Engine = "auto") -> float:
    """Peak signal-to-noise ratio, dB, of a view drawn `width` pixels wide, over sRGB code values inside its
    mask (> 0.5). Both pictures lie over black.
    """
    target = make_target(view, width, splats.positions.device, cut=False)
    image, _ = drawn(splats, view, width, engine=engine)
    error = (image - target.over(torch.zeros(3, device=image.device))).square().mean(-1)
    if target.mask is not None:
        error = error[target.mask > 0.5]
    return -10 * math.log10(max(float(error.mean()), 1e-10))


def outside_share(splats: Splats, box: Bounds) -> float:
    """The part of all opacity that sits outside a box."""
    where = splats.positions.detach().cpu().double().numpy()
    outside = ((where < box.low) | (where > box.high)).any(1)
    opacity: NDArray[np.float32] = splats.opacities.detach().cpu().numpy()
    return float(opacity[outside].sum() / max(opacity.sum(), 1e-12))


def aligned(
    splats: Splats, view: View, box: Bounds, width: int, *, steps: int = ALIGN_STEPS, engine: Engine = "auto"
) -> View:
    """The view with its camera turned and shifted until the Gaussians, which stay, fit its picture best.

    For views whose camera is a guess: their picture takes no part in the training, only in this. The focal
    length stays.
    """
    device = splats.positions.device
    fixed = splats.detached()
    half = float(box.size.max()) / 2
    pivot = torch.as_tensor(box.centre, dtype=torch.float32, device=device)
    rig = CameraRig([view.camera], pivot, half, learn=True)
    rates = (ALIGN_RATE, ALIGN_RATE * half)
    optimizer = torch.optim.Adam([{"params": [rig.turn]}, {"params": [rig.shift]}])
    black = torch.zeros(3, device=device)
    best, least = rig.current()[0], math.inf
    # Coarse pictures lead over longer ways, but their coarse edges also a little off.
    for size in (width // 2, width) if width >= COARSE_ABOVE else (width,):
        target = make_target(view, size, device)
        for step in range(steps // 2):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * 0.5 * (1 + math.cos(2 * math.pi * step / steps))
            now = rig.current()[0]
            seen = render(fixed, target.cut(rig.pinhole(0, target.width)), black, engine=engine)
            loss = photometric_loss(seen.image, target.over(black))
            if size == width and float(loss.detach()) < least:
                best, least = now, float(loss.detach())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            rig.log_focal.grad = None
            optimizer.step()
    return replace(view, camera=best)
