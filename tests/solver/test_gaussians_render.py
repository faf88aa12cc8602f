"""Compositing against a plain loop, gradients, memory bounds, and Mitsuba as the independent judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from nextgenface.errors import EnvironmentProblem
from nextgenface.multiview.gaussians import compositing, harmonics
from nextgenface.multiview.gaussians.compositing import composite
from nextgenface.multiview.gaussians.rendering import Pinhole, choose_engine, render
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.rendering.llvm import activate, select_variant
from nextgenface.views import Camera
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, HEIGHT = 30, 24


def flat_gaussians(count: int, seed: int = 0) -> list[Tensor]:
    """Means, conics, opacities and features of random slanted Gaussians, some of them off the picture."""
    random = torch.Generator().manual_seed(seed)
    means = torch.rand(count, 2, generator=random) * torch.tensor((WIDTH + 8.0, HEIGHT + 8.0)) - 4
    root = torch.randn(count, 2, 2, generator=random)
    inverse = torch.linalg.inv(root @ root.transpose(1, 2) * 4 + 0.5 * torch.eye(2))
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    opacities = torch.rand(count, generator=random)
    opacities[::7] = 0.999  # clamped at its centre
    return [means, conics, opacities, torch.rand(count, 4, generator=random)]


def plain_loop(means: Tensor, conics: Tensor, opacities: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """The same by definition: one Gaussian after the other over the whole picture."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    passed = torch.ones(HEIGHT, WIDTH, dtype=means.dtype)
    image = torch.zeros(HEIGHT, WIDTH, features.shape[1], dtype=means.dtype)
    for mean, (a, b, c), opacity, feature in zip(means, conics, opacities, features, strict=True):
        dx, dy = x - mean[0], y - mean[1]
        alpha = opacity * torch.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
        alpha = torch.where(alpha >= 1 / 255, alpha, 0.0).clamp_max(0.99)
        image = image + (alpha * passed)[..., None] * feature
        passed = passed * (1 - alpha)
    return image, passed


