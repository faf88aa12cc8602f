"""Cameras and crops agree with each other; the fitted picture is where they say; focal rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nextgenface.config import Config
from nextgenface.landmarks.types import Landmarks
from nextgenface.paths import asset
from nextgenface.photos import Photo
from nextgenface.views import SIGMA_GUESS, Camera, Crop, face_view, face_views, fitted_size, resample
from numpy.typing import NDArray


def face_at(x: float, y: float, width: float, height: float) -> Landmarks:
    points = np.array([(x, y), (x + width, y + height), (x + width / 2, y + height / 2)])
    return Landmarks("mediapipe", np.arange(3), points, np.array([0.0, 5.0, -5.0]), np.ones(3))


def photo_of(linear: NDArray[np.float32], focal: float | None = None, note: str = "none") -> Photo:
    return Photo(Path("p.png"), "p", linear, None, focal, note)


def ramp(height: int, width: int) -> NDArray[np.float32]:
    """Each pixel holds the coordinates of its centre: red x, green y (in thousands)."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([x / 1000, y / 1000, np.full_like(x, 0.5)], axis=-1).astype(np.float32)


def camera() -> Camera:
    angle = 0.3
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, -1, 0], [np.sin(angle), 0, -np.cos(angle)]])
    K = np.array([[900.0, 0, 310], [0, 900, 250], [0, 0, 1]])
    return Camera(K, R, np.array([5.0, -7.0, 600.0]), 640, 480)


def test_projection_by_hand() -> None:
    frontal = Camera(
        np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]),
        np.diag([1.0, -1, -1]),
        np.array([0, 0, 10.0]),
        100,
        80,
    )
    pixels, depth = frontal.project([[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]])
    np.testing.assert_allclose(pixels, [[60, 20], [50, 40]])
    np.testing.assert_allclose(depth, [10, 5])
    np.testing.assert_allclose(frontal.centre, [0, 0, 10])


def test_camera_follows_crop_and_scale() -> None:
    points = np.random.default_rng(0).normal(0, 50, (20, 3))
    whole = camera()
    pixels, depth = whole.project(points)
    crop = Crop(100.25, -30.5, 1.7, 512)
    in_crop, same_depth = whole.cropped(crop).project(points)
    np.testing.assert_allclose(in_crop, crop.to_fit(pixels), atol=1e-9)
    np.testing.assert_allclose(same_depth, depth)
    np.testing.assert_allclose(crop.to_photo(crop.to_fit(pixels)), pixels)
    np.testing.assert_allclose(crop.K_to_photo(crop.K_to_fit(whole.K)), whole.K)
    np.testing.assert_allclose(whole.scaled(0.5).project(points)[0], pixels / 2)
    np.testing.assert_allclose(whole.R @ whole.centre + whole.t, 0, atol=1e-9)


@pytest.mark.parametrize("scale", [0.13, 0.5, 0.77, 1.0, 1.9, 3.3])
def test_resampled_pixels_are_where_the_crop_says(scale: float) -> None:
    crop = Crop(20.3, 11.8, scale, int(120 * scale))
    image, valid = resample(ramp(160, 200), None, crop)
    assert image.shape == (crop.size, crop.size, 3) and image.dtype == np.float32
    assert (valid == 1).all()
    y, x = np.mgrid[0 : crop.size, 0 : crop.size] + 0.5
    where = crop.to_photo(np.stack([x, y], axis=-1))
    # An average over areas of whole source pixels may place a pixel wrong by up to an eighth of one.
    tolerance = 0.126 if scale < 1 else 2e-3
    error = image[..., :2] * 1000 - where
    assert np.abs(error).max() < tolerance
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.02
    np.testing.assert_allclose(image[..., 2], 0.5, atol=1e-5)


def test_reduction_averages_areas() -> None:
    linear = np.random.default_rng(1).uniform(0, 1, (64, 64, 3)).astype(np.float32)
    image, _ = resample(linear, None, Crop(0, 0, 0.25, 16))
    np.testing.assert_allclose(image, linear.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)), atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_beyond_the_border_nothing_is_valid(scale: float) -> None:
    crop = Crop(-20, 30, scale, int(80 * scale))
    image, valid = resample(ramp(100, 100) + 0.1, None, crop)
    edge = int(20 * scale)
    low = int(70 * scale)
    assert (valid[:, : edge - 1] == 0).all() and (valid[low + 1 :] == 0).all()
    assert (image[valid == 0] == 0).all()
    assert (valid[: low - 2, edge + 2 :] == 1).all()
    assert image[valid > 0].min() > 0.05


def test_transparent_colours_do_not_bleed_in() -> None:
    linear = np.full((64, 64, 3), 0.2, np.float32)
    alpha = np.ones((64, 64), np.float32)
    linear[:, 33:], alpha[:, 33:] = 100.0, 0.0
    image, valid = resample(linear, alpha, Crop(0, 0, 0.5, 32))
    np.testing.assert_allclose(image[valid > 0], 0.2, atol=1e-5)
    np.testing.assert_allclose(valid[:, 16], 0.5)
    assert (valid[:, 17:] == 0).all() and (valid[:, :16] == 1).all()


def test_view_is_a_square_around_the_face() -> None:
    photo = photo_of(ramp(600, 800))
    view = face_view(photo, face_at(300, 200, 160, 200), Config())
    assert view.size == 512 and view.image.shape == (512, 512, 3)
    assert view.crop.scale == pytest.approx(512 / 360)
    x0, y0, x1, y1 = view.landmarks.box
    assert (x0 + x1) / 2 == pytest.approx(256) and (y0 + y1) / 2 == pytest.approx(256)
    assert view.landmarks.depth is not None
    np.testing.assert_allclose(view.landmarks.depth, np.array([0, 5, -5]) * view.crop.scale)
    np.testing.assert_allclose(view.crop.to_photo(view.principal), (400, 300))
    np.testing.assert_allclose(view.K_photo()[:2, 2], (400, 300), atol=1e-9)
    assert view.K_photo()[0, 0] == pytest.approx(800 * 50 / 36)


