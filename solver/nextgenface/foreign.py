"""Checkpoints of NextFace and of the NextGenFace it was ported to: what their numbers mean in our terms.

Both store un-whitened coefficients of the Basel Face Model 2017, with the same camera and the same axes. What
differs is put right here: they leave out the mean of the expression model, exchange the two angles when they
evaluate spherical harmonics on the environment map, store specular reflectance at normal incidence instead
of a
specular level, and (NextFace) the square of the microfacet roughness alpha instead of Principled roughness.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import Config
from .facemodel.formats.basel import DERIVED_LAYOUT, LEVEL_PER_F0
from .facemodel.model import FaceModel
from .facemodel.registry import BASEL
from .rendering.deferred import CAMERA_TO_LIGHT
from .rendering.light import lobe_centres
from .rendering.sh import legacy_environment, sample_environment

Arrays = Mapping[str, NDArray[np.float32]]

BASEL_SIZES, TRIMMED_SIZE = (199, 145, 100), 80  # shape, albedo, expression components
_MAP_SIZE = 128
_TEXTURES = ("vEnhancedDiffuse", "vEnhancedSpecular", "vEnhancedRoughness")


def sizes_of(arrays: Arrays) -> tuple[int, int, int]:
    """Shape, albedo and expression components of a checkpoint."""
    return (
        arrays["vShapeCoeff"].shape[1],
        arrays["vAlbedoCoeff"].shape[1],
        arrays["vExpCoeff"].shape[1],
    )


def needed_model(arrays: Arrays) -> str:
    """Which face model a checkpoint of another program needs, in words."""
    shape, albedo, expression = sizes_of(arrays)
    if sizes_of(arrays) == BASEL_SIZES:
        return "the Basel Face Model 2017 with AlbedoMM, as NextFace uses it: model = bfm"
    if set(sizes_of(arrays)) == {TRIMMED_SIZE}:
        return "the Basel Face Model 2017 with AlbedoMM and trimPca: model = bfm, trimPca = True"
    return f"a face model with {shape} shape, {albedo} albedo and {expression} expression components"


def with_its_model(config: Config, arrays: Arrays) -> tuple[Config, str]:
    """The options with the Basel Face Model chosen, where a checkpoint needs it and the user chose no other.

    Returns them and a sentence that says so; the same options and "" where nothing changes.
    """
    trimmed = set(sizes_of(arrays)) == {TRIMMED_SIZE}
    if config.source("model") != "default" or not (trimmed or sizes_of(arrays) == BASEL_SIZES):
        return config, ""
    changed = config.copy()
    changed.set("model", BASEL, "file")
    changed.set("trimPca", str(trimmed), "file")
    return changed, f"The checkpoint needs {needed_model(arrays)}; it was chosen for this."


def program(path: Path) -> str:
    """Which program wrote a checkpoint: NextGenFace needs NumPy 2, whose arrays are stored under
    other names."""
    return "NextGenFace" if b"numpy._core" in path.read_bytes() else "NextFace"


def adopt(path: Path, arrays: Arrays, model: FaceModel) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """The arrays of a foreign checkpoint in our terms, and what people should know about that."""
    out = {key: np.array(value) for key, value in arrays.items()}
    writer = program(path)
    notes = [f"{path} was saved by {writer}: its coefficients and its light are converted."]
    for key, part in (("vShapeCoeff", "shape"), ("vAlbedoCoeff", "diffuse"), ("vExpCoeff", "expression")):
        turn = model.native.get(part)
        if turn is not None and turn.shape[1] == out[key].shape[1]:
            out[key] = out[key] @ turn.T
    left = _without_expression_mean(out, model)
    if left > 0.05:
        notes.append(
            f"{writer} leaves out the mean of the expression model; its part outside the expression "
            f"basis moves "
            f"vertices by {left:.2f} mm (root mean square)."
        )
    if all(key in out for key in _TEXTURES):
        if DERIVED_LAYOUT in model.notes:
            for key in _TEXTURES:
                del out[key]
            notes.append(
                f"Its maps were left out: they are laid out for uvParametrization.512.pickle of "
                f"{writer}, which is "
                "not beside the face model. Put it there and import again to have them."
            )
        else:
            out["vEnhancedDiffuse"] = np.clip(out["vEnhancedDiffuse"], 0, 1)
            out["vEnhancedSpecular"] = np.clip(out["vEnhancedSpecular"] * np.float32(LEVEL_PER_F0), 0, 1)
            rough = np.clip(out["vEnhancedRoughness"], 0, 1)
            # NextFace: exponent 2/r - 2 and alpha = sqrt(r), so alpha = roughness^2 gives roughness =
            # r^(1/4).
            out["vEnhancedRoughness"] = rough**0.25 if writer == "NextFace" else rough
            meaning = "the square of alpha" if writer == "NextFace" else "Principled roughness"
            notes.append(
                f"Its maps are taken as linear colour, reflectance at normal incidence and {meaning}, as "
                f"{writer} means them."
            )
    return {key: np.ascontiguousarray(value, np.float32) for key, value in out.items()}, notes


def _without_expression_mean(out: dict[str, NDArray[np.float32]], model: FaceModel) -> float:
    """Move expression coefficients so that faces come out without the expression mean (changes `out`).

    Returns what the basis cannot undo: root mean square over the vertices, mm.
    """
    offset = model.expression_mean.reshape(-1).astype(np.float64)
    basis = model.expression_basis.reshape(len(model.expression_basis), -1)
    if not offset.any() or out["vExpCoeff"].shape[1] != len(basis):
        return 0.0
    step = basis @ offset
    out["vExpCoeff"] = out["vExpCoeff"] - step[None]
    rest = offset - basis.T @ step
    return float(np.sqrt((rest**2).sum() / model.vertex_count))


def lobes_from_foreign_sh(sh: Tensor) -> Tensor:
    """Light lobes (n, D, 3) in the light frame from the reference's `vShCoeffs` (n, B^2, 3).

    Its map is in camera axes (y down, z forward), so directions of the light frame are turned into those
    first.
    """
    directions = lobe_centres().double() * torch.tensor(CAMERA_TO_LIGHT, dtype=torch.float64)
    maps = [legacy_environment(one.double(), _MAP_SIZE, _MAP_SIZE) for one in sh]
    return torch.stack([sample_environment(m, directions) for m in maps]).float()
