"""A small face model and state made of random numbers, for tests of files and formats."""

from __future__ import annotations

import numpy as np
import torch
from nextgenface.checkpoint import PhotoRecord
from nextgenface.facemodel.model import FaceModel
from nextgenface.fitting.state import FaceState
from nextgenface.rendering.light import LOBE_COUNT, lobes_to_sh


def tiny_model(
    shape: int = 4, expression: int = 3, albedo: int = 5, side: int = 7, name: str = "tiny"
) -> FaceModel:
    """A bulged grid of side x side vertices, 140 mm wide, with random orthonormal bases."""
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    z = 0.5 * (2 - x**2 - y**2)
    mean = np.stack([70 * x.ravel(), 90 * y.ravel(), 50 * z.ravel()], -1).astype(np.float32)
    count = len(mean)
    index = np.arange(count).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])

    def basis(size: int) -> np.ndarray:
        q, _ = np.linalg.qr(rng.normal(size=(3 * count, size)))
        return np.ascontiguousarray(q.T.reshape(size, count, 3), np.float32)

    def variance(size: int, largest: float) -> np.ndarray:
        return (largest / (1 + np.arange(size))).astype(np.float32)

    return FaceModel(
        name=name,
        hash=f"{name}-{shape}-{expression}-{albedo}",
        shape_mean=mean,
        shape_basis=basis(shape),
        shape_variance=variance(shape, 100.0),
        expression_mean=np.zeros_like(mean),
        expression_basis=basis(expression),
        expression_variance=variance(expression, 50.0),
        diffuse_mean=np.tile(np.array([0.5, 0.35, 0.25], np.float32), (count, 1)),
        diffuse_basis=basis(albedo),
        diffuse_variance=variance(albedo, 0.5),
        specular_mean=np.full((count, 3), 0.5, np.float32),
        specular_basis=np.zeros((albedo, count, 3), np.float32),
        roughness_mean=np.full(count, 0.5, np.float32),
        faces=faces.astype(np.int64),
        uv=np.stack([(x.ravel() + 1) / 2 * 0.8 + 0.1, (y.ravel() + 1) / 2 * 0.8 + 0.1], -1).astype(
            np.float32
        ),
        mirror=index[:, ::-1].ravel().astype(np.int64),
        landmarks={"mediapipe": np.arange(count, dtype=np.int64)},
        blendshape_names=("jawOpen",),
        blendshape_deltas=np.ones((1, count, 3), np.float32),
    )


def random_state(
    model: FaceModel,
    photos: int = 1,
    *,
    shared: bool = False,
    stage: int = 3,
    size: int = 96,
    texture: int = 16,
    seed: int = 5,
) -> FaceState:
    """A state of random numbers in plausible ranges."""
    g = torch.Generator().manual_seed(seed)
    m = 1 if shared else photos

    def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=g) * (high - low) + low

    environment = draw(photos, LOBE_COUNT, 3, low=0.1, high=1.2)
    rotation = draw(photos, 3, low=-0.3, high=0.3)
    rotation[:, 0] += torch.pi
    translation = draw(photos, 3, low=-5, high=5)
    translation[:, 2] += 600
    return FaceState(
        shape=draw(m, len(model.shape_variance), low=-5, high=5),
        albedo=draw(m, len(model.diffuse_variance), low=-0.1, high=0.1),
        expression=draw(photos, len(model.expression_variance), low=-5, high=5),
        rotation=rotation,
        translation=translation,
        focals=draw(photos, low=250, high=260),
        principal=draw(photos, 2, low=45, high=50),
        sh=lobes_to_sh(environment, 9),
        environment=environment,
        width=size,
        height=size,
        model_name=model.name,
        model_hash=model.hash,
        shared=shared,
        stage=stage,
        seed=7,
        gloss=draw(m, low=0.8, high=1.25) if stage > 1 else None,
        displacement=draw(m, model.vertex_count, low=-1, high=1) if stage > 2 else None,
        diffuse=draw(m, texture, texture, 3, low=0, high=1) if stage > 2 else None,
        specular=draw(m, texture, texture, 3, low=0, high=1) if stage > 2 else None,
        roughness=draw(m, texture, texture, 1, low=0.2, high=0.8) if stage > 2 else None,
        confidence=draw(m, texture, texture, low=0, high=1) if stage > 2 else None,
    )


def records(count: int = 1, size: tuple[int, int] = (200, 160)) -> tuple[PhotoRecord, ...]:
    """Photos from which a crop was taken."""
    return tuple(
        PhotoRecord(f"photo{i}", f"/photos/photo{i}.png", size, (20.5, 10.25, 0.75)) for i in range(count)
    )
