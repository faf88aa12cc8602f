"""The results folder: complete, in the documented frames, and a result only when it is finished."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nextgenface.config import Config
from nextgenface.errors import Cancelled, OutputError
from nextgenface.events import NullListener
from nextgenface.fitting.bake import bake_vertices, texel_table
from nextgenface.fitting.state import FaceState
from nextgenface.fitting.surface import shape_vertices, textures_of
from nextgenface.geometry.rotations import euler_to_matrix
from nextgenface.images import read_exr, read_image
from nextgenface.lightmaps import blender_directions, blender_environment, sh_environment, tone_mapped
from nextgenface.rendering.light import LOBE_COUNT, lobe_centres, lobe_weights
from nextgenface.results import Output, write_results

from tests.solver.tiny import random_state, records, tiny_model

TINY = tiny_model()
FILES_OF_A_PHOTO = [
    "photo_{i}.png", "render_{i}.png", "final_{i}.exr", "final_{i}.png", "mesh{i}.obj", "material{i}.mtl",
    "envMap_{i}.exr", "envMap_{i}.png", "landmarks{i}.png",
]  # fmt: skip
MAPS = ["diffuseMap_{k}.png", "specularMap_{k}.png", "roughnessMap_{k}.png", "confidenceMap_{k}.png"]


def write(folder: Path, state: FaceState, listener: Any = None, **changes: Any) -> dict[str, Any]:
    config = Config()
    config.maxResolution, config.textureResolution, config.rtSamples = 96, 32, 4
    for name, value in changes.items():
        setattr(config, name, value)
    n = state.photo_count
    source = folder.parent / "source"
    source.mkdir(exist_ok=True)
    for i in range(n):
        (source / f"landmarks{i}.png").write_bytes(b"picture")
    output = Output(
        name="test",
        config=config.toDict(),
        config_sources=dict(config.sources()),
        device="cpu",
        pictures=[np.full((160, 200, 3), 0.5, np.float32)] * n,
        source=source,
        samples=4,
    )
    path = write_results(folder, state, TINY, records(n), output, listener or NullListener())
    assert path == folder / "result.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("photos", "shared"), [(1, False), (2, False), (2, True)])
def test_the_folder_is_complete(tmp_path: Path, photos: int, shared: bool) -> None:
    state = random_state(TINY, photos, shared=shared)
    result = write(tmp_path / "é x", state)
    there = {path.name for path in (tmp_path / "é x").iterdir()}
    identities = 1 if shared or photos == 1 else photos
    wanted = {name.format(i=i) for name in FILES_OF_A_PHOTO for i in range(photos)}
    wanted |= {name.format(k=k) for name in MAPS for k in range(identities)}
    wanted |= {"geometry.npz", "result.json"} | {f"geometry_{k}.npz" for k in range(1, identities)}
    assert there == wanted
    assert result["schema"] == 1 and result["method"] == "face" and result["units"] == "mm"
    assert result["shared_identity"] is shared and result["model"] == {"name": "tiny", "hash": TINY.hash}
    assert result["seed"] == 7 and result["config"]["rtSamples"] == 4
    assert result["config_sources"]["rtSamples"] == "api"
    render = result["stages"]["render"]
    assert render["steps"] == 4 and render["seconds"] > 0 and render["peak_mb"] > 50
    for i, photo in enumerate(result["photos"]):
        assert photo["index"] == i and photo["identity"] == (i if identities > 1 else 0)
        # With one shared identity all frames use the maps of index 0.
        assert photo["files"]["diffuse"] == f"diffuseMap_{photo['identity']}.png"
        assert photo["files"]["environment"] == f"envMap_{i}.exr"
        assert all((tmp_path / "é x" / name).is_file() for name in photo["files"].values())
        material = (tmp_path / "é x" / f"material{i}.mtl").read_text()
        assert f"diffuseMap_{photo['identity']}.png" in material
        assert photo["expression_index"] == (i if identities == 1 else 0)


def test_the_camera_is_in_pixels_of_the_photo_and_the_geometry_rebuilds_the_mesh(tmp_path: Path) -> None:
    state = random_state(TINY, 2, shared=True)
    result = write(tmp_path / "out", state)
    with np.load(tmp_path / "out" / "geometry.npz", allow_pickle=False) as data:
        assert data["faces"].dtype == np.int32 and data["blendshape_names"].tolist() == ["jawOpen"]
        neutral, offsets = data["neutral_vertices"], data["expression_offsets"]
        assert data["blendshape_deltas"].shape == (1, *neutral.shape) and data["uv"].shape == (
            len(neutral),
            2,
        )
    for i, photo in enumerate(result["photos"]):
        assert (photo["width"], photo["height"]) == (200, 160)
        K, R, t = (np.array(photo[name]) for name in ("K", "R", "t"))
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
        posed = (neutral + offsets[i]) @ R.T + t
        expected = shape_vertices(TINY, state, i)
        np.testing.assert_allclose(neutral + offsets[i], expected, atol=1e-3)
        # What the fit saw in the crop is where the camera of the photo sees it.
        x0, y0, scale = records()[0].crop
        in_crop = float(state.focals[i]) * posed[:, :2] / posed[:, 2:] + state.principal[i].numpy()
        projected = posed @ K.T
        np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], in_crop / scale + [x0, y0], atol=1e-3)
        rows = (tmp_path / "out" / f"mesh{i}.obj").read_text().splitlines()
        vertices = np.array([row.split()[1:] for row in rows if row.startswith("v ")], float)
        np.testing.assert_allclose(vertices, posed, atol=2e-3)


def test_the_final_picture_lies_where_the_camera_puts_the_face(tmp_path: Path) -> None:
    state = random_state(TINY)
    result = write(tmp_path / "out", state)
    photo = result["photos"][0]
    picture = read_exr(tmp_path / "out" / "final_0.exr")
    assert picture.shape == (160, 200, 4)
    K, R, t = (np.array(photo[name]) for name in ("K", "R", "t"))
    projected = (shape_vertices(TINY, state, 0) @ R.T + t) @ K.T
    pixels = projected[:, :2] / projected[:, 2:]
    rows, columns = np.nonzero(picture[..., 3] > 0.5)
    np.testing.assert_allclose([columns.min(), rows.min()], pixels.min(0), atol=1.5)
    np.testing.assert_allclose([columns.max() + 1, rows.max() + 1], pixels.max(0), atol=1.5)
    assert (picture[..., :3][picture[..., 3] == 0] == 0).all() and picture[rows, columns, :3].mean() > 0.05
    strip = read_image(tmp_path / "out" / "render_0.png")
    assert strip.shape == (96, 7 * 96, 3)


def test_maps_have_the_documented_encodings(tmp_path: Path) -> None:
    state = random_state(TINY)
    write(tmp_path / "out", state)
    assert state.diffuse is not None and state.specular is not None and state.roughness is not None
    folder = tmp_path / "out"
    linear = state.diffuse[0].numpy()
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(read_image(folder / "diffuseMap_0.png"), srgb, atol=0.003)
    np.testing.assert_allclose(read_image(folder / "specularMap_0.png"), state.specular[0], atol=0.003)
    roughness = read_image(folder / "roughnessMap_0.png")
    assert roughness.shape == (16, 16, 3), "the guide: grey saved as RGB"
    np.testing.assert_allclose(roughness, state.roughness[0].expand(-1, -1, 3), atol=0.003)


def test_before_stage_3_the_statistical_maps_are_written(tmp_path: Path) -> None:
    result = write(tmp_path / "out", random_state(TINY, stage=2))
    assert result["stage"] == 2 and result["photos"][0]["files"]["confidence"] is None
    assert read_image(tmp_path / "out" / "diffuseMap_0.png").shape == (32, 32, 3)


def test_the_environment_is_in_blenders_mapping_and_axes() -> None:
    """One bright lobe is brightest at the pixel that Blender's formula gives for its world direction."""
    height = 64
    rotation = euler_to_matrix(torch.tensor([math.pi + 0.2, 0.5, -0.3], dtype=torch.float64)).numpy()
    for lobe in (0, 17, 64, 100, LOBE_COUNT - 1):
        environment = torch.zeros(LOBE_COUNT, 3)
        environment[lobe] = torch.tensor([1.0, 2.0, 3.0])
        x, y, z = lobe_centres()[lobe].double().numpy()
        in_model = rotation.T @ np.array([x, -y, -z])  # light frame -> camera -> model
        in_world = np.array([in_model[0], -in_model[2], in_model[1]])
        u = 0.5 - math.atan2(in_world[1], in_world[0]) / (2 * math.pi)
        v = 0.5 + math.atan2(in_world[2], math.hypot(in_world[0], in_world[1])) / math.pi
        picture = blender_environment(environment, rotation, height)
        assert picture.shape == (height, 2 * height, 3) and picture.dtype == np.float32
        row, column = np.unravel_index(picture[..., 2].argmax(), picture.shape[:2])
        across = (column + 0.5 - u * 2 * height + height) % (2 * height) - height
        assert abs(row + 0.5 - (1 - v) * height) < 1.5
        assert abs(across) * math.cos((v - 0.5) * math.pi) < 1.5
        np.testing.assert_allclose(picture[row, column] / picture[row, column, 0], [1, 2, 3], rtol=1e-5)


