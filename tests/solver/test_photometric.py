"""Stage 2 on synthetic photos whose shape, skin, pose and light are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nextgenface.errors import Cancelled
from nextgenface.events import CancelWhen, NullListener, Picture
from nextgenface.fitting.photometric import (
    BORDER_POINTS,
    BORDER_SIGMA,
    PhotometricProblem,
    fit_photometric,
    groups,
)
from nextgenface.fitting.state import FaceState
from nextgenface.fitting.whitened import whiten

from tests.solver.small_face import SIZE, quick_config, shape_error, small_model, without
from tests.solver.small_fit import (
    light_angle,
    posed_state,
    psnr,
    shared_fit,
    single_fit,
    vertices_of,
)

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")

FIELDS = ("shape", "albedo", "expression", "rotation", "translation", "environment", "sh", "gloss")


def _same(a: FaceState, b: FaceState) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_the_picture_comes_to_look_like_the_photo() -> None:
    fit = single_fit()
    before, after = psnr(fit.posed, fit.views[0]), psnr(fit.lit, fit.views[0])
    assert after > 35 and after > before + 10
    losses = fit.report.losses
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    assert fit.report.name == "photometric" and fit.report.steps == len(losses) <= fit.report.cap == 40
    assert fit.lit.stage == 2 and fit.posed.stage == 1


def test_the_shape_is_nearer_to_the_truth_than_the_mean_face() -> None:
    fit = single_fit()
    truth = fit.truths[0].vertices(whiten(small_model(), "cpu")).numpy()
    fitted = shape_error(vertices_of(fit.lit).numpy(), truth)
    mean = shape_error(vertices_of(fit.lit, mean_identity=True).numpy(), truth)
    assert fitted < 0.5 * mean
    assert shape_error(vertices_of(fit.posed).numpy(), truth) > fitted  # the photo adds to the landmarks
    assert (fit.lit.translation - fit.truths[0].pose.translation).abs().max() < 15


def test_the_light_comes_from_where_it_came() -> None:
    fit = single_fit()
    assert light_angle(fit.lit.environment[0], fit.truths[0].environment) < 15
    assert fit.lit.environment.min() >= 0
    ratio = float(fit.lit.environment.mean() / fit.truths[0].environment.mean())
    assert 0.5 < ratio < 2.0  # skin tone and light intensity share one product


def test_skin_colour_is_found_up_to_that_product() -> None:
    fit = single_fit()
    w = whiten(small_model(), "cpu")
    truth, found = w.colour(fit.truths[0].albedo), w.colour(fit.lit.albedo[0] / w.diffuse_sd)

    def error(colour: torch.Tensor) -> float:
        scale = (colour * truth).sum(0) / (colour**2).sum(0)
        return float(((colour * scale - truth) ** 2).mean().sqrt())

    assert error(found) < 0.8 * error(w.colour(torch.zeros(len(w.diffuse_sd))))


def test_nothing_is_nan_and_the_start_is_left_alone() -> None:
    fit = single_fit()
    for name in (*FIELDS, "focals", "principal"):
        value = getattr(fit.lit, name)
        assert torch.isfinite(value).all(), name
    again = posed_state(fit.views)
    for name in ("shape", "expression", "rotation", "translation", "environment"):
        assert torch.equal(getattr(again, name), getattr(fit.posed, name)), name
    assert not any(getattr(fit.lit, name).requires_grad for name in FIELDS)


def test_steps_are_deterministic() -> None:
    fit = single_fit()
    runs = [
        fit_photometric(small_model(), fit.views, fit.posed, quick_config(iterStep2=3), NullListener())[0]
        for _ in range(2)
    ]
    assert _same(*runs)


def test_pixels_that_are_not_valid_have_no_influence() -> None:
    fit = single_fit()
    mask = np.zeros((SIZE, SIZE), bool)
    mask[60:100, 64:100] = True
    results = []
    for paint in (0.0, 0.9):
        view = without(fit.views[0], mask)
        image = view.image.copy()
        image[mask] = paint
        view = replace(view, image=image)
        config = quick_config(iterStep2=5)
        results.append(fit_photometric(small_model(), [view], fit.posed, config, NullListener())[0])
    assert _same(*results)


def test_a_hidden_half_still_gives_a_face() -> None:
    """Half of the picture painted over and marked so: light and shape stay near those of the whole."""
    fit = single_fit()
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:64] = True
    view = without(fit.views[0], mask)
    image = view.image.copy()
    image[mask] = [0.0, 0.8, 0.0]
    state, _ = fit_photometric(
        small_model(), [replace(view, image=image)], fit.posed, quick_config(iterStep2=12), NullListener()
    )
    assert light_angle(state.environment[0], fit.truths[0].environment) < 25
    assert psnr(state, fit.views[0]) > psnr(fit.posed, fit.views[0])


def test_it_can_be_cancelled_between_steps() -> None:
    fit = single_fit()

    class Stop(CancelWhen):
        steps = 0

        def progress(self, stage: str, step: int, total: int, loss: float) -> None:
            assert (stage, total) == ("photometric", 40)
            Stop.steps = step

    with pytest.raises(Cancelled, match="photometric"):
        fit_photometric(small_model(), fit.views, fit.posed, quick_config(), Stop(lambda: Stop.steps >= 2))
    assert Stop.steps == 2


def test_no_steps_still_light_the_face() -> None:
    fit = single_fit()
    state, report = fit_photometric(
        small_model(), fit.views, fit.posed, quick_config(iterStep2=0), NullListener()
    )
    assert report.steps == 0 and state.stage == 2
    assert torch.allclose(state.shape, fit.posed.shape, atol=1e-4)
    assert light_angle(state.environment[0], fit.truths[0].environment) < 25


def test_photos_of_one_person_share_an_identity_and_keep_their_own_light() -> None:
    fit = shared_fit()
    assert fit.lit.shape.shape[0] == fit.lit.albedo.shape[0] == 1
    assert fit.lit.expression.shape[0] == fit.lit.environment.shape[0] == 2
    w = whiten(small_model(), "cpu")
    for k, truth in enumerate(fit.truths):
        assert light_angle(fit.lit.environment[k], truth.environment) < 15
        assert psnr(fit.lit, fit.views[k], k) > 32
        vertices = truth.vertices(w).numpy()
        mean = vertices_of(fit.lit, k, mean_identity=True).numpy()
        assert shape_error(vertices_of(fit.lit, k).numpy(), vertices) < 0.5 * shape_error(mean, vertices)
    assert fit.lit.environment[0].mean(1).argmax() != fit.lit.environment[1].mean(1).argmax()
    assert groups(fit.lit) == [[0, 1]] and groups(single_fit().lit) == [[0]]


def test_photos_of_two_people_are_solved_apart() -> None:
    fit = shared_fit()
    start = posed_state(fit.views)
    assert groups(start) == [[0], [1]]
    config = quick_config(iterStep2=2)
    both, report = fit_photometric(small_model(), fit.views, start, config, NullListener())
    assert both.shape.shape[0] == 2 and report.cap == 4
    alone, _ = fit_photometric(
        small_model(), fit.views[1:], posed_state(fit.views[1:]), config, NullListener()
    )
    assert torch.allclose(both.shape[1], alone.shape[0], atol=1e-3)
    assert torch.allclose(both.environment[1], alone.environment[0], atol=1e-3)


def test_snapshots_bring_everything_back() -> None:
    fit = single_fit()
    problem = PhotometricProblem(small_model(), fit.views, fit.lit, [0], quick_config())
    problem.trace()
    level = len(problem.photos[0].targets) - 1
    before = float(problem.loss(level).detach())
    kept = problem.snapshot()
    with torch.no_grad():
        for value in problem.parameters().values():
            value.add_(0.05)
    problem.photos[0].environment = problem.photos[0].environment * 2
    assert float(problem.loss(level).detach()) > before
    problem.restore(kept)
    # z-scores are kept as tone and rest, which together are clamped
    assert float(problem.loss(level).detach()) == pytest.approx(before, rel=1e-3)


def test_previews_are_pictures_of_the_fit() -> None:
    fit = single_fit()
    shown: list[np.ndarray] = []

    class Watch(NullListener):
        def preview(self, stage: str, step: int, make_picture: Picture) -> None:
            assert stage == "photometric"
            shown.append(make_picture())

    fit_photometric(small_model(), fit.views, fit.posed, quick_config(iterStep2=2, debugFrequency=1), Watch())
    assert shown and shown[0].shape == (1, SIZE, SIZE, 3) and shown[0].dtype == np.uint8
    assert len(np.unique(shown[0])) > 20


def test_pixels_that_are_not_valid_do_not_make_their_neighbours_doubtful() -> None:
    """Where hair may hang a neighbourhood has to agree with the fit; what is masked is no part of it."""
    fit = single_fit()
    mask = np.zeros((SIZE, SIZE), bool)
    mask[60:68, 60:68] = True
    problem = PhotometricProblem(small_model(), [without(fit.views[0], mask)], fit.lit, [0], quick_config())
    problem.white = replace(problem.white, core=torch.zeros_like(problem.white.core))
    problem.trace()
    target = problem.photos[0].targets[-1]
    fragments = problem.draw(0, target).fragments
    masked = torch.tensor(mask).view(-1)[fragments.pixel]
    rows, columns = fragments.pixel // SIZE, fragments.pixel % SIZE
    beside = ~masked & (rows >= 59) & (rows < 69) & (columns >= 59) & (columns < 69)
    residual = torch.zeros(len(masked), 3)
    plain = problem.pixel_weights(0, target, fragments, residual)
    # what is less than 1 is the detail of the picture itself, which could be hair
    assert (plain[masked] == 0).all() and plain[beside].min() > 0.6
    residual[masked] = 0.5
    assert torch.equal(problem.pixel_weights(0, target, fragments, residual), plain)
    # the same error at a pixel that is valid does count, there and beside it
    residual[beside] = 0.5
    doubtful = problem.pixel_weights(0, target, fragments, residual)
    around = ~masked & ~beside & (rows >= 58) & (rows < 70) & (columns >= 58) & (columns < 70)
    assert doubtful[beside].max() < 0.1 and doubtful[around].max() < 0.9


def _outlined(person: np.ndarray | None) -> PhotometricProblem:
    """The fitted face in front of a camera that saw a person in these pixels."""
    fit = single_fit()
    view = replace(fit.views[0], person=person)
    return PhotometricProblem(small_model(), [view], fit.lit, [0], quick_config())


def _outline(problem: PhotometricProblem) -> torch.Tensor:
    return problem.outline_loss(0, problem.vertices(0))


def test_the_face_stays_within_the_outline_of_the_person() -> None:
    everywhere = np.ones((SIZE, SIZE), np.float32)
    assert float(_outline(_outlined(everywhere)).detach()) == 0
    left = everywhere.copy()
    left[:, 72:] = 0.0
    problem = _outlined(left)
    pose = problem.pose(0)
    column = pose.screen(pose.camera_space(problem.vertices(0)))[:, 0].detach()
    outside = column > 73
    assert 0.1 < outside.float().mean() < 0.9 and column.max() < SIZE - 1
    loss = _outline(problem)
    # distance to the last pixel of the person, whose centre is at 71.5
    gap = (column - 71.5).clamp(min=0) / (BORDER_SIGMA * problem.photos[0].mark_scale)
    assert float(loss.detach()) == pytest.approx(0.5 * BORDER_POINTS * float((gap**2).mean()), rel=0.02)
    loss.backward()
    pull = problem.shift.grad
    assert pull is not None and pull[0, 0] > 0  # a step against the gradient goes left, into the person
    assert pull[0, 1].abs() < 1e-3 * pull[0, 0]
    before = float(loss.detach())
    with torch.no_grad():
        problem.shift[0, 0] -= 5.0
        assert float(_outline(problem)) < before
        # far enough to the left everything is inside
        problem.shift[0, 0] -= float((column.max() - 70) * problem.photos[0].translation[2] / pose.focal)
        assert float(_outline(problem)) < 1e-3 * before


@pytest.mark.parametrize("person", [None, np.zeros((SIZE, SIZE), np.float32)])
def test_without_a_person_in_sight_the_outline_says_nothing(person: np.ndarray | None) -> None:
    assert float(_outline(_outlined(person))) == 0
