"""Losses, density with the optimiser's state, cameras that learn, and a small training from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.cli.gaussians import main
from nextgenface.errors import Cancelled, ConfigError, NextGenFaceError, PhotoError
from nextgenface.events import NullListener
from nextgenface.files import prepare_output
from nextgenface.geometry.ply import write_ply
from nextgenface.images import read_image
from nextgenface.multiview.datasets import nds
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
from nextgenface.multiview.gaussians.cameras import CameraRig
from nextgenface.multiview.gaussians.density import (
    Limits,
    exchange,
    grown,
    inside_masks,
    make_optimizer,
    reset_opacity,
    visible_share,
    worth_keeping,
)
from nextgenface.multiview.gaussians.evaluation import aligned, outside_share, psnr
from nextgenface.multiview.gaussians.method import Sources, prepare, reconstruct
from nextgenface.multiview.gaussians.options import Options
from nextgenface.multiview.gaussians.photos import FittedPhotos, known_views
from nextgenface.multiview.gaussians.rendering import Pinhole, render
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.multiview.gaussians.start import head_box, hull_points, scene_box, surface_points
from nextgenface.multiview.meshes import read_mesh
from nextgenface.multiview.method import Request, method
from nextgenface.multiview.options import read_options
from nextgenface.views import Bounds, Camera, View, ViewSet
from skimage.metrics import structural_similarity

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 40
BALL = 50.0


def camera_at(yaw: float, pitch: float = 0.0, size: int = SIZE) -> Camera:
    """A camera 400 mm from the origin, `yaw` to the subject's left and `pitch` above."""
    place = 400 * np.array(
        [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
    )
    z = -place / np.linalg.norm(place)
    x = np.cross(z, (0.0, 1.0, 0.0))
    x = x / np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    focal = 2.4 * size
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(K, R, -R @ place, size, size)


def ball(spots: float = 0.0) -> Splats:
    """A ball of 50 mm, red to the left, green above, bright in front, with spots of that contrast."""
    n = torch.arange(700) + 0.5
    y, turn = 1 - 2 * n / 700, math.pi * (1 + math.sqrt(5)) * n
    around = (1 - y * y).sqrt()
    normal = torch.stack([around * turn.sin(), y, around * turn.cos()], -1)
    spot = spots * torch.sin(7 * normal[:, :1] + 2 * torch.sin(5 * normal[:, 1:2]))
    return Splats.from_points(BALL * normal, 0.5 + 0.4 * normal + spot, scale=4.0, opacity=0.95)


def pictures(angles: list[tuple[float, float]], size: int = SIZE, spots: float = 0.0) -> ViewSet:
    views = []
    for index, (yaw, pitch) in enumerate(angles):
        camera = camera_at(yaw, pitch, size)
        with torch.no_grad():
            seen = render(ball(spots), Pinhole.of(camera))
        colour = (seen.image / seen.alpha.clamp_min(1e-3)[..., None]).clamp(0, 1).numpy()
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        views.append(View(f"v{index}", linear.astype(np.float32), camera, seen.alpha.numpy()))
    return ViewSet(tuple(views), Bounds(np.full(3, -60.0), np.full(3, 60.0)))


ANGLES = [(-0.8, 0.1), (-0.3, -0.3), (0.3, 0.3), (0.8, -0.1), (0.0, 0.0)]


# ---- losses ---------------------------------------------------------------------------------------------


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


# ---- density --------------------------------------------------------------------------------------------


def limits(**changes: float) -> Limits:
    low, high = torch.full((3,), -60.0), torch.full((3,), 60.0)
    values = {"smallest": 0.1, "largest": 10.0, "split_above": 3.0, **changes}
    return Limits(low, high, **values)


def stepped(splats: Splats) -> torch.optim.Adam:
    """An optimiser with some momentum in every Gaussian."""
    optimizer = make_optimizer(splats, dict.fromkeys(splats.tensors(), 0.01))
    total = torch.stack([(value * torch.arange(1, len(value) + 1).view(-1, *[1] * (value.ndim - 1))).sum()
                         for value in splats.tensors().values()]).sum()  # fmt: skip
    total.backward()
    optimizer.step()
    return optimizer


def test_what_stays_keeps_its_momentum_and_what_is_new_has_none() -> None:
    splats = Splats.from_points(torch.eye(3) * 10, torch.rand(3, 3), scale=2.0)
    optimizer = stepped(splats)
    before = optimizer.state[splats.positions]["exp_avg"].clone()
    more, rows, fresh = grown(splats, torch.tensor([0.0, 2.0, 1.0]), 1, limits(), torch.Generator())
    exchange(optimizer, more, rows, fresh)
    after = optimizer.state[more.positions]["exp_avg"]
    assert len(more) == 4 and rows.tolist() == [0, 1, 2, 1]
    assert torch.equal(after[:3], before) and after[3].abs().max() == 0
    keep = torch.tensor([True, False, True, True])
    fewer = more.take(keep)
    exchange(optimizer, fewer, torch.nonzero(keep)[:, 0])
    assert torch.equal(optimizer.state[fewer.positions]["exp_avg"][:2], before[[0, 2]])
    assert optimizer.param_groups[0]["params"][0] is fewer.positions and fewer.positions.requires_grad


def test_small_gaussians_are_cloned_large_ones_split_and_opacity_stays() -> None:
    splats = Splats.from_points(
        torch.zeros(2, 3), torch.rand(2, 3), scale=torch.tensor([1.0, 8.0]), opacity=0.84
    )
    more, _, fresh = grown(splats, torch.ones(2), 2, limits(), torch.Generator().manual_seed(0))
    assert len(more) == 4
    clones, halves = more.take(torch.tensor([0, 2])), more.take(torch.tensor([1, 3]))
    assert clones.positions.abs().max() == 0 and torch.allclose(clones.scales, torch.ones(2, 3))
    assert halves.positions.abs().min() > 0 and torch.allclose(halves.scales, torch.full((2, 3), 5.0))
    assert torch.allclose(1 - (1 - more.opacities) ** 2, torch.full((4,), 0.84), atol=1e-5)
    assert fresh.tolist() == [False, True, True, True]


def test_faint_far_and_broken_gaussians_go() -> None:
    splats = Splats.from_points(torch.zeros(4, 3), torch.rand(4, 3), scale=1.0)
    splats.opacity_logits[0] = -9
    splats.positions[1, 2] = 61
    splats.log_scales[2, 0] = math.nan
    assert worth_keeping(splats, limits()).tolist() == [False, False, False, True]


def test_masks_and_views_say_what_may_stay() -> None:
    views = pictures(ANGLES)
    masks = [(Pinhole.of(v.camera), torch.as_tensor(v.mask)) for v in views if v.mask is not None]
    places = torch.tensor([[0.0, 0, 0], [0, 40, 0], [70, 0, 0], [400, 0, 0], [0, 0, 900]])
    assert inside_masks(places, masks).tolist() == [True, True, False, False, False]
    cut_off = [(masks[0][0], torch.ones(SIZE, SIZE))]
    assert inside_masks(places, cut_off).tolist() == [True, True, True, True, False]
    hidden = Splats.joined([ball(), Splats.from_points(torch.zeros(1, 3), torch.ones(1, 3), scale=3.0)])
    share = visible_share(hidden, [camera for camera, _ in masks])
    assert share[-1] < 0.1 * share[:-1].median()


def test_opacity_reset_caps_and_forgets() -> None:
    splats = Splats.from_points(torch.zeros(3, 3), torch.rand(3, 3), scale=1.0, opacity=0.9)
    optimizer = stepped(splats)
    reset_opacity(optimizer, splats, 0.1)
    assert torch.allclose(splats.opacities, torch.full((3,), 0.1), atol=1e-6)
    assert optimizer.state[splats.opacity_logits]["exp_avg"].abs().max() == 0
    assert optimizer.state[splats.positions]["exp_avg"].abs().max() > 0


# ---- start ----------------------------------------------------------------------------------------------


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


# ---- cameras --------------------------------------------------------------------------------------------


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


# ---- the method -----------------------------------------------------------------------------------------

SMALL = {"steps": "90", "resolution": "40", "initialPoints": "300", "maxPoints": "500", "densifyEvery": "20"}


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    nds.write(tmp_path / "scan", pictures(ANGLES))
    return tmp_path / "scan"


def test_a_data_set_becomes_gaussians(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = method("gaussians")(Request((data_set,), out, held_out=("v4",), options=SMALL), NullListener())
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["method"] == "gaussians" and result["config"]["steps"] == 90
    assert [photo["name"] for photo in result["photos"]] == ["v0", "v1", "v2", "v3", "v4"]
    assert result["metrics"]["heldout_psnr"] > 22
    assert 300 < result["metrics"]["points"] <= 500
    assert result["metrics"]["outside_box"] < 0.03
    for name in (*result["files"].values(), *(f for p in result["photos"] for f in p["files"].values())):
        assert (out / name).is_file()
    assert read_image(out / "render_4.png").shape == (SIZE, SIZE, 4)
    assert not (out / "checkpoints" / "gaussians.npz").exists()
    K = np.array(result["photos"][2]["K"])
    assert np.allclose(K, camera_at(*ANGLES[2]).K)


class StopAfter(NullListener):
    """Asks for a stop once `step` steps are done."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.steps: list[int] = []

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        self.left -= 1
        self.steps.append(step)

    def cancelled(self) -> bool:
        return self.left <= 0


def test_a_stopped_run_goes_on_where_it_was(data_set: Path, tmp_path: Path) -> None:
    straight = reconstruct(Request((data_set,), tmp_path / "a", options=SMALL), NullListener())
    with pytest.raises(Cancelled):
        reconstruct(Request((data_set,), tmp_path / "b", options=SMALL), StopAfter(50))
    assert not (tmp_path / "b" / "result.json").exists()
    counter = StopAfter(1000)
    resumed = reconstruct(Request((data_set,), tmp_path / "b", options=SMALL, resume=True), counter)
    assert counter.steps[0] == 51 and counter.steps[-1] == 90
    assert (resumed.parent / "points.ply").read_bytes() == (straight.parent / "points.ply").read_bytes()


def test_points_start_on_a_mesh_that_is_given(data_set: Path, tmp_path: Path) -> None:
    corners = np.array([[0, 0, 40], [30, 0, 30], [0, 30, 30], [-30, 0, 30], [0, -30, 30.0]])
    write_ply(tmp_path / "m.ply", corners, np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]))
    mesh = read_mesh(tmp_path / "m.ply")
    views, options = pictures(ANGLES), read_options(Options, SMALL)
    sources = Sources(views, (mesh.vertices, mesh.faces), True)
    training, _ = prepare(sources, views, scene_box(views), options, "cpu")
    points = training.splats.positions.detach().numpy()
    flat = np.abs(points[:, 0]) + np.abs(points[:, 1]) - 3 * (40 - points[:, 2])
    assert len(points) == 300 and (np.abs(flat) < 1e-3).mean() == pytest.approx(0.6)
    request = Request((data_set,), tmp_path / "out", mesh=tmp_path / "none.obj")
    with pytest.raises(NextGenFaceError, match=r"none\.obj"):
        reconstruct(request, NullListener())


def test_photos_get_cameras_from_the_face_and_learn_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The face fit is stood in for by cameras that are a little off; it must not run again on resuming."""
    folder = tmp_path / "photos"
    folder.mkdir()
    angles = [(-0.5, 0.1), (0.0, -0.2), (0.5, 0.1)]
    entries = []
    for (yaw, pitch), view in zip(angles, pictures(angles, size=64), strict=True):
        wrong = camera_at(yaw + 0.03, pitch - 0.02, 64)
        numbers = {"K": wrong.K.tolist(), "R": wrong.R.tolist(), "t": wrong.t.tolist()}
        entries.append({"source": str(write_view(folder, view)), "rotate": 0, **numbers})
    fits = []

    def fit(
        paths: list[Path], output: Path, stages: int, listener: NullListener, **_: object
    ) -> FittedPhotos:
        fits.append(stages)
        info = {"photos": entries}
        corners = np.array([[-20, -30, 36], [20, -30, 36], [0, 40, 50.0]])
        views = ViewSet(tuple(known_views(info, listener)))
        return FittedPhotos(views, corners, np.array([[0, 1, 2]]), {}, info)

    monkeypatch.setattr("nextgenface.multiview.gaussians.method.fit_photos", fit)
    options = {**SMALL, "resolution": "64", "cameraStart": "0"}
    request = Request((folder,), tmp_path / "out", options=options, resume=True)
    with pytest.raises(Cancelled):
        reconstruct(request, StopAfter(45))
    result = json.loads(reconstruct(request, NullListener()).read_text(encoding="utf-8"))
    assert fits == [1]
    assert result["metrics"]["box"][1][2] == pytest.approx(50 + 7)
    moved = [
        np.abs(np.array(p["R"]) - np.array(e["R"])).max()
        for p, e in zip(result["photos"], entries, strict=True)
    ]
    assert min(moved) > 1e-3
    with pytest.raises(NextGenFaceError, match="mesh"):
        reconstruct(Request((folder,), tmp_path / "o", mesh=tmp_path / "m.ply"), NullListener())


def test_the_command_makes_a_head_and_explains_what_it_cannot_use(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", str(data_set), "--output", str(tmp_path / "out"), "--quiet"]
    few = ["--steps", "2", "--resolution", "40", "--initialPoints", "50", "--maxPoints", "50"]
    assert main([*words, *few, "--heldOut", "v1"]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["held_out"] == ["v1"] and result["config"]["steps"] == 2
    assert main([*words, "--steps", "many"]) == 2
    assert "steps" in capsys.readouterr().err


def test_bad_requests_are_refused_in_words(data_set: Path, tmp_path: Path) -> None:
    out = prepare_output(tmp_path / "out")
    for options, word in (
        ({"step": "5"}, "step"),
        ({"steps": "x"}, "steps"),
        ({"shDegree": "4"}, "shDegree"),
    ):
        with pytest.raises(ConfigError, match=word):
            reconstruct(Request((data_set,), out, options=options), NullListener())
    with pytest.raises(ConfigError, match="maxPoints"):
        read_options(Options, {"maxPoints": "10"})
    with pytest.raises(NextGenFaceError, match="v9"):
        reconstruct(Request((data_set,), out, held_out=("v9",), options=SMALL), NullListener())
    with pytest.raises(NextGenFaceError, match="nothing to learn"):
        reconstruct(Request((data_set,), out, held_out=tuple(f"v{i}" for i in range(5))), NullListener())
    with pytest.raises(NextGenFaceError, match="nowhere"):
        reconstruct(Request((tmp_path / "nowhere",), out), NullListener())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NextGenFaceError, match="neither photos nor"):
        reconstruct(Request((empty,), out), NullListener())


# ---- the description's entry ----------------------------------------------------------------------------


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
