"""One skin out of several photos: sharper, better lit and unshadowed photos lead; light is averaged out."""

from __future__ import annotations

import pytest
import torch
from nextgenface.fitting import fusion
from nextgenface.fitting.fusion import SkinView, fuse
from nextgenface.fitting.separation import blur, skin_part
from torch import Tensor

SIDE, MM = 64, 1.0
ONES = torch.ones(SIDE, SIDE)


def noise(seed: int, sigma: float = 0.0) -> Tensor:
    """(SIDE, SIDE, 1) random values of unit variance, smoothed."""
    values = torch.randn(SIDE, SIDE, 1, generator=torch.Generator().manual_seed(seed))
    if sigma:
        values = blur(values, ONES, sigma)
        values = values / values.std()
    return values


def freckles(seed: int = 0) -> Tensor:
    return 0.08 * noise(seed, 1.0) * torch.tensor([1.0, 1.14, 1.22])


def look(
    residual: Tensor, *, weight: Tensor = ONES, light: Tensor | None = None, pixel: float = 0.3
) -> SkinView:
    light = noise(int(1000 * float(residual[3, 3, 0].abs())) + 7, 8.0)[..., 0] if light is None else light
    return SkinView(residual, weight, light, torch.full((SIDE, SIDE), pixel))


def error(found: Tensor, truth: Tensor) -> float:
    return float(((found - truth)[8:-8, 8:-8] ** 2).mean().sqrt())


def test_one_photo_is_the_plain_separation() -> None:
    residual = freckles() + 0.1 * noise(1, 6.0)
    found, mass = fuse([look(residual)], MM)
    torch.testing.assert_close(found, skin_part(residual, ONES, MM), rtol=0, atol=1e-5)
    assert float(mass.min()) == 1.0


def test_photos_in_different_light_bring_the_skin_out() -> None:
    truth = freckles() + 0.04 * noise(5, 6.0) * torch.tensor([1.0, 1.14, 1.22])
    photos = [look(truth + 0.1 * noise(10 + k, 6.0), light=noise(30 + k, 8.0)[..., 0]) for k in range(5)]
    alone = error(fuse(photos[:1], MM)[0], truth)
    assert error(fuse(photos, MM)[0], truth) < 0.7 * alone


def test_the_same_light_is_not_averaged_out() -> None:
    shading, light = 0.1 * noise(3, 6.0).expand(SIDE, SIDE, 3), noise(4, 8.0)[..., 0]
    same = fuse([look(shading, light=light) for _ in range(4)], MM)[0]
    alone = fuse([look(shading, light=light)], MM)[0]
    torch.testing.assert_close(same, alone, rtol=0, atol=1e-3)


def test_a_blurred_photo_does_not_blur_the_skin() -> None:
    truth = freckles()
    soft = blur(truth, ONES, 3.0)
    sharp = [look(truth, light=noise(k, 8.0)[..., 0]) for k in (1, 2)]
    both = [*sharp, *(look(soft, light=noise(k, 8.0)[..., 0]) for k in (3, 4))]
    mean = fuse(sharp, MM)[0]
    assert error(fuse(both, MM)[0], mean) < 0.5 * error((mean + fuse([look(soft)], MM)[0]) / 2, mean)


def test_coarse_pixels_say_little_about_fine_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "PRIOR_SAMPLES", 1e9)  # else detail that two photos do not share is no skin
    near, far = look(freckles(1), pixel=0.2), look(freckles(2), pixel=8.0)
    mixed, _ = fuse([near, far], MM)
    own, other = (fuse([one], MM)[0] for one in (near, far))
    assert error(mixed, own) < 0.6 * error(mixed, other)


def test_a_shadow_in_one_photo_is_left_out() -> None:
    truth = freckles()
    shadow = torch.zeros(SIDE, SIDE, 1)
    shadow[20:44, 20:44] = -0.8
    lights = [noise(k, 8.0)[..., 0] for k in range(4)]
    clean = [look(truth, light=light) for light in lights]
    dark = [look(truth + shadow, light=lights[0]), *clean[1:]]
    gap = (fuse(dark, MM)[0] - fuse(clean, MM)[0])[24:40, 24:40].mean()
    assert abs(float(gap)) < 0.02


def test_unseen_texels_come_from_the_other_photo() -> None:
    left, right = ONES.clone(), ONES.clone()
    left[:, SIDE // 2 :], right[:, : SIDE // 2] = 0, 0
    found, mass = fuse([look(freckles(), weight=left), look(freckles(), weight=right)], MM)
    assert float(mass.min()) == 1.0
    assert error(found[:, :28], fuse([look(freckles())], MM)[0][:, :28]) < 0.02


@pytest.mark.parametrize("count", [2, 4])
def test_order_does_not_matter(count: int) -> None:
    photos = [look(freckles() + 0.1 * noise(k, 6.0), light=noise(k, 8.0)[..., 0]) for k in range(count)]
    torch.testing.assert_close(fuse(photos, MM)[0], fuse(photos[::-1], MM)[0], rtol=0, atol=1e-4)


def test_what_photos_agree_on_is_skin_even_where_that_is_unusual(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = 0.12 * noise(5, 6.0).expand(SIDE, SIDE, 3)  # broad and grey, like a shadow
    photos = [look(truth + 0.05 * noise(10 + k, 6.0), light=noise(30 + k, 8.0)[..., 0]) for k in range(4)]
    measured = error(fuse(photos, MM)[0], truth)
    monkeypatch.setattr(fusion, "PRIOR_SAMPLES", 1e9)
    assert measured < 0.8 * error(fuse(photos, MM)[0], truth)
