"""The benchmark of visibility on true shapes: its measure, and a light that it solves for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from nextgenface.rendering.deferred import Pose, trace_transfer
from nextgenface.rendering.raster import rasterize

from tests.solver.small_face import lamp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import true_shape  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_error_is_free_of_scale_and_grows_with_it_alone() -> None:
    truth = 0.2 + 0.5 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    same = true_shape.compare(0.4 * truth, truth)
    assert same == {"albedo_rmse_si": 0.0, "albedo_detail": 1.0}
    off = true_shape.compare(truth * torch.linspace(0.7, 1.3, 500)[:, None], truth)
    assert off["albedo_rmse_si"] > 0.03 and off["albedo_detail"] < 0.99


def test_of_an_even_ball_an_even_skin_is_left_over() -> None:
    """A ball drawn under a known lamp with the assumed gloss: what is left over is its one colour."""
    around = torch.linspace(0, 2 * torch.pi, 49)[:-1]
    polar = torch.linspace(0.03, torch.pi - 0.03, 32)
    p, a = torch.meshgrid(polar, around, indexing="ij")
    points = 80 * torch.stack([p.sin() * a.sin(), p.cos(), p.sin() * a.cos()], -1).view(-1, 3)
    i, j = torch.meshgrid(torch.arange(31), torch.arange(48), indexing="ij")
    one, two = i * 48 + j, i * 48 + (j + 1) % 48
    faces = torch.cat([torch.stack([one, one + 48, two], -1), torch.stack([two, one + 48, two + 48], -1)])
    faces = faces.view(-1, 3)
    pose = Pose(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, 700.0]), torch.tensor(300.0),
        torch.tensor([48.0, 48.0]),
    )  # fmt: skip
    camera = pose.camera_space(points)
    fragments = rasterize(pose.screen(camera), camera[:, 2], faces, 96, 96)
    transfer = trace_transfer(points, faces, pose, highlights=False)
    normals = torch.nn.functional.normalize(points, dim=1)
    light = lamp((0.7, 0.5, 0.5)) + 0.2
    lit = torch.zeros(len(points), 3)
    cosine = (normals[transfer.used] @ transfer.directions.T).clamp(min=0)
    lit[transfer.used] = (
        (cosine * transfer.visible) @ (transfer.lobes @ light) * transfer.solid_angle / torch.pi
    )
    skin = torch.tensor([0.5, 0.35, 0.28])
    photo = fragments.interpolate(lit) * skin * 0.95
    found = true_shape.skin_left_over(transfer, camera, faces, fragments, photo, skin)
    truth = skin.expand(len(photo), 3)
    assert true_shape.compare(found, truth)["albedo_rmse_si"] < 0.02
