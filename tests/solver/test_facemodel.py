"""The built-in face model: what every later stage relies on."""

from __future__ import annotations

import numpy as np
import pytest
from nextgenface.facemodel.builtin import build_model
from nextgenface.facemodel.builtin.template import FLIP, load_template, symmetrise
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import check_model
from nextgenface.geometry.laplacian import face_normals, vertex_normals
from nextgenface.geometry.subdivision import edge_table, loop_subdivide
from nextgenface.paths import asset


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return build_model(asset("canonical_face.npz").parent)


def offsets(model: FaceModel, name: str) -> np.ndarray:
    assert model.blendshape_deltas is not None
    return model.blendshape_deltas[model.blendshape_names.index(name)]


def test_sizes_and_checks(model: FaceModel) -> None:
    assert len(model.shape_basis) >= 100
    assert len(model.expression_basis) >= 50
    assert len(model.diffuse_basis) >= 50
    assert 8_000 < model.vertex_count < 20_000
    assert check_model(model) == []


def test_everything_is_mirror_exact(model: FaceModel) -> None:
    mirror = model.mirror
    assert np.array_equal(mirror[mirror], np.arange(model.vertex_count))
    assert np.array_equal(model.shape_mean[mirror] * FLIP.astype(np.float32), model.shape_mean)
    assert np.array_equal(model.diffuse_mean[mirror], model.diffuse_mean)
    assert np.array_equal(model.specular_mean[mirror], model.specular_mean)
    assert np.array_equal(model.roughness_mean[mirror], model.roughness_mean)
    np.testing.assert_allclose(model.uv[mirror] * [-1, 1] + [1, 0], model.uv, atol=1e-7)
    for weights in model.regions.values():
        assert np.array_equal(weights[mirror], weights)
    triangles = {tuple(sorted(t)) for t in model.faces.tolist()}
    assert all(tuple(sorted(t)) in triangles for t in mirror[model.faces].tolist())


@pytest.mark.parametrize("part", ["shape", "expression", "diffuse"])
def test_modes_are_even_or_odd(model: FaceModel, part: str) -> None:
    basis = getattr(model, f"{part}_basis")
    image = basis[:, model.mirror] * (1 if part == "diffuse" else FLIP)
    even, odd = np.abs(image - basis).max((1, 2)), np.abs(image + basis).max((1, 2))
    assert np.minimum(even, odd).max() < 1e-7
    assert 0 < (even < odd).sum() < len(basis)


def test_landmarks_are_the_template(model: FaceModel) -> None:
    template, _, _ = load_template(asset("canonical_face.npz"))
    landmarks = model.shape_mean[model.landmarks["mediapipe"]]
    assert landmarks.shape == (468, 3)
    distance = np.linalg.norm(landmarks - template, axis=1)
    # Mouth and lids are moved on purpose (closed, opened); all others stay where the detector expects them.
    assert np.median(distance) < 0.5
    assert distance.max() < 5
    ibug = model.shape_mean[model.landmarks["ibug68"]]
    assert ibug.shape == (68, 3)
    assert ibug[0, 0] < 0 < ibug[16, 0] and ibug[8, 1] == ibug[:, 1].min()  # jaw: subject's right, left; chin
    assert ibug[36:42, 0].max() < 0 < ibug[42:48, 0].min()
    assert ibug[30, 2] == ibug[:, 2].max()  # tip of the nose
    assert np.array_equal(model.mirror[model.landmarks["ibug68"][:17]], model.landmarks["ibug68"][16::-1])


def test_texture_layout_has_no_flips_and_no_overlaps(model: FaceModel) -> None:
    size = 256
    flat = np.c_[model.uv, np.zeros(len(model.uv))]
    area = face_normals(flat, model.faces)[:, 2]
    assert area.min() > 0
    # The triangles together cover as much as their union does: nothing lies on top of anything else.
    hit = np.zeros((size, size), np.int64)
    centres = (np.arange(size) + 0.5) / size
    for corners in model.uv[model.faces].astype(float):
        low, high = np.floor(corners.min(0) * size).astype(int), np.ceil(corners.max(0) * size).astype(int)
        x, y = np.meshgrid(centres[low[0] : high[0]], centres[low[1] : high[1]], indexing="ij")
        inside = np.ones(x.shape, bool)
        for k in range(3):
            (ax, ay), (bx, by) = corners[k], corners[(k + 1) % 3]
            inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0
        hit[low[0] : high[0], low[1] : high[1]] += inside
    assert hit.max() == 1
    assert (hit > 0).mean() > 0.5
    skin = model.regions["skin"][model.faces].mean(1) > 0.5
    assert area[skin].sum() / 2 > 0.35  # most of the texture belongs to visible skin


def test_faces_point_outwards(model: FaceModel) -> None:
    normals = vertex_normals(model.shape_mean, model.faces)
    for name in ("skin", "eyes", "brows"):
        chosen = model.regions[name] > 0.9
        outward = model.shape_mean[chosen] - [0, 0, -40]
        if name == "eyes":
            outward = np.tile([0, 0, 1.0], (int(chosen.sum()), 1))
        assert ((normals[chosen] * outward).sum(1) > 0).mean() > 0.97


