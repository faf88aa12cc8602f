"""The one optimisation loop: steps, progress, previews, cancel, best state so far, NaN guard, convergence.

A stage hands its step function to `run_steps`; it does no I/O itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import Cancelled, NextGenFaceError
from ..events import Listener

S = TypeVar("S")


class Diverged(NextGenFaceError):
    """The loss stopped being a number and could not be rescued."""


class Outcome(Generic[S]):
    """What a loop leaves: the best snapshot, the loss of every step, whether it converged."""

    def __init__(self, best: S, losses: list[float], converged: bool, seconds: float) -> None:
        self.best = best
        self.losses = losses
        self.converged = converged
        self.seconds = seconds


def run_steps(
    stage: str,
    cap: int,
    step: Callable[[int], float],
    snapshot: Callable[[], S],
    listener: Listener,
    *,
    restore: Callable[[S], None] | None = None,
    patience: int = 0,
    tolerance: float = 1e-3,
    settle: int = 0,
    preview: Callable[[int], None] | None = None,
    preview_every: int = 0,
    first: int = 0,
    total: int | None = None,
    save: Callable[[int], None] | None = None,
    save_seconds: float = 60.0,
) -> Outcome[S]:
    """Run `step(i) -> loss` until it has converged or `cap` is reached.

    The best snapshot counts from step `settle` on (before, the loss may mean something else: a coarser
    picture, fewer parameters). Converged: over the last `patience` steps (0 = never) the mean loss fell by
    less than `tolerance` of itself. A loss that is not finite restores the best snapshot once; a second one
    raises `Diverged`. Raises `Cancelled` between steps when the listener says so. A loop that is one part of
    a stage says which: progress counts from `first`, out of `total` (default `cap`) steps. `save(done)` is
    asked to keep a checkpoint every `save_seconds` and before `Cancelled`; `done` counts from `first`, too.
    """
    start = saved = time.monotonic()
    losses: list[float] = []
    best, best_loss = snapshot(), math.inf
    rescued = converged = False
    for i in range(cap):
        if listener.cancelled():
            if save is not None:
                save(first + i)
            raise Cancelled(
                f"Stopped in stage {stage} at step {first + i} of {cap if total is None else total}."
            )
        loss = step(i)
        if not math.isfinite(loss):
            if rescued or restore is None:
                raise Diverged(
                    f"Stage {stage} diverged at step {i} (loss is {loss}). Try another photo crop or a "
                    "smaller maxResolution, and please report the photo's settings."
                )
            rescued = True
            listener.warning(
                f"stage {stage}: the loss was not a number at step {i}; went back to the best state"
            )
            restore(best)
            continue
        losses.append(loss)
        if i >= settle and loss < best_loss:
            best, best_loss = snapshot(), loss
        listener.progress(stage, first + i + 1, cap if total is None else total, loss)
        if preview is not None and preview_every > 0 and i % preview_every == 0:
            preview(first + i)
        if save is not None and time.monotonic() - saved >= save_seconds:
            save(first + i + 1)
            saved = time.monotonic()
        if patience and i >= settle + 2 * patience:
            now = sum(losses[-patience:]) / patience
            before = sum(losses[-2 * patience : -patience]) / patience
            if before - now < tolerance * abs(before):
                converged = True
                break
    return Outcome(best, losses, converged, time.monotonic() - start)
