"""The course of a reconstruction: segments of steps between remeshings, files on the way, stop and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...events import Listener
from ...fitting.loop import run_steps
from ..checkpoint import Checkpoint, optimiser_arrays, restore_optimiser
from .optimise import NeuralMesh
from .remesh import Remesher

STAGE = "mesh"
SMOOTHING = 0.05  # of the running mean of the loss: single steps see single views


@dataclass
class Course:
    """Runs the steps of a `NeuralMesh`; `done` of them are behind.

    `on_step(done)` is called after every step. `losses` are running means.
    """

    mesh: NeuralMesh
    listener: Listener
    on_step: Callable[[int], None] = lambda done: None
    preview: Callable[[int], NDArray[np.uint8]] | None = None
    done: int = 0
    losses: list[float] = field(default_factory=list)
    remeshed: set[int] = field(default_factory=set)
    _mean: float | None = None

    def run(self, save: Callable[[int], None]) -> None:
        """All steps that are left. Raises Cancelled after `save`, Diverged."""
        options = self.mesh.options
        total = options.iterations
        coarse = int(np.ceil(options.coarse_share * total))
        remesh_at = set() if self.mesh.anchored else {i for i in options.upsample_iterations if 0 < i < total}
        # Within a segment the loss means the same, so "the best so far" does, too.
        ends = sorted({*remesh_at, coarse, total} - {0})
        with Remesher() as remesher:
            for end in ends:
                if self.done in remesh_at and self.done not in self.remeshed:
                    self.remeshed.add(self.done)
                    self.listener.warning(f"step {self.done}: {self.mesh.upsample(remesher)}")
                if end > self.done:
                    self._segment(end, total, save)

    def _segment(self, end: int, total: int, save: Callable[[int], None]) -> None:
        first = self.done
        self._mean = None

        def step(i: int) -> float:
            loss = self.mesh.step(first + i)
            self._mean = loss if self._mean is None else self._mean + SMOOTHING * (loss - self._mean)
            self.done = first + i + 1
            self.on_step(self.done)
            return self._mean

        def show(i: int) -> None:
            if self.preview is not None:
                make = self.preview
                self.listener.preview(STAGE, i, lambda: make(i))

        outcome = run_steps(
            STAGE,
            end - first,
            step,
            self.mesh.snapshot,
            self.listener,
            restore=self.mesh.restore,
            preview=show,
            preview_every=10,
            first=first,
            total=total,
            save=save,
        )
        self.losses += outcome.losses


def to_checkpoint(course: Course, method: str, fingerprint: str) -> Checkpoint:
    """Everything that is needed to go on from here."""
    mesh = course.mesh
    arrays: dict[str, NDArray[Any]] = {
        "start": mesh.start.cpu().numpy(),
        "unknowns": mesh.unknowns.detach().cpu().numpy(),
        "faces": mesh.faces,
        "random": mesh.generator.get_state().cpu().numpy(),
        "losses": np.array(course.losses),
        "remeshed": np.array(sorted(course.remeshed), dtype=np.int64),
    }
    arrays |= {f"shader/{k}": v.detach().cpu().numpy() for k, v in mesh.shader.state_dict().items()}
    arrays |= optimiser_arrays(mesh.vertex_optimiser, "vertices")
    arrays |= optimiser_arrays(mesh.shader_optimiser, "network")
    return Checkpoint(method, course.done, fingerprint, arrays, {"weights": mesh.weights, "rate": mesh.rate})


def from_checkpoint(course: Course, stored: Checkpoint) -> None:
    """Go on from a checkpoint of the same run. Raises CheckpointError."""
    mesh, arrays = course.mesh, stored.arrays
    tensor = lambda name: torch.from_numpy(np.array(arrays[name]))  # noqa: E731
    mesh.restore(
        {
            "start": tensor("start"),
            "unknowns": tensor("unknowns").to(mesh.device),
            "faces": tensor("faces"),
            "shader": {k: tensor(f"shader/{k}") for k in mesh.shader.state_dict()},
            "weights": stored.info["weights"],
            "rate": stored.info["rate"],
        }
    )
    restore_optimiser(mesh.vertex_optimiser, arrays, "vertices")
    restore_optimiser(mesh.shader_optimiser, arrays, "network")
    mesh.generator.set_state(tensor("random"))
    mesh.skip_draws(stored.step)
    course.done = stored.step
    course.losses = [float(x) for x in arrays["losses"]]
    course.remeshed = {int(i) for i in arrays["remeshed"]}
