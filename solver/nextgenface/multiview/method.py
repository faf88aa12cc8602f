"""What the methods for many views have in common: the request they get, the result they leave.

A method is a function `reconstruct(request, listener) -> Path` (the path of its `result.json`) in a module of
its own; `METHODS` says which. It may raise NextGenFaceError (bad input), Cancelled (a checkpoint is kept).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ConfigError
from ..events import Listener
from ..files import write_text
from ..fitting.state import StageReport
from ..results import RESULT, SCHEMA, stage_entry
from ..views import Camera

METHODS: dict[str, str] = {
    "gaussians": ".multiview.gaussians.method",
    "mesh": ".multiview.neural_shading.method",
    "texture": ".multiview.texture.method",
}
"""Method name, as in job.json and result.json -> module with its `reconstruct`."""


@dataclass(frozen=True)
class Request:
    """What a command, a job or a script asks of a method.

    `inputs`: a data set's folder, or photos. `mesh`: a mesh file or a results folder to start from, where the
    method takes one. `held_out`: names of views that are not learned from but drawn and scored at the end.
    `options`: the method's own settings as text, as typed; the method checks them and names what it does not
    know. `resume`: go on from the checkpoint in `output`.
    """

    inputs: tuple[Path, ...]
    output: Path
    mesh: Path | None = None
    held_out: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    resume: bool = False


Reconstruct = Callable[[Request, Listener], Path]


def method(name: str) -> Reconstruct:
    """The `reconstruct` function of a method. Raises ConfigError for a name that is none."""
    if name not in METHODS:
        known = ", ".join(["face", *METHODS])
        raise ConfigError(f"There is no method {name!r}; choose one of {known}.")
    return import_module(METHODS[name], package="nextgenface").reconstruct


@dataclass
class Result:
    """The parts of a method's `result.json` (docs/architecture.md) that are not the same for all.

    `views`: (name, camera in mm and pixels of the original picture, files by kind, relative to the folder).
    `files`: the method's own files by kind (`mesh`, `texture`, `points`, ...). `metrics`: plain numbers.
    """

    method: str
    name: str
    options: dict[str, Any]
    views: list[tuple[str, Camera, dict[str, str | None]]]
    files: dict[str, str | None]
    metrics: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, StageReport] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seed: int = 0
    device: str = "cpu"


def write_result(folder: Path, result: Result) -> Path:
    """Write `result.json` into a folder whose other files are complete; returns its path.

    Raises OutputError.
    """
    views = [
        {
            "name": name,
            "index": index,
            "width": camera.width,
            "height": camera.height,
            "K": camera.K.tolist(),
            "R": camera.R.tolist(),
            "t": camera.t.tolist(),
            "files": files,
        }
        for index, (name, camera, files) in enumerate(result.views)
    ]
    content = {
        "schema": SCHEMA,
        "method": result.method,
        "name": result.name,
        "version": __version__,
        "seed": result.seed,
        "config": result.options,
        "device": result.device,
        "units": "mm",
        "stages": {name: stage_entry(report) for name, report in result.stages.items()},
        "metrics": result.metrics,
        "warnings": result.warnings,
        "files": result.files,
        "photos": views,
    }
    path = folder / RESULT
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return path
