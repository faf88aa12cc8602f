"""Files of Gaussians: what importers expect is there, what was written comes back, bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.multiview.gaussians.files import (
    SplatFileError,
    read_ply,
    turned_over,
    write_ply,
    write_splat,
)
from nextgenface.multiview.gaussians.rendering import Pinhole, render
from nextgenface.multiview.gaussians.splats import Splats
from nextgenface.views import Camera

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 40


def cloud(degree: int = 3) -> Splats:
    """Random stretched Gaussians around the origin."""
    random = torch.Generator().manual_seed(3)
    places, colours = torch.randn(COUNT, 3, generator=random) * 30, torch.rand(COUNT, 3, generator=random)
    splats = Splats.from_points(places, colours, scale=6.0, degree=degree)
    splats.log_scales += torch.randn(COUNT, 3, generator=random) * 0.4
    splats.rotations = torch.nn.functional.normalize(torch.randn(COUNT, 4, generator=random), dim=-1)
    splats.opacity_logits = torch.randn(COUNT, generator=random)
    splats.bands = torch.randn(splats.bands.shape, generator=random) * 0.2
    return splats


def rows(path: Path) -> np.ndarray:
    """The numbers of a written PLY by property, read without our reader."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")]
    return np.frombuffer(body, [(name, "<f4") for name in names])


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_ply_comes_back(tmp_path: Path, degree: int) -> None:
    splats = cloud(degree)
    write_ply(tmp_path / "points.ply", splats)
    back = read_ply(tmp_path / "points.ply")
    known = splats.bands.shape[1]
    assert back.bands.shape == (COUNT, 15, 3) and not back.bands[:, known:].any()
    back.bands = back.bands[:, :known]
    for name, value in splats.tensors().items():
        found = getattr(back, name)
        if name == "rotations":  # q and -q are the same turn
            found = found * (found * value).sum(-1, keepdim=True).sign()
        assert torch.allclose(found, value, atol=1e-5), name


def test_ply_holds_what_importers_look_for(tmp_path: Path) -> None:
    splats = cloud(1)
    write_ply(tmp_path / "points.ply", splats)
    found = rows(tmp_path / "points.ply")
    assert len(found) == COUNT and len(found.dtype.names or ()) == 62
    assert list(found.dtype.names or ())[:10] == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0",
    ]  # fmt: skip
    assert np.allclose(found["x"], splats.positions[:, 0]) and np.allclose(
        found["y"], -splats.positions[:, 1]
    )
    assert np.allclose(found["opacity"], splats.opacity_logits)
    assert np.allclose(found["scale_1"], splats.log_scales[:, 1])
    assert np.allclose(0.5 + 0.28209479 * found["f_dc_2"], 0.5 + 0.28209479 * splats.base[:, 2], atol=1e-6)
    # Channel by channel: the first band of green begins after the fifteen numbers of red.
    assert np.allclose(found["f_rest_15"], -splats.bands[:, 0, 1], atol=1e-6)


def test_turning_over_shows_the_same_to_a_camera_turned_over() -> None:
    splats = cloud(3)
    K = np.array([[150.0, 0, 24], [0, 150, 24], [0, 0, 1]])
    camera = Camera(K, np.diag([1.0, -1, -1]), np.array([0, 0, 400.0]), 48, 48)
    turned = Camera(K, camera.R @ np.diag([1.0, -1, -1]), camera.t, 48, 48)
    with torch.no_grad():
        one, other = render(splats, Pinhole.of(camera)), render(turned_over(splats), Pinhole.of(turned))
    assert one.image.max() > 0.3
    assert torch.allclose(one.image, other.image, atol=1e-4)


def test_splat_has_32_bytes_a_gaussian_in_order_of_importance(tmp_path: Path) -> None:
    splats = cloud(0)
    write_splat(tmp_path / "points.splat", splats)
    data = (tmp_path / "points.splat").read_bytes()
    assert len(data) == 32 * COUNT
    kind = [("position", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)]
    found = np.frombuffer(data, kind)
    volume = found["scale"].prod(1) * found["colour"][:, 3]
    assert volume[0] > np.median(volume) > volume[-1]
    first = int((splats.opacities * splats.scales.prod(1)).argmax())
    assert np.allclose(found["position"][0], splats.positions[first] * torch.tensor([1.0, -1, -1]))
    assert np.allclose(found["scale"][0], splats.scales[first])
    colour = (0.5 + 0.28209479 * splats.base[first]).clamp(0, 1) * 255
    assert np.allclose(found["colour"][0, :3], colour, atol=0.51)
    turn = torch.as_tensor((found["rotation"][0].astype(np.float32) - 128) / 128)
    assert (turn * turned_over(splats).rotations[first]).sum().abs() > 0.99


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.ply"
    write_ply(good, cloud())
    data = good.read_bytes()
    bad = {
        "no.ply": b"hello",
        "mesh.ply": data.split(b"property float opacity")[0] + b"end_header\n" + bytes(4000),
        "text.ply": data.replace(b"binary_little_endian", b"ascii"),
        "cut.ply": data[:-20],
        "rest.ply": data.replace(b"f_rest_44", b"f_other_1"),
        "nan.ply": data.split(b"end_header\n")[0] + b"end_header\n" + b"\xff" * (62 * 4 * COUNT),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SplatFileError, match=name):
            read_ply(tmp_path / name)
    with pytest.raises(SplatFileError, match="gone"):
        read_ply(tmp_path / "gone.ply")


def test_double_precision_big_endian_and_other_orders_are_read(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", cloud(0))
    found = rows(tmp_path / "a.ply")
    names = [name for name in reversed(found.dtype.names or ()) if not name.startswith("f_rest")]
    other = np.zeros(COUNT, [(name, ">f8") for name in names])
    for name in names:
        other[name] = found[name]
    head = ["ply", "format binary_big_endian 1.0", f"element vertex {COUNT}"]
    head += [f"property double {name}" for name in names]
    (tmp_path / "b.ply").write_bytes(("\n".join([*head, "end_header"]) + "\n").encode() + other.tobytes())
    one, two = read_ply(tmp_path / "a.ply"), read_ply(tmp_path / "b.ply")
    assert torch.equal(one.positions, two.positions) and torch.equal(one.base, two.base)
    assert two.degree == 0
