"""Panels, overlays and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nextgenface import pictures
from nextgenface.images import read_image


def test_strip_has_seven_panels_in_the_documented_order() -> None:
    panels = [np.full((6, 5, 3), k / 10, np.float32) for k in range(1, 8)]
    picture = pictures.strip(*panels)
    assert picture.shape == (6, 35, 3) and picture.dtype == np.uint8
    assert pictures.PANELS == (
        "input", "overlay", "reconstruction", "illumination", "diffuse", "specular", "roughness"
    )  # fmt: skip
    centres = picture[3, 2::5, 0].astype(int)
    # linear .1 to .5 through the sRGB curve; .6 and .7 are data
    assert centres.tolist() == pytest.approx([89, 124, 149, 170, 188, 153, 179], abs=1)


def test_strip_takes_one_channel_maps_and_refuses_other_sizes() -> None:
    colour, single = np.zeros((4, 4, 3)), np.full((4, 4, 1), 0.5)
    assert (
        pictures.strip(colour, colour, colour, colour, colour, single, single[..., 0])[0, -1].tolist()
        == [128] * 3
    )
    with pytest.raises(ValueError, match="overlay"):
        pictures.strip(colour, np.zeros((4, 3, 3)), colour, colour, colour, single, single)


@pytest.mark.parametrize("strength", [0.01, 1.0, 40.0])
def test_light_of_any_strength_gets_an_exposure_that_shows_it(strength: float) -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0.2, 1.0, (50, 40, 3)).astype(np.float32) * strength
    alpha = np.zeros((50, 40), np.float32)
    alpha[10:40] = 1
    light[:10] *= 100  # nothing is covered there
    seen = pictures.exposed(light, alpha)
    assert np.percentile(seen[10:40].max(-1), 99) == pytest.approx(0.8, rel=1e-3)
    np.testing.assert_allclose(seen / light, (seen / light)[0, 0, 0], rtol=1e-5)
    assert not pictures.exposed(np.zeros((4, 4, 3)), np.ones((4, 4))).any()
    assert np.isfinite(pictures.exposed(light, np.zeros_like(alpha))).all()


def test_a_debug_frame_shows_where_two_pictures_differ() -> None:
    target, image = np.full((8, 6, 3), 0.2), np.full((8, 6, 3), 0.2)
    image[:, 3:] = 0.5
    texture = np.zeros((4, 4, 1))
    texture[0, 0] = 1.0
    frame = pictures.debug_frame(target, image, [(texture, True)])
    assert frame.shape == (8, 3 * 6 + 8, 3)
    assert (frame[:, 12:15] == 128).all() and (frame[:, 15:18] > 150).all()
    assert (frame[:2, 18:20] == 255).all() and not frame[2:, 18:].any() and not frame[:2, 20:].any()


def test_over_uses_premultiplied_colour() -> None:
    foreground, alpha = np.full((1, 1, 3), 0.2), np.full((1, 1), 0.5)
    assert pictures.over(foreground, alpha, np.full((1, 1, 3), 0.6)) == pytest.approx(np.full((1, 1, 3), 0.5))
    assert pictures.preview(np.zeros((4, 3, 3)), np.ones((4, 3, 3)), np.ones((4, 3))).shape == (4, 6, 3)


def test_landmarks_are_drawn_where_they_are() -> None:
    picture = np.full((100, 120, 3), 100, np.uint8)
    points = np.array([[30.5, 20.5], [90.5, 70.5], [-50.0, 10.0], [np.nan, 3.0], [119.9, 99.9]])
    drawn = pictures.draw_landmarks(picture, points, np.array([1.0, 0.0, 1.0, 1.0, 1.0]))
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8
    assert drawn[20, 30].tolist() == [60, 255, 90]
    assert drawn[70, 90].tolist() == [150, 150, 150]
    changed = np.argwhere((drawn[:40, :60] != 100).any(-1)) + 0.5
    assert changed.mean(0) == pytest.approx([20.5, 30.5], abs=0.01)
    assert (picture == 100).all()


@pytest.mark.parametrize(
    "losses", [[], [1.0], [5.0, 3.0, 2.0], [1000.0, 10.0, 0.1], [3.0, float("nan"), -1.0]]
)
def test_loss_curves_of_any_kind_are_drawn(tmp_path: Path, losses: list[float]) -> None:
    pictures.save_loss_curve(tmp_path / "checkpoints" / "loss.png", losses, "photometric")
    picture = read_image(tmp_path / "checkpoints" / "loss.png")
    assert picture.shape[:2] == (500, 800)
    assert (picture < 0.5).any()  # something is drawn
