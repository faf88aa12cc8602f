"""Textures and photos: baking, the mirror table, looking texels up in a photo, what losses compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nextgenface.fitting.bake import bake_vertices, texel_table
from nextgenface.fitting.targets import Target, encode, encode_slope, target_at
from nextgenface.fitting.texels import DEPTH_SLACK, Texels
from nextgenface.rendering.deferred import Pose, vertex_normals
from nextgenface.rendering.raster import rasterize
from nextgenface.views import FaceView

from tests.solver.small_face import example, photograph, small_model, without
from tests.solver.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_shadows")


def _pose(focal: float = 300.0) -> Pose:
    return Pose(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])),
        torch.tensor([0.0, 0.0, 500.0]),
        torch.tensor(focal),
        torch.tensor([64.0, 64.0]),
    )


def _target(picture: torch.Tensor, valid: torch.Tensor | None = None) -> Target:
    flat = picture.reshape(-1, 3)
    height, width = picture.shape[:2]
    seen = torch.ones(height * width) if valid is None else valid.reshape(-1)
    return Target(flat, encode(flat), seen, torch.ones_like(seen), height, width, 1.0)


def test_baked_values_lie_where_uv_says() -> None:
    """u to the right, v up, first row on top: a texture of the uv itself is a ramp at texel centres."""
    model = tiny_model()
    baked = bake_vertices(model, torch.tensor(model.uv), 32)
    table = texel_table(model, 32)
    at = (torch.arange(32) + 0.5) / 32
    inside = table.on_face
    assert inside.any() and not inside.all()
    assert (baked[..., 0] - at[None, :])[inside].abs().max() < 1e-4
    assert (baked[..., 1] - (1 - at)[:, None])[inside].abs().max() < 1e-4
    # off the layout the nearest border value continues
    assert baked[0, 16, 1].item() == pytest.approx(baked[..., 1][inside].max().item(), abs=1e-4)


def test_baking_is_differentiable_and_keeps_constants() -> None:
    model = tiny_model()
    values = torch.full((model.vertex_count, 2), 0.3, requires_grad=True)
    baked = bake_vertices(model, values, 16)
    assert torch.allclose(baked, torch.full((16, 16, 2), 0.3))
    baked.sum().backward()
    assert values.grad is not None and values.grad.sum().item() == pytest.approx(16 * 16 * 2, rel=1e-4)


@pytest.mark.parametrize("resolution", [32, 64])
def test_the_mirror_of_a_texel_is_the_texel_of_the_mirrored_place(resolution: int) -> None:
    model = small_model()
    texels = Texels(model, resolution, torch.device("cpu"))
    on = texels.on_face
    twice = texels.mirror[texels.mirror]
    rows, columns = torch.arange(resolution**2) // resolution, torch.arange(resolution**2) % resolution
    shift = torch.maximum((rows[twice] - rows).abs(), (columns[twice] - columns).abs())
    assert (shift[on] <= 1).float().mean() > 0.98  # an involution up to the rounding to texels
    here = texels.gather(torch.tensor(model.shape_mean))
    there = here[texels.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    size = texels.millimetres(torch.tensor(model.shape_mean))
    assert (here - there).norm(dim=1)[on].median() < size
    left = here[:, 0] > 2 * size
    assert (here[texels.mirror][left & on][:, 0] < 0).float().mean() > 0.99


def test_a_flipped_layout_mirrors_as_arrays_do() -> None:
    """The tiny model's layout is symmetric about u = 0.5, so there the table is the array flip."""
    texels = Texels(tiny_model(), 32, torch.device("cpu"))
    flip = torch.arange(32 * 32).view(32, 32).flip(1).reshape(-1)
    on = texels.on_face
    rows, columns = torch.arange(32 * 32) // 32, torch.arange(32 * 32) % 32
    gap = (columns[texels.mirror] - columns[flip]).abs()
    assert (gap[on] <= 1).all() and torch.equal(rows[texels.mirror][on], rows[flip][on])


def test_texel_size_in_millimetres() -> None:
    texels = Texels(tiny_model(), 64, torch.device("cpu"))
    flat = torch.tensor(tiny_model().shape_mean) * torch.tensor([1.0, 1.0, 0.0])
    # 140 mm over 0.8 of 64 texels
    assert texels.millimetres(flat) == pytest.approx(140 / (0.8 * 64), rel=0.02)


def _look(model, vertices: torch.Tensor, target: Target, skin: torch.Tensor):  # type: ignore[no-untyped-def]
    pose = _pose()
    texels = Texels(model, 48, torch.device("cpu"))
    camera = pose.camera_space(vertices)
    faces = torch.tensor(model.faces)
    fragments = rasterize(pose.screen(camera), camera[:, 2], faces, target.height, target.width)
    return (
        texels,
        camera,
        texels.look_up(camera, vertex_normals(camera, faces), pose, fragments, target, skin),
    )


