"""What `gloss.py` measures: a head with known gloss, its photo, and how much of the gloss a fit finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from nextgenface.config import Config
from nextgenface.events import NullListener
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import load_model
from nextgenface.fitting.morphable import MorphableModel
from nextgenface.fitting.photometric import fit_photometric
from nextgenface.fitting.pipeline import sample_texture
from nextgenface.fitting.pose import fit_pose
from nextgenface.fitting.raytraced_finish import finish
from nextgenface.fitting.refinement import refine
from nextgenface.fitting.state import FaceState, initial_state
from nextgenface.fitting.textures import FINISH_STEPS, TextureProblem, fit_textures
from nextgenface.rendering.deferred import Pose, Shading, shade_vertices, trace_transfer, vertex_normals
from nextgenface.rendering.light import LOBE_COUNT, lobe_centres, lobes_to_map
from nextgenface.rendering.mitsuba_scene import (
    CAMERA_FROM_LIGHT,
    Environment,
    Geometry,
    SceneCamera,
    Textures,
)
from nextgenface.rendering.pathtracer import render_final
from nextgenface.views import FaceView
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from speed_steps import view_of
from torch import Tensor

LEVEL_CHANGE, ROUGHNESS_CHANGE = 0.07, 0.07  # standard deviations of a person's own gloss
REACH = 14.0  # mm over which it varies


@dataclass(frozen=True)
class Head:
    """A photographed head: truth at the vertices (V,), where its skin is `lit`, and the photo."""

    model: FaceModel
    view: FaceView
    truth: FaceState  # shape, skin colour, pose and light as they are
    level: NDArray[np.float32]
    roughness: NDArray[np.float32]
    seen: NDArray[np.float32]  # area of each skin vertex in the photo where direct light reaches it
    shine: NDArray[np.float32]  # the specular layer's share of its radiance


def make_head(config: Config, seed: int) -> Head:
    """Draw a person and the photo; deterministic."""
    size = int(config.maxResolution)
    model = load_model(config)
    morphable = MorphableModel(model, size, "cpu")
    generator = torch.Generator().manual_seed(seed)
    coefficients = [
        torch.randn(1, len(variance), generator=generator) * variance.sqrt()
        for variance in (morphable.shapePcaVar, morphable.diffuseAlbedoPcaVar)
    ]
    still = torch.zeros(1, morphable.expBasisSize)
    shape, albedo, mean_level = (
        x[0] for x in morphable.computeShapeAlbedo(coefficients[0], still, coefficients[1])
    )
    vertices = shape.numpy()
    fields = _fields(vertices, seed)
    level = (mean_level.mean(-1) + LEVEL_CHANGE * fields[0]).clamp(0.08, 0.9)
    roughness = (morphable.roughness + ROUGHNESS_CHANGE * fields[1]).clamp(0.25, 0.8)
    light = _lamps()
    turn = np.diag([1.0, -1, -1]) @ Rotation.from_euler("yx", [10, -4], degrees=True).as_matrix()
    away = np.array([0.0, 0.0, 700.0])
    K = np.array([[2.4 * size, 0, size / 2], [0, 2.4 * size, size / 2], [0, 0, 1.0]])
    camera = SceneCamera(K, turn, away, size, size)
    maps = [
        morphable.generateTextureFromAlbedo(v[None])[0] for v in (albedo, level[:, None], roughness[:, None])
    ]
    environment = Environment(lobes_to_map(light, 64).numpy(), turn.T @ CAMERA_FROM_LIGHT)
    picture = render_final(
        Geometry(vertices, model.faces, model.uv), Textures(*(m.numpy() for m in maps)), camera, environment,
        noise_level=0.006, max_samples=1024, seed=seed,
    )  # fmt: skip
    pose = Pose(
        torch.tensor(turn).float(), torch.tensor(away).float(), torch.tensor(2.4 * size),
        torch.tensor([size / 2.0, size / 2.0]),
    )  # fmt: skip
    seen, shine = _lit(model, shape, pose, light, albedo, level, roughness)
    view = view_of(model, vertices, camera, picture.rgb, config)
    truth = replace(
        initial_state(model, [view], shared=False, seed=0, device="cpu"),
        shape=coefficients[0],
        albedo=coefficients[1],
        rotation=torch.tensor(Rotation.from_matrix(turn).as_euler("xyz")).float()[None],  # R = Rz Ry Rx
        translation=torch.tensor(away).float()[None],
        environment=light[None],
        stage=2,
    )
    return Head(model, view, truth, level.numpy(), roughness.numpy(), seen, shine)


def from_photo(head: Head, config: Config) -> dict[str, Any]:
    """Fit the photo, all stages; how the maps found compare with the truth."""
    state = initial_state(head.model, [head.view], shared=False, seed=0, device="cpu")
    for stage in (fit_pose, fit_photometric, fit_textures):
        state = stage(head.model, [head.view], state, config, NullListener())[0]
    assert state.specular is not None and state.roughness is not None
    return _judged(head, state.specular[0], state.roughness[0])


def light_known(head: Head, config: Config) -> dict[str, Any]:
    """The same where shape, pose and light are given: the skin's part of stage 3 alone."""
    steps, listener = int(config.iterStep3), NullListener()
    problem = TextureProblem(head.model, [head.view], head.truth, [0], config)
    problem.photometric.trace()
    problem.separate()
    refine(problem, steps, listener)
    if problem.rays is not None:
        finish(problem, problem.rays, FINISH_STEPS, listener, 0, FINISH_STEPS)
    _, specular, roughness, _ = problem.maps()
    return _judged(head, specular, roughness)


