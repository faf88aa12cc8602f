"""A face model of 1,800 vertices and photos of it drawn by our own engine, for quick tests of the fit.

The vertices are the 468 landmark vertices of the built-in model and the midpoints of the template's edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from nextgenface.config import Config
from nextgenface.facemodel.hdf5 import trim
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import load_model
from nextgenface.fitting.whitened import WhitenedModel, whiten
from nextgenface.landmarks.tables import mediapipe_mirror
from nextgenface.landmarks.types import Landmarks
from nextgenface.paths import asset
from nextgenface.rendering.deferred import Pose, draw_vertices, shade_vertices, trace_transfer
from nextgenface.rendering.light import lobe_centres
from nextgenface.views import Crop, FaceView

SIZE = 128
"""Side of the synthetic photos, pixels."""

BACKGROUND = 0.1
"""Linear radiance behind the head."""


@lru_cache(maxsize=1)
def trimmed_model() -> FaceModel:
    """The built-in model with 24 components of each kind."""
    return trim(load_model(Config()), 24)


def principal(
    basis: np.ndarray, variance: np.ndarray, kept: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orthonormal axes (kept, V, 3), their variances, and the rotation (kept, K) of the z-scores."""
    white = (basis * np.sqrt(variance)[:, None, None]).reshape(len(basis), -1).astype(np.float64)
    left, sizes, right = np.linalg.svd(white, full_matrices=False)
    axes = right[:kept].reshape(kept, *basis.shape[1:]).astype(np.float32)
    return axes, (sizes[:kept] ** 2).astype(np.float32), left[:, :kept].T


@lru_cache(maxsize=1)
def small_model() -> FaceModel:
    """The reduced model: 10 shape, 6 expression and 10 albedo components, orthonormal as every model's."""
    full = load_model(Config())
    coarse = full.landmarks["mediapipe"]
    with np.load(asset("canonical_face.npz")) as template:
        triangles = np.asarray(template["F"], np.int64)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    edges, row = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = (row.reshape(3, -1) + len(coarse)).astype(np.int64)
    a, b, c = triangles.T
    quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    faces = np.concatenate([np.stack(corners, 1) for corners in quarters])

    def take(values: np.ndarray, axis: int = 0) -> np.ndarray:
        rows = np.take(values, coarse, axis)
        middle = (np.take(rows, edges[:, 0], axis) + np.take(rows, edges[:, 1], axis)) / 2
        return np.concatenate([rows, middle], axis).astype(np.float32)

    mean = take(full.shape_mean)
    normals = np.cross(mean[faces[:, 1]] - mean[faces[:, 0]], mean[faces[:, 2]] - mean[faces[:, 0]])
    if normals[:, 2].sum() < 0:
        faces = faces[:, ::-1]
    pairs = {(int(i), int(j)): k for k, (i, j) in enumerate(edges)}
    flip = mediapipe_mirror()
    mirrored_edges = [pairs[(min(flip[i], flip[j]), max(flip[i], flip[j]))] for i, j in edges]
    shape, shape_variance, _ = principal(take(full.shape_basis, 1), full.shape_variance, 10)
    expression, expression_variance, _ = principal(
        take(full.expression_basis, 1), full.expression_variance, 6
    )
    diffuse, diffuse_variance, turn = principal(take(full.diffuse_basis, 1), full.diffuse_variance, 10)
    specular = take(full.specular_basis, 1) * np.sqrt(full.diffuse_variance)[:, None, None]
    specular = np.einsum("ka,avc->kvc", turn, specular) / np.sqrt(diffuse_variance)[:, None, None]
    ibug = [
        int(np.linalg.norm(mean[: len(coarse)] - full.shape_mean[v], axis=1).argmin())
        for v in full.landmarks["ibug68"]
    ]
    return FaceModel(
        name="small",
        hash="small-face",
        shape_mean=mean,
        shape_basis=shape,
        shape_variance=shape_variance,
        expression_mean=take(full.expression_mean),
        expression_basis=expression,
        expression_variance=expression_variance,
        diffuse_mean=take(full.diffuse_mean),
        diffuse_basis=diffuse,
        diffuse_variance=diffuse_variance,
        specular_mean=take(full.specular_mean),
        specular_basis=specular.astype(np.float32),
        roughness_mean=take(full.roughness_mean),
        faces=np.ascontiguousarray(faces),
        uv=take(full.uv),
        mirror=np.concatenate([flip, np.array(mirrored_edges) + len(coarse)]).astype(np.int64),
        landmarks={"mediapipe": np.arange(len(coarse)), "ibug68": np.array(ibug)},
        regions={"skin": np.ones(len(mean), np.float32)},
    )


