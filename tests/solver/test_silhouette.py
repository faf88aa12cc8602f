"""Antialiased silhouettes: coverage, its gradient, colours, folds, seams, parts before others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.geometry.ply import write_ply
from nextgenface.rendering.llvm import activate, select_variant
from nextgenface.rendering.raster import rasterize
from nextgenface.rendering.silhouette import Edges, Outline, find_outline, mesh_edges
from scipy.spatial import ConvexHull
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")

DISTANCE = 600.0
FIELD = 2.4  # focal length in picture widths


def blob(face_count: int) -> tuple[Tensor, Tensor]:
    """A closed surface with dents and folds, about 90 mm in radius: vertices (V, 3), faces (F, 3)."""
    number = face_count // 2 + 2
    i = np.arange(number) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / number), np.pi * (1 + 5**0.5) * i
    p = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], 1)
    faces = ConvexHull(p).simplices.astype(np.int64)
    a, b, c = (p[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    bumps = 1 + 0.18 * np.sin(4 * p[:, 0] + 0.4) * np.cos(5 * p[:, 1])
    bumps += 0.12 * np.sin(7 * p[:, 2] + 3 * p[:, 0])
    return torch.tensor(90 * p * bumps[:, None]).float(), torch.tensor(faces)


def project(vertices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    z = vertices[:, 2] + DISTANCE
    return vertices[:, :2] * (FIELD * size) / z[:, None] + size / 2, z


def outline(vertices: Tensor, faces: Tensor, size: int, edges: Edges | None = None) -> Outline:
    screen, depth = project(vertices, size)
    fragments = rasterize(screen, depth, faces, size, size)
    return find_outline(fragments, screen, depth, edges or mesh_edges(faces))


def supersampled(vertices: Tensor, faces: Tensor, size: int, by: int, colours: Tensor) -> Tensor:
    """(size, size, C) the picture averaged over by x by samples a pixel."""
    screen, depth = project(vertices, size * by)
    fragments = rasterize(screen, depth, faces, size * by, size * by)
    picture = fragments.picture(fragments.interpolate(colours))
    return torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1), by).permute(1, 2, 0)


def weighting(size: int) -> Tensor:
    """(H, W) smooth weights, so that the sum tells one part of the outline from another."""
    axis = torch.arange(size) / size
    return 1 + torch.sin(5 * axis[:, None] + 1) * torch.cos(4 * axis[None, :])


def moved(vertices: Tensor, how: Tensor) -> Tensor:
    """Scaled by 1 + how[0] and shifted by how[1:] * 100 mm."""
    return vertices * (1 + how[0]) + 100 * how[1:]


def coverage_gradient(vertices: Tensor, faces: Tensor, size: int, weight: Tensor) -> np.ndarray:
    """(4,) d sum(weight * coverage) / d (scale, x, y, z) of `moved`, by the rasteriser."""
    how = torch.zeros(4, requires_grad=True)
    (outline(moved(vertices, how), faces, size).coverage() * weight).sum().backward()
    assert how.grad is not None
    return how.grad.numpy()


@pytest.mark.parametrize("count", [300, 80_000])
def test_coverage_and_its_gradient_agree_with_supersampling(count: int) -> None:
    size, by = 128, 6
    vertices, faces = blob(count)
    weight, one = weighting(size), torch.ones(len(vertices), 1)
    found = outline(vertices, faces, size)
    smooth, hard = found.coverage(), found.fragments.coverage()
    truth = supersampled(vertices, faces, size, by, one)[..., 0]
    assert (smooth - truth).abs().mean() < 0.12 * (hard - truth).abs().mean()
    slopes = []
    for step in 0.015 * torch.eye(4):
        up, down = (supersampled(moved(vertices, s * step), faces, size, by, one)[..., 0] for s in (1, -1))
        slopes.append(float(((up - down) * weight).sum()) / 0.03)
    gradient = coverage_gradient(vertices, faces, size, weight)
    assert gradient[0] == pytest.approx(slopes[0], rel=0.02)
    assert np.abs(gradient - slopes).max() < 0.02 * np.linalg.norm(slopes)


def mitsuba_gradient(path: Path, vertices: Tensor, faces: Tensor, size: int, weight: Tensor) -> np.ndarray:
    """The same derivatives by Mitsuba's projective boundary sampling (a glowing blob before black)."""
    pytest.importorskip("mitsuba")
    found = select_variant("cpu")
    if not found.name.endswith("ad_rgb"):
        pytest.skip(f"Mitsuba has no gradients here: {found.reason}")
    mi = activate(found)
    import drjit as dr

    write_ply(path, vertices.numpy(), faces.numpy())
    transform = mi.ScalarTransform4f().look_at(origin=[0, 0, -DISTANCE], target=[0, 0, 0], up=[0, -1, 0])
    film = {"type": "hdrfilm", "width": size, "height": size, "pixel_format": "luminance"}
    scene = {
        "type": "scene",
        "integrator": {"type": "prb_projective", "sppc": 0, "sppp": 64, "sppi": 0, "max_depth": 2},
        "sensor": {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(0.5 / FIELD))),
            "to_world": transform,
            "film": {**film, "rfilter": {"type": "box"}, "sample_border": True},
        },
        "blob": {
            "type": "ply",
            "filename": str(path),
            "face_normals": True,
            "light": {"type": "area", "radiance": {"type": "rgb", "value": 1.0}},
            "skin": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}},
        },
    }
    loaded = mi.load_dict(scene)
    parameters = mi.traverse(loaded)
    key = "blob.vertex_positions"
    dr.enable_grad(parameters[key])
    parameters.update()
    picture = mi.render(loaded, parameters, seed=1)
    dr.backward(dr.sum(picture * mi.TensorXf(weight.numpy()[..., None]), axis=None))
    gradient = np.array(dr.grad(parameters[key])).reshape(-1, 3)
    return np.array([(gradient * vertices.numpy()).sum(), *(100 * gradient.sum(0))])


