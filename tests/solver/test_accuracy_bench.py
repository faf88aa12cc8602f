"""The accuracy benchmark: its files are in the judge's frames, its means and goals are what they say."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nextgenface.checkpoint import save_checkpoint
from nextgenface.config import Config
from nextgenface.errors import NextGenFaceError
from nextgenface.geometry.rotations import euler_to_matrix
from nextgenface.images import read_exr, write_exr, write_png
from nextgenface.rendering.light import lobe_centres, lobes_to_map
from nextgenface.rendering.mitsuba_scene import Geometry, Textures
from nextgenface.views import Camera

from tests.solver.tiny import random_state, records, tiny_model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import accuracy  # noqa: E402
import blender_picture  # noqa: E402
import goals  # noqa: E402
import judge  # noqa: E402
import subject  # noqa: E402

DATA = Path(os.environ.get("NEXTGENFACE_SHARED", ROOT.parent / "shared")) / "faces" / "dev"
with_data = pytest.mark.skipif(not (DATA / "subject_00").is_dir(), reason="the synthetic heads are not here")


def measures(**changes: float | None) -> dict[str, Any]:
    return {**dict.fromkeys(goals.MEASURES, 1.0), **changes}


# ---- means and goals


def test_albedo_is_a_mean_of_ratios_and_mesh_a_ratio_of_means() -> None:
    subjects = {
        "a": measures(
            albedo_rmse_si=0.1, constant_albedo_rmse_si=0.2, mesh_mean_mm=1.0, mean_face_mm=2.0,
            relit_psnr=24.0, mean_relit_psnr=20.0,
        ),
        "b": measures(
            albedo_rmse_si=0.3, constant_albedo_rmse_si=0.3, mesh_mean_mm=4.0, mean_face_mm=3.0,
            relit_psnr=21.0, mean_relit_psnr=23.0,
        ),
    }  # fmt: skip
    means = goals.summary(subjects)
    assert means["albedo_vs_constant"] == pytest.approx((0.5 + 1.0) / 2)
    assert means["mesh_vs_mean_face"] == pytest.approx(5.0 / 5.0)
    assert means["relit_gain_db"] == pytest.approx((4.0 - 2.0) / 2)
    assert means["better_meshes"] == 1 and means["subjects"] == 2 and means["failed"] == 0


def test_what_was_not_measured_is_in_no_mean() -> None:
    means = goals.summary({"a": measures(cycles_psnr=None, light_error_deg=None), "b": {"error": "no face"}})
    assert means["cycles_psnr"] is None and means["light_error_deg"] is None
    assert means["render_psnr"] == 1.0 and means["subjects"] == 1 and means["failed"] == 1
    with_another = goals.summary({"a": measures(cycles_psnr=None), "c": measures(cycles_psnr=40.0)})
    assert with_another["cycles_psnr"] == 40.0
    nothing = goals.summary({"b": {"error": "no face"}})
    assert nothing["mesh_vs_mean_face"] is None and nothing["better_meshes"] is None
    assert not any(row.endswith(("aim", "floor")) for row in goals.table(nothing).splitlines()[1:])


def test_the_table_says_what_is_reached() -> None:
    subjects = {
        str(i): measures(mesh_mean_mm=2.0, mean_face_mm=2.5 if i < 4 else 1.5, render_psnr=29.9, seconds=80.0,
                         cycles_psnr=None)
        for i in range(6)
    }  # fmt: skip
    rows = {line.split("  ")[0]: line for line in goals.table(goals.summary(subjects)).splitlines()}
    assert rows["re-render against the photo, inside visible skin"].endswith("MISSED")
    assert rows["mesh error"].endswith("floor") and rows["whole solve"].endswith("aim")
    assert rows["Cycles against Mitsuba, face pixels"].endswith("not measured")
    better = rows["subjects whose mesh is better than the mean face"]
    assert "4 of 6" in better and better.endswith("floor")


# ---- the judge


def test_the_judge_is_found_above_the_data(tmp_path: Path) -> None:
    data = tmp_path / "set" / "dev"
    data.mkdir(parents=True)
    with pytest.raises(NextGenFaceError, match="--data"):
        judge.find_judge(data)
    (tmp_path / "set" / "score.py").touch()
    assert judge.find_judge(data, tmp_path) == tmp_path / "set" / "score.py"


def test_what_the_judge_complains_about_is_passed_on(tmp_path: Path) -> None:
    script = tmp_path / "score.py"
    script.write_text("raise SystemExit('image is too small')")
    with pytest.raises(NextGenFaceError, match="too small"):
        judge.judge(script, tmp_path, tmp_path, judge.FILES)


@with_data
def test_the_truth_gets_full_marks(tmp_path: Path) -> None:
    """Every key that is read from the judge exists, and the frame of the light is the one it takes."""
    truth = DATA / "subject_00"
    for name, source in (("albedo", "albedo"), ("render", "photo_linear"), ("relit", "relit_linear")):
        write_exr(tmp_path / f"{name}.exr", read_exr(truth / f"{source}.exr")[..., :3])
    write_exr(tmp_path / "env.exr", _light_in_camera_axes(truth))
    half = np.zeros(read_exr(truth / "albedo.exr").shape[:2], np.float32)
    half[:, : half.shape[1] // 2] = 1.0
    write_png(tmp_path / "coverage.png", half, srgb=False)
    files = {option: name for option, name in judge.FILES.items() if option != "mesh"}
    entry = judge.entry(judge.judge(judge.find_judge(DATA), truth, tmp_path, files), {}, {})
    assert entry["render_psnr"] == entry["relit_psnr"] == 100.0
    assert entry["albedo_rmse_si"] == pytest.approx(0.0, abs=1e-6)
    assert entry["albedo_detail"] == pytest.approx(1.0, abs=1e-6)
    assert entry["env_cosine"] is not None and entry["env_cosine"] > 0.99
    assert entry["coverage"] is not None and 0.2 < entry["coverage"] < 0.8
    assert entry["mesh_mean_mm"] is None and entry["mean_face_mm"] is None


def _light_in_camera_axes(truth: Path) -> np.ndarray:
    """The true light written as the fitted one is: lobes in the light frame, then `lobes_to_map`."""
    radiance = read_exr(truth / "env.exr")[..., :3]
    height, width = radiance.shape[:2]
    world = lobe_centres().numpy().astype(np.float64) @ (
        np.diag([1.0, -1.0, -1.0]) @ subject.truth_rotation(truth)
    )
    # The documented mapping, inverted here on purpose instead of calling the solver's.
    columns = np.arctan2(world[:, 0], -world[:, 2]) / (2 * np.pi) % 1.0 * width
    rows = np.arccos(np.clip(world[:, 1], -1, 1)) / np.pi * height
    blurred = _blurred(radiance)
    lobes = blurred[rows.astype(int).clip(0, height - 1), columns.astype(int).clip(0, width - 1)]
    return lobes_to_map(torch.from_numpy(lobes), 64).numpy()


def _blurred(radiance: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    height = radiance.shape[0]
    weight = np.sin((np.arange(height) + 0.5) / height * np.pi)[:, None, None] * np.ones_like(radiance)

    def soft(values: np.ndarray) -> np.ndarray:
        return np.asarray(
            gaussian_filter(values, (height / 24, height / 24, 0), mode=("nearest", "wrap", "nearest"))
        )

    return np.asarray(soft(radiance * weight) / soft(weight), np.float32)


# ---- the judged files


def test_colours_are_taken_off_their_coverage() -> None:
    alpha = np.array([[1.0, 0.5, 0.0]], np.float32)
    colours = subject.straight(alpha[..., None] * np.array([0.2, 0.4, 0.6], np.float32), alpha)
    assert np.allclose(colours[0, :2], [0.2, 0.4, 0.6]) and (colours[0, 2] == 0).all()


def test_no_other_single_colour_is_nearer_to_the_albedo() -> None:
    rng = np.random.default_rng(0)
    albedo = rng.random((8, 8, 3)).astype(np.float32)
    where = rng.random((8, 8)) > 0.4
    best = subject.best_single_colour(albedo, where)
    error = np.square(albedo[where] - best).sum()
    for step in rng.normal(size=(20, 3)) * 0.02:
        assert np.square(albedo[where] - best - step).sum() > error
    with pytest.raises(NextGenFaceError, match="covers nothing"):
        subject.best_single_colour(albedo, np.zeros((8, 8), bool))


def _turned_head(turn: np.ndarray, camera_rotation: np.ndarray) -> subject.Head:
    """The tiny bulge 600 mm in front of a camera, in a model space turned by `turn`."""
    model = tiny_model(side=15)
    camera = Camera(
        np.array([[110.0, 0, 24], [0, 110, 24], [0, 0, 1]]),
        camera_rotation @ turn.T,
        np.array([0.0, 0.0, 600.0]),
        48,
        48,
    )
    grey = np.full((4, 4, 1), 0.5, np.float32)
    return subject.Head(
        Geometry(model.shape_mean @ turn.T.astype(np.float32), model.faces, model.uv),
        Textures(np.repeat(grey, 3, -1), grey, grey),
        camera,
    )


def test_the_second_light_falls_from_the_side_that_the_true_camera_sees_it_on() -> None:
    """Whatever the model space of the fit: only the camera's axes are shared with the truth."""
    subject.prepare_mitsuba()
    viewer = np.diag([1.0, -1.0, -1.0])
    yaw = euler_to_matrix(torch.tensor([0.0, 0.9, 0.0])).numpy().astype(np.float64)
    world_to_camera = viewer @ yaw
    right_and_up = world_to_camera.T @ np.array([0.8, -0.6, 0.0])  # x right, y down in the camera
    rows, columns = np.meshgrid((np.arange(32) + 0.5) / 32, (np.arange(64) + 0.5) / 64, indexing="ij")
    directions = np.stack(
        [
            np.sin(np.pi * rows) * np.sin(2 * np.pi * columns),
            np.cos(np.pi * rows),
            -np.sin(np.pi * rows) * np.cos(2 * np.pi * columns),
        ],
        -1,
    )
    radiance = np.repeat(np.exp(4 * (directions @ right_and_up - 1))[..., None], 3, -1).astype(np.float32)
    pictures = []
    for angles in ([0.0, 0.0, 0.0], [0.4, -0.7, 1.1]):
        turn = euler_to_matrix(torch.tensor(angles)).numpy().astype(np.float64)
        head = _turned_head(turn, viewer)
        picture = subject.relit(head, radiance, world_to_camera)
        pictures.append(subject.straight(picture.rgb, picture.alpha)[..., 0] * (picture.alpha > 0.5))
    lit = pictures[0]
    face = lit > 0
    y, x = np.nonzero(face)
    assert np.average(x, weights=lit[face]) > x.mean() + 2 and np.average(y, weights=lit[face]) < y.mean() - 1
    assert np.abs(pictures[1] - lit)[face].mean() < 0.05 * lit[face].mean()