def _judged(head: Head, specular: Tensor, rough: Tensor) -> dict[str, Any]:
    """Maps (T, T, C) against the truth at the vertices."""
    model = head.model
    uv = torch.tensor(model.uv)
    level = sample_texture(specular.mean(-1, keepdim=True), uv)[:, 0].numpy()
    roughness = sample_texture(rough, uv)[:, 0].numpy()
    bright = head.shine >= np.quantile(head.shine[head.seen > 0], 2 / 3)

    def compared(a: NDArray[Any], b: NDArray[Any], weight: NDArray[Any]) -> dict[str, float]:
        found = _correlation(a, head.level, weight), _correlation(b, head.roughness, weight)
        return dict(zip(("specular", "roughness"), found, strict=True))

    mean = model.specular_mean.mean(-1)
    return {
        "lit": compared(level, roughness, head.seen),
        "highlights": compared(level, roughness, head.seen * bright),
        "prior": compared(mean, model.roughness_mean, head.seen),
        "specular_error": round(float(np.average(np.abs(level - head.level), weights=head.seen)), 4),
        "roughness_error": round(float(np.average(np.abs(roughness - head.roughness), weights=head.seen)), 4),
    }


def _fields(vertices: NDArray[np.float32], seed: int) -> Tensor:
    """Two smooth random fields (2, V) of unit variance, about as fine as `REACH`."""
    random = np.random.default_rng(seed)
    waves = random.normal(size=(2, 96, 3)) / REACH
    phases = random.uniform(0, 2 * np.pi, (2, 96, 1))
    fields = np.cos(waves @ vertices.T + phases).sum(1) * np.sqrt(2 / 96)
    return torch.tensor(fields, dtype=torch.float32)


def _lamps() -> Tensor:
    """A dim room with lamps around the camera, each as small as the lobes of the light allow: (D, 3)."""
    centres = lobe_centres()
    light = torch.full((LOBE_COUNT,), 0.2)
    for towards in ((0.4, 0.5, 0.8), (-0.75, 0.35, 0.55), (0.85, -0.1, 0.4), (-0.3, -0.4, 0.85)):
        light[(centres @ torch.nn.functional.normalize(torch.tensor(towards), dim=0)).argmax()] += 9.0
    return light[:, None].expand(-1, 3).contiguous()


def _lit(
    model: FaceModel,
    vertices: Tensor,
    pose: Pose,
    light: Tensor,
    colour: Tensor,
    level: Tensor,
    rough: Tensor,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Area of lit skin (V,) in the photo, and the specular share (V,) of what it sends to the camera."""
    faces = torch.tensor(model.faces, dtype=torch.int64)
    camera = pose.camera_space(vertices)
    shading: Shading = shade_vertices(
        camera, faces, light, colour, rough, trace_transfer(vertices, faces, pose)
    )
    under, gloss = (layer.mean(1) for layer in shading.layers(level, rough))
    total = under * colour.mean(1) + gloss
    facing = -(vertex_normals(camera, faces) * torch.nn.functional.normalize(camera, dim=1)).sum(1)
    area = (facing > 0.35) * facing * torch.tensor(model.regions["skin"] > 0.9)
    area = area * (under > 0.5 * under[area > 0].median())
    return area.numpy(), (gloss / total.clamp(min=1e-6)).numpy()


def _correlation(a: NDArray[Any], b: NDArray[Any], weight: NDArray[Any]) -> float:
    share = weight / weight.sum()
    x, y = a - share @ a, b - share @ b
    spread = np.sqrt((share @ x**2) * (share @ y**2))
    return round(float(share @ (x * y) / max(spread, 1e-12)), 3)