@pytest.mark.parametrize("count", [300, 5_000])
def test_the_gradient_agrees_with_mitsuba(count: int, tmp_path: Path) -> None:
    vertices, faces = blob(count)
    weight = weighting(128)
    expected = mitsuba_gradient(tmp_path / "blob.ply", vertices, faces, 128, weight)
    gradient = coverage_gradient(vertices, faces, 128, weight)
    assert gradient[0] == pytest.approx(expected[0], rel=0.02)
    assert np.abs(gradient - expected).max() < 0.02 * np.linalg.norm(expected)


def test_a_part_before_another_blends_their_colours_and_has_the_right_gradient() -> None:
    size, by = 96, 8
    vertices, faces = blob(1200)
    near, centre = 0.3 * vertices, torch.tensor([25.0, 10.0, -150.0])
    both = torch.cat([faces, faces + len(vertices)])
    edges, weight = mesh_edges(both), weighting(size)[..., None]
    colours = torch.cat([torch.full((len(vertices), 1), 0.9), torch.full((len(vertices), 1), 0.2)])

    def place(how: Tensor) -> Tensor:
        return torch.cat([vertices, moved(near, how) + centre])

    def drawn(how: Tensor, smooth: bool = True) -> Tensor:
        found = outline(place(how), both, size, edges)
        picture = found.fragments.picture(found.fragments.interpolate(colours))
        return found.blend(picture) if smooth else picture

    still = torch.zeros(4)
    truth = supersampled(place(still), both, size, by, colours)
    inside = truth.min(dim=2).values > 0.15  # the near part's outline lies on the far part, not on nothing
    hard = (drawn(still, smooth=False) - truth)[inside].abs().mean()
    assert (drawn(still) - truth)[inside].abs().mean() < 0.25 * hard
    slopes = []
    for step in 0.02 * torch.eye(4):
        up, down = (supersampled(place(sign * step), both, size, by, colours) for sign in (1, -1))
        slopes.append(float(((up - down) * weight).sum()) / 0.04)
    # the part is twenty pixels wide: averaged over four places between the pixels
    how = torch.zeros(4, requires_grad=True)
    for x, y in ((0.0, 0.0), (0.003, 0.002), (0.006, 0.011), (0.013, 0.007)):
        (drawn(how + torch.tensor([0, x, y, 0])) * weight).sum().backward()
    assert how.grad is not None
    assert np.abs(how.grad.numpy() / 4 - slopes).max() < 0.02 * np.linalg.norm(slopes)


def test_an_open_sheet_covers_its_exact_area() -> None:
    corners = torch.tensor([[-60.0, -45.0, 0], [70, -30, 0], [55, 62, 0], [-48, 40, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    screen, _ = project(corners, 200)
    x, y = screen.T
    area = 0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum().abs())
    found = outline(corners, faces, 200)
    assert float(found.coverage().sum()) == pytest.approx(area, rel=1e-3)
    assert abs(float(found.fragments.coverage().sum()) - area) > 0.2  # the aliased one is further off


def test_a_thin_strip_is_smoothed_on_both_sides() -> None:
    """1.4 pixels wide, upright: columns are covered by 0.2, 1 and 0.2."""
    size = 40
    left, right = 19.8 - size / 2, 21.2 - size / 2
    strip = torch.tensor([[left, -10, 0], [right, -10, 0], [right, 10, 0], [left, 10, 0]])
    vertices = strip * DISTANCE / (FIELD * size)
    found = outline(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), size).coverage()
    np.testing.assert_allclose(found[20, 18:23].numpy(), [0, 0.2, 1, 0.2, 0], atol=1e-3)


def test_seams_between_patches_are_no_outlines() -> None:
    vertices, faces = blob(2000)
    apart = vertices[faces.reshape(-1)]  # no two faces share a vertex, as along the seams of a UV layout
    split = torch.arange(len(apart)).view(-1, 3)
    whole = outline(vertices, faces, 128)
    loose = outline(apart, split, 128, mesh_edges(split, apart))
    colours = torch.sin(vertices / 7)
    a = whole.blend(whole.fragments.picture(whole.fragments.interpolate(colours)))
    b = loose.blend(loose.fragments.picture(loose.fragments.interpolate(colours[faces.reshape(-1)])))
    assert torch.allclose(a, b, atol=1e-4)


def test_edges_are_found_once_and_know_their_faces() -> None:
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [1, 2, 4]])  # three faces at the edge 1-2
    edges = mesh_edges(faces)
    assert sorted(map(tuple, edges.ends.tolist())) == [(0, 1), (0, 2), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4)]
    for face in range(3):
        for side in range(3):
            ends = [int(faces[face, side]), int(faces[face, (side + 1) % 3])]
            found = edges.ends[edges.edge_of[face, side]].tolist()
            assert found == (ends if edges.direction[face, side] > 0 else ends[::-1])


def test_nothing_in_sight_leaves_the_picture_as_it_is() -> None:
    vertices, faces = blob(300)
    found = outline(vertices + torch.tensor([9000.0, 0, 0]), faces, 32)
    picture = torch.rand(32, 32, 3)
    assert torch.equal(found.blend(picture), picture) and float(found.coverage().sum()) == 0
    behind = outline(vertices - torch.tensor([0, 0, 2 * DISTANCE]), faces, 32)
    assert float(behind.coverage().sum()) == 0