def test_a_face_looks_along_minus_y_so_light_from_the_viewer_is_at_minus_y() -> None:
    environment = torch.zeros(LOBE_COUNT, 3)
    environment[lobe_centres()[:, 2] > 0.8] = 1.0  # from the viewer's side
    frontal = np.diag([1.0, -1.0, -1.0])
    picture = blender_environment(environment, frontal, 32)
    directions = blender_directions(32)
    assert picture[directions[..., 1] < -0.9].mean() > 0.5
    assert picture[directions[..., 1] > 0.0].max() < 0.05


def test_blender_directions_follow_its_formula() -> None:
    directions = blender_directions(16)
    x, y, z = np.moveaxis(directions, -1, 0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1)
    u = 0.5 - np.arctan2(y, x) / (2 * np.pi)
    v = 0.5 + np.arctan2(z, np.hypot(x, y)) / np.pi
    np.testing.assert_allclose(u * 32 - 0.5, np.broadcast_to(np.arange(32), (16, 32)), atol=1e-9)
    np.testing.assert_allclose(
        (1 - v) * 16 - 0.5, np.broadcast_to(np.arange(16)[:, None], (16, 32)), atol=1e-9
    )


def test_a_uniform_light_stays_uniform() -> None:
    grey = torch.full((LOBE_COUNT, 3), 0.7)
    np.testing.assert_allclose(blender_environment(grey, np.eye(3), 8), 0.7, rtol=1e-5)
    assert float(lobe_weights(lobe_centres()).sum(1).max()) == pytest.approx(1)


