"""The face model as tensors with whitened bases: coefficients in here are z-scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..facemodel.model import FaceModel


@dataclass(frozen=True)
class WhitenedModel:
    """Vertex = neutral + z_shape @ shape + z_expression @ expression, and so on; V vertices.

    Bases are (components, 3V) and include the standard deviations, so z ~ N(0, 1).
    """

    neutral: Tensor  # (V, 3) mm
    shape: Tensor  # (K, 3V)
    expression: Tensor  # (E, 3V)
    diffuse_mean: Tensor  # (V, 3)
    diffuse: Tensor  # (A, 3V)
    specular_mean: Tensor  # (V,) level
    specular: Tensor  # (A, V) level
    roughness: Tensor  # (V,)
    faces: Tensor  # (F, 3)
    skin: Tensor  # (V,) 0..1, where a photo is compared with the model
    bare: Tensor  # (V,) 0..1, skin without brows and lips, and where no beard grows
    core: Tensor  # (V,) 0..1, skin that hair hardly ever covers
    inner: Tensor  # (V,) 0..1, eyeballs and the inside of the mouth
    eyes: Tensor  # (V,) 0..1, eyeballs
    sclera: Tensor  # (V,) 0..1, the whites of the eyes; 0 where the model does not tell irises
    firm: Tensor  # (V,) 0..1, 1 on and near lids and lips, which must keep fitting eyes and teeth
    shape_sd: Tensor  # (K,)
    expression_sd: Tensor  # (E,)
    diffuse_sd: Tensor  # (A,)

    def vertices(self, z_shape: Tensor, z_expression: Tensor, displacement: Tensor | None = None) -> Tensor:
        """Model-space vertices (V, 3) mm; `displacement` (V, 3) mm is added."""
        flat = z_shape @ self.shape + z_expression @ self.expression
        vertices = self.neutral + flat.view(-1, 3)
        return vertices if displacement is None else vertices + displacement

    def colour(self, z_albedo: Tensor) -> Tensor:
        """Base colour (V, 3), kept inside a physical range without stopping gradients."""
        raw = self.diffuse_mean + (z_albedo @ self.diffuse).view(-1, 3)
        return soft_range(raw, 0.004, 0.96)

    def level(self, z_albedo: Tensor) -> Tensor:
        """Specular level (V,)."""
        return (self.specular_mean + z_albedo @ self.specular).clamp(0.0, 1.0)


def soft_range(x: Tensor, low: float, high: float) -> Tensor:
    """Identity inside [low, high]; a quarter of the slope outside, then clamped at a little beyond."""
    inner = x.clamp(low, high)
    return (inner + 0.25 * (x - inner)).clamp(low * 0.25, 1.0)


def soft_range_slope(x: Tensor, low: float, high: float) -> Tensor:
    """Derivative of `soft_range`."""
    inside = (x >= low) & (x <= high)
    beyond = (soft_range(x, low, high) <= low * 0.25) | (soft_range(x, low, high) >= 1.0)
    return torch.where(inside, 1.0, torch.where(beyond, 0.0, 0.25))


def whiten(model: FaceModel, device: str | torch.device) -> WhitenedModel:
    """Tensors of a face model on `device`."""

    def tensor(a: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=device)

    def basis(b: np.ndarray, variance: np.ndarray) -> Tensor:
        return tensor((b * np.sqrt(variance)[:, None, None]).reshape(len(b), -1))

    specular = model.specular_basis.mean(-1) * np.sqrt(model.diffuse_variance)[:, None]
    skin = model.regions.get("skin")
    if skin is None:
        skin = np.ones(model.vertex_count, np.float32)
    bare = np.ones(model.vertex_count, np.float32)
    for name in ("brows", "lips", "lids", "nostrils", "beard"):
        if name in model.regions:
            bare = bare * (1 - np.clip(model.regions[name], 0, 1))
    inner = np.zeros(model.vertex_count, np.float32)
    for name in ("eyes", "mouth"):
        inner = np.maximum(inner, np.clip(model.regions.get(name, inner), 0, 1))
    eyes = np.clip(model.regions.get("eyes", np.zeros_like(inner)), 0, 1)
    border = np.clip(model.regions.get("border", np.zeros_like(inner)), 0, 1) * (1 - inner)
    return WhitenedModel(
        neutral=tensor(model.shape_mean + model.expression_mean),
        shape=basis(model.shape_basis, model.shape_variance),
        expression=basis(model.expression_basis, model.expression_variance),
        diffuse_mean=tensor(model.diffuse_mean),
        diffuse=basis(_border_like_skin(model, skin, border), model.diffuse_variance),
        specular_mean=tensor(model.specular_mean.mean(-1)),
        specular=tensor(specular),
        roughness=tensor(model.roughness_mean),
        faces=torch.as_tensor(model.faces, dtype=torch.int64, device=device),
        skin=tensor(skin),
        bare=tensor(bare),
        inner=tensor(inner),
        eyes=tensor(eyes),
        sclera=tensor(eyes * (1 - np.clip(model.regions.get("iris", np.ones_like(eyes)), 0, 1))),
        firm=tensor(_near(model, inner)),
        core=tensor(skin * _below_hair(model)),
        shape_sd=tensor(np.sqrt(model.shape_variance)),
        expression_sd=tensor(np.sqrt(model.expression_variance)),
        diffuse_sd=tensor(np.sqrt(model.diffuse_variance)),
    )


def _border_like_skin(model: FaceModel, skin: np.ndarray, border: np.ndarray) -> np.ndarray:
    """The albedo modes (A, V, 3), those of the border as the nearest whole skin's, in proportion to the mean.

    The border fades out of the skin, and left alone it keeps the mean's colour around a darker face. In a fit
    of tones (`ToneCurve`) it must have no say: with it the albedo error was up to 40 % larger.
    """
    whole = np.flatnonzero(skin > 0.95)
    if not (border > 0.01).any() or not len(whole):
        return model.diffuse_basis
    rings = np.flatnonzero(border > 0.01)
    near = whole[cKDTree(model.shape_mean[whole]).query(model.shape_mean[rings])[1]]
    ratio = model.diffuse_mean[rings] / np.maximum(model.diffuse_mean[near], 0.01)
    share = (1 - skin[rings])[:, None]
    out = model.diffuse_basis.copy()
    out[:, rings] = (1 - share) * out[:, rings] + share * ratio * out[:, near]
    return out


def _below_hair(model: FaceModel) -> np.ndarray:
    """(V,) 1 from a little above the brows downwards and in front of the temples, softly 0 elsewhere."""
    brows = model.regions.get("brows")
    y, z = model.shape_mean[:, 1], model.shape_mean[:, 2]
    if brows is None or not (brows > 0.5).any():
        return np.ones(model.vertex_count, np.float32)
    seen = brows > 0.5
    top, back = float(y[seen].max()) + 8.0, float(z[seen].min()) - 12.0
    soft = np.clip((top - y) / 6.0, 0, 1) * np.clip((z - back) / 8.0, 0, 1)
    return soft.astype(np.float32)


def _near(model: FaceModel, region: np.ndarray, reach: float = 9.0) -> np.ndarray:
    """(V,) 1 at the vertices of a region, falling off smoothly over `reach` mm around it."""
    if not (region > 0.5).any():
        return np.zeros(model.vertex_count, np.float32)
    distance = cKDTree(model.shape_mean[region > 0.5]).query(model.shape_mean)[0]
    return np.exp(-((distance / reach) ** 2)).astype(np.float32)
