"""Every format's reader on a file that our own code wrote in exactly that format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from nextgenface.errors import ModelError
from nextgenface.events import NullListener
from nextgenface.facemodel import formats, registry
from nextgenface.facemodel.check import check_model
from nextgenface.facemodel.completion import complete, find_anchors
from nextgenface.facemodel.derive.landmarks import misfit
from nextgenface.facemodel.derive.layout import disc_map, unwrap
from nextgenface.facemodel.derive.meshes import boundary_loops, midpoint_step, pieces, split_seams
from nextgenface.facemodel.derive.modes import Modes, from_blendshapes, orthonormal
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.raw import RawModel, in_millimetres
from nextgenface.fitting.photometric import fit_photometric
from nextgenface.fitting.pose import fit_pose
from nextgenface.fitting.state import initial_state
from nextgenface.fitting.surface import shape_vertices
from nextgenface.fitting.whitened import whiten
from nextgenface.rendering.deferred import Pose
from numpy.typing import NDArray

from tests.solver import model_files
from tests.solver.model_files import WRITERS
from tests.solver.sampled_face import Sampled, source
from tests.solver.small_face import Truth, example, photograph, quick_config, shape_error

KINDS = tuple(WRITERS)
SMALL: dict[str, dict[str, float]] = {
    "bfm": {"vertices": 1800}, "flame": {"spacing": 7.0}, "ict": {"spacing": 7.0}, "gnm": {"spacing": 7.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Completed models are kept in a folder of this test; the built-in model stays where it is."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        source()
        patch.setattr("nextgenface.facemodel.stored.user_data_dir", lambda: home)
        yield


_written: dict[str, Sampled] = {}


def written(folder: Path, kind: str) -> tuple[Path, Sampled]:
    """The folder of a format's test model and the mesh it was made from; written once."""
    place = folder / kind
    if kind not in _written:
        _written[kind] = WRITERS[kind](place, **SMALL[kind])
    return place, _written[kind]


@lru_cache(maxsize=8)
def loaded(place: Path) -> FaceModel:
    """The completed model."""
    return registry.load_place(place)


