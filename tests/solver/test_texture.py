"""Texture optimisation: UV maps, the sparse pyramid, exposure, losses, holes and seams of a ball."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.multiview.datasets.neural_texgen import UvView
from nextgenface.multiview.losses import gradient_l1, l1, l2, multiscale_l1, psnr, ssim_loss, ssim_map
from nextgenface.multiview.meshes import Mesh
from nextgenface.multiview.texture import assemble
from nextgenface.multiview.texture.assemble import Stack, assembled, spread
from nextgenface.multiview.texture.evaluation import back_colour, plain_average, sampler, score
from nextgenface.multiview.texture.exposure import gains
from nextgenface.multiview.texture.optimise import Pixels, TextureProblem
from nextgenface.multiview.texture.options import TextureOptions
from nextgenface.multiview.texture.perceptual import LAYERS, Vgg, WeightsError
from nextgenface.multiview.texture.samples import Pyramid, bilinear
from nextgenface.multiview.texture.start import splat
from nextgenface.multiview.texture.uvmaps import (
    Surface,
    footprint,
    outside_share,
    overlap,
    texel_centres,
    uv_view,
)
from nextgenface.views import ViewSet

from tests.solver.textured_ball import ANGLES, ball, brightened, looking, photograph, truth

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 128


@pytest.fixture(scope="module")
def views() -> ViewSet:
    return photograph(ball(), [looking(*angles) for angles in ANGLES])


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface.of(ball())


@pytest.fixture(scope="module")
def maps(views: ViewSet, surface: Surface) -> list[UvView]:
    return [uv_view(surface, view) for view in views]


def solved(maps: list[UvView], options: TextureOptions, gain: np.ndarray | None = None) -> TextureProblem:
    pixels = Pixels.of(maps, np.ones((len(maps), 3)) if gain is None else gain)
    problem = TextureProblem(pixels, [SIZE // 8, SIZE // 4, SIZE // 2, SIZE], options)
    for step in range(problem.total):
        problem.step(step)
    return problem


def stack_of(problem: TextureProblem) -> Stack:
    starts, values = problem.pyramid.starts, problem.snapshot()
    parts = [values[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return Stack(problem.base, problem.base_weight, problem.pyramid.levels, parts)


def picture_of(problem: TextureProblem, surface: Surface | None) -> np.ndarray:
    return assembled(stack_of(problem), SIZE, surface, 4)[0]


def test_a_pixel_s_uv_is_that_of_the_point_it_shows(views: ViewSet, surface: Surface) -> None:
    view = views[3]
    found = uv_view(surface, view)
    fragments, cosine, depth = surface.seen(view.camera)
    point = fragments.interpolate(surface.vertices).numpy()
    np.testing.assert_allclose(view.camera.project(point)[1], depth.numpy(), rtol=1e-5)
    pixel, _ = view.camera.project(point)
    row, column = np.divmod(fragments.pixel.numpy(), view.camera.width)
    np.testing.assert_allclose(pixel, np.stack([column, row], 1) + 0.5, atol=2e-2)
    height = np.degrees(np.arcsin(point[:, 1] / np.linalg.norm(point, axis=1)))
    expected = 0.0625 + 0.875 * (0.5 + height / 180)
    np.testing.assert_allclose(found.uv[row, column, 1], expected, atol=0.004)
    assert found.valid.sum() > 0.98 * len(point) and not found.valid[0, 0]
    assert found.weight is not None
    assert found.weight[row, column].max() == pytest.approx(1.0, abs=0.02)
    edge = np.asarray(view.mask)[row, column] < 0.95
    assert edge.any() and (found.weight[row, column][edge] == 0).all()
    assert ((found.weight > 0) <= found.valid).all()


def test_meshes_turned_inside_out_are_noticed(views: ViewSet) -> None:
    mesh = ball()
    assert mesh.uv_faces is not None
    turned = replace(mesh, faces=mesh.faces[:, ::-1].copy(), uv_faces=mesh.uv_faces[:, ::-1].copy())
    surface = Surface.of(turned)
    assert uv_view(surface, views[0]).valid.sum() < 30  # its rim
    noticed = surface.turned_outward(views.cameras)
    assert noticed.outward == -1 and uv_view(noticed, views[0]).valid.sum() > 1000
    assert Surface.of(mesh).turned_outward(views.cameras).outward == 1


def test_layouts_are_measured(surface: Surface, maps: list[UvView]) -> None:
    mesh = ball()
    uv, uv_faces = mesh.layout
    assert outside_share(mesh) == 0 and overlap(surface, 256) < 0.01
    folded = Mesh(mesh.vertices, mesh.faces, np.stack([np.abs(uv[:, 0] - 0.5), uv[:, 1]], 1), uv_faces)
    assert overlap(Surface.of(folded), 256) == pytest.approx(0.5, abs=0.05)
    assert outside_share(replace(mesh, uv=uv + 0.5)) > 0.3
    # 96 pixels at 500 mm see 74 mm of a ball with 503 mm around: 0.875/503 of the texture per mm
    assert footprint(maps[0]) == pytest.approx(0.875 / 503 * 500 / (2.6 * 96), rel=0.35)


def test_texels_are_where_conventions_say() -> None:
    texels, weights = bilinear(np.array([[0.5 / 8, 1 - 0.5 / 8], [1.0, 0.0], [2.0 / 8, 1 - 1.5 / 8]]), 8)
    first, corner, between = (
        {t: w for t, w in zip(a, b, strict=True) if w > 0} for a, b in zip(texels, weights, strict=True)
    )
    assert first == {0: 1.0} and corner == {63: 1.0} and between == {9: 0.5, 10: 0.5}
    sample = sampler(np.arange(64 * 3, dtype=np.float32).reshape(8, 8, 3))
    np.testing.assert_allclose(sample(torch.tensor([[0.5 / 8, 1 - 0.5 / 8]])).numpy(), [[0, 1, 2]])


def test_the_sparse_pyramid_is_a_sum_of_bilinear_lookups() -> None:
    rng = np.random.default_rng(0)
    uv = rng.uniform(0, 1, (500, 2)).astype(np.float32)
    pyramid = Pyramid(uv, [8, 16])
    values = torch.randn(pyramid.count, 3, requires_grad=True)
    seen = pyramid.seen(values)
    grid = torch.tensor(np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], 1))[None, None]
    expected = torch.zeros(500, 3)
    for level, first in zip(pyramid.levels, pyramid.starts, strict=False):
        whole = torch.zeros(level.size**2, 3)
        whole[level.texels] = values[first : first + len(level.texels)].detach()
        planes = whole.T.reshape(1, 3, level.size, level.size)
        expected += torch.nn.functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)[
            0, :, 0
        ].T
    assert torch.allclose(seen, expected, atol=1e-5)
    wanted = torch.randn(500, 3)
    (seen * wanted).sum().backward()
    direction = torch.randn_like(values)
    change = (pyramid.seen(direction) * wanted).sum()
    assert values.grad is not None
    assert float((values.grad * direction).sum()) == pytest.approx(float(change), rel=1e-4)


def test_splatting_averages_by_weight_and_fills_holes() -> None:
    centre = np.array([[4.5 / 8, 1 - 2.5 / 8]])
    colours = np.array([[0.0, 0.3, 1.0], [1.0, 0.3, 0.0]])
    picture, weight = splat(np.repeat(centre, 2, 0), colours, np.array([3.0, 1.0]), 8)
    np.testing.assert_allclose(picture[2, 4], [0.25, 0.3, 0.75], atol=1e-6)
    assert weight.sum() == pytest.approx(4) and weight[2, 4] == 4
    np.testing.assert_allclose(picture.reshape(-1, 3), np.tile(picture[2, 4], (64, 1)), atol=1e-6)
    odd, _ = splat(centre, colours[:1], np.ones(1), 7)
    assert odd.shape == (7, 7, 3) and np.isfinite(odd).all()


def test_exposures_and_white_balance_are_found(views: ViewSet, surface: Surface) -> None:
    rng = np.random.default_rng(4)
    factors = rng.uniform(0.8, 1.2, (len(views), 1)) * rng.uniform(0.92, 1.08, (len(views), 3))
    changed = [uv_view(surface, brightened(v, f)) for v, f in zip(views, factors * 0.8, strict=True)]
    found = gains(changed)
    expected = factors / np.exp(np.log(factors).mean(0))
    assert np.abs(np.log(found / expected)).max() < 0.02
    grey = gains(changed, white_balance=False)
    assert np.allclose(grey, grey[:, :1]) and np.abs(np.log(grey[:, 0] / expected.mean(1))).max() < 0.05
    assert np.array_equal(gains([uv_view(surface, v) for v in views]), np.ones((len(views), 3)))


def test_it_beats_the_plain_average_on_views_it_has_not_seen(
    views: ViewSet, maps: list[UvView], surface: Surface
) -> None:
    options = TextureOptions(tex_dim=SIZE, niter=10, niter_decay=20)
    problem = solved(maps, options)
    held = photograph(ball(), [looking(25, 10), looking(200, -5)])
    picture = picture_of(problem, surface)
    plain = plain_average(maps, [view.mask for view in views], SIZE)
    ours = [score(surface, sampler(picture), view)[0] for view in held]
    theirs = [score(surface, plain, view)[0] for view in held]
    assert min(ours) > 31 and np.mean(ours) > np.mean(theirs) + 0.5


def test_every_loss_can_lead(maps: list[UvView]) -> None:
    few = maps[:4]
    none = {"tex_dim": SIZE, "niter": 8, "niter_decay": 0}
    none |= {"lambda_L1": 0, "lambda_L1_Diff": 0, "lambda_Reg_Tex": 0}
    for name in ("lambda_L1", "lambda_L2", "lambda_L1_Diff", "lambda_SSIM"):
        options = TextureOptions(**{**none, name: 10.0})  # type: ignore[arg-type]
        pixels = Pixels.of(few, np.ones((4, 3)))
        problem = TextureProblem(pixels, [32, 64, 128], options)
        losses = [problem.step(step) for step in range(8)]
        assert losses[-1] < losses[0], name
    for policy in ("step", "plateau", "cosine", "lambda", "linear"):
        options = TextureOptions(**{**none, "lambda_L2": 1.0, "lr_policy": policy})  # type: ignore[arg-type]
        problem = TextureProblem(Pixels.of(few[:1], np.ones((1, 3))), [32, 64], options)
        assert np.isfinite([problem.step(step) for step in range(3)]).all()


def test_a_view_counts_by_its_pixels_once(maps: list[UvView]) -> None:
    """An empty border must not matter; the reference multiplied a loss by the square of the coverage."""
    options = TextureOptions(tex_dim=SIZE, lambda_Reg_Tex=0.0)
    small = maps[0]
    padded = UvView(
        small.name,
        np.pad(small.image, ((40, 40), (40, 40), (0, 0))),
        np.pad(small.uv, ((40, 40), (40, 40), (0, 0))),
        np.pad(small.valid, 40),
        np.pad(small.weight, 40),  # type: ignore[arg-type]
    )
    losses = [
        float(TextureProblem(Pixels.of([view], np.ones((1, 3))), [32, 64], options).loss().detach())
        for view in (small, padded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_highlights_that_move_are_left_out(maps: list[UvView], surface: Surface) -> None:
    shiny = []
    for number, view in enumerate(maps):
        y, x = np.mgrid[:96, :96]
        spot = np.exp(-((x - 48) ** 2 + (y - 40) ** 2) / 60.0)[..., None] * (0.7 if number % 2 else 0.5)
        shiny.append(replace(view, image=(view.image + spot).clip(0, 1).astype(np.float32)))
    pixel = texel_centres(surface, SIZE, 0, SIZE)[0].numpy()

    def error(views: list[UvView], robust: bool) -> float:
        """How much brighter than the truth the texture is, on average."""
        options = TextureOptions(tex_dim=SIZE, niter=10, niter_decay=20, specularRobust=robust)
        picture = picture_of(solved(views, options), surface) / 255
        return float((picture - truth(SIZE)).reshape(-1, 3)[pixel].clip(0).mean())

    clean = error(maps, robust=False)
    assert error(shiny, robust=True) - clean < 0.6 * (error(shiny, robust=False) - clean)


def test_unseen_parts_are_filled_and_seams_dilated(
    maps: list[UvView], surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = maps[:1]
    problem = solved(front, TextureOptions(tex_dim=SIZE, niter=2, niter_decay=0))
    stack = stack_of(problem)
    picture, sure = assembled(stack, SIZE, surface, 5)
    monkeypatch.setattr(assemble, "BAND", 24)  # bands leave no trace
    again, sure_again = assembled(stack, SIZE, surface, 5)
    assert np.array_equal(picture, again) and np.array_equal(sure, sure_again)
    pixel, _, _ = texel_centres(surface, SIZE, 0, SIZE)
    on = np.zeros(SIZE * SIZE, bool)
    on[pixel.numpy()] = True
    on = on.reshape(SIZE, SIZE)
    assert 0.05 < (sure[on] > 200).mean() < 0.6 and (sure[~on] == 0).all()
    # the far side has colours of what is seen, not of nothing
    seen = picture[on & (sure > 200)].astype(float)
    far = picture[on & (sure == 0)].astype(float)
    assert (far >= seen.min(0) - 2).all() and (far <= seen.max(0) + 2).all()
    edge = np.flatnonzero(on[SIZE // 2])[0]
    for beyond in (1, 4):
        assert np.array_equal(picture[SIZE // 2, edge - beyond], picture[SIZE // 2, edge])


def test_whole_rows_agree_with_single_lookups(maps: list[UvView]) -> None:
    stack = stack_of(solved(maps[:3], TextureOptions(tex_dim=SIZE, niter=1, niter_decay=0)))
    row, column = np.mgrid[37:61, :SIZE]
    uv = np.stack([(column + 0.5) / SIZE, 1 - (row + 0.5) / SIZE], -1).reshape(-1, 2)
    colours, sure = stack.rows(37, 61, SIZE)
    np.testing.assert_allclose(colours.reshape(-1, 3), stack.colours(uv), atol=1e-5)
    np.testing.assert_allclose(sure.ravel(), stack.confidence(uv), atol=1e-5)


def test_values_spread_over_the_surface() -> None:
    strip = np.array([[k, k + 1, k + 2] for k in range(8)] + [[10, 11, 12]])
    values, known = np.zeros((13, 1)), np.zeros(13, bool)
    values[9], known[[0, 9]] = 1.0, True
    found = spread(values, known, strip)[:, 0]
    assert found[0] == 0 and found[9] == 1 and (np.diff(found[:10]) > 0).all()
    assert np.allclose(found[10:], 0.5)  # a piece without a known vertex: the mean of the known ones


def test_the_inside_of_an_open_surface_has_a_colour_of_its_own(views: ViewSet) -> None:
    mesh = ball()
    assert mesh.uv_faces is not None
    cut = mesh.vertices[mesh.faces].mean(1)[:, 1] < 20
    bowl = Surface.of(replace(mesh, faces=mesh.faces[cut], uv_faces=mesh.uv_faces[cut]))
    assert back_colour(Surface.of(mesh), views) is None
    view = photograph(mesh, [looking(0, 60)])[0]
    dark = replace(view, image=np.full_like(view.image, 0.1))
    found = back_colour(bowl, [dark])
    assert found is not None and torch.allclose(found, torch.full((3,), 0.349), atol=2e-3)
    white = sampler(np.ones((4, 4, 3), np.float32))
    shown, coverage = bowl.drawn(view.camera, white, back=found)
    inside = shown[..., 0][coverage > 0.9999]
    assert float(inside.min()) > 0.34 and float(inside.max()) == 1


def small_vgg() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    stored, channels = {}, 3
    for layer in LAYERS:
        if not isinstance(layer, str):
            stored[f"features.{layer}.weight"] = 0.3 * torch.randn(4, channels, 3, 3)
            stored[f"features.{layer}.bias"] = torch.zeros(4)
            channels = 4
    return stored


def test_vgg_weights_are_read_and_lead(tmp_path: Path, maps: list[UvView]) -> None:
    stored = small_vgg()
    torch.save(stored, tmp_path / "vgg.pth")
    np.savez(tmp_path / "vgg.npz", **{name[9:]: value.numpy() for name, value in stored.items()})
    a, b = torch.rand(32, 32, 3), torch.rand(32, 32, 3)
    networks = [Vgg.load(tmp_path / name) for name in ("vgg.pth", "vgg.npz")]
    values = [float(network.loss(a, b)) for network in networks]
    assert values[0] == pytest.approx(values[1]) and values[0] > 0
    assert float(networks[0].loss(a, a)) == 0
    assert networks[0].features(a)[21].shape == (4, 4, 4)
    options = TextureOptions(
        tex_dim=SIZE,
        lambda_L1=0,
        lambda_L1_Diff=0,
        lambda_Reg_Tex=0,
        lambda_VGG=10,
        vggWeights=str(tmp_path / "vgg.pth"),
    )
    problem = TextureProblem(Pixels.of(maps[:1], np.ones((1, 3))), [32, 64], options)
    losses = [problem.step(step) for step in range(4)]
    assert losses[-1] < losses[0]


def test_what_is_no_vgg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    with pytest.raises(WeightsError, match="There is no"):
        Vgg.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError):
        Vgg.load(path)
    torch.save({"a": object}, path)  # would run code when unpickled freely
    with pytest.raises(WeightsError):
        Vgg.load(path)
    stored = small_vgg()
    del stored["features.5.bias"]
    torch.save(stored, path)
    with pytest.raises(WeightsError, match="features.5.bias"):
        Vgg.load(path)
    stored = small_vgg()
    stored["features.5.weight"] = torch.zeros(4, 7, 3, 3)
    torch.save(stored, path)
    with pytest.raises(WeightsError, match="layer 5"):
        Vgg.load(path)


def test_losses_of_pictures_agree_with_others() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, (40, 50, 3)).astype(np.float32)
    b = (a + rng.normal(0, 0.1, a.shape)).clip(0, 1).astype(np.float32)
    x, y = torch.tensor(a), torch.tensor(b)
    _, expected = structural_similarity(
        a,
        b,
        channel_axis=2,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inner = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(ssim_map(x, y).numpy()[inner], expected[inner], atol=2e-3)
    assert float(ssim_loss(x, x)) == pytest.approx(0, abs=1e-5)
    assert float(l1(x, y)) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    assert psnr(x, y) == pytest.approx(-10 * np.log10(((a - b) ** 2).mean()), rel=1e-5)
    weight = torch.zeros(40, 50)
    weight[:20] = 1
    half = y.clone()
    half[20:] = 9.0  # what does not count changes nothing
    for loss in (l1, l2, gradient_l1, multiscale_l1):
        assert float(loss(x, half, weight)) == pytest.approx(
            float(loss(x[:20], half[:20], weight[:20])), rel=1e-4
        )
    assert float(gradient_l1(x, x + 0.3)) == pytest.approx(0, abs=1e-6)
