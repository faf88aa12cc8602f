"""Settings and photos for runs that are complete but as small as they can be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from nextgenface.config import Config
from PIL import Image

ROOT = Path(__file__).parents[2]

SMALL = {
    "threads": 1,
    "maxResolution": 128,
    "textureResolution": 64,
    "iterStep1": 15,
    "iterStep2": 4,
    "iterStep3": 4,
    "rtSamples": 4,
    "noiseLevel": 1.0,
    "debugFrequency": 0,
}
"""A solve in seconds. One thread, so that several test processes do not slow each other down."""


def small_config(**changes: object) -> Config:
    """A config of `SMALL` with changes, all set by attribute."""
    config = Config()
    for name, value in {**SMALL, **changes}.items():
        setattr(config, name, value)
    return config


def small_arguments(**changes: object) -> list[str]:
    """The same for a command line."""
    return [word for name, value in {**SMALL, **changes}.items() for word in ("--set", f"{name}={value}")]


def astronaut() -> np.ndarray:
    """The public-domain portrait in scikit-image, (512, 512, 3) uint8."""
    from skimage import data

    return np.asarray(data.astronaut())


def save_photo(path: Path, picture: np.ndarray | None = None) -> Path:
    """Write a photo, the portrait unless another picture is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(astronaut() if picture is None else picture).save(path)
    return path


def python(*arguments: str | Path) -> list[str]:
    """A command line of this Python."""
    return [sys.executable, "-B", *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment for child processes that import this checkout."""
    paths = [str(ROOT / "solver"), str(ROOT)]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}