def raw_of(place: Path) -> RawModel:
    found = formats.find(place)
    assert found is not None
    return formats.read(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_read_in_millimetres_with_its_statistics(folder: Path, kind: str) -> None:
    place, mesh = written(folder, kind)
    raw = raw_of(place)
    truth = mesh.take(source().shape_mean)
    here = raw.mean[: len(truth)]
    shift = (here - truth).mean(0)
    np.testing.assert_allclose(here - shift, truth, atol=2e-3)
    # One standard deviation of the whole model moves vertices as far as the built-in model's does.
    spread = np.sqrt((raw.shape.vectors**2 * raw.shape.variance[:, None, None]).sum((0, 2))).mean()
    own = source()
    full = np.sqrt((own.shape_basis**2 * own.shape_variance[:, None, None]).sum((0, 2))).mean()
    assert 0.5 * full < spread < 1.1 * full


@pytest.mark.parametrize("kind", KINDS)
def test_the_completed_model_is_whole(folder: Path, kind: str) -> None:
    place, mesh = written(folder, kind)
    model = loaded(place)
    assert check_model(model) == []
    count = len(mesh.take(source().shape_mean))
    assert model.vertex_count >= count and model.faces.max() < model.vertex_count
    assert (model.landmarks["mediapipe"] >= 0).sum() > 440 and (model.landmarks["ibug68"] >= 0).sum() > 60
    again = registry.load_place(place)
    assert (
        again.hash == model.hash
        and np.array_equal(again.uv, model.uv)
        and again.native.keys() == model.native.keys()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_landmarks_regions_and_colour_lie_where_the_built_in_face_has_them(folder: Path, kind: str) -> None:
    place, mesh = written(folder, kind)
    model, own = loaded(place), source()
    truth = mesh.take(own.shape_mean)
    shift = (model.shape_mean[: len(truth)] - truth).mean(0)
    table = model.landmarks["mediapipe"]
    sharp = [33, 133, 362, 263, 61, 291, 4, 0, 17, 152]
    gap = np.linalg.norm(
        model.shape_mean[table[sharp]] - shift - own.shape_mean[own.landmarks["mediapipe"][sharp]], axis=1
    )
    # Where no table is in the file, a detector found them in pictures: good to some millimetres.
    assert np.median(gap) < (4.5 if kind in ("ict", "gnm") else 3.0)
    count = len(truth)
    inner = ~(mesh.eyes | mesh.teeth)
    for name, most in (("skin", 0.2), ("lips", 0.06), ("brows", 0.06), ("border", 0.2)):
        gap = np.abs(mesh.take(own.regions[name]) - model.regions[name][:count])[inner]
        assert gap.mean() < most, (name, gap.mean())
    # Colour of the cheek: the built-in model's, whoever the file is from.
    cheek = (mesh.take(own.regions["cheeks"]) > 0.6) & (model.regions["skin"][:count] > 0.9)
    np.testing.assert_allclose(
        model.diffuse_mean[:count][cheek].mean(0), mesh.take(own.diffuse_mean)[cheek].mean(0), atol=0.02
    )


@pytest.mark.parametrize("kind", ["flame", "ict", "gnm"])
def test_eyes_and_teeth_stay_parts(folder: Path, kind: str) -> None:
    place, mesh = written(folder, kind)
    model = loaded(place)
    count = len(mesh.eyes)
    assert model.regions["eyes"][:count][mesh.eyes].min() > 0.9
    assert model.regions["skin"][:count][mesh.eyes | mesh.teeth].max() == 0
    iris = model.regions["iris"][:count] > 0.5
    assert iris.any() and not iris[~mesh.eyes].any()
    white = mesh.eyes & (model.regions["iris"][:count] < 0.1)
    assert model.diffuse_mean[:count][iris].mean() < 0.5 * model.diffuse_mean[:count][white].mean()
    if mesh.teeth.any():
        assert model.regions["teeth"][:count][mesh.teeth].min() > 0.9
        assert model.regions["mouth"][:count][mesh.teeth].min() > 0.9


def test_named_expressions_are_kept(folder: Path) -> None:
    ict, flame = (loaded(written(folder, kind)[0]) for kind in ("ict", "flame"))
    assert set(source().blendshape_names) == set(ict.blendshape_names)
    assert {"jawOpen", "eyeLookUp_L", "eyeLookIn_R"} <= set(flame.blendshape_names)
    assert flame.blendshape_deltas is not None
    opened = flame.blendshape_deltas[flame.blendshape_names.index("jawOpen")]
    chin = flame.landmarks["mediapipe"][152]
    assert opened[chin, 1] < -8 and abs(opened[flame.landmarks["mediapipe"][10], 1]) < 1.0
    up = flame.blendshape_deltas[flame.blendshape_names.index("eyeLookUp_L")]
    iris = (flame.regions["iris"] > 0.9) & (flame.shape_mean[:, 0] > 0)
    assert up[iris, 1].mean() > 2 and np.abs(up[flame.shape_mean[:, 0] < 0]).max() < 1e-3


def test_coefficients_of_the_file_can_be_used(folder: Path) -> None:
    place, _ = written(folder, "gnm")
    raw, model = raw_of(place), loaded(place)
    z = np.random.default_rng(2).normal(size=len(raw.shape)).astype(np.float32)
    theirs = raw.mean + np.tensordot(z, raw.shape.vectors, 1)
    c = model.native["shape"] @ z
    ours = model.shape_mean + np.tensordot(c, model.shape_basis, 1)
    np.testing.assert_allclose(ours[: raw.count], theirs, atol=0.02)
    # … and they keep their prior: a standard deviation here is one there.
    scores = c / np.sqrt(model.shape_variance)
    assert float((scores**2).sum()) == pytest.approx(float((z**2).sum()), rel=0.02)


def test_basel_coefficients_are_those_of_the_file(tmp_path: Path) -> None:
    model_files.write_basel(tmp_path, vertices=9000, sizes=(6, 4, 5))
    raw = raw_of(tmp_path)
    model = complete(raw, source())
    assert model.native == {}
    with h5py.File(tmp_path / "model2017-1_face12_nomouth.h5") as file:
        assert np.array_equal(file["shape/model/pcaBasis"][:, 2], model.shape_basis[2].reshape(-1))
        assert np.array_equal(file["expression/model/mean"][()], model.expression_mean.reshape(-1))
    assert model.diffuse_mean.shape == (9000, 3) and model.specular_mean.max() < 0.7


@pytest.mark.parametrize("tables", ["nextface", "none"])
def test_basel_landmarks_from_nextface_or_found(tmp_path: Path, tables: str) -> None:
    mesh = model_files.write_basel(tmp_path, landmarks=tables)
    raw = raw_of(tmp_path)
    assert bool(raw.landmarks) == (tables == "nextface")
    same, anchors = find_anchors(raw, source())
    assert misfit(anchors, source()) == "" and same.notes == raw.notes
    gap = np.linalg.norm(source().shape_mean[anchors.vertices] - anchors.points, axis=1)
    assert np.median(gap) < (2.0 if tables == "nextface" else 4.0)
    assert len(mesh.faces) == len(raw.faces)


def test_a_table_that_does_not_fit_is_not_believed(tmp_path: Path) -> None:
    model_files.write_basel(tmp_path, landmarks="nextface")
    rng = np.random.default_rng(0)
    (tmp_path / "landmark_62_mp.txt").unlink()
    rows = "".join(f"{k}\t{rng.integers(0, 2400)}\n" for k in range(68))
    (tmp_path / "landmark_62.txt").write_text(rows)
    raw, anchors = find_anchors(raw_of(tmp_path), source())
    assert raw.landmarks == {} and "does not fit" in raw.notes[-1]
    assert len(anchors.vertices) > 400


def test_basel_without_albedo_says_so_and_takes_the_built_in_skin(tmp_path: Path) -> None:
    model_files.write_basel(tmp_path, albedo=False)
    model = complete(raw_of(tmp_path), source())
    assert any("albedoModel2020" in note for note in model.notes)
    assert len(model.diffuse_variance) == len(source().diffuse_variance)


def test_full_model_and_cropped_model_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    model_files.write_basel(tmp_path, vertices=2400)
    model_files.write_basel(tmp_path, vertices=3000, variant="bfm_nomouth")
    module, files = formats.find(tmp_path) or (None, [])
    assert module is formats.basel and [p.name for p in files] == [
        "model2017-1_face12_nomouth.h5", "albedoModel2020_face12_albedoPart.h5"
    ]  # fmt: skip
    full = raw_of(tmp_path / "model2017-1_bfm_nomouth.h5")
    assert full.count == 3000 and full.diffuse_mean is not None


def test_the_names_that_the_guide_prints_and_nextfaces_layout(tmp_path: Path) -> None:
    mesh = model_files.write_basel(tmp_path, vertices=1800)
    (tmp_path / "model2017-1_face12_nomouth.h5").rename(tmp_path / "model2009-publicmm1-bfm.h5")
    albedo = tmp_path / "albedoModel2020_face12_albedoPart.h5"
    albedo.rename(tmp_path / "albedoModel2020_FLAME_albedoPart.hh")
    uv = mesh.take(source().uv).astype(np.float32)
    (tmp_path / "uvParametrization.512.pickle").write_bytes(
        pickle.dumps({"uvVertices": uv, "uvResolution": 512}, 2)
    )
    raw = raw_of(tmp_path)
    assert raw.count == 1800 and raw.diffuse is not None and raw.uv is not None
    assert np.array_equal(raw.uv, uv) and raw.notes == ()
    # Another mesh's layout is not taken.
    content = pickle.dumps({"uvVertices": uv[:-1]}, 2)
    (tmp_path / "uvParametrization.512.pickle").write_bytes(content)
    assert raw_of(tmp_path).uv is None


def test_trim_cuts_coefficients_of_the_file_as_well(folder: Path) -> None:
    place, _ = written(folder, "flame")
    small = registry.load_place(place, trim_pca=True)
    sizes = {len(small.shape_basis), len(small.expression_basis), len(small.diffuse_basis)}
    assert len(sizes) == 1 and small.native["shape"].shape == (sizes.pop(), 300)


@pytest.mark.parametrize("kind", ["chumpy", "pickle", "npz"])
def test_flame_is_the_same_in_every_container(tmp_path: Path, kind: str) -> None:
    model_files.write_flame(tmp_path, spacing=9.0, kind=kind)
    raw = raw_of(tmp_path)
    assert len(raw.shape) == 300 and raw.kind == "FLAME"
    assert (raw.landmarks["ibug68"] >= 0).all()
    assert raw.blendshape_names[:2] == ("eyeLookDown_L", "eyeLookDown_R")


def test_flame_texture_layout_is_used_when_it_is_there(tmp_path: Path) -> None:
    mesh = model_files.write_flame(tmp_path, spacing=9.0, kind="npz")
    uv = mesh.take(source().uv)
    np.savez(tmp_path / "FLAME_texture.npz", vt=uv, ft=mesh.faces, mean=np.zeros((4, 4, 3)))
    raw = raw_of(tmp_path)
    assert raw.corner_uv is not None
    np.testing.assert_allclose(raw.corner_uv, uv[mesh.faces])


def test_helper_meshes_are_left_out(folder: Path) -> None:
    ict, mesh = written(folder, "ict")
    assert raw_of(ict).count == len(mesh.eyes)  # without the eyelashes
    gnm, mesh = written(folder, "gnm")
    assert raw_of(gnm).count == len(mesh.eyes)  # without the iris behind the cornea


def z_scores(model: FaceModel, seed: int) -> Truth:
    """Known coefficients, 0.7 standard deviations each, in a mild expression."""
    return example(model, seed=seed, scale=0.7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("one_thread", "coarse_shadows")
def test_a_face_with_known_coefficients_is_recovered(folder: Path, kind: str) -> None:
    model = loaded(written(folder, kind)[0])
    truth = z_scores(model, seed=len(kind))
    view = photograph(model, truth)
    config, nobody = quick_config(iterStep2=14), NullListener()
    state = initial_state(model, [view], shared=False, seed=0, device="cpu")
    state, _ = fit_pose(model, [view], state, config, nobody)
    state, _ = fit_photometric(model, [view], state, config, nobody)
    seen = model.regions["skin"] > 0.5
    wanted = truth.vertices(whiten(model, "cpu")).numpy()
    found = shape_vertices(model, state, 0)
    mean = model.shape_mean + model.expression_mean
    assert shape_error(found[seen], wanted[seen]) < min(0.7, 0.6 * shape_error(mean[seen], wanted[seen]))
    pose = Pose.from_euler(state.rotation[0], state.translation[0], state.focals[0], state.principal[0])
    marks = model.landmarks["mediapipe"][model.landmarks["mediapipe"] >= 0]
    here = pose.screen(pose.camera_space(torch.from_numpy(found))).numpy()[marks]
    there = truth.pose.screen(truth.pose.camera_space(torch.from_numpy(wanted))).numpy()[marks]
    assert np.linalg.norm(here - there, axis=1).max() < 1.0


# ---- the small operations --------------------------------------------------------------------------------


def test_seams_and_midpoints_keep_the_surface() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[[0, 0], [0.4, 0], [0.4, 0.4]], [[0.5, 0.5], [0.9, 0.9], [0.5, 0.9]]])
    owner, split, flat = split_seams(faces, uv, 5)
    assert owner[:5].tolist() == [0, 1, 2, 3, 4] and sorted(owner[5:]) == [0, 2]
    np.testing.assert_allclose(flat[split], uv)
    points = np.random.default_rng(0).normal(size=(5, 3))
    matrix, fine = midpoint_step(faces, 5)
    assert len(fine) == 8 and np.array_equal((matrix @ points)[:5], points)
    area = [
        np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1).sum()
        for p in (points[faces], (matrix @ points)[fine])
    ]
    assert area[0] == pytest.approx(area[1])