def test_small_faces_are_enlarged_no_more_than_fourfold() -> None:
    config = Config()
    portrait = face_view(photo_of(ramp(256, 256)), face_at(60, 50, 150, 180), config)
    assert portrait.crop == Crop(0, 0, 2, 512) and portrait.valid.min() == 1
    tiny, large = face_at(150, 150, 40, 40), face_at(100, 100, 400, 400)
    photo = photo_of(ramp(600, 600))
    assert fitted_size([tiny], config) == 288 == face_view(photo, tiny, config).size
    views = face_views([photo, photo], [tiny, large], config)
    assert [view.size for view in views] == [512, 512]
    config.maxResolution = 200
    assert face_view(photo, large, config).size == 200


def test_crop_stays_in_the_photo_where_it_can() -> None:
    corner = face_view(photo_of(ramp(600, 800)), face_at(5, 380, 160, 200), Config())
    assert (corner.crop.x0, corner.crop.y0) == (0, pytest.approx(240))
    assert corner.valid.min() == 1
    narrow = face_view(photo_of(ramp(600, 200)), face_at(20, 200, 160, 200), Config())
    assert narrow.crop.x0 == pytest.approx(-80)
    assert narrow.valid[:, :100].max() == 0 and narrow.valid[:, -100:].max() == 0
    assert narrow.valid[:, 256].min() == 1


def rule(focal: float | None, change: str, optimise: bool = True) -> tuple[float, float, str]:
    config = Config()
    config.fillFromDicFile(asset("default.ini"))
    config.optimizeFocalLength = optimise
    if change:
        config.set("camFocalLength", change)
    view = face_view(photo_of(ramp(300, 400), focal, "EXIF, 50 mm"), face_at(100, 100, 100, 100), config)
    assert view.crop.scale == pytest.approx(512 / 180)
    return view.focal, view.focal_prior_sigma, view.focal_source


def test_focal_rules() -> None:
    scale = 512 / 180
    # EXIF beats the shipped default and is kept, whether or not focal lengths are optimised.
    for optimise in (True, False):
        focal, sigma, source = rule(500.0, "", optimise)
        assert (focal, sigma) == (pytest.approx(500 * scale), 0.0) and "EXIF" in source
    # A user's value beats EXIF: kept as it is, or a start when it may be optimised.
    focal, sigma, source = rule(500.0, "1234", optimise=False)
    assert (focal, sigma) == (1234.0, 0.0) and "command line" in source
    assert rule(500.0, "1234")[:2] == (1234.0, 0.25)
    # Nothing known: 50 mm equivalent of the whole photo, or the configured number where none may be searched.
    focal, sigma, source = rule(None, "")
    assert (focal, sigma) == (pytest.approx(400 * 50 / 36 * scale), SIGMA_GUESS) and "50 mm" in source
    assert rule(None, "", optimise=False)[:2] == (3000.0, 0.0)


def test_weights_survive_the_crop() -> None:
    face = replace(face_at(300, 200, 160, 200), weights=np.array([0.0, 1.0, 0.5]))
    view = face_view(photo_of(ramp(600, 800)), face, Config())
    np.testing.assert_allclose(view.landmarks.weights, [0, 1, 0.5])


def test_a_camera_goes_to_blender_and_back() -> None:
    from nextgenface.views import BlenderCamera

    K = np.array([[900.0, 0, 310], [0, 870, 250], [0, 0, 1]])
    seen = Camera(K, camera().R, camera().t, 640, 480)
    back = Camera.from_blender(seen.to_blender())
    for name in ("K", "R", "t"):
        np.testing.assert_allclose(getattr(back, name), getattr(seen, name), atol=1e-9)
    # by hand: 1 m in front of a head at the origin, Blender's default lens
    front = np.array([[1.0, 0, 0, 0], [0, 0, -1, -1], [0, 1, 0, 0.1], [0, 0, 0, 1]])
    made = Camera.from_blender(BlenderCamera(front, 50, 36, 0, 0, 1, 720, 480))
    np.testing.assert_allclose(made.K, [[1000, 0, 360], [0, 1000, 240], [0, 0, 1]])
    np.testing.assert_allclose(made.R, np.diag([1.0, -1, -1]), atol=1e-12)
    np.testing.assert_allclose(made.centre, [0, 100, 1000], atol=1e-9)


def test_a_view_is_reduced_by_areas_and_masks_keep_colours_apart() -> None:
    from nextgenface.views import View

    image = np.zeros((8, 8, 3), np.float32)
    image[:, :3], image[:, 3:] = 0.5, 9.0
    mask = np.zeros((8, 8), np.float32)
    mask[:, :3] = 1
    seen = Camera(np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]), np.eye(3), np.zeros(3), 8, 8)
    small = View("a", image, seen, mask).scaled(0.5)
    assert small.mask is not None
    np.testing.assert_allclose(small.mask, np.tile([1, 0.5, 0, 0], (4, 1)))
    np.testing.assert_allclose(small.image[:, :2], 0.5)
    np.testing.assert_allclose(View("a", image, seen).scaled(0.5).image[:, 1], 4.75)
    np.testing.assert_allclose(small.camera.K, [[4, 0, 2], [0, 4, 2], [0, 0, 1]])
