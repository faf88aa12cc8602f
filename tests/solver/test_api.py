"""The guide's classes: `Pipeline` and its face model, `Renderer`, the names that `nextgenface` exports."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nextgenface
import numpy as np
import pytest
import torch
from nextgenface.config import Config
from nextgenface.fitting.pipeline import Pipeline, sample_texture
from nextgenface.fitting.state import FaceState
from nextgenface.fitting.surface import shape_vertices, textures_of
from nextgenface.geometry.rotations import euler_to_matrix
from nextgenface.landmarks import Landmarks
from nextgenface.turntable import single_photo, turned, yaw_angles

from tests.solver.tiny import random_state, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")

TINY = tiny_model()


def make_pipeline(state: FaceState | None = None) -> Pipeline:
    config = Config()
    config.maxResolution, config.textureResolution, config.envMapRes = 96, 32, 16
    pipeline = Pipeline(config, model=TINY)
    if state is not None:
        pipeline.state = state
    return pipeline


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, nextgenface\nm = sys.modules\n"
    code += "print('torch' in m, 'mitsuba' in m, nextgenface.__version__)"
    root = Path(nextgenface.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    assert done.stdout.split() == ["False", "False", nextgenface.__version__]


def test_the_guides_names_are_exported() -> None:
    for name in ("Config", "Optimizer", "Pipeline", "Renderer", "saveObj"):
        assert getattr(nextgenface, name).__name__ == name
        assert name in dir(nextgenface)
    with pytest.raises(AttributeError, match="no attribute 'optim'"):
        _ = nextgenface.optim


def test_scene_parameters_start_as_the_guide_says() -> None:
    pipeline = make_pipeline()
    pipeline.initSceneParameters(n=3, sharedIdentity=True)
    assert pipeline.vShapeCoeff.shape == (1, 4) and pipeline.vAlbedoCoeff.shape == (1, 5)
    assert pipeline.vExpCoeff.shape == (3, 3) and pipeline.vRotation.shape == (3, 3)
    assert pipeline.vFocals.shape == (3,) and pipeline.vShCoeffs.shape == (3, 81, 3)
    assert pipeline.vRoughness.shape == (1, 32, 32, 1) and pipeline.sharedIdentity
    assert pipeline.vTranslation[0].tolist() == [0, 0, 500]
    pipeline.initSceneParameters(n=2)
    assert pipeline.vShapeCoeff.shape == (2, 4) and not pipeline.sharedIdentity
    assert pipeline.faces32.dtype == torch.int32 and pipeline.faces32.shape == TINY.faces.shape
    assert pipeline.uvMap.shape == (TINY.vertex_count, 2)


def test_shape_and_pose_follow_their_formulas() -> None:
    state = random_state(TINY, 2)
    pipeline = make_pipeline(state)
    vertices = pipeline.computeShape()
    for i in range(2):
        np.testing.assert_allclose(vertices[i], shape_vertices(TINY, state, i), atol=1e-3)
    camera = pipeline.transformVertices(vertices)
    rotation = euler_to_matrix(state.rotation)
    expected = torch.einsum("nij,nvj->nvi", rotation, vertices) + state.translation[:, None]
    torch.testing.assert_close(camera, expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(pipeline.transformVertices(), camera)
    normals = pipeline.morphableModel.computeNormals(camera)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(normals.shape[:2]))
    assert (normals[..., 2] < 0).float().mean() > 0.9, "out of the face is towards the camera"


def test_landmarks_and_projection_agree() -> None:
    state = random_state(TINY, 2)
    pipeline = make_pipeline(state)
    camera = pipeline.transformVertices()
    pixels = pipeline.camera.project(camera, pipeline.vFocals, state.principal)
    by_hand = state.focals[1] * camera[1, 5, :2] / camera[1, 5, 2] + state.principal[1]
    torch.testing.assert_close(pixels[1, 5], by_hand)
    # Landmarks three pixels to the right and four below where the vertices are; the last one is not trusted.
    shifted = (pixels + torch.tensor([3.0, 4.0])).double().numpy()
    shifted[:, -1] = 0
    weights = np.ones(TINY.vertex_count)
    weights[-1] = 0
    every = np.arange(TINY.vertex_count)
    marks = [Landmarks("mediapipe", every, points, None, weights) for points in shifted]
    assert float(pipeline.landmarkLoss(camera, marks)) == pytest.approx(25, rel=1e-3)


def test_setting_parameters_checks_their_shape_and_takes_them_as_they_are() -> None:
    pipeline = make_pipeline()
    with pytest.raises(ValueError, match=r"shape must have the shape \(n, 4\), not \(1, 199\)"):
        pipeline.vShapeCoeff = torch.zeros(1, 199)
    given = torch.ones(1, 4, dtype=torch.float64)
    pipeline.vShapeCoeff = given
    assert pipeline.vShapeCoeff.dtype == torch.float32 and pipeline.vShapeCoeff.tolist() == [[1.0] * 4]
    leaf = torch.ones(1, 4, requires_grad=True)
    pipeline.vShapeCoeff = leaf
    assert pipeline.vShapeCoeff is leaf


def test_another_screen_size_means_a_centred_camera() -> None:
    pipeline = make_pipeline()
    pipeline.renderer.screenWidth, pipeline.renderer.screenHeight = 120, 80
    assert pipeline.state.principal.tolist() == [[60.0, 40.0]]
    pipeline.vFocals = torch.tensor([300.0])
    assert pipeline.render().shape == (1, 80, 120, 4)


def test_render_is_linear_radiance_with_coverage() -> None:
    pipeline = make_pipeline(random_state(TINY, 2))
    picture = pipeline.render()
    assert picture.shape == (2, 96, 96, 4)
    alpha = picture[..., 3]
    assert set(alpha.unique().tolist()) == {0.0, 1.0} and 0.1 < float(alpha.mean()) < 0.95
    assert float(picture[..., :3][alpha == 0].abs().max()) == 0
    assert float(picture[..., :3][alpha == 1].mean()) > 0.05
    # Twice the light is twice the radiance.
    pipeline.vShCoeffs = pipeline.vShCoeffs
    once = pipeline.render()
    pipeline.vShCoeffs = 2 * pipeline.vShCoeffs
    torch.testing.assert_close(pipeline.render()[..., :3], 2 * once[..., :3], rtol=1e-4, atol=1e-5)


def test_render_albedo_is_the_texture_without_light() -> None:
    pipeline = make_pipeline(random_state(TINY, stage=2))
    texture = torch.zeros(1, 8, 8, 3)
    texture[..., 0], texture[..., 1] = 0.25, 0.5
    picture = pipeline.render(diffuseTextures=texture, renderAlbedo=True)
    inside = picture[..., 3] == 1
    torch.testing.assert_close(
        picture[inside][:, :3], torch.tensor([0.25, 0.5, 0.0]).expand(int(inside.sum()), 3)
    )


def test_gloss_scales_the_specular_level_alike_in_pictures_and_maps() -> None:
    plain = replace(random_state(TINY, stage=2), gloss=None)
    glossy = replace(plain, gloss=torch.tensor([1.6]))
    low, high = (textures_of(TINY, state, 0, 16) for state in (plain, glossy))
    torch.testing.assert_close(high[1], (low[1] * 1.6).clamp(max=1.0))
    torch.testing.assert_close(high[0], low[0])
    pictures = [make_pipeline(state).render()[..., :3] for state in (plain, glossy)]
    assert float((pictures[1] - pictures[0]).mean()) > 1e-3
    given = make_pipeline(plain).render(specularTextures=high[1][None])[..., :3]
    torch.testing.assert_close(given, pictures[1], atol=1e-5, rtol=1e-4)
    assert single_photo(replace(random_state(TINY, 2), gloss=torch.tensor([0.5, 1.5])), 1).gloss == 1.5


def test_textures_are_sampled_at_texel_centres_with_the_top_row_first() -> None:
    texture = torch.arange(12.0).reshape(2, 2, 3)
    uv = torch.tensor([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.75, 0.25], [0.0, 1.0], [0.5, 0.5]])
    found = sample_texture(texture, uv)[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 3.0, 6.0, 9.0, 0.0, 4.5]))


PARAMETERS = ["vShapeCoeff", "vAlbedoCoeff", "vExpCoeff", "vRotation", "vTranslation", "vFocals", "vShCoeffs"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_render_is_differentiable_with_respect_to_every_parameter(name: str) -> None:
    """Against central differences of the same picture, over pixels that the face covers either way."""
    state = replace(random_state(TINY, stage=2), displacement=None)
    pipeline = make_pipeline(state)
    inner = slice(38, 58)
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(1, 20, 20, 3, generator=generator)

    def value() -> torch.Tensor:
        return (pipeline.render()[:, inner, inner, :3] * weights).sum()

    pipeline.enableGrad()
    value().backward()
    parameter = getattr(pipeline, name)
    gradient = parameter.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all())
    direction = gradient / gradient.norm()
    step = {
        "vRotation": 2e-4,
        "vFocals": 0.05,
        "vTranslation": 0.02,
        "vShCoeffs": 1e-3,
        "vAlbedoCoeff": 1e-3,
    }.get(name, 0.02)
    start = parameter.detach().clone()
    with torch.no_grad():
        # In place, as an optimiser of the user's would do it.
        parameter.copy_(start + step * direction)
        high = float(value())
        parameter.copy_(start - step * direction)
        low = float(value())
    assert (high - low) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.15)


def test_render_is_differentiable_with_respect_to_vertices_and_textures() -> None:
    pipeline = make_pipeline(random_state(TINY, stage=2))
    vertices = pipeline.transformVertices().detach().requires_grad_()
    maps = [torch.full((1, 16, 16, c), 0.4, requires_grad=True) for c in (3, 3, 1)]
    pipeline.render(vertices, maps[0], maps[1], maps[2])[..., :3].sum().backward()
    for leaf in (vertices, *maps):
        assert leaf.grad is not None and float(leaf.grad.abs().sum()) > 0, leaf.shape


def test_the_solved_light_is_used_until_it_is_replaced() -> None:
    state = random_state(TINY, stage=2)
    pipeline = make_pipeline(state)
    torch.testing.assert_close(pipeline.lights(), state.environment)
    with torch.no_grad():
        pipeline.vShCoeffs[:, 0] += 1.0
    assert bool((pipeline.lights() > state.environment).all())
    pipeline.vShCoeffs = torch.zeros(1, 81, 3)
    assert float(pipeline.lights().abs().max()) == 0


def test_spherical_harmonics_make_square_maps() -> None:
    pipeline = make_pipeline()
    coefficients = torch.zeros(2, 81, 3)
    coefficients[:, 0] = math.sqrt(4 * math.pi)
    maps = pipeline.sh.toEnvMap(coefficients)
    assert maps.shape == (2, 16, 16, 3)
    torch.testing.assert_close(maps, torch.ones(2, 16, 16, 3))


def test_the_model_samples_faces_of_its_own_variance() -> None:
    model = make_pipeline().morphableModel
    vertices, diffuse, specular = model.sample(400, seed=1)
    assert vertices.shape == (400, TINY.vertex_count, 3) and diffuse.shape == specular.shape == vertices.shape
    coefficients = torch.einsum("nvc,kvc->nk", vertices - model.shapeMean, model.shapePca)
    np.testing.assert_allclose(coefficients.var(0), TINY.shape_variance, rtol=0.25)
    assert torch.equal(model.sample(2, seed=1)[0], model.sample(2, seed=1)[0])


def test_a_turntable_swings_about_the_head_and_comes_back() -> None:
    state = single_photo(random_state(TINY, 3), 2)
    assert state.photo_count == state.identity_count == 1
    pivot = torch.tensor([1.0, 2.0, 3.0])

    def place(s: FaceState, point: torch.Tensor) -> torch.Tensor:
        return euler_to_matrix(s.rotation[0]) @ point + s.translation[0]

    other = turned(state, pivot, 0.4)
    torch.testing.assert_close(place(other, pivot), place(state, pivot), atol=1e-3, rtol=0)
    above = pivot + torch.tensor([0.0, 10.0, 0.0])
    torch.testing.assert_close(place(other, above), place(state, above), atol=1e-3, rtol=0)
    nose = pivot + torch.tensor([0.0, 0.0, 10.0])
    expected = pivot + 10 * torch.tensor([math.sin(0.4), 0.0, math.cos(0.4)])
    torch.testing.assert_close(place(other, nose), place(state, expected), atol=1e-3, rtol=0)
    angles = yaw_angles(48, 30)
    assert angles[0] == 0 and max(angles) == pytest.approx(math.radians(30)) == -min(angles)
    assert abs(angles[-1]) < math.radians(5)
