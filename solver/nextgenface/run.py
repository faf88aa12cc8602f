"""One reconstruction as a job or a command asks for it, on top of the public `Optimizer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import Config
from .errors import CheckpointError, ConfigError, NextGenFaceError
from .events import Listener
from .photos import PhotoChoice


@dataclass(frozen=True)
class Request:
    """What to reconstruct, and where to. `skip` lists stages (1 to 3) that are not run."""

    inputs: Sequence[Path | PhotoChoice]
    output: Path
    config: Config
    shared: bool = False
    checkpoint: Path | None = None
    skip: frozenset[int] = frozenset()


def reconstruct(request: Request, listener: Listener) -> Path:
    """Run one request; returns the path of its `result.json`. Raises NextGenFaceError and its children."""
    check(request)
    from .fitting.optimizer import Optimizer

    optimizer = Optimizer(request.output, request.config, listener=listener)
    return optimizer.run(
        list(request.inputs),
        request.shared,
        request.checkpoint,
        doStep1=1 not in request.skip,
        doStep2=2 not in request.skip,
        doStep3=3 not in request.skip,
    )


def check(request: Request) -> None:
    """Find what is wrong with a request before anything is loaded. Raises NextGenFaceError."""
    for item in request.inputs:
        path = item.path if isinstance(item, PhotoChoice) else item
        if not path.exists():
            raise NextGenFaceError(f"There is no photo or folder at {path}. Check the path.")
    if request.checkpoint is not None and not request.checkpoint.is_file():
        raise CheckpointError(
            f"There is no checkpoint at {request.checkpoint}. Check the path; see the folder checkpoints/ "
            "of a run."
        )
    request.config.validate()
    if 1 in request.skip and 2 not in request.skip and request.checkpoint is None:
        raise ConfigError("Stage 2 needs a pose: give a --checkpoint, or do not skip stage 1.")
    if {1, 2} <= request.skip and request.checkpoint is None:
        raise ConfigError("Skipping stages 1 and 2 leaves nothing to start from: give a --checkpoint.")