def test_the_mean_head_is_stage_ones_with_the_fitted_expression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    monkeypatch.setattr("nextgenface.export.load_model", lambda config: model)
    start, final = random_state(model, stage=1, seed=1), random_state(model, stage=3, seed=2)
    final = replace(final, translation=final.translation + 30.0)
    config = Config().toDict()
    (tmp_path / "result.json").write_text(json.dumps({"stage": 3}))
    (tmp_path / "checkpoints").mkdir()
    for state, stage in ((start, 1), (final, 3)):
        save_checkpoint(
            tmp_path / "checkpoints" / f"stage{stage}_output.pickle",
            state, records(), config=config, engine="deferred",
        )  # fmt: skip
    fitted, mean, lobes = subject.heads_of(tmp_path)
    expression = np.tensordot(final.expression[0].numpy(), model.expression_basis, 1)
    assert np.allclose(
        mean.geometry.vertices, model.shape_mean + model.expression_mean + expression, atol=1e-3
    )
    assert np.allclose(mean.camera.t, start.translation[0], atol=1e-4)
    assert np.allclose(mean.camera.R, euler_to_matrix(start.rotation[0]), atol=1e-5)
    assert np.allclose(fitted.camera.t, final.translation[0], atol=1e-4)
    assert (fitted.camera.width, fitted.camera.height) == (200, 160)
    assert np.allclose(lobes, final.environment[0])
    assert final.diffuse is not None and np.allclose(fitted.textures.diffuse, final.diffuse[0])
    inside = mean.textures.diffuse[mean.textures.diffuse.shape[0] // 2, mean.textures.diffuse.shape[1] // 2]
    assert np.allclose(inside, model.diffuse_mean[0], atol=0.01)
    assert (mean.in_camera[:, 2] > 400).all()  # in front of the camera


# ---- Blender's picture


def test_only_the_face_counts_in_blenders_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rgb = rng.uniform(0.05, 0.9, (32, 32, 3)).astype(np.float32)
    alpha = np.zeros((32, 32, 1), np.float32)
    alpha[8:24, 8:24] = 1.0
    alpha[8] = 0.5
    write_exr(tmp_path / "final.exr", np.concatenate([rgb * alpha, alpha], -1))
    write_png(tmp_path / "same.png", np.concatenate([np.where(alpha > 0.9, rgb, 0.0), alpha], -1))
    write_png(tmp_path / "darker.png", np.concatenate([rgb * 0.8, alpha], -1))
    assert blender_picture.compare(tmp_path / "same.png", tmp_path / "final.exr") == pytest.approx(100.0)
    assert 15 < blender_picture.compare(tmp_path / "darker.png", tmp_path / "final.exr") < 30
    write_png(tmp_path / "small.png", rgb[:16])
    with pytest.raises(NextGenFaceError, match="size"):
        blender_picture.compare(tmp_path / "small.png", tmp_path / "final.exr")


def test_blender_5_0_is_preferred_else_the_newest(tmp_path: Path) -> None:
    assert blender_picture.find_blender_python(tmp_path) is None

    def make(version: str) -> Path:
        windows = sys.platform == "win32"
        path = tmp_path / f"bpy-{version}" / ("Scripts/python.exe" if windows else "bin/python")
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    make("4.5")
    newest = make("5.2")
    (tmp_path / "bpy-9.9").mkdir()  # begun, never finished
    assert blender_picture.find_blender_python(tmp_path) == newest
    preferred = make("5.0")
    assert blender_picture.find_blender_python(tmp_path) == preferred


# ---- the run


def test_results_are_reused_only_for_the_same_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    class Refused(Exception):
        pass

    def start(command: list[str], **_: Any) -> None:
        started.append(command)
        raise Refused

    monkeypatch.setattr("subprocess.Popen", start)
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photo")
    folder = tmp_path / "out"
    (folder / "photo").mkdir(parents=True)
    (folder / "photo" / "result.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"settings": ["seed=1"], "seconds": 5.0, "peak_mb": 9.0}))
    kept = subject.solve(photo, folder, ["seed=1"], reuse=True)
    assert (kept.seconds, kept.peak_mb) == (5.0, 9.0) and not started
    with pytest.raises(Refused):
        subject.solve(photo, folder, ["seed=2"], reuse=True)
    # The solver gets a copy that lies alone: nothing of the truth is beside it.
    assert started[0][-2:] == ["--set", "seed=2"]
    assert started[0][started[0].index("--input") + 1] == str(folder / "photo.png")
    assert (folder / "photo.png").read_bytes() == b"a photo"
    assert not (folder / "photo").exists() and not (folder / "run.json").exists()


def test_a_failed_solve_is_an_error_of_that_subject(tmp_path: Path) -> None:
    (tmp_path / "data" / "subject_00").mkdir(parents=True)
    (tmp_path / "data" / "subject_00" / "photo.png").write_text("a photo")
    settings = ("maxResolution=large",)  # refused by the command itself, before anything is loaded
    plan = accuracy.Plan(
        tmp_path / "data", tmp_path / "out", tmp_path / "score.py", settings, False, None, False, 1
    )
    entry = accuracy.measure(plan, "subject_00")
    assert "exit code 2" in entry["error"]
    assert not (tmp_path / "out" / "subject_00" / "run.json").exists()


def test_subjects_are_found_and_named(tmp_path: Path) -> None:
    for name in ("subject_01", "subject_00", "person_00/photo_00"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "photo.png").touch()
    assert accuracy.subjects_of(tmp_path, None) == ["subject_00", "subject_01"]
    assert accuracy.subjects_of(tmp_path, ["person_00/photo_00"]) == ["person_00/photo_00"]
    with pytest.raises(NextGenFaceError, match="subject_07"):
        accuracy.subjects_of(tmp_path, ["subject_07"])
    with pytest.raises(NextGenFaceError, match="--data"):
        accuracy.subjects_of(tmp_path / "person_00", None)
