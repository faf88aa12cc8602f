"""The face model every part of the solver works with: plain arrays, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class FaceModel:
    """A linear 3D morphable face model.

    V vertices, F triangles, K shape, E expression, A albedo components.
    Vertex = shape_mean + expression_mean + sum_k c_k shape_basis[k] + sum_e d_e expression_basis[e]
    with *un-whitened* coefficients: c_k has variance shape_variance[k] (mm^2) because the stacked
    basis vectors (3V numbers) are orthonormal. The same holds for the albedo.
    Units: mm; x to the subject's left, y up, z out of the face. Albedo: linear Rec.709, 0..1.
    """

    name: str
    hash: str
    shape_mean: FloatArray  # (V, 3)
    shape_basis: FloatArray  # (K, V, 3)
    shape_variance: FloatArray  # (K,)
    expression_mean: FloatArray  # (V, 3), zero where the format has none
    expression_basis: FloatArray  # (E, V, 3)
    expression_variance: FloatArray  # (E,)
    diffuse_mean: FloatArray  # (V, 3) linear Rec.709 base colour
    diffuse_basis: FloatArray  # (A, V, 3)
    diffuse_variance: FloatArray  # (A,)
    specular_mean: FloatArray  # (V, 3) Principled specular level (0.5 = F0 0.04)
    specular_basis: FloatArray  # (A, V, 3), driven by the same coefficients as the diffuse basis
    roughness_mean: FloatArray  # (V,) Principled roughness (alpha = roughness^2)
    faces: IntArray  # (F, 3) counter-clockwise seen from outside
    uv: FloatArray  # (V, 2), origin bottom left
    mirror: IntArray  # (V,) vertex at (or next to) the mirror image of each vertex
    landmarks: dict[str, IntArray]  # scheme ("mediapipe", "ibug68") -> (L,) vertex per landmark, -1 = none
    regions: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # name -> (V,) weight 0..1
    blendshape_names: tuple[str, ...] = ()
    blendshape_deltas: FloatArray | None = None  # (B, V, 3) mm at weight 1
    native: dict[str, FloatArray] = field(default_factory=dict)
    """"shape", "expression", "diffuse" -> matrix (K, N) from the coefficients of the model's own file to
    these,
    where the file's basis was not orthonormal; absent where both are the same."""
    notes: tuple[str, ...] = ()  # what was not there or is not as in the file; people are told at every use

    @property
    def vertex_count(self) -> int:
        """Number of vertices V."""
        return int(self.shape_mean.shape[0])
