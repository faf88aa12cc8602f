"""Adaptive density: Gaussians are cloned, split and pruned while they are optimised.

Every change keeps the optimiser's moments of the Gaussians that stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .harmonics import BAND0
from .rendering import Pinhole, Rendered, render
from .splats import Splats

SPLIT_SHRINK = 1.6
"""A split Gaussian's halves are smaller by this factor (Kerbl et al. 2023)."""


@dataclass(frozen=True)
class Limits:
    """What a Gaussian may be. `low`, `high` (3,): the box it must stay in; `largest`: its standard deviation
    at most, `smallest` at least; both in mm. `least_opacity`: fainter ones are removed. `split_above`: larger
    ones are split where more are needed, smaller ones cloned.
    """

    low: Tensor
    high: Tensor
    smallest: float
    largest: float
    split_above: float
    least_opacity: float = 0.02


class Pull:
    """How strongly each Gaussian is pulled across the pictures: the mean length of d loss / d mean.

    `total` (N,): sum of the lengths; `seen` (N,): how many views it was in.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.total = torch.zeros(count, device=device)
        self.seen = torch.zeros(count, device=device)

    def add(self, rendered: Rendered) -> None:
        """Take the gradient of one view in; call after its backward pass."""
        gradient = rendered.means.grad
        if gradient is None:
            return
        length = gradient.reshape(-1, 2).norm(dim=-1)
        self.total += length
        self.seen += rendered.visible & (length > 0)

    def mean(self) -> Tensor:
        """(N,); 0 for what no view saw."""
        return self.total / self.seen.clamp_min(1)


def grown(
    splats: Splats, pull: Tensor, room: int, limits: Limits, random: torch.Generator
) -> tuple[Splats, Tensor, Tensor]:
    """Add up to `room` Gaussians where the pull (N,) is strongest.

    Small ones are cloned in place, large ones replaced by two halves drawn from them. Both copies get the
    opacity that makes them together as opaque as the one was (Bulo et al. 2024). Returns the new cloud, the
    row (M,) each of its Gaussians comes from, and which (M,) have no history.
    """
    count = len(splats)
    everyone = torch.arange(count, device=pull.device)
    room = min(room, int((pull > 0).sum()))
    if room <= 0:
        return splats.detached(), everyone, torch.zeros_like(everyone, dtype=torch.bool)
    chosen = torch.topk(pull, room).indices
    rows = torch.cat([everyone, chosen])
    fresh = rows >= count  # none yet
    fresh[count:] = True
    result = splats.take(rows)
    halved = torch.zeros(count, dtype=torch.bool, device=pull.device)
    halved[chosen] = True
    both = halved[rows]
    result.opacity_logits[both] = (1 - (1 - result.opacities[both].clamp_max(0.995)).sqrt()).logit()
    large = both & (result.scales.amax(1) > limits.split_above)
    noise = torch.randn(int(large.sum()), 3, generator=random).to(pull.device)
    part = result.take(large)
    result.positions[large] += (part.axes @ (part.scales * noise)[..., None])[..., 0]
    result.log_scales[large] -= math.log(SPLIT_SHRINK)
    return result, rows, fresh | large


def worth_keeping(splats: Splats, limits: Limits) -> Tensor:
    """Which Gaussians (N,) are opaque enough, inside the box and made of finite numbers."""
    where = splats.positions
    keep = splats.opacities > limits.least_opacity
    keep &= ((where >= limits.low) & (where <= limits.high)).all(1)
    return keep & torch.isfinite(splats.log_scales).all(1)


def inside_masks(positions: Tensor, masks: Sequence[tuple[Pinhole, Tensor]]) -> Tensor:
    """Which positions (N, 3) are inside all masks (H, W).

    Beyond a picture's edge its mask goes on as at the edge: what the picture cuts off may be there.
    """
    fine = torch.ones(len(positions), dtype=torch.bool, device=positions.device)
    for camera, mask in masks:
        seen = positions @ camera.R.T + camera.t
        pixel = seen[:, :2] / seen[:, 2:].clamp_min(1e-6) * camera.focal + camera.principal
        column = pixel[:, 0].clamp(0, camera.width - 1).long()
        row = pixel[:, 1].clamp(0, camera.height - 1).long()
        fine &= (mask[row, column] > 0.5) & (seen[:, 2] > 0)
    return fine


def visible_share(splats: Splats, cameras: Sequence[Pinhole]) -> Tensor:
    """How much of a picture each Gaussian (N,) fills in the view that shows most of it, pixels."""
    most = torch.zeros(len(splats), device=splats.positions.device)
    fixed = splats.detached()
    for camera in cameras:
        fixed.base = torch.zeros_like(fixed.base).requires_grad_()
        with torch.enable_grad():
            render(fixed, camera, degree=0).image[..., 0].sum().backward()
        assert fixed.base.grad is not None
        most = torch.maximum(most, fixed.base.grad[:, 0] / BAND0)
    return most


def make_optimizer(splats: Splats, rates: dict[str, float]) -> torch.optim.Adam:
    """Adam with one group per parameter; its tensors become leaves that want gradients."""
    groups = [
        {"params": [value.requires_grad_()], "lr": rates[name], "name": name}
        for name, value in splats.tensors().items()
    ]
    return torch.optim.Adam(groups, lr=0.0, eps=1e-15)


def exchange(optimizer: torch.optim.Adam, splats: Splats, rows: Tensor, fresh: Tensor | None = None) -> None:
    """Make the optimiser work on a new cloud whose Gaussians come from `rows` (M,) of the old one.

    Their moments come along; those of `fresh` (M,) ones start at zero.
    """
    for group in optimizer.param_groups:
        name = group["name"]
        value = getattr(splats, name).detach().clone().requires_grad_()
        state = optimizer.state.pop(group["params"][0], None)
        if state:
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = state[moment][rows]
                if fresh is not None:
                    state[moment][fresh] = 0
            optimizer.state[value] = state
        group["params"][0] = value
        setattr(splats, name, value)


def reset_opacity(optimizer: torch.optim.Adam, splats: Splats, highest: float) -> None:
    """Lower all opacities to at most `highest`, with no momentum; what is needed becomes opaque again."""
    with torch.no_grad():
        splats.opacity_logits.clamp_(max=math.log(highest / (1 - highest)))
    for moment in ("exp_avg", "exp_avg_sq"):
        if moment in optimizer.state.get(splats.opacity_logits, {}):
            optimizer.state[splats.opacity_logits][moment].zero_()
