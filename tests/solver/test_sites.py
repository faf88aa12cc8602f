"""Light sites of dense meshes: how they lie, what other vertices take from them, and how little is lost."""

from __future__ import annotations

import pytest
import torch
from nextgenface.rendering import sites
from nextgenface.rendering.deferred import Pose, shade_vertices, trace_transfer
from nextgenface.rendering.light import lobe_centres
from nextgenface.rendering.raster import mixed
from nextgenface.rendering.sites import Sites, light_sites

SIDE = 70


def sheet() -> tuple[torch.Tensor, torch.Tensor]:
    """A bulging sheet of 4,900 vertices about a millimetre apart, as dense as a scanned face."""
    across = torch.linspace(-35, 35, SIDE)
    y, x = torch.meshgrid(across, across, indexing="ij")
    z = 20 * torch.exp(-(x**2 + y**2) / 500) + 3 * torch.cos(x / 7)
    vertices = torch.stack([x, y, z], -1).view(-1, 3)
    i = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    a, b, c, d = (q.reshape(-1) for q in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    return vertices, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> Sites:
    monkeypatch.setattr(sites, "MOST", 1000)
    found = light_sites(*sheet())
    assert found is not None
    return found


def test_a_mesh_that_is_not_dense_keeps_every_vertex() -> None:
    assert light_sites(*sheet()) is None


def test_sites_are_apart_and_every_vertex_has_one_beside_it(dense: Sites) -> None:
    vertices, faces = sheet()
    chosen = dense.chosen()
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    length = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=1)
    assert (length[chosen[edges].all(1)] >= sites.REACH).all()
    assert 0.2 < chosen.float().mean() < 0.6
    assert chosen[dense.of.view(-1)].all()
    assert torch.allclose(dense.share.sum(1), torch.ones(len(vertices)), atol=1e-5)
    mine = dense.share[chosen]
    assert (mine[:, 0] == 1).all() and (mine[:, 1:] == 0).all()
    # the sites lie around a vertex: a slope is reproduced to a fraction of a millimetre
    places = mixed(dense.of, dense.share, vertices)
    assert (places - vertices)[~chosen].norm(dim=1).median() < 0.4


def test_long_edges_are_never_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MOST", 1000)
    vertices, faces = sheet()
    found = light_sites(3 * vertices, faces)
    assert found is not None and found.chosen().all()


def test_shares_go_to_the_sites_that_are_left(dense: Sites) -> None:
    kept = torch.nonzero(dense.chosen())[::2, 0]
    left = dense.among(kept)
    total = left.share.sum(1)
    assert (((total - 1).abs() < 1e-5) | (total == 0)).all()
    assert torch.isin(left.of[left.share > 0], kept).all()


def test_the_light_is_that_of_all_vertices(dense: Sites) -> None:
    vertices, faces = sheet()
    pose = Pose(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, 500.0]),
        torch.tensor(800.0), torch.tensor([64.0, 64.0]),
    )  # fmt: skip
    lamp = 0.2 + 8 * (lobe_centres() @ torch.tensor([0.6, 0.5, 0.62]) - 0.6).clamp(min=0)
    skin = torch.full_like(vertices, 0.5)
    rough = torch.full((len(vertices),), 0.5)
    light = []
    for chosen in (None, dense):
        moved = vertices.clone().requires_grad_()
        transfer = trace_transfer(vertices, faces, pose, sites=chosen)
        camera = pose.camera_space(moved)
        shading = shade_vertices(camera, faces, lamp[:, None].expand(-1, 3), skin, rough, transfer)
        shading.diffuse.sum().backward()
        assert moved.grad is not None
        light.append((shading, moved.grad))
    (whole, slope), (fewer, guess) = light
    inside = (vertices[:, :2].abs() < 32).all(1)  # a rim has neighbours on one side alone
    off = (fewer.diffuse - whole.diffuse)[inside].abs() / whole.diffuse.mean()
    assert off.mean() < 0.01 and off.quantile(0.99) < 0.05
    assert (fewer.glossy - whole.glossy)[inside].abs().mean() < 0.05 * whole.glossy.mean()
    assert torch.equal(fewer.cos_view, whole.cos_view)
    # what a broad bend of the surface does to the light has the same gradient
    bend = torch.stack([torch.zeros(len(vertices)), torch.zeros(len(vertices)), vertices[:, 0] / 35], 1)
    assert float((guess * bend).sum()) == pytest.approx(float((slope * bend).sum()), rel=0.05)


def test_few_vertices_ask_for_few_sites(dense: Sites) -> None:
    vertices, faces = sheet()
    pose = Pose(
        torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, 500.0]),
        torch.tensor(800.0), torch.tensor([64.0, 64.0]),
    )  # fmt: skip
    transfer = trace_transfer(vertices, faces, pose, sites=dense)
    wanted = torch.tensor([[2400, 2401, 2470]])
    few = transfer.at(wanted, len(vertices))
    assert len(few.used) <= 3 * sites.NEAREST
    assert torch.isin(dense.of[wanted.view(-1)].unique(), few.used).all()