def gradients(
    draw: Callable[..., tuple[Tensor, Tensor]], inputs: list[Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor, list[Tensor]]:
    random = torch.Generator().manual_seed(5)
    weights = torch.rand(HEIGHT, WIDTH, 5, generator=random, dtype=torch.float64).to(dtype)
    leaves = [value.to(dtype).requires_grad_() for value in inputs]
    image, passed = draw(*leaves)
    found = torch.autograd.grad((image * weights[..., :4]).sum() + (passed * weights[..., 4]).sum(), leaves)
    return image.detach(), passed.detach(), list(found)


def ours(means: Tensor, conics: Tensor, opacities: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    return composite(means, conics, opacities, features, WIDTH, HEIGHT)


def test_compositing_and_its_gradients_match_a_plain_loop() -> None:
    inputs = flat_gaussians(70)
    image, passed, found = gradients(ours, inputs, torch.float32)
    expected_image, expected_passed, expected = gradients(plain_loop, inputs, torch.float64)
    assert (image - expected_image).abs().max() < 1e-5
    assert (passed - expected_passed).abs().max() < 1e-5
    for ours_, theirs in zip(found, expected, strict=True):
        assert (ours_ - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_bands_that_are_computed_twice_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = flat_gaussians(70)
    whole = gradients(ours, inputs, torch.float32)
    monkeypatch.setattr(compositing, "MOST_PAIRS", 300)
    monkeypatch.setattr(compositing, "KEPT_PAIRS", 0)
    banded = gradients(ours, inputs, torch.float32)
    assert torch.equal(whole[0], banded[0])
    assert torch.allclose(whole[1], banded[1])
    for one, other in zip(whole[2], banded[2], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_the_nearer_gaussian_hides_the_farther() -> None:
    means, conics = torch.full((2, 2), 5.0), torch.tensor([[0.02, 0.0, 0.02]] * 2)
    red_then_green = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    image, passed = composite(means, conics, torch.full((2,), 0.95), red_then_green, 10, 10)
    red, green = image[4, 4].tolist()
    assert red > 0.9 and green < 0.06
    assert passed[4, 4] == pytest.approx(1 - red - green, abs=1e-6)


def test_nothing_to_draw_is_an_empty_picture_with_gradients() -> None:
    means, conics = torch.full((1, 2), -900.0), torch.ones(1, 3)
    inputs = [value.requires_grad_() for value in (means, conics, torch.ones(1), torch.ones(1, 4))]
    image, passed = ours(*inputs)
    (image.sum() + passed.sum()).backward()
    assert image.abs().max() == 0 and passed.min() == 1
    assert all(value.grad is not None and value.grad.abs().max() == 0 for value in inputs)


def cloud(count: int, degree: int) -> Splats:
    """Random stretched Gaussians in a ball of 80 mm."""
    random = torch.Generator().manual_seed(1)
    positions = torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=-1)
    positions *= 80 * torch.rand(count, 1, generator=random) ** (1 / 3)
    splats = Splats.from_points(positions, torch.rand(count, 3, generator=random), scale=4.0, degree=degree)
    splats.log_scales += torch.randn(count, 3, generator=random) * 0.4
    splats.rotations = torch.randn(count, 4, generator=random)
    splats.opacity_logits = torch.randn(count, generator=random)
    splats.bands = torch.randn(splats.bands.shape, generator=random) * 0.15
    return splats


def frontal(size: int = 128, focal: float = 400.0) -> Camera:
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(K, np.diag([1.0, -1, -1]), np.array([0, 0, 600.0]), size, size)


def test_mitsuba_draws_the_same_picture() -> None:
    variant = select_variant("cpu")
    if variant.name != "llvm_ad_rgb":
        pytest.skip(f"LLVM does not render here: {variant.reason}")
    mi = activate(variant)
    splats, camera = cloud(200, 3), frontal()
    unit = 0.01  # Mitsuba steps over a hit by a fixed length
    axes = torch.nn.functional.normalize(splats.rotations, dim=-1)[:, [1, 2, 3, 0]].contiguous()
    shape = {
        "type": "ellipsoidsmesh",
        "centers": mi.TensorXf((splats.positions * unit).numpy()),
        "scales": mi.TensorXf((splats.scales * unit).numpy()),
        "quaternions": mi.TensorXf(axes.numpy()),
        "opacities": mi.TensorXf(splats.opacities[:, None].numpy()),
        "sh_coeffs": mi.TensorXf(splats.sh.flatten(1).numpy()),
    }
    film = {"type": "hdrfilm", "width": 128, "height": 128, "rfilter": {"type": "box"}}
    sensor = {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(64 / 400))),
        "to_world": mi.ScalarTransform4f().look_at(origin=[0, 0, 600 * unit], target=[0, 0, 0], up=[0, 1, 0]),
        "film": film,
    }
    integrator = {"type": "volprim_rf_basic", "max_depth": 512, "srgb_primitives": False}
    scene = mi.load_dict({"type": "scene", "integrator": integrator, "shape": shape, "sensor": sensor})
    theirs = np.array(mi.render(scene, spp=16))[..., :3]
    with torch.no_grad():
        image = render(splats, Pinhole.of(camera)).image.numpy()
    # They differ where the projection is flattened (we) or Gaussians overlap in depth (each ray sorts there).
    assert 10 * np.log10(1 / np.mean((image - theirs) ** 2)) > 37
    assert image.mean() == pytest.approx(theirs.mean(), rel=0.01)


def test_gradients_of_camera_and_splats_match_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a Gaussian is cut off the picture has a small step, which finite differences see.
    monkeypatch.setattr(compositing, "LEAST_ALPHA", 1e-7)
    splats = cloud(12, 2)
    splats.base += 1  # no colour is cut at 0
    camera = Pinhole.of(frontal(48, 150.0))
    target = torch.rand(48, 48, 3, generator=torch.Generator().manual_seed(2))

    def loss() -> Tensor:
        return ((render(splats, camera).image.double() - target) ** 2).sum()

    steps = {"focal": (camera.focal, 0.5), "t": (camera.t, 0.2), "positions": (splats.positions, 0.05)}
    steps |= {"log_scales": (splats.log_scales, 0.003), "rotations": (splats.rotations, 0.005)}
    steps |= {
        "opacity_logits": (splats.opacity_logits, 0.01),
        "base": (splats.base, 0.02),
        "bands": (splats.bands, 0.02),
    }
    leaves = [value.requires_grad_() for value, _ in steps.values()]
    found = torch.autograd.grad(loss(), leaves)
    for (name, (value, step)), gradient in zip(steps.items(), found, strict=True):
        where = gradient.abs().argmax()
        numbers = []
        for sign in (1, -1):
            with torch.no_grad():
                value.view(-1)[where] += sign * step
                numbers.append(loss().item())
                value.view(-1)[where] -= sign * step
        expected = (numbers[0] - numbers[1]) / (2 * step)
        assert gradient.reshape(-1)[where].item() == pytest.approx(expected, rel=0.04), name


def test_depth_and_alpha_of_a_dense_wall() -> None:
    grid = torch.linspace(-40, 40, 41)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    wall = torch.stack([x.flatten(), y.flatten(), torch.full((41 * 41,), 100.0)], -1)
    splats = Splats.from_points(wall, torch.full((len(wall), 3), 0.5), scale=2.0, opacity=0.95)
    with torch.no_grad():
        seen = render(splats, Pinhole.of(frontal()), torch.tensor([0.0, 1.0, 0.0]))
    assert seen.alpha[64, 64] > 0.99
    assert seen.depth[64, 64] / seen.alpha[64, 64] == pytest.approx(500, abs=0.5)
    assert torch.allclose(seen.image[64, 64], torch.full((3,), 0.5), atol=0.01)
    assert torch.allclose(seen.image[0, 0], torch.tensor([0.0, 1.0, 0.0]))


def test_gaussians_behind_the_camera_are_not_drawn() -> None:
    behind = Splats.from_points(torch.tensor([[0.0, 0.0, 700.0]]), torch.ones(1, 3), scale=5.0)
    with torch.no_grad():
        seen = render(behind, Pinhole.of(frontal()))
    assert seen.image.abs().max() == 0 and not seen.visible.any()


def test_a_small_gaussian_keeps_its_light_at_every_resolution() -> None:
    dot = Splats.from_points(torch.zeros(1, 3), torch.ones(1, 3), scale=0.3, opacity=0.8)
    camera = frontal(128, 1600.0)
    with torch.no_grad():
        light = [
            render(dot, Pinhole.of(camera.scaled(factor))).alpha.sum().item() / factor**2
            for factor in (1, 0.5)
        ]
    assert light[1] == pytest.approx(light[0], rel=0.1)


def test_harmonics_are_orthonormal_and_constant_colours_stay() -> None:
    random = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3, generator=random), dim=-1)
    values = harmonics.basis(directions, 3)
    gram = values.T @ values / len(values) * 4 * torch.pi
    assert (gram - torch.eye(16)).abs().max() < 0.03
    same = Splats.from_points(
        torch.zeros(9, 3), torch.tensor([[0.2, 0.5, 1.0]]).expand(9, 3), scale=1, degree=3
    )
    assert torch.allclose(harmonics.colours(same.sh, directions[:9], 3), torch.tensor([0.2, 0.5, 1.0]))


def test_gsplat_is_asked_for_only_where_it_can_draw() -> None:
    assert choose_engine("auto", torch.device("cpu")) == "torch"
    with pytest.raises(EnvironmentProblem, match="gsplat"):
        choose_engine("gsplat", torch.device("cpu"))
    with pytest.raises(EnvironmentProblem, match="focal"):
        choose_engine("gsplat", torch.device("cuda"), learns_focal=True)
