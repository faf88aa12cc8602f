"""The rasteriser: exact coverage, closed surfaces, depth order, perspective, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nextgenface.rendering import raster
from nextgenface.rendering.raster import Fragments, rasterize, visible_faces
from scipy.spatial import Delaunay

pytestmark = pytest.mark.usefixtures("one_thread")

TRIANGLE = torch.tensor([[0, 1, 2]])


def _inside(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) whether pixel centres lie inside a triangle, from the signs of three cross products."""
    y, x = np.mgrid[:height, :width] + 0.5
    sides = []
    for k in range(3):
        (ax, ay), (bx, by) = corners[k], corners[(k + 1) % 3]
        sides.append((bx - ax) * (y - ay) - (by - ay) * (x - ax))
    return np.all(np.stack(sides) > 0, 0) | np.all(np.stack(sides) < 0, 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_coverage_is_that_of_pixel_centres(order: tuple[int, int, int]) -> None:
    corners = np.array([[1.2, 0.7], [14.1, 3.9], [4.3, 11.4]])
    found = rasterize(torch.tensor(corners).float(), torch.full((3,), 500.0), torch.tensor([order]), 12, 16)
    expected = _inside(corners, 12, 16)
    assert np.array_equal(found.coverage().numpy() > 0, expected)
    assert found.pixel.tolist() == np.flatnonzero(expected).tolist()
    assert torch.allclose(found.weights.sum(1), torch.ones(len(found.pixel)))


def test_one_pixel_at_its_place() -> None:
    """A tiny triangle around the centre (5.5, 2.5) covers column 5 of row 2 and nothing else."""
    screen = torch.tensor([[5.3, 2.3], [5.8, 2.4], [5.4, 2.8]])
    found = visible_faces(screen, torch.ones(3), TRIANGLE, 4, 8)
    assert torch.nonzero(found >= 0).tolist() == [[2, 5]]


def test_neighbours_leave_no_holes() -> None:
    rng = np.random.default_rng(0)
    for count, size in ((300, 64), (4000, 200)):
        frame = [[-5, -5], [size + 5, -5], [-5, size + 5], [size + 5, size + 5]]
        points = np.concatenate([rng.uniform(0, size, (count, 2)), frame])
        # vertices exactly on pixel centres, and edges through rows of them, are the hard cases
        points[: count // 3] = np.round(points[: count // 3]) + 0.5
        points = np.unique(points, axis=0)
        faces = torch.tensor(Delaunay(points).simplices, dtype=torch.int64)
        depth = torch.tensor(rng.uniform(400, 900, len(points))).float()
        found = visible_faces(torch.tensor(points).float(), depth, faces, size, size)
        assert (found >= 0).all()


def test_nearer_faces_win_and_crossing_planes_cut_where_they_meet() -> None:
    square = torch.tensor([[0.0, 0], [20, 0], [20, 20], [0, 20]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    flat, other = torch.full((4,), 500.0), torch.full((4,), 480.0)
    screen = torch.cat([square, square])
    front = visible_faces(screen, torch.cat([flat, other]), faces, 20, 20)
    assert (front >= 2).all()
    swapped = visible_faces(screen, torch.cat([other, flat]), faces, 20, 20)
    assert (swapped < 2).all()
    # 1/z of the slanted plane is linear over the picture and meets 1/500 in the column 8
    inverse = 1 / 500 + (screen[4:, 0] - 8.0) * 1e-5
    cut = visible_faces(screen, torch.cat([flat, 1 / inverse]), faces, 20, 20)
    assert (cut[:, :8] < 2).all() and (cut[:, 8:] >= 2).all()
    # orthographic depth is linear itself: z = 500 - (x - 8) is nearer right of column 8
    sloped = torch.cat([flat, 500 - (screen[4:, 0] - 8.0)])
    assert torch.equal(visible_faces(screen, sloped, faces, 20, 20, orthographic=True) >= 2, cut >= 2)


def test_what_is_behind_the_camera_or_has_no_area_is_not_drawn() -> None:
    screen = torch.tensor([[0.0, 0], [20, 0], [0, 20]])
    assert (visible_faces(screen, torch.tensor([500.0, -3.0, 500.0]), TRIANGLE, 20, 20) == -1).all()
    line = torch.tensor([[0.0, 0], [10, 10], [20, 20]])
    assert (visible_faces(line, torch.full((3,), 500.0), TRIANGLE, 20, 20) == -1).all()
    assert len(rasterize(screen + 100, torch.full((3,), 500.0), TRIANGLE, 20, 20).pixel) == 0


def test_interpolation_is_perspective_correct() -> None:
    """Interpolated camera positions project back to the pixel they were drawn at."""
    focal, centre = 200.0, 32.0
    corners = torch.tensor([[-80.0, -70, 400], [90, -60, 900], [-10, 85, 600]])
    screen = focal * corners[:, :2] / corners[:, 2:] + centre
    found = rasterize(screen, corners[:, 2], TRIANGLE, 64, 64)
    assert len(found.pixel) > 300
    place = found.interpolate(corners)
    pixel = focal * place[:, :2] / place[:, 2:] + centre
    assert torch.allclose(pixel[:, 0], (found.pixel % 64) + 0.5, atol=1e-3)
    assert torch.allclose(pixel[:, 1], torch.div(found.pixel, 64, rounding_mode="floor") + 0.5, atol=1e-3)
    normal = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    assert ((place - corners[0]) @ (normal / normal.norm())).abs().max() < 1e-3


def test_pictures_and_subsets() -> None:
    found = rasterize(torch.tensor([[0.0, 0], [9, 0], [0, 9]]), torch.full((3,), 5.0), TRIANGLE, 8, 8)
    picture = found.picture(torch.ones(len(found.pixel), 2) * 3.0, background=-1.0)
    assert picture.shape == (8, 8, 2)
    assert picture[0, 0].tolist() == [3.0, 3.0] and picture[7, 7].tolist() == [-1.0, -1.0]
    rows = torch.tensor([4, 1])
    part = found.subset(rows)
    assert torch.equal(part.pixel, found.pixel[rows]) and torch.equal(part.weights, found.weights[rows])
    assert part.coverage().sum() == 2


def test_memory_bound_does_not_change_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    screen = torch.tensor(rng.uniform(-5, 45, (90, 2))).float()
    depth = torch.tensor(rng.uniform(400, 900, 90)).float()
    faces = torch.tensor(rng.permutation(90).reshape(30, 3))
    whole = visible_faces(screen, depth, faces, 40, 40)
    monkeypatch.setattr(raster, "_CHUNK", 100)
    assert torch.equal(visible_faces(screen, depth, faces, 40, 40), whole)


def test_gradients_of_interpolated_attributes_match_finite_differences() -> None:
    g = torch.Generator().manual_seed(1)
    corners = torch.tensor([[-80.0, -70, 400], [90, -60, 900], [-10, 85, 600], [95, 80, 700]]).double()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    attribute = torch.randn(4, 3, generator=g).double()
    mixed = torch.randn(64 * 64, 3, generator=g).double()

    def draw(vertices: torch.Tensor) -> tuple[torch.Tensor, Fragments]:
        screen = 200.0 * vertices[:, :2] / vertices[:, 2:] + 32.0
        found = rasterize(screen, vertices[:, 2], faces, 64, 64)
        return (found.interpolate(attribute) * mixed[found.pixel]).sum(), found

    vertices = corners.clone().requires_grad_()
    value, before = draw(vertices)
    value.backward()
    assert vertices.grad is not None and vertices.grad.abs().min() > 0
    step = 1e-6
    for index in np.ndindex(4, 3):
        moved = corners.clone()
        moved[index] += step
        up, found = draw(moved)
        assert torch.equal(found.face, before.face)  # away from edges: the same faces are seen
        moved[index] -= 2 * step
        slope = (up - draw(moved)[0]) / (2 * step)
        assert vertices.grad[index].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)
