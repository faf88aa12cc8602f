"""What a reader found in a file: a face model with holes, in the file's own vertex numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .derive.modes import Modes

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MAX_VERTICES, MAX_MODES = 400_000, 2_000
"""More than any face model has; a damaged file can claim anything."""

PARTS = ("eyes", "teeth", "gums", "tongue", "mouth")
"""Names of parts that a reader may give: what is not skin of the face."""


@dataclass(frozen=True)
class RawModel:
    """A linear face model as its file has it; what is None or empty is derived by `completion.complete`.

    V vertices, F triangles. mm; x to the subject's left, y up, z out of the face. Colours linear Rec.709.
    """

    name: str
    kind: str  # the format, for people
    mean: Array  # (V, 3)
    faces: Index  # (F, 3)
    shape: Modes
    expression: Modes
    expression_mean: Array | None = None  # (V, 3)
    diffuse_mean: Array | None = None  # (V, 3)
    diffuse: Modes | None = None
    specular_mean: Array | None = None  # (V, 3) Principled specular level
    specular: NDArray[np.float32] | None = None  # (A, V, 3), driven by the diffuse coefficients
    roughness: Array | None = None  # (V,)
    uv: Array | None = None  # (V, 2)
    corner_uv: Array | None = None  # (F, 3, 2), where vertices have several texture coordinates
    mirror: Index | None = None  # (V,)
    landmarks: dict[str, Index] = field(default_factory=dict)  # scheme -> vertex per landmark, -1 = none
    parts: dict[str, NDArray[np.bool_]] = field(default_factory=dict)  # name of `PARTS` -> (V,)
    regions: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    blendshape_names: tuple[str, ...] = ()
    blendshape_deltas: NDArray[np.float32] | None = None  # (B, V, 3)
    notes: tuple[str, ...] = ()  # what people should know about this file

    @property
    def count(self) -> int:
        """Number of vertices V."""
        return len(self.mean)


def check_raw(raw: RawModel, place: str) -> None:
    """Refuse what no later step could use: wrong sizes, numbers that are not finite, modes without variance.

    Raises ModelError that names the file and what is wrong.
    """

    def refuse(what: str) -> None:
        raise ModelError(
            f"The face model {place} cannot be used: {what}. The file is damaged or of another kind; get "
            f"it again."
        )

    v = raw.count
    if raw.mean.ndim != 2 or raw.mean.shape[1] != 3 or not 50 <= v <= MAX_VERTICES:
        refuse(f"its mean face has the shape {raw.mean.shape}")
    if raw.faces.ndim != 2 or raw.faces.shape[1] != 3 or len(raw.faces) < 50:
        refuse(f"its triangles have the shape {raw.faces.shape}")
    if raw.faces.min() < 0 or raw.faces.max() >= v:
        refuse("its triangles point to vertices that do not exist")
    arrays: dict[str, tuple[NDArray | None, tuple[int, ...]]] = {
        "mean face": (raw.mean, (v, 3)),
        "expression mean": (raw.expression_mean, (v, 3)),
        "mean albedo": (raw.diffuse_mean, (v, 3)),
        "mean specular albedo": (raw.specular_mean, (v, 3)),
        "roughness": (raw.roughness, (v,)),
        "uv": (raw.uv, (v, 2)),
        "uv per corner": (raw.corner_uv, (len(raw.faces), 3, 2)),
        "mirror table": (raw.mirror, (v,)),
        "blendshapes": (raw.blendshape_deltas, (len(raw.blendshape_names), v, 3)),
    }
    for label, modes in (("shape", raw.shape), ("expression", raw.expression), ("albedo", raw.diffuse)):
        if modes is None:
            continue
        size = len(modes.variance)
        if label == "shape" and not 1 <= size <= MAX_MODES or size > MAX_MODES:
            refuse(f"it has {size} {label} components")
        arrays[f"{label} basis"] = (modes.vectors, (size, v, 3))
        arrays[f"{label} variances"] = (modes.variance, (size,))
    if raw.specular is not None:
        arrays["specular basis"] = (raw.specular, (0 if raw.diffuse is None else len(raw.diffuse), v, 3))
    arrays |= {f"region {name}": (weights, (v,)) for name, weights in raw.regions.items()}
    arrays |= {f"part {name}": (inside, (v,)) for name, inside in raw.parts.items()}
    for label, (array, wanted) in arrays.items():
        if array is None:
            continue
        if array.shape != wanted:
            refuse(f"its {label} has the shape {array.shape} where {wanted} is expected")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            refuse(f"its {label} holds numbers that are not finite")
    for label, modes in (("shape", raw.shape), ("expression", raw.expression), ("albedo", raw.diffuse)):
        if modes is None or not len(modes):
            continue
        sizes = np.einsum("kvd,kvd->k", modes.vectors, modes.vectors) * modes.variance
        if (modes.variance <= 0).any() or (sizes <= 0).any():
            refuse(
                f"component {int((np.minimum(modes.variance, sizes) <= 0).argmax())} of its {label} has "
                f"no variance"
            )
    if raw.mirror is not None and (raw.mirror.min() < 0 or raw.mirror.max() >= v):
        refuse("its mirror table points to vertices that do not exist")
    for scheme, table in raw.landmarks.items():
        if table.ndim != 1 or table.size == 0 or table.min() < -1 or table.max() >= v:
            refuse(f"its landmarks '{scheme}' point to vertices that do not exist")
    spread = float(np.ptp(raw.mean, axis=0).max())
    if not 80 < spread < 900:
        refuse(f"its mean face is {spread:.3g} mm large")


def in_millimetres(points: Array) -> float:
    """Factor from a head's own unit (m, dm, cm, mm or micrometres) to mm, from its size.

    A face or head is 120 to 700 mm large, so only one power of ten fits. Raises ValueError.
    """
    spread = float(np.ptp(points, axis=0).max())
    for factor in (1.0, 1000.0, 10.0, 100.0, 0.001):
        if 110 < spread * factor < 800:
            return factor
    raise ValueError(f"the mean face is {spread:.3g} units large, which is no face in m, cm or mm")
