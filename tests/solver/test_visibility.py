"""Visibility of the sky against cases that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nextgenface.rendering.light import fibonacci_sphere
from nextgenface.rendering.visibility import vertex_visibility
from scipy.spatial import ConvexHull

pytestmark = pytest.mark.usefixtures("one_thread")

DIRECTIONS = fibonacci_sphere(96)


def _plate(half: float, z: float, side: int = 25) -> tuple[torch.Tensor, torch.Tensor]:
    """A square grid (side^2, 3) at height z that faces +z, and its faces."""
    line = torch.linspace(-half, half, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = (i.reshape(-1) for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    return torch.stack([x, y, torch.full_like(x, z)], -1).reshape(-1, 3), faces


def _ball(
    radius: float, centre: tuple[float, float, float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vertices, outward unit normals and faces of a sphere."""
    normals = fibonacci_sphere(900)
    faces = ConvexHull(normals.numpy()).simplices
    a, b, c = (normals.numpy()[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    return normals * radius + torch.tensor(centre), normals, torch.tensor(faces, dtype=torch.int64)


def _up(count: int) -> torch.Tensor:
    return torch.tensor([0.0, 0, 1]).expand(count, 3).contiguous()


@pytest.mark.parametrize("flipped", [False, True])
def test_a_plate_under_a_plate(flipped: bool) -> None:
    """From the lower plate the sky is what the upper one leaves free, whichever side it turns down."""
    lower, faces = _plate(60.0, 0.0)
    upper, upper_faces = _plate(30.0, 40.0)
    if flipped:
        upper_faces = upper_faces.flip(1)
    vertices = torch.cat([lower, upper])
    both = torch.cat([faces, upper_faces + len(lower)])
    seen = vertex_visibility(vertices, _up(len(vertices)), both, DIRECTIONS)
    assert seen.shape == (len(vertices), len(DIRECTIONS))
    above = DIRECTIONS[:, 2] > 0.1
    assert (seen[:, DIRECTIONS[:, 2] < 0] == 0).all()  # below the horizon
    assert seen[len(lower) :, above].min() > 0.999  # nothing is above the upper plate
    # where a ray from the lower plate passes the height of the upper one
    hit = lower[:, None, :2] + 40.0 * (DIRECTIONS[:, :2] / DIRECTIONS[:, 2:])[None]
    outside = hit.abs().max(-1).values - 30.0  # < 0: it hits the plate
    sure = above[None] & (outside.abs() > 2.5)  # away from the border by a few texels
    assert sure.float().mean() > 0.3
    expected = (outside > 0).float()
    assert ((seen[: len(lower)] - expected).abs()[sure] < 1e-3).float().mean() > 0.995
    assert seen.min() >= 0 and seen.max() < 1.0001


def test_a_convex_body_sees_all_of_its_own_sky() -> None:
    vertices, normals, faces = _ball(80.0, (5.0, -3.0, 900.0))
    seen = vertex_visibility(vertices, normals, faces, DIRECTIONS)
    cosine = normals @ DIRECTIONS.T
    assert (seen[cosine < 0] == 0).all()
    assert seen[cosine > 0.2].min() > 0.999
    irradiance = (seen * cosine.clamp(min=0)).sum(1) / cosine.clamp(min=0).sum(1)
    assert irradiance.min() > 0.97


def test_a_ball_hides_a_cone() -> None:
    """Under the centre of a ball of radius r at height h, directions within asin(r / distance) are dark."""
    plate, faces = _plate(60.0, 0.0)
    ball, normals, ball_faces = _ball(25.0, (0.0, 0.0, 60.0))
    vertices, all_normals = torch.cat([plate, ball]), torch.cat([_up(len(plate)), normals])
    seen = vertex_visibility(vertices, all_normals, torch.cat([faces, ball_faces + len(plate)]), DIRECTIONS)
    towards = torch.nn.functional.normalize(torch.tensor([0.0, 0, 60.0]) - plate, dim=1)
    distance = (torch.tensor([0.0, 0, 60.0]) - plate).norm(dim=1)
    angle = torch.acos((towards @ DIRECTIONS.T).clamp(-1, 1)) - torch.asin(25.0 / distance)[:, None]
    sure = (DIRECTIONS[:, 2] > 0.1)[None] & (angle.abs() > np.radians(3.0))
    dark = sure & (angle < 0)
    assert dark.sum() > 500
    assert seen[: len(plate)][dark].mean() < 0.01
    assert seen[: len(plate)][sure & (angle > 0)].mean() > 0.99


def test_the_frame_of_the_vertices_does_not_matter() -> None:
    vertices, faces = _plate(60.0, 0.0)
    upper, upper_faces = _plate(30.0, 40.0)
    vertices, faces = torch.cat([vertices, upper]), torch.cat([faces, upper_faces + len(vertices)])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turn = turn * torch.sign(torch.linalg.det(turn))
    one = vertex_visibility(vertices, _up(len(vertices)), faces, DIRECTIONS)
    two = vertex_visibility(
        vertices @ turn.T + 300.0, _up(len(vertices)) @ turn.T, faces, DIRECTIONS @ turn.T
    )
    assert (one - two).abs().mean() < 0.02
