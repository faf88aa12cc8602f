"""The whites of the eyes as a measure of the light."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from nextgenface.fitting.photoset import PhotoSet
from nextgenface.fitting.scleras import (
    CAST_SD,
    DRAWN_DARK,
    LEAST_PIXELS,
    LEVEL_SD,
    SCLERA,
    outside_irises,
    sclera_cue,
    unhidden,
)
from nextgenface.fitting.state import initial_state
from nextgenface.geometry.rotations import matrix_to_euler
from nextgenface.rendering.raster import rasterize

from tests.solver import small_face
from tests.solver.small_face import quick_config, trimmed_model

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")


def _eyes(gain: torch.Tensor, count: int = 40) -> tuple[torch.Tensor, ...]:
    """Photo, diffuse and specular light, and side of two eyes in light that is exp(gain) times the drawn."""
    g = torch.Generator().manual_seed(3)
    diffuse = 0.3 + 0.4 * torch.rand(count, 1, generator=g).expand(count, 3)
    specular = 0.01 * torch.rand(count, 1, generator=g).expand(count, 3)
    photo = (torch.tensor(SCLERA) * diffuse + specular) * (gain + DRAWN_DARK).exp()
    return photo, diffuse, specular, torch.arange(count) < count // 2


@pytest.mark.parametrize("gain", [(0.0, 0.0, 0.0), (0.9, 0.8, 0.5), (-0.3, -0.2, -0.1)])
def test_the_light_is_read_off_the_whites(gain: tuple[float, float, float]) -> None:
    cue = sclera_cue(*_eyes(torch.tensor(gain)))
    assert cue is not None
    assert torch.allclose(cue.log_gain, torch.tensor(gain), atol=1e-4)
    jacobian, residual = cue.rows(torch.tensor(gain))
    assert jacobian.shape == (4, 3) and residual.abs().max() < 1e-3
    # one sigma of brightness, one sigma of colour
    assert (cue.rows(torch.tensor(gain) + LEVEL_SD)[1] ** 2).sum() == pytest.approx(cue.weight, rel=1e-3)
    tint = torch.tensor([CAST_SD, -CAST_SD, 0.0])
    assert (cue.rows(torch.tensor(gain) + tint)[1] ** 2).sum() == pytest.approx(2 * cue.weight, rel=1e-3)


def test_the_brighter_eye_is_believed() -> None:
    photo, diffuse, specular, left = _eyes(torch.full((3,), 0.4))
    shadowed = torch.where(left[:, None], photo, 0.2 * photo)
    cue = sclera_cue(shadowed, diffuse, specular, left)
    assert cue is not None and torch.allclose(cue.log_gain, torch.full((3,), 0.4), atol=1e-4)
    # lashes over less than half of it change little
    lashes = torch.where((torch.arange(len(photo)) % 3 == 0)[:, None], 0.3 * photo, photo)
    cue = sclera_cue(lashes, diffuse, specular, left)
    assert cue is not None and torch.allclose(cue.log_gain, torch.full((3,), 0.4), atol=1e-3)


def test_sunglasses_have_no_say() -> None:
    cue = sclera_cue(*_eyes(torch.full((3,), -2.5)))
    assert cue is not None and cue.weight < 0.05
    bright = sclera_cue(*_eyes(torch.full((3,), 1.5)))
    assert bright is not None and bright.weight == 1.0  # nothing makes a white too bright


def test_too_few_pixels_say_nothing() -> None:
    photo, diffuse, specular, left = _eyes(torch.zeros(3), 2 * LEAST_PIXELS - 2)
    assert sclera_cue(photo, diffuse, specular, left) is None


def test_irises_are_left_out() -> None:
    right, left = torch.tensor([20.0, 10.0]), torch.tensor([60.0, 12.0])
    around = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, -5.0], [-5.0, 0.0], [0.0, 5.0]])
    irises = torch.cat([right + around, left + around])
    clear = outside_irises(torch.arange(30 * 80), 80, irises).view(30, 80)
    assert not clear[10, 20] and not clear[12, 64] and not clear[7, 17]
    assert clear[10, 27] and clear[25, 20] and clear[12, 40]
    assert (~clear).sum() == pytest.approx(2 * torch.pi * (1.2 * 5) ** 2, rel=0.06)


def test_faces_at_hidden_vertices_are_left_out() -> None:
    """Two triangles share an edge; a third lies in front of the far corner of one of them."""
    screen = torch.tensor(
        [[2.0, 2.0], [2.0, 30.0], [20.0, 16.0], [38.0, 16.0], [30.0, 8.0], [30.0, 24.0], [46.0, 16.0]]
    )
    depth = torch.tensor([100.0, 100.0, 100.0, 100.0, 90.0, 90.0, 90.0])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6]])
    fragments = rasterize(screen, depth, faces, 32, 48)
    clear = unhidden(fragments, screen, depth)
    assert clear[fragments.face == 0].all() and clear[fragments.face == 2].all()
    assert (fragments.face == 1).any() and not clear[fragments.face == 1].any()


def test_the_eyes_of_a_fit_tell_how_strong_its_light_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo of the model itself: right light needs little change, half the light a doubling more."""
    monkeypatch.setattr(small_face, "SIZE", 384)  # eyes of a few hundred pixels
    model = trimmed_model()
    truth = small_face.example(model)
    view = small_face.photograph(model, truth)
    start = initial_state(model, [view], shared=False, seed=0, device="cpu")
    known = replace(
        start,
        shape=(truth.shape * torch.as_tensor(model.shape_variance).sqrt())[None],
        expression=(truth.expression * torch.as_tensor(model.expression_variance).sqrt())[None],
        albedo=(truth.albedo * torch.as_tensor(model.diffuse_variance).sqrt())[None],
        rotation=matrix_to_euler(truth.pose.rotation)[None],
        translation=truth.pose.translation[None],
    )
    found = []
    for factor in (1.0, 0.5):
        state = replace(known, environment=(truth.environment * factor)[None])
        problem = PhotoSet(model, [view], state, [0], quick_config())
        problem.trace()
        cue = problem.whites(0)
        assert cue is not None
        found.append(cue.log_gain)
    # the model's whites are a little darker than clean sclera and shaded towards the lids
    assert -0.7 < float(found[0].mean()) < 0.1
    assert found[0].std() < 0.1
    assert torch.allclose(found[1] - found[0], torch.full((3,), math.log(2.0)), atol=0.02)
