"""Blender's picture of a result, through the scene's view settings, against Mitsuba's final picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from nextgenface.colour import encode_8bit
from nextgenface.errors import NextGenFaceError
from nextgenface.images import read_exr, read_image
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
FACE = 0.99  # a pixel of the face is covered at least this much


def find_blender_python(environments: Path = ROOT / ".venv") -> Path | None:
    """The Python of an environment with bpy that `make setup` made: 5.0, else the newest; None without."""
    found = {}
    for folder in environments.glob("bpy-*"):
        version = re.fullmatch(r"bpy-(\d+)\.(\d+)", folder.name)
        python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        if version and python.is_file():
            found[int(version[1]), int(version[2])] = python
    return found.get((5, 0)) or (found[max(found)] if found else None)


def draw(python: Path, results: Path, picture: Path, samples: int) -> None:
    """Import a results folder and let Cycles write an 8-bit PNG. Raises NextGenFaceError."""
    command = [str(python), str(ROOT / "nextgenface_addon" / "batch.py"), "--results", str(results)]
    command += ["--render", str(picture), "--render-samples", str(samples)]
    with tempfile.TemporaryDirectory(prefix="nextgenface-bench-") as home:
        # Neither the settings of somebody's Blender nor the solver's packages belong in this picture.
        environment = {**os.environ, "BLENDER_USER_RESOURCES": home}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0 or not picture.is_file():
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise NextGenFaceError(f"Blender made no picture of {results}: {' '.join(words)}")


def compare(picture: Path, final: Path) -> float:
    """PSNR (dB) of Blender's PNG and Mitsuba's premultiplied EXR as 8-bit sRGB, on pixels of the face."""
    linear = read_exr(final)
    alpha = linear[..., 3:]
    # PNG holds colour apart from coverage, EXR multiplied by it.
    codes = encode_8bit(linear[..., :3] / np.maximum(alpha, FACE)).astype(np.float32) / 255.0
    return psnr_8bit(read_image(picture), codes, alpha[..., 0] > FACE)


def psnr_8bit(
    picture: NDArray[np.floating], reference: NDArray[np.floating], where: NDArray[np.bool_]
) -> float:
    """PSNR (dB, at most 100) of the colours of two pictures of codes 0..1, inside `where` (H, W)."""
    if picture.shape[:2] != reference.shape[:2]:
        raise NextGenFaceError(f"The pictures differ in size: {picture.shape[:2]}, {reference.shape[:2]}.")
    if not where.any():
        raise NextGenFaceError("The final picture shows no face.")
    difference = picture[where][:, :3].astype(np.float64) - reference[where][:, :3]
    return float(-10.0 * np.log10(max(float((difference**2).mean()), 1e-10)))
