"""The reference of the Gaussian-head description, re-created from what is known of it, to compare with.

Its render formula: round points, colours added up without order or occlusion, each with the weight opacity x
exp(-d^2 / 2 r^2), r = 1 to 15 pixels, weights below 0.05 left out, the sum cut at 1. Its loss: the mean over
all views of 0.8 L1 + 0.2 (1 - SSIM) and the regularisers. Its cameras: yaw and pitch, a focal length without
a gradient. Its schedule: Adam that is made anew when points are cloned or pruned. It gets the true angles and
focal length to start with, and as much computing time as ours took.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from nextgenface.multiview.gaussians import GaussianPoints, multi_view_loss, photometric_loss
from nextgenface.multiview.gaussians.pictures import make_target
from nextgenface.views import Camera, View, ViewSet
from torch import Tensor

DISTANCE = 500.0
STEPS = 2000
CLONE_EVERY, PRUNE_EVERY, CLONE_ABOVE, PRUNE_BELOW = 100, 200, 2e-4, 0.01
START, MOST = 500, 10_000
ALIGN_STEPS = 40


def angles(camera: Camera) -> tuple[float, float]:
    """Yaw and pitch of a camera, as the reference turns its points (x right, y down, z away)."""
    R = camera.R @ np.diag([1.0, -1.0, -1.0])
    return math.atan2(-R[0, 2], R[0, 0]), math.atan2(R[2, 1], R[1, 1])


def draw(points: GaussianPoints, yaw: Tensor, pitch: Tensor, focal: float, size: int) -> Tensor:
    """One picture (size, size, 3)."""
    xyz, rgb, opacity, scale = points.get_point_data()
    x, y, z = xyz.unbind(-1)
    x, z = x * yaw.cos() - z * yaw.sin(), x * yaw.sin() + z * yaw.cos()
    y, z = y * pitch.cos() - z * pitch.sin(), y * pitch.sin() + z * pitch.cos()
    zoom = focal / (z + DISTANCE).clamp_min(1)
    radius = (scale[:, 0] * zoom).clamp(1, 15)
    line = torch.arange(size, dtype=torch.float32)
    across = (line - (x * zoom + size / 2)[:, None]) ** 2
    down = (line - (y * zoom + size / 2)[:, None]) ** 2
    image = torch.zeros(size * size, 3)
    for part in torch.arange(len(xyz)).split(1000):
        distance = down[part, :, None] + across[part, None, :]
        weight = opacity[part, :, None] * torch.exp(-distance / (2 * radius[part, None, None] ** 2))
        weight = torch.where(weight < 0.05, 0.0, weight)
        image = image + weight.flatten(1).T @ rgb[part]
    return image.view(size, size, 3).clamp(0, 1)


def run(learned: ViewSet, held_out: View, size: int, seconds: float) -> tuple[float, int]:
    """PSNR (dB, inside the mask) of a view that was not learned from, and the steps that fitted into
    `seconds` of computing time. The held-out view's angles are fitted, too, with the points fixed.
    """
    black = torch.zeros(3)
    targets = [make_target(view, size, "cpu", cut=False).over(black) for view in learned]
    start = [angles(view.camera) for view in learned]
    yaw, pitch = (torch.tensor([a[k] for a in start], requires_grad=True) for k in (0, 1))
    camera = learned[0].camera.scaled(size / learned[0].camera.width)
    focal = min(max(float(camera.K[0, 0]), 200.0), 800.0)
    points = GaussianPoints(START)
    pull, counted = torch.zeros(START), 0
    optimizer, rate = torch.optim.Adam(points.parameters(), lr=0.01), 0.01
    cameras = torch.optim.Adam([yaw, pitch], lr=0.001)
    began, step = time.process_time(), 0
    while step < STEPS and time.process_time() - began < seconds:
        views = [draw(points, yaw[i], pitch[i], focal, size) for i in range(len(targets))]
        xyz, _, opacity, scale = points.get_point_data()
        loss, _ = multi_view_loss(views, targets, xyz, opacity, scale)
        optimizer.zero_grad()
        cameras.zero_grad()
        loss.backward()
        pull, counted = pull + points.xyz.grad.norm(dim=-1), counted + 1  # type: ignore[union-attr]
        optimizer.step()
        cameras.step()
        step += 1
        changed = False
        if step % CLONE_EVERY == 0:
            room = min(int((pull / counted > CLONE_ABOVE).sum()), len(points) // 4, MOST - len(points))
            if room > 0:
                points.clone_points(torch.topk(pull, room).indices)
            changed = True
        if step % PRUNE_EVERY == 0 and len(points) > START:
            points.prune_points(torch.sigmoid(points.opacity[:, 0]) >= PRUNE_BELOW)
            changed = True
        if changed:
            # Made anew at the schedule's rate of this moment, and left there until the next change.
            rate = 0.01 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
            optimizer = torch.optim.Adam(points.parameters(), lr=rate)
            pull, counted = torch.zeros(len(points)), 0
    small = make_target(held_out, size // 2, "cpu", cut=False).over(black)
    turn, tilt = (torch.tensor(angle, requires_grad=True) for angle in angles(held_out.camera))
    aligning = torch.optim.Adam([turn, tilt], lr=0.005)
    for _ in range(ALIGN_STEPS):
        aligning.zero_grad()
        photometric_loss(draw(points, turn, tilt, focal / 2, size // 2), small).backward()
        aligning.step()
    target = make_target(held_out, size, "cpu", cut=False)
    with torch.no_grad():
        error = (draw(points, turn, tilt, focal, size) - target.over(black)).square().mean(-1)
    assert target.mask is not None
    return -10 * math.log10(float(error[target.mask > 0.5].mean())), step