def test_regions(model: FaceModel) -> None:
    needed = {"skin", "eyes", "mouth", "lips", "brows", "border", "nostrils", "lids", "iris"}
    assert needed <= set(model.regions)
    for name in needed:
        weights = model.regions[name]
        assert weights.min() >= 0 and weights.max() <= 1 and weights.max() > 0.8
    skin = model.regions["skin"]
    for name in ("eyes", "mouth"):
        assert (skin * model.regions[name]).max() < 0.3
    luminance = model.diffuse_mean @ [0.2126, 0.7152, 0.0722]
    assert luminance[model.regions["brows"] > 0.8].mean() < 0.7 * luminance[skin > 0.9].mean()


def test_appearance_spans_light_and_dark_skin(model: FaceModel) -> None:
    rng = np.random.default_rng(1)
    cheek = (model.regions["cheeks"] > 0.7) & (model.regions["skin"] > 0.9)
    tones = []
    for _ in range(200):
        weights = rng.normal(size=len(model.diffuse_basis)) * np.sqrt(model.diffuse_variance)
        tone = model.diffuse_mean[cheek].mean(0) + np.tensordot(
            weights, model.diffuse_basis[:, cheek].mean(1), 1
        )
        tones.append(tone @ [0.2126, 0.7152, 0.0722])
    assert np.quantile(tones, 0.05) < 0.15 and np.quantile(tones, 0.95) > 0.40
    skin = model.regions["skin"] > 0.95
    assert model.specular_mean[skin].min() > 0.25 and model.specular_mean[skin].max() < 0.5
    assert model.roughness_mean[skin].min() > 0.3 and model.roughness_mean[skin].max() < 0.65


def eye_opening(points: np.ndarray) -> float:
    upper, lower = points[[160, 159, 158]], points[[144, 145, 153]]
    return float((upper[:, 1] - lower[:, 1]).mean())


def test_blink_closes_over_a_rigid_eyeball(model: FaceModel) -> None:
    names = set(model.blendshape_names)
    assert {"jawOpen", "eyeBlink_L", "eyeBlink_R", "mouthSmile_L", "browInnerUp_R", "mouthPucker"} <= names
    blink = offsets(model, "eyeBlink_R")
    assert np.array_equal(blink[model.mirror] * FLIP.astype(np.float32), offsets(model, "eyeBlink_L"))
    closed = model.shape_mean + blink
    assert eye_opening(model.shape_mean) > 7
    assert abs(eye_opening(closed)) < 0.5
    eyes = model.regions["eyes"] > 0.5
    assert np.abs(blink[eyes]).max() == 0
    # The skin of the closed lid stays in front of the eyeball.
    right = eyes & (model.shape_mean[:, 0] < 0)
    ball = model.shape_mean[right]
    centre = np.array([ball[:, 0].mean(), ball[:, 1].mean(), ball[:, 2].max() - 12.9])
    lid = (model.regions["lids"] > 0.5) & (model.regions["skin"] > 0.5) & (model.shape_mean[:, 0] < 0)
    assert np.linalg.norm(closed[lid] - centre, axis=1).min() > 12.0


def test_identity_and_expression_keep_eyeballs_rigid(model: FaceModel) -> None:
    right = (model.regions["eyes"] > 0.5) & (model.shape_mean[:, 0] < 0)
    shift = model.shape_basis[:, right]
    assert np.abs(shift - shift.mean(1, keepdims=True)).max() < 1e-6


def test_jaw_opens_the_mouth(model: FaceModel) -> None:
    points = model.shape_mean + offsets(model, "jawOpen")
    assert points[13, 1] - points[14, 1] > 10
    assert model.shape_mean[13, 1] - model.shape_mean[14, 1] < 0.5
    assert np.abs(offsets(model, "jawOpen")[model.regions["eyes"] > 0.5]).max() == 0
    assert np.linalg.norm(offsets(model, "jawOpen")[[10, 151, 33, 263]], axis=1).max() < 0.3
    inside = model.regions["mouth"] > 0.9
    assert points[inside, 2].max() < points[13, 2] and points[inside, 2].min() < points[14, 2] - 10


def test_loop_subdivision_reproduces_smooth_surfaces() -> None:
    # An icosahedron-like octahedron converges towards a round, closed surface with the same symmetry.
    points = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    mirror = np.array([1, 0, 2, 3, 4, 5])
    matrix, fine, table = loop_subdivide(faces, mirror, 3)
    smooth = matrix @ points
    np.testing.assert_allclose(np.asarray(matrix.sum(1)).ravel(), 1)
    assert len(fine) == 8 * 4**3 and (edge_table(fine)[2] == 2).all()
    np.testing.assert_allclose(smooth[table] * FLIP, smooth, atol=1e-12)
    radius = np.linalg.norm(smooth, axis=1)
    assert radius.std() / radius.mean() < 0.1
    assert ((vertex_normals(smooth, fine) * smooth).sum(1) > 0).all()


def test_symmetrise_is_exact() -> None:
    rng = np.random.default_rng(0)
    mirror = np.array([1, 0, 2, 4, 3])
    result = symmetrise(rng.normal(size=(5, 3)), mirror, FLIP)
    assert np.array_equal(result[mirror] * FLIP, result)
    assert result[2, 0] == 0
