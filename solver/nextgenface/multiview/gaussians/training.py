"""Training of a Gaussian head: one picture a step in the shared loop, growing in points and resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from ...events import Listener
from ...fitting.loop import Outcome, run_steps
from ...views import Bounds, ViewSet
from .. import checkpoint as checkpoints
from .cameras import Rig
from .density import (
    Limits,
    Pull,
    exchange,
    grown,
    inside_masks,
    make_optimizer,
    reset_opacity,
    visible_share,
    worth_keeping,
)
from .losses import opacity_regularization, photometric_loss, scale_regularization, spatial_regularization
from .options import Options
from .pictures import Target, make_target, widths
from .rendering import Pinhole, render
from .splats import Splats

STAGE = "gaussians"
COARSE = ((0.4, 1),)
"""(part of the steps, halvings of the resolution) that come before the full resolution."""
GROWTH_START = 0.06
SMALLEST_PIXELS = 0.25
RESET_OPACITY = 0.1
OUTLINE_MARGIN = 0.01
"""How far a Gaussian's centre may lie outside a mask, per longest side of the picture."""
FIRST_LOOK, LOOK_EVERY = 0.5, 0.2
"""Parts of the steps after which Gaussians that no view shows are removed, first and then again."""
UNSEEN_PIXELS = 0.2
PREVIEW_EVERY = 25


@dataclass
class Snapshot:
    """A state of the training that is worth going back to."""

    splats: Splats
    rig: dict[str, Tensor]


