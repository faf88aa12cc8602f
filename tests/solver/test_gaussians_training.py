"""Losses, and the building blocks of the description's own training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from nextgenface.errors import PhotoError
from nextgenface.events import NullListener
from nextgenface.images import read_image
from nextgenface.multiview.datasets.pictures import write_view
from nextgenface.multiview.gaussians import (
    GaussianPoints,
    LearnableCamera,
    ProgressiveTraining,
    combined_loss,
    compute_ssim,
    multi_view_loss,
    project_3d,
    render_depth_aware,
    train,
)
from skimage.metrics import structural_similarity

from tests.solver.splat_ball import pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ssim_is_that_of_scikit_image_inside() -> None:
    random = torch.Generator().manual_seed(0)
    one = torch.rand(50, 44, 3, generator=random)
    other = (one + 0.1 * torch.randn(50, 44, 3, generator=random)).clamp(0, 1)
    padded = [torch.nn.functional.pad(p.movedim(-1, 0), (5, 5, 5, 5)).movedim(0, -1) for p in (one, other)]
    _, expected = structural_similarity(
        padded[0].numpy(), padded[1].numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        channel_axis=2, data_range=1.0, full=True,
    )  # fmt: skip
    assert compute_ssim(one, other).item() == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-4)
    assert compute_ssim(one, one).item() == pytest.approx(1.0, abs=1e-5)


def test_combined_loss_has_the_described_parts_and_weights() -> None:
    picture = torch.full((16, 16, 3), 0.5)
    xyz = torch.tensor([[110.0, 0, 0], [0, 0, 0]])
    opacity, scale = torch.tensor([[0.3], [0.8]]), torch.tensor([[12.0], [0.5]])
    loss, parts = combined_loss(picture, picture, xyz, opacity, scale)
    assert parts["photometric"] == pytest.approx(0.0, abs=1e-5)
    assert parts["opacity"] == pytest.approx(0.01 * 0.25 / 2)
    assert parts["scale"] == pytest.approx(0.01 * (2**2 + 0.5**2) / 2)
    assert parts["spatial"] == pytest.approx(0.001 * 10**2 / 2)
    assert parts["total"] == pytest.approx(loss.item())
    several, mean = multi_view_loss([picture, picture + 0.1], [picture, picture], xyz, opacity, scale)
    assert several.item() > loss.item()
    assert mean["opacity"] == pytest.approx(parts["opacity"])


def test_points_project_as_described() -> None:
    xyz = torch.tensor([[10.0, -20.0, 30.0]])
    yaw, pitch, focal = 0.3, -0.2, 400.0
    x = 10 * math.cos(yaw) - 30 * math.sin(yaw)
    z = 10 * math.sin(yaw) + 30 * math.cos(yaw)
    y, z = -20 * math.cos(pitch) - z * math.sin(pitch), -20 * math.sin(pitch) + z * math.cos(pitch)
    pixels, depth = project_3d(xyz, yaw, pitch, canvas_size=256, focal_length=focal)
    assert depth.item() == pytest.approx(z + 500, rel=1e-5)
    expected = (x * focal / (z + 500) + 128, y * focal / (z + 500) + 128)
    assert pixels[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_all_building_blocks_learn_together() -> None:
    points, camera = GaussianPoints(num_points=60, seed=1), LearnableCamera(num_views=3)
    assert len(list(camera.parameters())) == 3
    yaw, pitch, focal = camera.get_view(2)
    picture = render_depth_aware(*points.get_point_data(), yaw, pitch, (24, 32), focal)
    assert picture.shape == (24, 32, 3)
    loss, _ = combined_loss(picture, torch.rand(24, 32, 3), *points.get_point_data()[::2], points.scale.exp())
    loss.backward()
    for value in (*points.parameters(), *camera.parameters()):
        assert value.grad is not None and value.grad.abs().max() > 0
    with torch.no_grad():
        camera.yaw += 9
        camera.log_focal += 9
    camera.hold()
    assert camera.yaw.max() == 1.0 and camera.get_view(0)[2].item() == pytest.approx(800)


def test_progressive_training_clones_and_prunes_with_the_optimiser() -> None:
    points = GaussianPoints(num_points=20)
    optimizer = torch.optim.Adam(points.parameters(), lr=0.01)
    growing = ProgressiveTraining(
        points, optimizer, max_points=30, min_points=5, densify_interval=1, prune_interval=2
    )
    for step in (1, 2):
        optimizer.zero_grad()
        (points.xyz**2).sum().backward()
        growing.accumulate()
        optimizer.step()
        changed = growing.update(step)
        assert changed
        assert optimizer.param_groups[0]["params"][0] is points.xyz
    assert len(points) == 30  # 20, 25, then no more than 30
    assert optimizer.state[points.xyz]["exp_avg"][:20].abs().max() > 0
    with torch.no_grad():
        points.opacity[:27] = -9
    assert growing.prune() == 25 and len(points) == 5


def test_train_leaves_a_model_pictures_and_points(tmp_path: Path) -> None:
    photos = []
    for view in pictures([(0.4, 0.2), (-0.4, 0.2), (0.0, -0.2)], size=64):
        photos.append(write_view(tmp_path, view))
    head = train(
        photos, canvas_size=32, num_steps=6, initial_points=80, max_points=100, output=tmp_path / "output",
        listener=NullListener(),
    )  # fmt: skip
    state = torch.load(head.output / "final_model.pt", weights_only=True)
    assert set(state) == {"xyz", "rgb", "opacity", "scale", "rotation", "camera"}
    assert state["camera"]["yaw"].shape == (3,)
    assert len(head.losses) == 6 and (head.output / "points.ply").is_file()
    assert read_image(head.output / "step_00006.png").shape[:2] == (64, 96)
    with pytest.raises(PhotoError, match="missing.jpg"):
        train([tmp_path / "missing.jpg"], num_steps=1, output=tmp_path / "o2", listener=NullListener())