def test_a_derived_layout_does_not_fold() -> None:
    model = source()
    skin = model.faces[np.maximum(model.regions["eyes"], model.regions["teeth"])[model.faces].max(1) < 0.5]
    points = model.shape_mean.astype(float)
    corner_uv = unwrap(points, skin, np.ones(len(points)))
    assert corner_uv.min() >= 0 and corner_uv.max() <= 1
    a, b, c = (corner_uv[:, k] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area < 0).mean() < 1e-3 and area.sum() / 2 > 0.4
    assert len(boundary_loops(skin)) >= 3 and len(np.unique(pieces(skin, len(points))[skin])) == 1
    used, local = np.unique(skin, return_inverse=True)
    flat = disc_map(points[used], local.reshape(-1, 3))
    left, top = points[used][:, 0].argmax(), points[used][:, 1].argmax()
    assert flat[left, 0] > 0.5 and flat[top, 1] > 0.5  # as seen from the front


def test_modes_become_orthonormal_and_keep_their_covariance() -> None:
    rng = np.random.default_rng(1)
    modes = Modes(rng.normal(size=(6, 40, 3)).astype(np.float32), np.linspace(1, 3, 6, dtype=np.float32))
    basis, native = orthonormal(modes)
    flat = basis.vectors.reshape(6, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(6), atol=1e-5)
    rows = modes.vectors.reshape(6, -1)
    np.testing.assert_allclose(
        flat.T * basis.variance @ flat, rows.T * modes.variance @ rows, rtol=0.01, atol=0.02
    )
    assert native is not None
    np.testing.assert_allclose(native.T @ flat, rows, atol=1e-3)
    assert orthonormal(basis)[1] is None


def test_named_shapes_become_expression_modes() -> None:
    names, deltas = source().blendshape_names, source().blendshape_deltas
    assert deltas is not None
    vectors = from_blendshapes(names, deltas)
    # Pairs stay two modes, opposites one; gaze is three.
    gaze = sum(n.startswith("eyeLook") for n in names)
    assert len(vectors) == len(names) - gaze + 3 - 2
    assert np.abs(vectors).max() < np.abs(deltas).max()


def test_units_are_told_by_the_size_of_a_head() -> None:
    head: NDArray[np.float64] = np.array([[0.0, 0.0, 0.0], [150.0, 240.0, 200.0]])
    for factor in (1.0, 10.0, 1000.0):
        assert in_millimetres(head / factor) == factor
    with pytest.raises(ValueError, match="no face"):
        in_millimetres(head * 30)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"Basel Face Model, FLAME, GNM Head, ICT-FaceKit.*face-models\.md"):
        registry.load_place(tmp_path)
    with pytest.raises(ModelError, match=f"not found in {tmp_path}.*faces.dmi.unibas.ch.*face12_nomouth.h5"):
        registry.find_place("bfm", tmp_path)
    (tmp_path / "about.json").write_text(json.dumps({}))
    assert formats.find(tmp_path) is None
