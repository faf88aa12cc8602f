"""Growing a set of `GaussianPoints` while it is trained, as the Gaussian-head description has it."""

from __future__ import annotations

import torch
from torch import Tensor

from .points import GaussianPoints


class ProgressiveTraining:
    """Adds points where positions are pulled strongly, and removes faint ones.

    Call `accumulate` after every backward pass, and `update(step)` after every step of the optimiser: it says
    whether the points have changed. The optimiser's moments go along with them.
    """

    def __init__(
        self,
        points: GaussianPoints,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        max_points: int = 10_000,
        min_points: int = 500,
        densify_interval: int = 100,
        prune_interval: int = 200,
        gradient_threshold: float = 2e-4,
        opacity_threshold: float = 0.01,
        growth: float = 0.25,
    ) -> None:
        """At most `growth` times the present number of points is added at once."""
        self.points = points
        self.optimizer = optimizer
        self.max_points = max_points
        self.min_points = min_points
        self.densify_interval = densify_interval
        self.prune_interval = prune_interval
        self.gradient_threshold = gradient_threshold
        self.opacity_threshold = opacity_threshold
        self.growth = growth
        self._clear()

    def _clear(self) -> None:
        self._pull = torch.zeros(len(self.points), device=self.points.device)
        self._count = 0

    def accumulate(self) -> None:
        """Remember how strongly each position is pulled now."""
        if self.points.xyz.grad is not None:
            self._pull += self.points.xyz.grad.norm(dim=-1)
            self._count += 1

    def update(self, step: int) -> bool:
        """Densify and prune when it is time; whether anything changed."""
        changed = False
        if step and step % self.densify_interval == 0:
            changed = self.densify() > 0
        if step and step % self.prune_interval == 0:
            changed = self.prune() > 0 or changed
        return changed

    def densify(self) -> int:
        """Clone the points with the strongest mean pull above the threshold; returns how many."""
        pull = self._pull / max(self._count, 1)
        count = len(self.points)
        room = min(int((pull > self.gradient_threshold).sum()), int(self.growth * count))
        room = min(room, self.max_points - count)
        if room > 0:
            chosen = torch.topk(pull, room).indices
            before = list(self.points.parameters())
            self.points.clone_points(chosen, seed=count)
            everyone = torch.arange(count, device=chosen.device)
            self._carry(before, torch.cat([everyone, chosen]), count)
        self._clear()
        return max(room, 0)

    def prune(self) -> int:
        """Remove points fainter than the threshold, but keep `min_points`; returns how many went."""
        opacity = torch.sigmoid(self.points.opacity.detach())[:, 0]
        keep = opacity >= self.opacity_threshold
        if keep.sum() < self.min_points:
            keep[torch.topk(opacity, min(self.min_points, len(opacity))).indices] = True
        removed = int((~keep).sum())
        if removed:
            before = list(self.points.parameters())
            self.points.prune_points(keep)
            rows = torch.nonzero(keep)[:, 0]
            self._carry(before, rows, len(rows))
            self._pull = self._pull[keep]
        return removed

    def _carry(self, before: list[Tensor], rows: Tensor, old: int) -> None:
        """Let the optimiser work on the new tensors; moments come from `rows`, 0 from row `old` on."""
        if self.optimizer is None:
            return
        after = {id(a): b for a, b in zip(before, self.points.parameters(), strict=True)}
        for group in self.optimizer.param_groups:
            for index, value in enumerate(group["params"]):
                if id(value) not in after:
                    continue
                state = self.optimizer.state.pop(value, {})
                for name, moment in state.items():
                    if isinstance(moment, Tensor) and moment.shape == value.shape:
                        state[name] = moment[rows]
                        state[name][old:] = 0
                group["params"][index] = after[id(value)]
                if state:
                    self.optimizer.state[after[id(value)]] = state
