"""Stage 3 on synthetic photos: maps of skin, completed where no photo looks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from nextgenface.errors import Cancelled
from nextgenface.events import CancelWhen, NullListener
from nextgenface.fitting.bake import bake_vertices
from nextgenface.fitting.state import FaceState, StageReport
from nextgenface.fitting.texels import Texels
from nextgenface.fitting.textures import RELIEF_SHARE, fit_textures
from nextgenface.fitting.whitened import whiten
from nextgenface.views import FaceView

from tests.solver.small_face import SIZE, quick_config, small_model, without
from tests.solver.small_fit import shared_fit, single_fit

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")

TEXELS = 64
MAPS = ("diffuse", "specular", "roughness", "confidence", "displacement", "environment")
CHEEK = 205
"""Landmark in the middle of the cheek at the image's left (the subject's right)."""


def _fit(view: FaceView, steps: int = 12, **changes: object) -> tuple[FaceState, StageReport]:
    config = quick_config(iterStep3=steps, textureResolution=TEXELS, **changes)
    return fit_textures(small_model(), [view], single_fit().lit, config, NullListener())


@lru_cache(maxsize=1)
def _plain() -> tuple[FaceState, StageReport]:
    return _fit(single_fit().views[0], 24)


def _pixel(landmark: int) -> tuple[int, int]:
    """(row, column) of a landmark in the photo."""
    column, row = single_fit().views[0].landmarks.points[landmark]
    return int(row), int(column)


def _spotted(colour: tuple[float, float, float]) -> FaceView:
    """The photo with a spot of 5 x 5 pixels (7 mm) on the cheek, as a factor on the light it sends."""
    view = single_fit().views[0]
    row, column = _pixel(CHEEK)
    image = view.image.copy()
    image[row - 2 : row + 3, column - 2 : column + 3] *= np.array(colour, np.float32)
    return replace(view, image=image)


def _texel(landmark: int) -> tuple[int, int]:
    """(row, column) of a landmark in the maps."""
    u, v = small_model().uv[landmark]
    return int((1 - v) * TEXELS), int(u * TEXELS)


def test_maps_have_the_shapes_and_ranges_of_skin() -> None:
    state, report = _plain()
    assert state.diffuse is not None and state.specular is not None
    assert state.roughness is not None and state.confidence is not None and state.displacement is not None
    assert state.diffuse.shape == state.specular.shape == (1, TEXELS, TEXELS, 3)
    assert state.roughness.shape == (1, TEXELS, TEXELS, 1)
    assert state.confidence.shape == (1, TEXELS, TEXELS)
    assert state.displacement.shape == (1, small_model().vertex_count)
    for name in ("diffuse", "specular", "roughness", "confidence"):
        value = getattr(state, name)
        assert torch.isfinite(value).all() and value.min() >= 0 and value.max() <= 1, name
        assert not value.requires_grad
    assert state.displacement.abs().max() < 6  # mm
    assert state.stage == 3 and single_fit().lit.diffuse is None
    assert report.name == "textures" and report.cap == 24 and report.steps == len(report.losses) <= 24
    assert np.isfinite(report.losses).all()


def test_the_loss_falls() -> None:
    _, report = _plain()
    refined = report.losses[round(RELIEF_SHARE * 24) :]
    assert len(refined) > 3 and refined[-1] < refined[0]


def test_a_photo_that_the_statistics_explain_leaves_their_texture() -> None:
    """Nothing is left over in this photo, so no shading may end up in the skin."""
    state, _ = _plain()
    w = whiten(small_model(), "cpu")
    statistical = bake_vertices(small_model(), w.colour(state.albedo[0] / w.diffuse_sd), TEXELS)
    assert state.diffuse is not None and state.confidence is not None
    seen = state.confidence[0] > 0.5
    change = (state.diffuse[0] / statistical.clamp(min=0.01))[seen].log()
    assert change.abs().median() < 0.05 and change.abs().mean() < 0.1


def test_a_mole_becomes_skin() -> None:
    plain, _ = _plain()
    spotted, _ = _fit(_spotted((0.45, 0.35, 0.32)))
    assert plain.diffuse is not None and spotted.diffuse is not None
    row, column = _texel(CHEEK)
    ratio = (spotted.diffuse / plain.diffuse)[0]
    assert ratio[row, column].mean() < 0.85
    away = torch.ones(TEXELS, TEXELS, dtype=torch.bool)
    away[max(row - 10, 0) : row + 11, max(column - 10, 0) : column + 11] = False
    assert (ratio[away].log().abs().median()) < 0.03
    other = int(small_model().mirror[CHEEK])
    mirrored = ratio[_texel(other)]
    assert mirrored.mean() > 0.93  # the other cheek was seen without it


def _turned(view: FaceView) -> FaceState:
    """Maps from the first photo of the shared fit alone, in which the face is turned by 29 degrees."""
    lit = shared_fit().lit
    of_photo = ("expression", "rotation", "translation", "focals", "principal", "sh", "environment")
    alone = replace(lit, **{name: getattr(lit, name)[:1] for name in of_photo})
    config = quick_config(iterStep3=4, textureResolution=TEXELS)
    return fit_textures(small_model(), [view], alone, config, NullListener())[0]


def test_confidence_says_what_the_photo_shows() -> None:
    """The cheek that turns away is seen less, hidden texels not at all; two photos see more than one."""
    fit = shared_fit()
    one = _turned(fit.views[0])
    config = quick_config(iterStep3=4, textureResolution=TEXELS)
    both, _ = fit_textures(small_model(), fit.views, fit.lit, config, NullListener())
    assert one.confidence is not None and both.confidence is not None
    assert both.diffuse is not None and both.diffuse.shape[0] == 1
    texels = Texels(small_model(), TEXELS, torch.device("cpu"))
    on = texels.on_face.view(TEXELS, TEXELS)
    place = texels.gather(torch.tensor(small_model().shape_mean)).view(TEXELS, TEXELS, 3)
    left, right = on & (place[..., 0] < -45), on & (place[..., 0] > 45)
    sides = [float(one.confidence[0][side].mean()) for side in (left, right)]
    assert min(sides) < 0.3 * max(sides)
    assert both.confidence[0][on].mean() > one.confidence[0][on].mean()


def test_what_is_not_seen_takes_after_the_other_side() -> None:
    """A red patch on the seen cheek colours the hidden one too, and not its surroundings."""
    view = shared_fit().views[0]
    plain = _turned(view)
    assert plain.confidence is not None and plain.diffuse is not None
    confidence = np.array([float(plain.confidence[0][_texel(landmark)]) for landmark in range(468)])
    cheeks = np.nonzero(np.abs(small_model().shape_mean[:468, 1]) < 40)[0]
    difference = confidence - confidence[small_model().mirror[:468]]
    seen = int(cheeks[difference[cheeks].argmax()])
    hidden = int(small_model().mirror[seen])
    assert confidence[seen] > 0.8 and confidence[hidden] < 0.2
    column, row = (int(x) for x in view.landmarks.points[seen])
    image = view.image.copy()
    image[row - 3 : row + 4, column - 3 : column + 4] *= np.array([0.95, 0.6, 0.65], np.float32)
    marked = _turned(replace(view, image=image))
    assert marked.diffuse is not None
    ratio = (marked.diffuse / plain.diffuse)[0]
    here, there = (float(ratio[_texel(landmark)][1].log()) for landmark in (seen, hidden))
    assert here < -0.1 and there < 0.4 * here
    assert abs(float(ratio[_texel(10)][1].log())) < 0.03  # the forehead


@lru_cache(maxsize=1)
def _masked() -> tuple[FaceState, FaceState]:
    """A patch of the cheek marked as not valid, painted black in one photo and white in the other."""
    mask = np.zeros((SIZE, SIZE), bool)
    row, column = _pixel(CHEEK)
    mask[row - 8 : row + 9, column - 8 : column + 9] = True
    results = []
    for paint in (0.02, 0.9):
        view = without(single_fit().views[0], mask)
        image = view.image.copy()
        image[mask] = paint
        results.append(_fit(replace(view, image=image), 6)[0])
    return results[0], results[1]


def test_pixels_that_are_not_valid_do_not_show() -> None:
    black, _ = _masked()
    plain, _ = _plain()
    assert black.confidence is not None and black.confidence[0][_texel(CHEEK)] == 0
    assert black.diffuse is not None and plain.diffuse is not None
    assert (black.diffuse / plain.diffuse).log().abs().median() < 0.05


def test_pixels_that_are_not_valid_have_no_influence_at_all() -> None:
    black, white = _masked()
    for name in MAPS:
        assert torch.equal(getattr(black, name), getattr(white, name)), name


def test_steps_are_deterministic() -> None:
    view = _spotted((0.5, 0.4, 0.4))
    one, two = (_fit(view, 6)[0] for _ in range(2))
    for name in MAPS:
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_no_steps_still_make_complete_maps() -> None:
    state, report = _fit(single_fit().views[0], 0)
    assert report.steps == 0 and state.stage == 3
    assert state.diffuse is not None and torch.isfinite(state.diffuse).all()
    assert state.displacement is not None and state.displacement.abs().max() == 0


@pytest.mark.parametrize("after", [1, 8])
def test_it_can_be_cancelled_in_each_part(after: int) -> None:
    count = 0

    class Stop(CancelWhen):
        def progress(self, stage: str, step: int, total: int, loss: float) -> None:
            nonlocal count
            assert stage == "textures"
            count += 1

    config = quick_config(iterStep3=24, textureResolution=TEXELS)
    fit = single_fit()
    with pytest.raises(Cancelled, match="textures"):
        fit_textures(small_model(), fit.views, fit.lit, config, Stop(lambda: count >= after))
    assert count == after
