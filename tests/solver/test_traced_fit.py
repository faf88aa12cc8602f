"""Rays while fitting: `Pipeline.render`, stages 2 and 3, the finish, and what happens without derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from nextgenface.events import NullListener
from nextgenface.fitting import traced
from nextgenface.fitting.photometric import PhotometricProblem, fit_photometric
from nextgenface.fitting.pipeline import Pipeline
from nextgenface.fitting.raytraced_finish import finish
from nextgenface.fitting.refinement import refine
from nextgenface.fitting.textures import TextureProblem, fit_textures
from nextgenface.rendering.llvm import Variant, select_variant

from tests.solver.small_face import quick_config, small_model
from tests.solver.small_fit import psnr, single_fit

mi = pytest.importorskip("mitsuba")
pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")


@pytest.fixture(autouse=True)
def _needs_derivatives() -> Iterator[None]:
    found = select_variant("cpu")
    if not found.differentiable:
        pytest.skip(f"no derivatives here: {found.reason}")
    previous = mi.variant()
    yield
    if previous:
        mi.set_variant(previous)


def _pipeline(engine: str, **changes: object) -> Pipeline:
    config = quick_config(engine=engine, maxResolution=64, camFocalLength=160.0, **changes)
    pipeline = Pipeline(config, model=small_model())
    pipeline.vTranslation = torch.tensor([[0.0, 0.0, 500.0]])
    return pipeline


def test_pipeline_draws_with_either_engine() -> None:
    with torch.no_grad():
        deferred = _pipeline("deferred").render()[0]
        rays = _pipeline("raytraced", rtTrainingSamples=256, rtBounces=2).render()[0]
    assert rays.shape == deferred.shape == (64, 64, 4)
    inside = (deferred[..., 3] > 0) & (rays[..., 3] > 0.999)
    assert inside.sum() > 500
    assert rays[inside][:, :3].mean().item() == pytest.approx(deferred[inside][:, :3].mean().item(), rel=0.02)
    assert (rays - deferred)[inside].abs().mean() < 0.03 * deferred[inside].mean()


@pytest.mark.parametrize("every", [0, 1])
def test_pipeline_gives_every_parameter_a_gradient(every: int) -> None:
    pipeline = _pipeline("raytraced", rtOutlineEvery=every)
    pipeline.enableGrad()
    maps = {
        "specularTextures": torch.full((1, 16, 16, 3), 0.4, requires_grad=True),
        "roughnessTextures": torch.full((1, 16, 16, 1), 0.5, requires_grad=True),
    }
    picture = pipeline.render(**maps)
    weights = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0))
    (picture * weights).sum().backward()
    state = pipeline.state
    for name in ("shape", "albedo", "expression", "rotation", "translation", "sh"):
        gradient = getattr(state, name).grad
        assert gradient is not None and gradient.abs().sum() > 0 and torch.isfinite(gradient).all(), name
    for one in maps.values():
        assert one.grad is not None and one.grad.abs().sum() > 0
    assert (state.focals.grad is not None) == (every > 0)  # only outlines know of the lens


def test_pictures_differ_by_their_noise_only() -> None:
    pipeline = _pipeline("raytraced")
    with torch.no_grad():
        one, two = pipeline.render(), pipeline.render()
        again = _pipeline("raytraced").render()
    assert not torch.equal(one, two) and torch.equal(one, again)


def test_the_albedo_alone_has_no_noise() -> None:
    with torch.no_grad():
        one, two = (_pipeline(engine).render(renderAlbedo=True) for engine in ("deferred", "raytraced"))
    assert torch.equal(one, two)


def test_stage_2_fits_with_rays() -> None:
    fit = single_fit()
    config = quick_config(engine="raytraced", iterStep2=8)
    state, report = fit_photometric(small_model(), fit.views, fit.posed, config, NullListener())
    assert report.steps == 8 and state.stage == 2
    assert psnr(state, fit.views[0]) > psnr(fit.posed, fit.views[0]) + 5
    problem = PhotometricProblem(small_model(), fit.views, fit.lit, [0], config)
    problem.trace()
    with torch.no_grad():
        target = problem.photos[0].targets[-1]
        fragments, seen = problem.seen(0, target, problem.vertices(0))
        drawn = problem.draw(0, target)
    assert torch.equal(fragments.pixel, drawn.fragments.pixel)
    assert seen.mean().item() == pytest.approx(drawn.radiance.mean().item(), rel=0.03)


@pytest.mark.parametrize("engine", ["raytraced", "hybrid"])
def test_stage_3_finishes_with_rays(engine: str) -> None:
    """The deferred fit is nearly right: rays change it, but little."""
    fit = single_fit()
    config = quick_config(engine=engine, iterStep3=20)
    state, report = fit_textures(small_model(), fit.views, fit.lit, config, NullListener())
    assert state.stage == 3 and state.diffuse is not None and 5 < report.steps <= 20
    plain, _ = fit_textures(small_model(), fit.views, fit.lit, quick_config(iterStep3=20), NullListener())
    assert plain.diffuse is not None
    change = (state.diffuse / plain.diffuse.clamp(min=1e-3)).log().abs()
    assert 0 < float(change.mean()) < 0.05
    assert not torch.equal(state.environment, plain.environment)


def test_a_photo_without_a_say_does_not_move_the_maps() -> None:
    fit = single_fit()
    config = quick_config(engine="hybrid")
    problem = TextureProblem(small_model(), fit.views, fit.lit, [0], config)
    problem.photometric.trace()
    problem.separate()
    problem.photometric.photos[0].trust = 0.0
    before, light = problem.maps()[:3], problem.photometric.photos[0].environment
    assert problem.rays is not None
    refine(problem, 2, NullListener())
    finish(problem, problem.rays, 2, NullListener(), 0, 2)
    for old, new in zip(before, problem.maps()[:3], strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-6)
    torch.testing.assert_close(light, problem.photometric.photos[0].environment)


def test_without_derivatives_the_deferred_engine_does_it_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scalar = Variant("scalar_rgb", "no LLVM library that works was found", None, ("Ray tracing is slow.",))
    monkeypatch.setattr(traced, "select_variant", lambda device: scalar)
    pipeline = _pipeline("raytraced")
    assert "deferred engine is used instead" in caplog.text and "Ray tracing is slow." in caplog.text
    with torch.no_grad():
        assert torch.equal(pipeline.render(), _pipeline("deferred").render())


def test_maps_of_different_sizes_become_one() -> None:
    maps = [torch.rand(8, 8, 3), torch.rand(4, 4, 3), torch.rand(8, 8, 1)]
    joined = traced.join_maps(maps)
    assert joined.shape == (8, 8, 5)
    assert torch.equal(joined[..., :3], maps[0]) and torch.equal(joined[..., 4:], maps[2])
    assert joined[..., 3].mean().item() == pytest.approx(maps[1].mean().item(), rel=0.02)


def test_a_step_that_runs_out_of_memory_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fit = single_fit()
    real = traced.TracedPhotos.radiance
    calls = 0

    def scarce(self: traced.TracedPhotos, *given: object, **named: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("jit_malloc(): out of memory!")
        return real(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(traced.TracedPhotos, "radiance", scarce)
    config = quick_config(engine="hybrid", iterStep3=12)
    state, report = fit_textures(small_model(), fit.views, replace(fit.lit), config, NullListener())
    assert state.diffuse is not None and torch.isfinite(state.diffuse).all() and calls > 4
    assert "passes of" in caplog.text