@dataclass(frozen=True)
class Truth:
    """What a synthetic photo shows: z-scores, pose, light."""

    shape: torch.Tensor
    expression: torch.Tensor
    albedo: torch.Tensor
    pose: Pose
    environment: torch.Tensor

    def vertices(self, white: WhitenedModel) -> torch.Tensor:
        """Model-space vertices (V, 3)."""
        return white.vertices(self.shape, self.expression)


def lamp(direction: tuple[float, float, float], ambient: float = 0.25, strength: float = 4.0) -> torch.Tensor:
    """A soft lamp (D, 3) in a dim surrounding; `direction` in the light frame."""
    towards = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    glow = torch.exp(6.0 * (lobe_centres() @ towards - 1))
    return (ambient + strength * glow)[:, None].expand(-1, 3).contiguous()


def example(
    model: FaceModel,
    *,
    seed: int = 0,
    yaw: float = 0.15,
    light: torch.Tensor | None = None,
    scale: float = 1.0,
) -> Truth:
    """A random person in a random mild expression, about 700 mm away."""
    g = torch.Generator().manual_seed(seed)
    sizes = [len(v) for v in (model.shape_variance, model.expression_variance, model.diffuse_variance)]
    shape, expression, albedo = (torch.randn(n, generator=g) for n in sizes)
    pose = Pose.from_euler(
        torch.tensor([torch.pi + 0.05, yaw, 0.04]),
        torch.tensor([4.0, -3.0, 700.0]),
        torch.tensor(SIZE * 2.3),
        torch.tensor([SIZE / 2.0, SIZE / 2.0]),
    )
    environment = lamp((0.8, 0.5, 0.6)) if light is None else light
    return Truth(shape * scale, expression * 0.3, albedo * 0.5 * scale, pose, environment)


def photograph(model: FaceModel, truth: Truth) -> FaceView:
    """The view that a perfect camera and a perfect detector would give of `truth`, lens known."""
    white = whiten(model, "cpu")
    with torch.no_grad():
        vertices = truth.vertices(white)
        camera = truth.pose.camera_space(vertices)
        transfer = trace_transfer(vertices, white.faces, truth.pose)
        colour, level = white.colour(truth.albedo), white.level(truth.albedo)
        shading = shade_vertices(camera, white.faces, truth.environment, colour, white.roughness, transfer)
        drawing = draw_vertices(
            camera,
            white.faces,
            truth.pose.screen(camera),
            (SIZE, SIZE),
            shading,
            colour,
            level,
            white.roughness,
        )
    image = drawing.fragments.picture(drawing.radiance, BACKGROUND).numpy()
    table = model.landmarks["mediapipe"]
    screen = truth.pose.screen(camera).numpy()[table].astype(np.float64)
    focal = float(truth.pose.focal)
    depth = camera[:, 2].numpy()[table].astype(np.float64) * focal / float(truth.pose.translation[2])
    marks = Landmarks("mediapipe", np.arange(len(table)), screen, depth, np.ones(len(table)))
    valid = np.ones((SIZE, SIZE), np.float32)
    return FaceView("synthetic", image, valid, Crop(0, 0, 1, SIZE), SIZE, SIZE, focal, 0.0, "known", marks)


def without(view: FaceView, mask: np.ndarray) -> FaceView:
    """The view with pixels (S, S) bool marked as not valid."""
    return replace(view, valid=np.where(mask, 0.0, view.valid).astype(np.float32))


def shape_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance (mm) of two point sets (V, 3) after the best rotation, shift and scale."""
    p, q = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(p.T @ q)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * np.diag(sign)).sum() / (p**2).sum()
    return float(np.linalg.norm(scale * p @ u @ sign @ vt - q, axis=1).mean())


def quick_config(**changes: object) -> Config:
    """A config for a fit of a few dozen steps."""
    config = Config()
    settings = {"iterStep1": 30, "iterStep2": 40, "iterStep3": 24, "textureResolution": 64, "threads": 1}
    for name, value in {**settings, "debugFrequency": 0, **changes}.items():
        setattr(config, name, value)
    return config
