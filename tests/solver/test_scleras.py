"""The whites of the eyes as a measure of the light."""

from __future__ import annotations

import pytest
import torch
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
from nextgenface.rendering.raster import rasterize

pytestmark = pytest.mark.usefixtures("one_thread")


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