def test_the_guides_picture_follows_its_options(tmp_path: Path) -> None:
    state = random_state(TINY, stage=2)
    result = write(tmp_path / "a", state, envMapRes=24, saveExr=True)
    assert read_image(tmp_path / "a" / "envMap_0.png").shape == (24, 24, 3)
    assert read_exr(tmp_path / "a" / "envMapSh_0.exr").shape == (24, 24, 3)
    assert result["photos"][0]["files"]["environment_sh"] == "envMapSh_0.exr"
    rough = sh_environment(state.sh[0], 32)
    smooth = sh_environment(state.sh[0], 32, smooth=True)
    few = sh_environment(state.sh[0], 32, bands=2)
    assert np.abs(np.diff(smooth, axis=1)).mean() < np.abs(np.diff(rough, axis=1)).mean()
    assert np.ptp(few) < np.ptp(rough)
    shown = tone_mapped(np.array([[[0.0, 0.1, 8.0]]], np.float32))
    assert shown[0, 0, 0] == 0 and shown[0, 0, 2] == 255 and 70 < shown[0, 0, 1] < 95


class _StopsAt(NullListener):
    def cancelled(self) -> bool:
        return True


def test_a_cancelled_or_failed_run_leaves_the_old_result(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, random_state(TINY))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Cancelled):
        write(folder, random_state(TINY, seed=9), _StopsAt())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nothing_is_a_result_while_files_are_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    folder = tmp_path / "out"
    write(folder, random_state(TINY))
    real, moved = os.replace, []

    def fails_halfway(source: Any, target: Any) -> None:
        if Path(target).parent == folder:
            assert not (folder / "result.json").exists()
            moved.append(target)
            if len(moved) == 3:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fails_halfway)
    with pytest.raises(OutputError, match="disk is full"):
        write(folder, random_state(TINY, seed=9))
    assert not (folder / "result.json").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_baked_textures_hold_the_vertex_values() -> None:
    values = torch.from_numpy(np.concatenate([TINY.uv, TINY.uv[:, :1] * 0 + 1], 1)).requires_grad_()
    texture = bake_vertices(TINY, values, 40)
    table = texel_table(TINY, 40)
    rows, columns = np.nonzero(table.on_face.numpy())
    baked = texture.detach().numpy()[rows, columns]
    np.testing.assert_allclose(baked[:, 0], (columns + 0.5) / 40, atol=1e-5)
    np.testing.assert_allclose(baked[:, 1], 1 - (rows + 0.5) / 40, atol=1e-5)
    # Off the layout the nearest value goes on.
    filled = texture.detach()
    assert float(filled[..., 2].min()) == pytest.approx(1, abs=1e-5)
    assert float(filled[..., 0].min()) >= 0.1 and float(filled[..., 0].max()) <= 0.9
    texture.sum().backward()
    assert values.grad is not None and bool((values.grad[:, 0] > 0).all())


def test_textures_of_stage_3_win_over_the_statistical_ones() -> None:
    state = random_state(TINY)
    assert state.diffuse is not None
    assert torch.equal(textures_of(TINY, state, 0, 64)[0], state.diffuse[0])
    diffuse, specular, roughness = textures_of(TINY, random_state(TINY, stage=2), 0, 24)
    assert diffuse.shape == specular.shape == (24, 24, 3) and roughness.shape == (24, 24, 1)
    np.testing.assert_allclose(roughness, 0.5, atol=1e-5)
