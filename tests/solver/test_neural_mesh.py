"""The mesh method: topology, hull, remeshing, shader, optimisation."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nextgenface.errors import Cancelled, CheckpointError, NextGenFaceError
from nextgenface.events import NullListener
from nextgenface.multiview.datasets import nds
from nextgenface.multiview.method import Request
from nextgenface.multiview.neural_shading import remesh as remeshing
from nextgenface.multiview.neural_shading.hull import HullError, estimate_bounds, visual_hull
from nextgenface.multiview.neural_shading.initial import octahedral_sphere
from nextgenface.multiview.neural_shading.method import reconstruct
from nextgenface.multiview.neural_shading.optimise import NeuralMesh
from nextgenface.multiview.neural_shading.options import MeshOptions
from nextgenface.multiview.neural_shading.regularisers import Connectivity, differential, normal_loss
from nextgenface.multiview.neural_shading.remesh import Remesher, RemeshError
from nextgenface.multiview.neural_shading.shader import NeuralShader, ShaderConfig, load_shader, save_shader
from nextgenface.multiview.neural_shading.topology import components, defect, edges_of, largest_piece
from nextgenface.views import Bounds, ViewSet
from scipy.spatial import cKDTree
from small_object import bumpy_ball, photographed

SMALL = {
    "hidden_features_size": "32",
    "hidden_features_layers": "1",
    "texture_size": "64",
    "color_steps": "5",
}


def to_surface(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    samples = np.concatenate([vertices, corner.mean(1), (corner + corner[:, [1, 2, 0]]).reshape(-1, 3) / 2])
    return np.asarray(cKDTree(samples).query(points)[0])


# ---- topology -----------------------------------------------------------------------------------------


def test_the_sphere_is_closed_and_outward() -> None:
    vertices, faces = octahedral_sphere(6)
    assert len(faces) == 8 * 36 and defect(vertices, faces) is None
    assert (edges_of(faces).count == 2).all()
    corner = vertices[faces]
    volume = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])).sum() / 6
    assert 0.9 * 4 / 3 * np.pi < volume < 4 / 3 * np.pi


def test_defects_are_named() -> None:
    vertices, faces = octahedral_sphere(4)
    broken = vertices.copy()
    broken[3, 1] = np.nan
    assert "finite" in str(defect(broken, faces))
    assert "does not exist" in str(defect(vertices, faces + 1000))
    assert "manifold" in str(defect(vertices, np.concatenate([faces, faces[:1]])))
    flipped = faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert "manifold" in str(defect(vertices, flipped))
    flat = vertices.copy()
    flat[faces[0, 1]] = flat[faces[0, 0]]
    assert "area" in str(defect(flat, faces))
    # two spheres that share one vertex
    other = faces + len(vertices)
    other[other == other[0, 0]] = faces[0, 0]
    both = np.concatenate([vertices, vertices + (2.0, 0, 0)])
    assert "single vertex" in str(defect(both, np.concatenate([faces, other])))


def test_the_largest_piece_is_kept() -> None:
    vertices, faces = octahedral_sphere(4)
    both = np.concatenate([vertices, 0.3 * vertices + 5])
    everything = np.concatenate([faces, faces + len(vertices)])
    assert len(np.unique(components(len(both), everything))) == 2
    kept, kept_faces, pieces = largest_piece(both, everything)
    assert pieces == 2 and len(kept) == len(vertices) and defect(kept, kept_faces) is None


# ---- regularisers -------------------------------------------------------------------------------------


def test_a_regular_fan_has_no_differential_coordinate() -> None:
    angle = np.arange(6) * np.pi / 3
    vertices = np.concatenate([[(0, 0, 0)], np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)])
    faces = np.array([(0, 1 + i, 1 + (i + 1) % 6) for i in range(6)])
    connectivity = Connectivity.of(faces, 7, "cpu")
    flat = torch.tensor(vertices, dtype=torch.float32)
    assert differential(flat, connectivity)[0].norm() < 1e-6
    raised = flat.clone()
    raised[0, 2] = 0.5
    assert differential(raised, connectivity)[0, 2] == pytest.approx(-0.5)


def test_normal_consistency_is_one_at_a_right_angle() -> None:
    normals = torch.tensor([[0.0, 0, 1], [0, 1, 0]])
    faces = np.array([(0, 1, 2), (1, 0, 3)])
    assert float(normal_loss(normals, Connectivity.of(faces, 4, "cpu"))) == pytest.approx(1.0)


# ---- remeshing ----------------------------------------------------------------------------------------


def test_remeshing_makes_a_finer_clean_surface_where_the_old_one_was() -> None:
    vertices, faces = octahedral_sphere(6)
    with Remesher() as remesher:
        fine, fine_faces = remesher.remesh(vertices, faces, 0.12, max_faces=5000)
    assert len(fine_faces) > 2 * len(faces) and defect(fine, fine_faces) is None
    assert np.abs(np.linalg.norm(fine, axis=1) - 1).max() < 0.05


def test_remeshing_refuses_what_it_cannot_do() -> None:
    vertices, faces = octahedral_sphere(4)
    broken = vertices.copy()
    broken[0] = np.inf
    with Remesher() as remesher:
        with pytest.raises(RemeshError, match="finite"):
            remesher.remesh(broken, faces, 0.2, max_faces=5000)
        with pytest.raises(RemeshError, match="limit"):
            remesher.remesh(vertices, faces, 0.001, max_faces=5000)
        assert remesher._child is None  # nothing was started for these


def test_a_hanging_remesher_is_stopped_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = octahedral_sphere(4)
    real = sys.executable
    with Remesher(seconds=0.5) as remesher:
        monkeypatch.setattr(remeshing, "CHILD", (real, "-c", "import time; time.sleep(60)"))
        begun = time.monotonic()
        with pytest.raises(RemeshError, match="stopped"):
            remesher.remesh(vertices, faces, 0.3, max_faces=5000)
        assert time.monotonic() - begun < 10
        monkeypatch.setattr(remeshing, "CHILD", (real, "-c", "import os; os._exit(3)"))
        with pytest.raises(RemeshError, match="unexpectedly"):
            remesher.remesh(vertices, faces, 0.3, max_faces=5000)


def test_a_bad_answer_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = octahedral_sphere(4)
    remesher = Remesher()
    monkeypatch.setattr(remesher, "_ask", lambda *_: (vertices, faces[:-1]))
    with pytest.raises(RemeshError, match="holes"):
        remesher.remesh(vertices, faces, 0.3, max_faces=5000)
    monkeypatch.setattr(remesher, "_ask", lambda *_: (3 * vertices, faces))
    with pytest.raises(RemeshError, match="beyond"):
        remesher.remesh(vertices, faces, 0.3, max_faces=5000)


# ---- the hull -----------------------------------------------------------------------------------------


def test_the_hull_encloses_the_object_and_touches_its_silhouettes() -> None:
    views = photographed(8)
    vertices, _ = bumpy_ball()
    hull = visual_hull(views, 32)
    assert defect(hull.vertices, hull.faces) is None and hull.warnings == ()
    assert (edges_of(hull.faces).count == 2).all()
    assert to_surface(vertices, hull.vertices, hull.faces).mean() < 4.0  # mm, the ball's radius is 80


def test_the_box_is_estimated_from_masks() -> None:
    views = photographed(8)
    found = estimate_bounds(ViewSet(views.views))
    assert views.bounds is not None
    assert (
        np.abs(found.low - views.bounds.low).max() < 12 and np.abs(found.high - views.bounds.high).max() < 12
    )


def test_an_empty_hull_names_the_view_that_carved_it() -> None:
    views = photographed(6)
    corner = np.zeros_like(views[2].mask)
    corner[2:6, 2:6] = 1
    wrong = replace(views[2], mask=corner)
    with pytest.raises(HullError, match="view_2"):
        visual_hull(ViewSet((*views.views[:2], wrong, *views.views[3:]), views.bounds), 16)
    nothing = replace(views[4], mask=np.zeros_like(views[4].mask))
    with pytest.raises(HullError, match="view_4 is empty"):
        visual_hull(ViewSet((*views.views[:4], nothing, views[5]), views.bounds), 16)


def test_an_empty_hull_names_the_convention_or_the_box() -> None:
    views = photographed(6)
    flip = np.diag((1.0, -1.0, -1.0))
    opengl = [replace(v, camera=replace(v.camera, R=flip @ v.camera.R, t=flip @ v.camera.t)) for v in views]
    with pytest.raises(HullError, match="OpenCV"):
        visual_hull(ViewSet(tuple(opengl), views.bounds), 16)
    with pytest.raises(HullError, match="box"):
        visual_hull(ViewSet(views.views, Bounds((500, 0, 0), (600, 100, 100))), 16)
    with pytest.raises(HullError, match="mask"):
        visual_hull(ViewSet(tuple(replace(v, mask=None) for v in views), views.bounds), 16)


# ---- the shader ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["none", "gfft", "positional"])
@pytest.mark.parametrize("activation", ["relu", "sine"])
def test_a_shader_survives_its_file(tmp_path: Path, encoding: str, activation: str) -> None:
    config = ShaderConfig(1, 16, encoding, activation)  # type: ignore[arg-type]
    shader = NeuralShader(config, seed=3)
    inputs = [torch.nn.functional.normalize(torch.randn(5, 3), dim=1) for _ in range(3)]
    before = shader(*inputs)
    assert before.shape == (5, 3) and (before > 0).all() and (before < 1).all()
    save_shader(tmp_path / "shader.pt", shader, {"centre": [0, 0, 0], "scale": 1.0})
    again, space = load_shader(tmp_path / "shader.pt")
    assert torch.equal(again(*inputs), before) and space["scale"] == 1.0


def test_the_published_size_of_the_shader() -> None:
    # three hidden layers of 256 with positional encoding: 320,899 parameters
    assert sum(p.numel() for p in NeuralShader().parameters()) == 320_899


def test_files_that_are_no_shader_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no shader")
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        load_shader(tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="no shader file"):
        load_shader(tmp_path / "missing.pt")


# ---- the whole ----------------------------------------------------------------------------------------


def test_steps_bring_a_ball_nearer_to_the_object() -> None:
    views, way = photographed(6).normalised()
    truth, _ = bumpy_ball()
    ball, faces = octahedral_sphere(8)
    options = MeshOptions(iterations=60, hidden_features_size=32, hidden_features_layers=1, lr_vertices=3e-3)
    mesh = NeuralMesh(0.8 * ball, faces, views, options, "cpu")
    before = to_surface(way.apply(truth), 0.8 * ball, faces).mean()
    losses = [mesh.step(i) for i in range(60)]
    after = to_surface(way.apply(truth), mesh.vertices.detach().numpy(), mesh.faces).mean()
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert after < 0.6 * before


class _StopAt(NullListener):
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        self.seen = step

    def cancelled(self) -> bool:
        return self.seen >= self.step


def _request(folder: Path, output: Path, **more: object) -> Request:
    options = {
        **SMALL, "initial_mesh": "sphere6", "iterations": "12", "upsample_iterations": "6",
        "save_frequency": "6", "visualization_frequency": "6", "max_faces": "2000",
    }  # fmt: skip
    return Request((folder,), output, options=options, held_out=("view_1",), **more)  # type: ignore[arg-type]


def test_a_stopped_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    nds.write(tmp_path / "ball", photographed(5, 48))
    straight = reconstruct(_request(tmp_path / "ball", tmp_path / "a"), NullListener())
    with pytest.raises(Cancelled):
        reconstruct(_request(tmp_path / "ball", tmp_path / "b"), _StopAt(8))
    assert not (tmp_path / "b" / "result.json").exists()
    resumed = reconstruct(_request(tmp_path / "ball", tmp_path / "b", resume=True), NullListener())
    with np.load(straight.parent / "geometry.npz") as one, np.load(resumed.parent / "geometry.npz") as two:
        assert np.array_equal(one["faces"], two["faces"])
        assert np.allclose(one["vertices"], two["vertices"], atol=1e-3)
    names = {p.relative_to(straight.parent).as_posix() for p in straight.parent.rglob("*") if p.is_file()}
    assert {
        "mesh.ply", "mesh.obj", "mesh.mtl", "texture.png", "bbox.txt", "meshes/mesh_000012.obj",
        "shaders/shader_000006.pt", "images/shaded/neuralshading_12.png", "render_0.png",
    } <= names  # fmt: skip


def test_too_few_views_are_named(tmp_path: Path) -> None:
    nds.write(tmp_path / "ball", photographed(3, 32))
    with pytest.raises(NextGenFaceError, match="too few"):
        reconstruct(_request(tmp_path / "ball", tmp_path / "out"), NullListener())
