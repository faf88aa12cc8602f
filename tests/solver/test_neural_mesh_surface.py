"""The mesh method: smooth displacements of a face, pieces that follow, the cut of what is unseen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nextgenface.errors import Cancelled
from nextgenface.events import CancelWhen, NullListener
from nextgenface.multiview.neural_shading import finish
from nextgenface.multiview.neural_shading.diffusion import Diffusion, UniformAdam
from nextgenface.multiview.neural_shading.finish import sharpen, widened
from nextgenface.multiview.neural_shading.initial import octahedral_sphere
from nextgenface.multiview.neural_shading.method import psnr
from nextgenface.multiview.neural_shading.optimise import Drawing, NeuralMesh
from nextgenface.multiview.neural_shading.options import MeshOptions
from nextgenface.multiview.neural_shading.shader import NeuralShader, ShaderConfig
from nextgenface.multiview.neural_shading.topology import compact, components, defect, edges_of, face_areas
from nextgenface.multiview.neural_shading.trim import cut, trim_unseen
from nextgenface.views import ViewSet
from small_object import photographed

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"hidden_features_size": 32, "hidden_features_layers": 1}


def boundary_lengths(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    edges = edges_of(faces)
    ends = edges.ends[edges.count == 1]
    return np.asarray(np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1))


# ---- diffusion ----------------------------------------------------------------------------------------


def test_diffusion_keeps_what_all_share_and_spreads_what_one_has() -> None:
    vertices, faces = octahedral_sphere(8)
    diffusion = Diffusion(vertices, faces, 20.0)
    shift = np.tile((1.0, -2.0, 0.5), (len(vertices), 1))
    assert np.allclose(diffusion.forward(shift), shift)
    one = np.zeros_like(vertices)
    one[5] = 1
    moved = np.linalg.norm(diffusion.forward(one), axis=1)
    assert moved.argmax() == 5 and moved[5] < 0.2 and (moved > 0.2 * moved[5]).sum() > 6


def test_diffusion_has_the_gradient_of_its_map() -> None:
    vertices, faces = octahedral_sphere(3)
    both = np.concatenate([vertices, 0.2 * vertices + (0.9, 0, 0)])
    diffusion = Diffusion(both, np.concatenate([faces, faces + len(vertices)]), 5.0)
    unknowns = torch.randn(len(both), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(diffusion, unknowns)


def test_a_small_piece_follows_what_is_around_it_without_a_change_of_shape() -> None:
    vertices, faces = octahedral_sphere(6)
    eye = 0.1 * vertices + (0, 0, 0.95)
    both, all_faces = np.concatenate([vertices, eye]), np.concatenate([faces, faces + len(vertices)])
    field = np.zeros_like(both)
    field[: len(vertices), 1] = vertices[:, 2]
    moved = Diffusion(both, all_faces, 0.1).forward(field)[len(vertices) :]
    assert np.ptp(moved, axis=0).max() < 1e-9 and 0.8 < moved[0, 1] < 1


def test_uniform_adam_leaves_alone_what_has_next_to_no_gradient() -> None:
    values = torch.zeros(2, requires_grad=True)
    optimiser = UniformAdam([values], lr=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        (values[0] * 1.0 + values[1] * 1e-6).backward()
        optimiser.step()
    assert torch.allclose(values.detach(), torch.tensor([-2.0, -2e-6]), rtol=1e-3)


def test_a_displaced_open_surface_comes_nearer_and_stays_even() -> None:
    views, way = photographed(6).normalised()
    ball, faces = octahedral_sphere(8)
    start, open_faces = compact(0.85 * ball, faces[ball[faces][:, :, 2].mean(1) > -0.2])
    options = MeshOptions(iterations=60, **SMALL)  # type: ignore[arg-type]
    mesh = NeuralMesh(start, open_faces, views, options, "cpu", anchored=True)
    losses = [mesh.step(i) for i in range(60)]
    after = mesh.vertices.detach().double().numpy()
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert np.linalg.norm(after - start, axis=1).max() > 0.02
    grown = boundary_lengths(after, open_faces) / boundary_lengths(start, open_faces)
    assert grown.min() > 0.5 and grown.max() < 2.0
    assert defect(after, open_faces) is None


# ---- cutting ------------------------------------------------------------------------------------------


def test_a_cut_is_a_clean_line_at_the_level() -> None:
    vertices, faces = octahedral_sphere(8)
    part, part_faces = cut(vertices, faces, vertices[:, 2] + 0.3 * vertices[:, 0], 0.113)
    assert defect(part, part_faces) is None and len(np.unique(components(len(part), part_faces))) == 1
    edges = edges_of(part_faces)
    rim = part[np.unique(edges.ends[edges.count == 1])]
    assert np.abs(rim[:, 2] + 0.3 * rim[:, 0] - 0.113).max() < 0.05  # NEAREST keeps it from being exact
    area = face_areas(part, part_faces).sum() / face_areas(vertices, faces).sum()
    assert abs(area - 0.5 * (1 - 0.113 / np.hypot(1, 0.3))) < 0.02


def test_what_no_view_sees_is_cut_away_along_a_smooth_line() -> None:
    views, _ = photographed(8).normalised()
    front = ViewSet(tuple(v for v in views if (v.camera.centre[2] > 0.1)), views.bounds)
    ball, faces = octahedral_sphere(20)
    mesh = NeuralMesh(0.8 * ball, faces, front, MeshOptions(**SMALL), "cpu")  # type: ignore[arg-type]
    said = trim_unseen(mesh, mesh.targets(1))
    assert said is not None and "seen in no view" in said
    after = mesh.vertices.detach().double().numpy()
    assert defect(after, mesh.faces) is None and (after[:, 2] > -0.1).mean() > 0.5
    assert after[:, 2].min() > -0.79  # the back is gone
    rim = boundary_lengths(after, mesh.faces).sum()
    assert rim < 1.25 * 2 * np.pi * 0.8  # a ragged line would be half as long again


def test_nothing_is_cut_from_what_all_views_together_see() -> None:
    views, _ = photographed(8).normalised()
    ball, faces = octahedral_sphere(12)
    mesh = NeuralMesh(0.8 * ball, faces, views, MeshOptions(**SMALL), "cpu")  # type: ignore[arg-type]
    assert trim_unseen(mesh, mesh.targets(1)) is None and len(mesh.faces) == len(faces)


# ---- the last stage -----------------------------------------------------------------------------------


def test_a_shader_with_more_octaves_starts_with_what_it_knew() -> None:
    few = NeuralShader(ShaderConfig(1, 16), seed=2)
    inputs = [torch.nn.functional.normalize(torch.randn(7, 3), dim=1) for _ in range(3)]
    many = widened(few, 8, seed=3)
    assert many.config.octaves == 8 and torch.allclose(many(*inputs), few(*inputs), atol=1e-6)


def test_the_last_stage_sharpens_the_colours_and_leaves_the_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "SAMPLES", 2048)
    views, _ = photographed(5).normalised()
    ball, faces = octahedral_sphere(8)
    options = MeshOptions(color_steps=40, **SMALL)  # type: ignore[arg-type]
    mesh = NeuralMesh(0.8 * ball, faces, views, options, "cpu")
    before, known = mesh.vertices.clone(), mesh.shader
    targets = mesh.targets(1)
    losses = sharpen(mesh, targets, NullListener(), lambda _: None).losses
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert mesh.shader is not known and torch.equal(mesh.vertices, before)
    # A stopped one leaves everything as it was, for the checkpoint.
    known, saved = mesh.shader, []
    with pytest.raises(Cancelled):
        sharpen(mesh, targets, CancelWhen(lambda: True), saved.append)
    assert mesh.shader is known and saved == [0]


# ---- scores -------------------------------------------------------------------------------------------


def test_a_part_of_the_object_is_scored_where_it_is_drawn() -> None:
    photo = np.full((8, 8, 3), 0.5, np.float32)
    shaded, coverage = np.ones_like(photo), np.zeros((8, 8), np.float32)
    shaded[:4], coverage[:4] = 0.6, 1
    drawing = Drawing(shaded, shaded, coverage)
    assert np.isclose(psnr(drawing, photo, np.ones((8, 8)), only_drawn=True), 20, atol=1e-3)
    assert psnr(drawing, photo, np.ones((8, 8)), only_drawn=False) < 10
    assert np.isclose(psnr(drawing, photo, None, only_drawn=False), 20, atol=1e-3)
