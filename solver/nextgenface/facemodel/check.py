"""Whether a face model keeps what the solver relies on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry.laplacian import face_normals
from .derive.mirror import mirror_gap
from .model import FaceModel

_TOLERANCE = 1e-3
_MIRROR_RETURN, _MIRROR_GAP = 4.0, 8.0  # mm


def check_model(model: FaceModel) -> list[str]:
    """What is wrong with a model, in words; empty when it can be used."""
    problems = _check_sizes(model)
    if problems:
        return problems
    for part in ("shape", "expression", "diffuse"):
        basis, variance = getattr(model, f"{part}_basis"), getattr(model, f"{part}_variance")
        flat = basis.reshape(len(basis), -1)
        error = float(np.abs(flat @ flat.T - np.eye(len(flat))).max()) if len(flat) else 0.0
        if error > _TOLERANCE:
            problems.append(f"the {part} basis is not orthonormal (off by {error:.2g})")
        if (variance < 0).any() or (
            np.diff(variance) > 1e-6 * max(float(variance.max(initial=0)), 1e-9)
        ).any():
            problems.append(f"the {part} variances are negative or not in descending order")
    back = model.shape_mean[model.mirror[model.mirror]] - model.shape_mean
    if float(np.median(np.linalg.norm(back, axis=1))) > _MIRROR_RETURN:
        problems.append("the mirror table does not lead back: the mirror of the mirror is another place")
    elif mirror_gap(model.shape_mean.astype(np.float64), model.mirror) > _MIRROR_GAP:
        problems.append("the mirror table does not lead to the other side of the face")
    if model.uv.min() < 0 or model.uv.max() > 1:
        problems.append("uv leaves the range 0..1")
    if model.diffuse_mean.min() < 0 or model.diffuse_mean.max() > 1:
        problems.append("the mean albedo leaves the range 0..1")
    spread = np.ptp(model.shape_mean, axis=0)
    if not 80 < float(spread.max()) < 800:
        problems.append(f"the mean face is {spread.max():.3g} units large: millimetres are expected")
    crosses = face_normals(model.shape_mean, model.faces)
    if float(crosses[:, 2].sum()) <= 0:
        problems.append("the triangles run clockwise: the face is inside out")
    return problems


def _check_sizes(model: FaceModel) -> list[str]:
    """Shapes, index ranges and finite numbers: what the other checks rely on."""
    count = model.vertex_count
    problems: list[str] = []

    def expect(label: str, array: NDArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            problems.append(f"{label} has shape {array.shape}, not {shape}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            problems.append(f"{label} holds numbers that are not finite")

    for part in ("shape", "expression", "diffuse"):
        size = len(getattr(model, f"{part}_variance"))
        expect(f"{part}_mean", getattr(model, f"{part}_mean"), (count, 3))
        expect(f"{part}_basis", getattr(model, f"{part}_basis"), (size, count, 3))
        expect(f"{part}_variance", getattr(model, f"{part}_variance"), (size,))
    expect("specular_mean", model.specular_mean, (count, 3))
    expect("specular_basis", model.specular_basis, model.diffuse_basis.shape)
    expect("roughness_mean", model.roughness_mean, (count,))
    expect("uv", model.uv, (count, 2))
    expect("mirror", model.mirror, (count,))
    for name, weights in model.regions.items():
        expect(f"region {name}", weights, (count,))
    if model.blendshape_deltas is not None:
        expect("blendshape_deltas", model.blendshape_deltas, (len(model.blendshape_names), count, 3))
    tables = {"faces": model.faces, "mirror": model.mirror}
    tables |= {f"landmarks {name}": table for name, table in model.landmarks.items()}
    for label, table in tables.items():
        lowest = -1 if label.startswith("landmarks") else 0
        if table.size == 0 or table.min() < lowest or table.max() >= count:
            problems.append(f"{label} points to vertices that do not exist")
    if model.faces.ndim != 2 or model.faces.shape[1] != 3:
        problems.append("faces are not triangles")
    return problems
