"""Files are written whole and read back as they were; the sRGB curve is the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface import colour, images
from nextgenface.errors import OutputError, PhotoError
from PIL import Image


def test_srgb_curve_has_the_published_values() -> None:
    # IEC 61966-2-1: the linear foot, the knee, mid grey (code 188 is half the light, to 8 bits), white.
    encoded = np.array([0.0, 0.04045, 0.5, 188 / 255, 1.0])
    linear = colour.srgb_to_linear(encoded)
    np.testing.assert_allclose(linear, [0.0, 0.0031308, 0.2140411, 0.5028865, 1.0], atol=1e-6)
    np.testing.assert_allclose(colour.linear_to_srgb(linear), encoded, atol=1e-6)
    codes = np.arange(256, dtype=np.uint8)
    assert (colour.encode_8bit(colour.decode_table(256)[codes]) == codes).all()


def test_srgb_curve_in_torch_agrees_and_has_finite_gradients() -> None:
    values = np.linspace(-0.2, 1.5, 200)
    tensor = torch.tensor(values, requires_grad=True)
    for function in (colour.srgb_to_linear, colour.linear_to_srgb):
        result = function(tensor)
        np.testing.assert_allclose(result.detach().numpy(), function(values), atol=1e-12)
        (gradient,) = torch.autograd.grad(function(torch.cat([tensor, torch.zeros(1)])).sum(), tensor)
        assert torch.isfinite(gradient).all() and (gradient > 0).all()


def test_integers_are_refused_by_the_curve() -> None:
    with pytest.raises(TypeError):
        colour.srgb_to_linear(np.zeros(3, np.uint8))


@pytest.mark.parametrize("channels,half", [(1, False), (3, False), (4, False), (3, True)])
def test_exr_round_trip(tmp_path: Path, channels: int, half: bool) -> None:
    values = np.random.default_rng(0).uniform(0, 30, (7, 11, channels)).astype(np.float32)
    path = tmp_path / "größe 1.exr"
    images.write_exr(path, values, half=half)
    back = images.read_exr(path)
    assert back.shape == values.shape and back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=1e-3 if half else 0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_png_round_trip(tmp_path: Path) -> None:
    linear = np.random.default_rng(0).uniform(0, 1, (5, 9, 4)).astype(np.float32)
    images.write_png(tmp_path / "a.png", linear)
    back = images.read_image(tmp_path / "a.png")
    np.testing.assert_allclose(back[..., :3], colour.linear_to_srgb(linear[..., :3]), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(back[..., 3], linear[..., 3], atol=0.5 / 255 + 1e-6)
    images.write_png(tmp_path / "b.png", linear[..., 0], srgb=False, bits=16)
    np.testing.assert_allclose(images.read_image(tmp_path / "b.png")[..., 0], linear[..., 0], atol=1e-5)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    images.write_png(path, np.zeros((4, 4, 3)))
    before = path.read_bytes()
    for write in (images.write_png, images.write_exr):
        with pytest.raises(ValueError):
            write(path, np.zeros((4, 4, 3, 2)))
        with pytest.raises(OutputError):
            write(tmp_path / "gone" / "a.file", np.zeros((4, 4, 3)))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("a.exr", "a.png"):
        (tmp_path / name).write_bytes(b"not a picture")
        with pytest.raises(PhotoError, match=name):
            images.read_image(tmp_path / name)
        with pytest.raises(PhotoError, match="missing"):
            images.read_image(tmp_path / f"missing{name}")


def test_grey_file_is_one_channel(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 51, np.uint8)).save(tmp_path / "g.png")
    np.testing.assert_allclose(images.read_image(tmp_path / "g.png"), np.full((3, 4, 1), 0.2))
