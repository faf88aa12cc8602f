"""The data set's own judge (`score.py`), run on the files of a subject's `score` folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextgenface.errors import NextGenFaceError

JUDGE = "score.py"

# Files of a score folder that the judge takes, by its option.
FILES = {"mesh": "mesh.ply", "albedo": "albedo.exr", "render": "render.exr", "relit": "relit.exr",
         "env": "env.exr", "mask": "coverage.png"}  # fmt: skip
MEAN_FILES = {"mesh": "mean_mesh.ply", "albedo": "mean_albedo.exr", "relit": "mean_relit.exr",
              "mask": "mean_coverage.png"}  # fmt: skip
CONSTANT_FILES = {"albedo": "constant_albedo.exr", "mask": "coverage.png"}


def find_judge(*folders: Path) -> Path:
    """The `score.py` in one of the folders or above it. Raises NextGenFaceError."""
    for folder in folders:
        for place in (folder.absolute(), *folder.absolute().parents):
            if (place / JUDGE).is_file():
                return place / JUDGE
    raise NextGenFaceError(
        f"{JUDGE}, the judge of the data set, was not found in or above {folders[0]}. It belongs to the "
        "data: point --data at the folder of the subjects."
    )


def judge(script: Path, truth: Path, folder: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """What the judge says of those of `files` that are in `folder`; camera axes for the light.

    Raises NextGenFaceError with the judge's own words.
    """
    command = [sys.executable, str(script), "--gt", str(truth)]
    for option, name in files.items():
        if (folder / name).is_file():
            command += [f"--{option}", str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NextGenFaceError(f"The judge failed on {folder}: {(done.stderr or done.stdout).strip()}")
    verdict = json.loads(done.stdout)
    assert isinstance(verdict, dict)
    return verdict


def entry(
    fitted: Mapping[str, Any], mean: Mapping[str, Any], constant: Mapping[str, Any]
) -> dict[str, float | None]:
    """The measures of one subject from the three verdicts; None for what was not judged."""
    return {
        "render_psnr": _at(fitted, "render", "psnr"),
        "relit_psnr": _at(fitted, "relit", "psnr_after_gain"),
        "mean_relit_psnr": _at(mean, "relit", "psnr_after_gain"),
        "mesh_mean_mm": _at(fitted, "mesh", "rigid_scale", "mean_mm"),
        "mesh_p90_mm": _at(fitted, "mesh", "rigid_scale", "p90_mm"),
        "mean_face_mm": _at(mean, "mesh", "rigid_scale", "mean_mm"),
        "albedo_rmse_si": _at(fitted, "albedo", "si_rmse"),
        "mean_albedo_rmse_si": _at(mean, "albedo", "si_rmse"),
        "constant_albedo_rmse_si": _at(constant, "albedo", "si_rmse"),
        "albedo_detail": _at(fitted, "albedo", "detail_correlation"),
        "env_cosine": _at(fitted, "env", "sh2_cosine_without_dc"),
        "light_error_deg": _at(fitted, "env", "dominant_error_deg"),
        "coverage": _at(fitted, "mask_covered"),
    }


def _at(verdict: Mapping[str, Any], *path: str) -> float | None:
    value: Any = verdict
    for key in path:
        if not isinstance(value, Mapping) or value.get(key) is None:
            return None
        value = value[key]
    return float(value)
