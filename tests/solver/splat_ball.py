"""A ball of Gaussians and pictures of it from around: what the tests of the Gaussian head share."""

from __future__ import annotations

import math

import numpy as np
import torch
from nextgenface.colour import srgb_to_linear
from nextgenface.multiview.gaussians.rendering import Pinhole, render
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.views import Bounds, Camera, View, ViewSet

SIZE = 40
BALL = 50.0


def camera_at(yaw: float, pitch: float = 0.0, size: int = SIZE) -> Camera:
    """A camera 400 mm from the origin, `yaw` to the subject's left and `pitch` above."""
    place = 400 * np.array(
        [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    )
    z = -place / np.linalg.norm(place)
    x = np.cross(z, (0.0, 1.0, 0.0))
    x = x / np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    focal = 2.4 * size
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(K, R, -R @ place, size, size)


def ball(spots: float = 0.0) -> Splats:
    """A ball of 50 mm, red to the left, green above, bright in front, with spots of that contrast."""
    n = torch.arange(700) + 0.5
    y, turn = 1 - 2 * n / 700, math.pi * (1 + math.sqrt(5)) * n
    around = (1 - y * y).sqrt()
    normal = torch.stack([around * turn.sin(), y, around * turn.cos()], -1)
    spot = spots * torch.sin(7 * normal[:, :1] + 2 * torch.sin(5 * normal[:, 1:2]))
    return Splats.from_points(BALL * normal, 0.5 + 0.4 * normal + spot, scale=4.0, opacity=0.95)


def pictures(angles: list[tuple[float, float]], size: int = SIZE, spots: float = 0.0) -> ViewSet:
    views = []
    for index, (yaw, pitch) in enumerate(angles):
        camera = camera_at(yaw, pitch, size)
        with torch.no_grad():
            seen = render(ball(spots), Pinhole.of(camera))
        colour = (seen.image / seen.alpha.clamp_min(1e-3)[..., None]).clamp(0, 1).numpy()
        views.append(View(f"v{index}", srgb_to_linear(colour), camera, seen.alpha.numpy()))
    return ViewSet(tuple(views), Bounds(np.full(3, -60.0), np.full(3, 60.0)))


ANGLES = [(-0.8, 0.1), (-0.3, -0.3), (0.3, 0.3), (0.8, -0.1), (0.0, 0.0)]