def test_texels_find_their_pixels() -> None:
    """A photo that shows its own pixel positions tells every texel where it was looked up."""
    model = tiny_model()
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    photo = torch.stack([x / 128, y / 128, torch.zeros_like(x)], -1)
    texels, camera, view = _look(
        model, torch.tensor(model.shape_mean), _target(photo), torch.ones(model.vertex_count)
    )
    expected = _pose().screen(texels.gather(camera)) / 128
    seen = view.weight > 0.05
    assert seen.float().mean() > 0.3
    assert (view.colour[seen][:, :2] - expected[seen]).abs().max() < 1e-3
    assert view.weight.min() >= 0 and view.weight.max() <= 1 + 1e-6
    assert (view.weight[~texels.on_face] == 0).all()


def test_what_is_not_valid_not_skin_or_hidden_has_no_weight() -> None:
    model = tiny_model()
    vertices = torch.tensor(model.shape_mean)
    photo = torch.full((128, 128, 3), 0.4)
    valid = torch.ones(128, 128)
    valid[:, :64] = 0.0
    texels, camera, view = _look(model, vertices, _target(photo, valid), torch.ones(model.vertex_count))
    screen = _pose().screen(texels.gather(camera))
    assert (view.weight[screen[:, 0] < 63] == 0).all() and view.weight[screen[:, 0] > 66].max() > 0.5
    skin = (vertices[:, 1] > 0).float()
    texels, camera, view = _look(model, vertices, _target(photo), skin)
    low = texels.gather(skin[:, None])[:, 0] < 1e-6
    assert low.any() and (view.weight[low] == 0).all()
    # the image's left half folded over to the right, in front of it: nothing behind it is seen
    folded = vertices.clone()
    left = vertices[:, 0] < -1
    folded[left] = vertices[left] * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor(
        [0.0, 0.0, 30.0 + DEPTH_SLACK]
    )
    texels, _, view = _look(model, folded, _target(photo), torch.ones(model.vertex_count))
    behind = (texels.gather(vertices)[:, 0] > 25) & texels.on_face
    assert behind.any() and view.weight[behind].max() < 1e-6
    _, _, free = _look(model, vertices, _target(photo), torch.ones(model.vertex_count))
    assert free.weight[behind].mean() > 0.5


def test_slanted_surfaces_count_less() -> None:
    model = tiny_model()
    weights = []
    for angle in (0.0, 0.8, 1.4):
        turn = torch.tensor(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        ).float()
        flat = torch.tensor(model.shape_mean) * torch.tensor([0.6, 0.6, 0.0]) @ turn.T
        texels, _, view = _look(
            model, flat, _target(torch.full((128, 128, 3), 0.4)), torch.ones(model.vertex_count)
        )
        weights.append(float(view.weight[texels.on_face].mean()))
    assert weights[0] > 0.95 and weights[0] > weights[1] > weights[2]
    assert weights[2] < 0.2


def test_code_values_follow_the_curve_and_have_slopes_everywhere() -> None:
    x = torch.tensor([-0.1, 0.0, 0.001, 0.02, 0.18, 0.9, 1.4], dtype=torch.float64, requires_grad=True)
    value = encode(x)
    assert value[4].item() == pytest.approx(0.4613561, abs=1e-5)
    assert (value.diff() > 0).all()
    value.sum().backward()
    assert x.grad is not None and (x.grad > 0).all() and x.grad.isfinite().all()
    bright = torch.tensor([0.02, 0.18, 0.9], dtype=torch.float64)
    assert torch.allclose(encode_slope(bright), x.grad[3:6], rtol=1e-4)


def _view() -> FaceView:
    return photograph(small_model(), example(small_model()))


def test_targets_average_light_and_leave_out_what_holds_none() -> None:
    view = _view()
    full, half = target_at(view, 128, "cpu"), target_at(view, 64, "cpu")
    assert (full.height, full.scale, half.height, half.width, half.scale) == (128, 1.0, 64, 64, 0.5)
    blocks = torch.tensor(view.image).view(64, 2, 64, 2, 3).mean((1, 3)).view(-1, 3)
    assert torch.allclose(half.linear, blocks, atol=1e-6)
    assert torch.allclose(half.encoded, encode(blocks))
    assert half.valid.min() == 1
    mask = np.zeros((128, 128), bool)
    mask[10, 20] = True
    image = view.image.copy()
    image[40, 50] = [0.2, 1.0, 0.3]  # a clipped channel
    marked = without(view, mask)
    object.__setattr__(marked, "image", image)
    valid = target_at(marked, 128, "cpu").valid.view(128, 128)
    assert valid[10, 20] == 0 and valid[40, 50] == 0 and valid.sum() == 128 * 128 - 2
    assert target_at(marked, 64, "cpu").valid.view(64, 64)[5, 10] == 0  # partly hidden is hidden