class Training:
    """The state of one training: Gaussians, cameras, optimisers, schedule.

    `views` are learned from. `splats` are taken over and changed. `pixel` (mm): what one pixel of the full
    resolution covers on the object.
    """

    def __init__(
        self, views: ViewSet, splats: Splats, box: Bounds, options: Options, device: str, rig: Rig
    ) -> None:
        self.views = views
        self.options = options
        self.device = torch.device(device)
        self.splats = splats
        middle = torch.as_tensor(box.centre, dtype=torch.float32, device=device)
        self.half = float(box.size.max()) / 2
        self.middle = middle
        self.rig = rig
        self.pixel = pixel_size(views, box, options.resolution)
        room = 0.05 * float(box.size.max())
        self.limits = Limits(
            low=torch.as_tensor(box.low - room, dtype=torch.float32, device=device),
            high=torch.as_tensor(box.high + room, dtype=torch.float32, device=device),
            smallest=SMALLEST_PIXELS * self.pixel,
            largest=options.largestPixels * self.pixel,
            split_above=1.5 * self.pixel,
            least_opacity=options.pruneOpacity,
        )
        self.rates = {
            "positions": options.positionRate * self.half,
            "log_scales": options.scaleRate,
            "rotations": options.rotationRate,
            "opacity_logits": options.opacityRate,
            "base": options.colourRate,
            "bands": options.colourRate / 10,
        }
        self.optimizer = make_optimizer(splats, self.rates)
        self.camera_optimizer = self._make_camera_optimizer() if rig.learn else None
        self.pull = Pull(len(splats), self.device)
        self.random = torch.Generator().manual_seed(options.seed)
        self.order = views.batches(1, "sequential_shuffled", seed=options.seed)
        self.latest = torch.full((len(views),), math.nan)
        self.done = 0
        self._targets: dict[tuple[int, int], Target] = {}
        self._grown_masks: dict[int, Tensor] = {}
        self._next_look = FIRST_LOOK * options.steps

    def _make_camera_optimizer(self) -> torch.optim.Adam:
        groups = [
            {"params": [value], "lr": 0.0, "rate": self.options.cameraRate * self.rig.rates[name]}
            for name, value in self.rig.tensors().items()
        ]
        return torch.optim.Adam(groups)

    def run(self, listener: Listener, save: Callable[[int], None] | None = None) -> Outcome[Snapshot]:
        """Train from `done` to the end; the best state is put back into `splats` and `rig`.

        `save` is asked now and then, and before `Cancelled`, to keep a checkpoint of `arrays`.
        """
        steps, first = self.options.steps, self.done

        def preview(index: int) -> None:
            listener.preview(STAGE, index, self.picture)

        outcome = run_steps(
            STAGE,
            steps - first,
            lambda _: self.step(),
            self.snapshot,
            listener,
            restore=self.restore,
            settle=max(0, int(0.9 * steps) - first),
            preview=preview,
            preview_every=PREVIEW_EVERY,
            first=first,
            total=steps,
            save=save,
        )
        self.restore(outcome.best)
        self._remove(look=True)
        return outcome

    def snapshot(self) -> Snapshot:
        """A copy of the present state."""
        return Snapshot(
            self.splats.detached(), {k: v.detach().clone() for k, v in self.rig.tensors().items()}
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state; the optimisers start afresh."""
        self.splats = snapshot.splats.detached()
        self.optimizer = make_optimizer(self.splats, self.rates)
        self.rig.set_tensors(snapshot.rig)
        if self.rig.learn:
            self.camera_optimizer = self._make_camera_optimizer()
        self.pull = Pull(len(self.splats), self.device)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that a checkpoint needs to go on exactly here; `load` takes it."""
        tensors = {f"splats/{name}": value for name, value in self.splats.tensors().items()}
        tensors |= {f"rig/{name}": value for name, value in self.rig.tensors().items()}
        tensors |= {"pull/total": self.pull.total, "pull/seen": self.pull.seen, "latest": self.latest}
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
        arrays["random"] = self.random.get_state().numpy()
        arrays["next_look"] = np.array(self._next_look)
        arrays |= checkpoints.optimiser_arrays(self.optimizer, "adam")
        if self.camera_optimizer is not None:
            arrays |= checkpoints.optimiser_arrays(self.camera_optimizer, "cameras")
        return arrays

    def load(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go on from a checkpoint of the same views and options."""
        arrays = checkpoint.arrays
        stored = {name: torch.as_tensor(value, device=self.device) for name, value in arrays.items()}
        self.splats = Splats(**{name: stored[f"splats/{name}"] for name in self.splats.tensors()})
        self.optimizer = make_optimizer(self.splats, self.rates)
        checkpoints.restore_optimiser(self.optimizer, arrays, "adam")
        self.rig.set_tensors({name: stored[f"rig/{name}"] for name in self.rig.tensors()})
        if self.camera_optimizer is not None:
            checkpoints.restore_optimiser(self.camera_optimizer, arrays, "cameras")
        self.pull.total, self.pull.seen = stored["pull/total"], stored["pull/seen"]
        self.latest = stored["latest"].cpu()
        self.random.set_state(torch.from_numpy(arrays["random"]))
        self._next_look = float(arrays["next_look"])
        self.done = checkpoint.step
        for _ in range(self.done):
            next(self.order)

    # ---- one step -------------------------------------------------------------------------------------

    def step(self) -> float:
        """Learn from one picture; returns the mean of the latest losses of all pictures."""
        options, number = self.options, self.done
        progress = number / options.steps
        self._set_rates(progress)
        index = next(self.order)[0]
        target = self._target(index, self.level(progress))
        camera = target.cut(self.rig.pinhole(index, target.width))
        background = torch.zeros(3, device=self.device)
        if target.mask is not None and options.randomBackground:
            background = torch.rand(3, generator=self.random).to(self.device)
        degree = min(options.shDegree, int(progress * 2 * (options.shDegree + 1)))
        seen = render(self.splats, camera, background, degree=degree, engine=self._engine())
        loss = photometric_loss(seen.image, target.over(background), options.l1Weight, options.ssimWeight)
        total = loss + self._regularisers()
        self.optimizer.zero_grad(set_to_none=True)
        if self.camera_optimizer is not None:
            self.camera_optimizer.zero_grad(set_to_none=True)
        total.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            return math.nan
        self.pull.add(seen)
        self.optimizer.step()
        if self.camera_optimizer is not None and progress >= options.cameraStart:
            self.camera_optimizer.step()
            self.rig.hold()
        with torch.no_grad():
            self.splats.log_scales.clamp_(math.log(self.limits.smallest), math.log(self.limits.largest))
        self.done += 1
        self._change_density()
        self.latest[index] = value
        return float(self.latest.nanmean())

    def level(self, progress: float) -> int:
        """How often the full resolution is halved at this part of the training."""
        return next((halvings for until, halvings in COARSE if progress < until), 0)

    def room(self, progress: float) -> int:
        """How many Gaussians there may be at this part of the training."""
        options = self.options
        grown_by = (progress - GROWTH_START) / max(options.densifyUntil - GROWTH_START, 1e-6)
        share = min(max(grown_by, 0.0), 1.0)
        return round(options.initialPoints + share * (options.maxPoints - options.initialPoints))

    def _engine(self) -> Any:
        return self.options.engine

    def _target(self, index: int, level: int) -> Target:
        if (index, level) not in self._targets:
            width = self._widths(level)[index]
            self._targets[index, level] = make_target(self.views[index], width, self.device)
        return self._targets[index, level]

    def _set_rates(self, progress: float) -> None:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[group["name"]] * factor
        if self.camera_optimizer is not None:
            options = self.options
            late = (progress - options.cameraStart) / max(1 - options.cameraStart, 1e-6)
            factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(max(late, 0.0), 1.0)))
            for group in self.camera_optimizer.param_groups:
                group["lr"] = group["rate"] * factor

    def _regularisers(self) -> Tensor:
        options, splats = self.options, self.splats
        total = splats.positions.new_zeros(())
        if options.opacityWeight:
            total = total + options.opacityWeight * opacity_regularization(splats.opacities)
        if options.scaleWeight:
            sizes = splats.scales / self.pixel
            total = total + options.scaleWeight * scale_regularization(
                sizes, 2 * SMALLEST_PIXELS, 0.7 * options.largestPixels
            )
        if options.spatialWeight:
            away = (splats.positions - self.middle) / self.half * 100
            total = total + options.spatialWeight * spatial_regularization(away, 100 * math.sqrt(3))
        return total

    def _change_density(self) -> None:
        options, progress = self.options, self.done / self.options.steps
        if options.opacityReset and self.done % options.opacityReset == 0 and progress < options.densifyUntil:
            reset_opacity(self.optimizer, self.splats, RESET_OPACITY)
        if self.done % options.densifyEvery or self.done == options.steps:
            return
        room = self.room(progress) - len(self.splats)
        with torch.no_grad():
            if GROWTH_START <= progress <= options.densifyUntil and room > 0:
                more, rows, fresh = grown(self.splats, self.pull.mean(), room, self.limits, self.random)
                self.splats = more
                exchange(self.optimizer, self.splats, rows, fresh)
            self._remove(self.done >= self._next_look)
        self.pull = Pull(len(self.splats), self.device)

    def _remove(self, look: bool) -> None:
        """Remove Gaussians that are faint or outside and, with `look`, those that no view shows."""
        keep = worth_keeping(self.splats, self.limits)
        keep &= inside_masks(self.splats.positions.detach(), self._outlines())
        if look:
            self._next_look += LOOK_EVERY * self.options.steps
            with torch.no_grad():
                cameras = [self.rig.pinhole(index, width) for index, width in enumerate(self._widths(1))]
            keep &= visible_share(self.splats, cameras) > UNSEEN_PIXELS
        if not keep.all() and keep.any():
            self.splats = self.splats.take(keep)
            exchange(self.optimizer, self.splats, torch.nonzero(keep)[:, 0])

    def _widths(self, level: int) -> list[int]:
        return widths(self.views, self.options.resolution, level)

    def _outlines(self) -> list[tuple[Pinhole, Tensor]]:
        """The cameras and masks that are known, at half the resolution, the masks grown by a little."""
        found = []
        for index, width in enumerate(self._widths(1)):
            view = self.views[index]
            if view.mask is None:
                continue
            if index not in self._grown_masks:
                mask = torch.as_tensor(view.scaled(width / view.camera.width).mask, device=self.device)
                reach = 1 + round(OUTLINE_MARGIN * max(mask.shape))
                self._grown_masks[index] = max_pool2d(mask[None, None], 2 * reach + 1, 1, reach)[0, 0]
            found.append((self.rig.pinhole(index, width), self._grown_masks[index]))
        return found

    # ---- pictures -------------------------------------------------------------------------------------

    def picture(self) -> NDArray[np.uint8]:
        """A preview: the first picture beside its rendering, (H, 2 W, 3) sRGB."""
        target = self._target(0, 0)
        camera = target.cut(self.rig.pinhole(0, target.width))
        with torch.no_grad():
            black = torch.zeros(3, device=self.device)
            seen = render(self.splats, camera, black, degree=self.options.shDegree, engine=self._engine())
            both = torch.cat([target.over(black), seen.image], 1).clamp(0, 1)
        return np.asarray((both * 255).round().byte().cpu().numpy())


def pixel_size(views: ViewSet, box: Bounds, resolution: int) -> float:
    """Length (mm) at the middle of the box that one pixel covers, on average over the views."""
    sizes = []
    for view in views:
        camera = view.camera
        _, depth = camera.project(box.centre[None])
        factor = min(1.0, resolution / max(camera.width, camera.height))
        sizes.append(max(float(depth[0]), 1e-6) / (camera.K[0, 0] * factor))
    return float(np.mean(sizes))
