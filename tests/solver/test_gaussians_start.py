"""Where Gaussians start, the box they are in, and cameras that are moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nextgenface.errors import NextGenFaceError
from nextgenface.multiview.gaussians.cameras import CameraRig
from nextgenface.multiview.gaussians.evaluation import aligned, outside_share, psnr
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.multiview.gaussians.start import head_box, hull_points, scene_box, surface_points
from nextgenface.views import Bounds, Camera, View, ViewSet

from tests.solver.splat_ball import ANGLES, SIZE, ball, camera_at, pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def test_hull_points_lie_inside_every_mask_and_near_the_ball() -> None:
    views = pictures(ANGLES)
    points, outward = hull_points(views, scene_box(views), 300, np.random.default_rng(0))
    radius = np.linalg.norm(points, axis=1)
    assert len(points) == 300 and radius.max() < 75 and np.median(radius) > 40
    assert ((points * outward).sum(1) > 0).mean() > 0.95


def test_an_impossible_camera_is_named() -> None:
    views = pictures(ANGLES[:3])
    wrong = camera_at(0.0)
    turned = Camera(wrong.K, np.diag([-1.0, 1, -1]) @ wrong.R, -wrong.t, SIZE, SIZE)
    broken = ViewSet((*views.views[:2], View("upside", views[2].image, turned, views[2].mask)), views.bounds)
    with pytest.raises(NextGenFaceError, match=r"upside|v\d"):
        scene_box(ViewSet(broken.views))
    none = ViewSet(
        (View("empty", views[0].image, views[0].camera, np.zeros((SIZE, SIZE), np.float32)),), views.bounds
    )
    with pytest.raises(NextGenFaceError, match="empty"):
        hull_points(none, scene_box(none), 10, np.random.default_rng(0))


def test_the_box_is_guessed_from_cameras_and_masks() -> None:
    views = pictures(ANGLES)
    box = scene_box(ViewSet(views.views))
    assert np.abs(box.centre).max() < 3
    assert 50 < box.size.max() / 2 < 75
    one_way = ViewSet((views[4], views[4]))
    with pytest.raises(NextGenFaceError, match="bbox.txt"):
        scene_box(one_way)


def test_a_head_is_no_deeper_than_its_face_says() -> None:
    face = np.array([[-80.0, -100, -60], [80, 100, 70]])
    box = head_box(Bounds(np.full(3, -220.0), np.full(3, 220.0)), face)
    assert box.low[2] == 70 - 250 and box.high[2] == 90 and box.size[:2].tolist() == [440, 440]


def test_surface_points_are_spread_by_area() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 0, 0], [12, 0, 0], [9, 3, 0.0]])
    points, normals = surface_points(
        vertices, np.array([[0, 1, 2], [3, 4, 5]]), 4000, np.random.default_rng(0)
    )
    assert (points[:, 0] > 5).mean() == pytest.approx(0.9, abs=0.02)
    assert np.allclose(normals, (0, 0, 1))


def test_a_new_focal_length_keeps_the_size_at_the_pivot() -> None:
    pivot = torch.tensor([0.0, 0.0, 50.0])
    rig = CameraRig([camera_at(0.4)], pivot, 60.0, learn=True)

    def place(point: torch.Tensor) -> torch.Tensor:
        camera = rig.pinhole(0)
        seen = camera.R @ point + camera.t
        return seen[:2] / seen[2] * camera.focal + camera.principal

    with torch.no_grad():
        before, focal = place(pivot), rig.pinhole(0).focal[0]
        rig.log_focal += 0.2
        assert torch.allclose(place(pivot), before, atol=1e-3)
        assert rig.pinhole(0).focal[0] == pytest.approx(focal.item() * math.exp(0.2), rel=1e-5)
        rig.log_focal += 5
        rig.hold()
    assert rig.log_focal.item() == pytest.approx(0.4)


def test_a_view_with_a_wrong_camera_is_aligned() -> None:
    view = pictures([(0.3, 0.1)], spots=0.3)[0]
    wrong = camera_at(0.35, 0.06)
    off = View(view.name, view.image, wrong, view.mask)
    found = aligned(ball(0.3), off, Bounds(np.full(3, -60.0), np.full(3, 60.0)), SIZE)
    assert psnr(ball(0.3), found, SIZE) > psnr(ball(0.3), off, SIZE) + 6
    missed = np.linalg.norm(found.camera.centre - view.camera.centre)
    assert missed < 0.3 * np.linalg.norm(wrong.centre - view.camera.centre)


def test_the_share_of_opacity_outside_a_box() -> None:
    splats = Splats.from_points(torch.tensor([[0.0, 0, 0], [200, 0, 0]]), torch.rand(2, 3), scale=1.0)
    splats.opacity_logits = torch.tensor([0.75, 0.25]).logit()
    assert outside_share(splats, Bounds(np.full(3, -60.0), np.full(3, 60.0))) == pytest.approx(0.25)
