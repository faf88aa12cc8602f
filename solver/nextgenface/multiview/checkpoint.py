"""Stopping and going on: one file that holds everything a method for many views needs to continue.

`OUTPUT/checkpoints/METHOD.npz` holds NumPy arrays and a JSON text, nothing else, so it can be read without
running any code and without torch. A method

* calls `load(output, name, fingerprint)` when `request.resume` is set, and starts afresh on None;
* hands `run_steps` a `save` that calls `save(output, Checkpoint(...))`, and `first=checkpoint.step`;
* keeps its optimiser's momentum with `optimiser_arrays` and puts it back with `restore_optimiser`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..errors import CheckpointError
from ..files import write_bytes

SCHEMA = 1
_HEAD = "nextgenface"


@dataclass(frozen=True)
class Checkpoint:
    """Where a method stands: `step` steps are done.

    `arrays`: names without "/" at the start -> arrays of numbers. `info`: whatever JSON can hold.
    `fingerprint`: what the run was started with (see `fingerprint`).
    """

    method: str
    step: int
    fingerprint: str
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


def fingerprint(options: Mapping[str, Any], arrays: Iterable[NDArray[Any]] = ()) -> str:
    """A short text that differs when options or data (cameras, vertices, ...) do."""
    digest = hashlib.sha256(json.dumps(dict(options), sort_keys=True, default=str).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def path_of(output: Path, method: str) -> Path:
    """The checkpoint file of a method in its output folder."""
    return Path(output) / "checkpoints" / f"{method}.npz"


def save(output: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint, whole or not at all; returns its path. Raises OutputError."""
    head = {
        "schema": SCHEMA,
        "version": __version__,
        "method": checkpoint.method,
        "step": checkpoint.step,
        "fingerprint": checkpoint.fingerprint,
        "info": checkpoint.info,
    }
    content = io.BytesIO()
    arrays = {f"array/{name}": np.asarray(value) for name, value in checkpoint.arrays.items()}
    np.savez(content, **{_HEAD: np.array(json.dumps(head))}, **arrays)
    path = path_of(output, checkpoint.method)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
    return path


def load(output: Path, method: str, fingerprint: str) -> Checkpoint | None:
    """The checkpoint to go on from, None where there is none.

    Raises CheckpointError when the file is damaged, of another version of the format, or of a run with other
    options, pictures or mesh.
    """
    path = path_of(output, method)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            head = json.loads(str(stored[_HEAD]))
            arrays = {name[6:]: stored[name] for name in stored.files if name.startswith("array/")}
        found = Checkpoint(head["method"], int(head["step"]), head["fingerprint"], arrays, head["info"])
        schema = head["schema"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
        raise CheckpointError(
            f"{path} is damaged ({problem}). Delete it, or start without resuming."
        ) from problem
    if schema != SCHEMA or found.method != method:
        raise CheckpointError(
            f"{path} is a checkpoint of {found.method!r}, schema {schema}; {method!r}, schema {SCHEMA} is "
            "needed. Start without resuming."
        )
    if found.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} belongs to a run with other settings, pictures or mesh. Use the same ones as before, or "
            "start without resuming."
        )
    return found


def remove(output: Path, method: str) -> None:
    """Delete the checkpoint of a run that is complete."""
    path_of(output, method).unlink(missing_ok=True)


def optimiser_arrays(optimiser: torch.optim.Optimizer, prefix: str = "adam") -> dict[str, NDArray[Any]]:
    """What an Adam-like optimiser remembers, by parameter number and name: "adam/0/exp_avg"."""
    arrays = {}
    for number, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                arrays[f"{prefix}/{number}/{name}"] = value.detach().cpu().numpy().copy()
    return arrays


def restore_optimiser(
    optimiser: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]], prefix: str = "adam"
) -> None:
    """Put back what `optimiser_arrays` kept, into an optimiser of the same parameters.

    Raises CheckpointError when they are not.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in arrays.items():
        if not key.startswith(prefix + "/"):
            continue
        number, name = key[len(prefix) + 1 :].split("/", 1)
        if int(number) >= len(parameters) or (
            value.ndim and value.shape != tuple(parameters[int(number)].shape)
        ):
            raise CheckpointError(
                f"The checkpoint's optimiser does not fit the parameters ({key}, {value.shape}). Start "
                "without resuming."
            )
        state.setdefault(int(number), {})[name] = torch.from_numpy(np.array(value))
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
