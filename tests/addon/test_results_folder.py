"""Reading and refusing results folders. No bpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import Folder, Photo

from nextgenface_addon.scene.axes import camera_matrix, lens_settings
from nextgenface_addon.scene.results_folder import ResultsError, read_results


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of the first photo in result.json."""
    path = folder / "result.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["photos"][0].update(changes)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_good_folder_is_read(results: Path) -> None:
    found = read_results(results)
    photo = Photo()
    assert found.name == "Müller" and [p.name for p in found.photos] == ["Müller 1"]
    np.testing.assert_allclose(found.photos[0].K, photo.K)
    np.testing.assert_allclose(found.photos[0].R, photo.R, atol=1e-12)
    assert found.geometries[0].blendshape_names == ("jawOpen", "eyeBlinkLeft")
    assert found.photos[0].files["environment"].is_file()
    assert read_results(results / "result.json").name == "Müller"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "Update the extension"),
        ({"schema": None}, "schema None"),
        ({"method": "gaussians"}, "gaussians"),
        ({"photos": []}, "no photos"),
        ({"photos": "x"}, "no photos"),
        ({"geometry": "../elsewhere.npz"}, "outside the results folder"),
        ({"geometry": "missing.npz"}, "missing or damaged"),
    ],
)
def test_bad_heads_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = Folder().write(tmp_path / "r", change)
    with pytest.raises(ResultsError, match=message):
        read_results(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": [[1, 2], [3, 4]]}, "3×3"),
        ({"K": [[180, 5, 40], [0, 180, 70], [0, 0, 1]]}, "skew"),
        ({"K": [[-180, 0, 40], [0, 180, 70], [0, 0, 1]]}, "focal length"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "not a rotation"),
        ({"R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "not a rotation"),
        ({"t": [0, float("nan"), 1]}, "finite"),
        ({"width": 0}, "size"),
        ({"width": "96"}, "whole number"),
        ({"expression_index": 3}, "expression_index 3"),
        ({"files": {"diffuse": "diffuseMap_0.png"}}, "no environment"),
        ({"files": {"diffuse": "/etc/passwd", "environment": "envMap_0.exr"}}, "outside"),
        ({"files": {"diffuse": "gone.png", "environment": "envMap_0.exr"}}, "gone.png is missing"),
    ],
)
def test_bad_photos_are_refused(results: Path, change: dict[str, Any], message: str) -> None:
    edit(results, **change)
    with pytest.raises(ResultsError, match=message):
        read_results(results)


def test_folders_without_a_result_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="not a folder"):
        read_results(tmp_path / "nothing")
    with pytest.raises(ResultsError, match="no result.json"):
        read_results(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(ResultsError, match="has not finished"):
        read_results(tmp_path)
    (tmp_path / "result.json").write_text('{"schema": 1, ')
    with pytest.raises(ResultsError, match="cannot be read"):
        read_results(tmp_path)


def test_bad_geometry_is_refused(results: Path) -> None:
    path = results / "geometry.npz"
    good = dict(np.load(path))
    for key, value, message in (
        ("faces", good["faces"] + 100000, "do not fit"),
        ("uv", good["uv"][:-1], "uv is missing or not of shape"),
        ("neutral_vertices", good["neutral_vertices"] * np.nan, "not finite"),
        ("neutral_vertices", good["neutral_vertices"] * 0, "one place"),
        ("blendshape_names", np.array(["a", None], dtype=object), "damaged"),  # pickled: never loaded
    ):
        np.savez(path, **(good | {key: value}))
        with pytest.raises(ResultsError, match=message):
            read_results(results)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ResultsError, match="damaged"):
        read_results(results)


def test_a_missing_photo_is_a_warning(results: Path) -> None:
    (results / "photo_0.png").unlink()
    found = read_results(results)
    assert "photo" not in found.photos[0].files
    assert any("photo_0.png" in text for text in found.warnings)


def test_frontal_camera_stands_before_the_face() -> None:
    matrix = camera_matrix(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 500.0]))
    np.testing.assert_allclose(matrix[:3, 3], [0, -0.5, 0], atol=1e-12)  # half a metre out along −Y
    np.testing.assert_allclose(-matrix[:3, 2], [0, 1, 0], atol=1e-12)  # looking along +Y
    np.testing.assert_allclose(matrix[:3, 1], [0, 0, 1], atol=1e-12)  # Z up


def test_lens_of_a_centred_camera_has_no_shift() -> None:
    K = np.array([[1000.0, 0, 320], [0, 1000, 240], [0, 0, 1]])
    assert lens_settings(K, 640, 480, 36.0) == (56.25, 0.0, 0.0, 1.0, 1.0)
