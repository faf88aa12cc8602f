"""The method "gaussians" from a data set or photos to a result: resume, command, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nextgenface.cli.gaussians import main
from nextgenface.errors import Cancelled, ConfigError, NextGenFaceError
from nextgenface.events import NullListener
from nextgenface.files import prepare_output
from nextgenface.geometry.ply import write_ply
from nextgenface.images import read_image
from nextgenface.multiview.datasets import nds
from nextgenface.multiview.datasets.pictures import write_view
from nextgenface.multiview.gaussians.method import Sources, prepare, reconstruct
from nextgenface.multiview.gaussians.options import Options
from nextgenface.multiview.gaussians.photos import FittedPhotos, known_views
from nextgenface.multiview.gaussians.start import scene_box
from nextgenface.multiview.meshes import read_mesh
from nextgenface.multiview.method import Request, method
from nextgenface.multiview.options import read_options
from nextgenface.views import ViewSet

from tests.solver.splat_ball import ANGLES, SIZE, camera_at, pictures

pytestmark = pytest.mark.usefixtures("one_thread")


SMALL = {"steps": "90", "resolution": "40", "initialPoints": "300", "maxPoints": "500", "densifyEvery": "20"}


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    nds.write(tmp_path / "scan", pictures(ANGLES))
    return tmp_path / "scan"


def test_a_data_set_becomes_gaussians(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = method("gaussians")(Request((data_set,), out, held_out=("v4",), options=SMALL), NullListener())
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["method"] == "gaussians" and result["config"]["steps"] == 90
    assert [photo["name"] for photo in result["photos"]] == ["v0", "v1", "v2", "v3", "v4"]
    assert result["metrics"]["heldout_psnr"] > 22
    assert 300 < result["metrics"]["points"] <= 500
    assert result["metrics"]["outside_box"] < 0.03
    for name in (*result["files"].values(), *(f for p in result["photos"] for f in p["files"].values())):
        assert (out / name).is_file()
    assert read_image(out / "render_4.png").shape == (SIZE, SIZE, 4)
    assert not (out / "checkpoints" / "gaussians.npz").exists()
    K = np.array(result["photos"][2]["K"])
    assert np.allclose(K, camera_at(*ANGLES[2]).K)


class StopAfter(NullListener):
    """Asks for a stop once `step` steps are done."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.steps: list[int] = []

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        self.left -= 1
        self.steps.append(step)

    def cancelled(self) -> bool:
        return self.left <= 0


def test_a_stopped_run_goes_on_where_it_was(data_set: Path, tmp_path: Path) -> None:
    straight = reconstruct(Request((data_set,), tmp_path / "a", options=SMALL), NullListener())
    with pytest.raises(Cancelled):
        reconstruct(Request((data_set,), tmp_path / "b", options=SMALL), StopAfter(50))
    assert not (tmp_path / "b" / "result.json").exists()
    counter = StopAfter(1000)
    resumed = reconstruct(Request((data_set,), tmp_path / "b", options=SMALL, resume=True), counter)
    assert counter.steps[0] == 51 and counter.steps[-1] == 90
    assert (resumed.parent / "points.ply").read_bytes() == (straight.parent / "points.ply").read_bytes()


def test_points_start_on_a_mesh_that_is_given(data_set: Path, tmp_path: Path) -> None:
    corners = np.array([[0, 0, 40], [30, 0, 30], [0, 30, 30], [-30, 0, 30], [0, -30, 30.0]])
    write_ply(tmp_path / "m.ply", corners, np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]))
    mesh = read_mesh(tmp_path / "m.ply")
    views, options = pictures(ANGLES), read_options(Options, SMALL)
    sources = Sources(views, (mesh.vertices, mesh.faces), True)
    training, _ = prepare(sources, views, scene_box(views), options, "cpu")
    points = training.splats.positions.detach().numpy()
    flat = np.abs(points[:, 0]) + np.abs(points[:, 1]) - 3 * (40 - points[:, 2])
    assert len(points) == 300 and (np.abs(flat) < 1e-3).mean() == pytest.approx(0.6)
    request = Request((data_set,), tmp_path / "out", mesh=tmp_path / "none.obj")
    with pytest.raises(NextGenFaceError, match=r"none\.obj"):
        reconstruct(request, NullListener())


def test_photos_get_cameras_from_the_face_and_learn_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The face fit is stood in for by cameras that are a little off; it must not run again on resuming."""
    folder = tmp_path / "photos"
    folder.mkdir()
    angles = [(-0.5, 0.1), (0.0, -0.2), (0.5, 0.1)]
    entries = []
    for (yaw, pitch), view in zip(angles, pictures(angles, size=64), strict=True):
        wrong = camera_at(yaw + 0.03, pitch - 0.02, 64)
        numbers = {"K": wrong.K.tolist(), "R": wrong.R.tolist(), "t": wrong.t.tolist()}
        entries.append({"source": str(write_view(folder, view)), "rotate": 0, **numbers})
    fits = []

    def fit(
        paths: list[Path], output: Path, stages: int, listener: NullListener, **_: object
    ) -> FittedPhotos:
        fits.append(stages)
        info = {"photos": entries}
        corners = np.array([[-20, -30, 36], [20, -30, 36], [0, 40, 50.0]])
        views = ViewSet(tuple(known_views(info, listener)))
        return FittedPhotos(views, corners, np.array([[0, 1, 2]]), {}, info)

    monkeypatch.setattr("nextgenface.multiview.gaussians.method.fit_photos", fit)
    options = {**SMALL, "resolution": "64", "cameraStart": "0"}
    request = Request((folder,), tmp_path / "out", options=options, resume=True)
    with pytest.raises(Cancelled):
        reconstruct(request, StopAfter(45))
    result = json.loads(reconstruct(request, NullListener()).read_text(encoding="utf-8"))
    assert fits == [1]
    assert result["metrics"]["box"][1][2] == pytest.approx(50 + 7)
    moved = [
        np.abs(np.array(p["R"]) - np.array(e["R"])).max()
        for p, e in zip(result["photos"], entries, strict=True)
    ]
    assert min(moved) > 1e-3
    with pytest.raises(NextGenFaceError, match="mesh"):
        reconstruct(Request((folder,), tmp_path / "o", mesh=tmp_path / "m.ply"), NullListener())


def test_the_command_makes_a_head_and_explains_what_it_cannot_use(
    data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--input", str(data_set), "--output", str(tmp_path / "out"), "--quiet"]
    few = ["--steps", "2", "--resolution", "40", "--initialPoints", "50", "--maxPoints", "50"]
    assert main([*words, *few, "--heldOut", "v1"]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["held_out"] == ["v1"] and result["config"]["steps"] == 2
    assert main([*words, "--steps", "many"]) == 2
    assert "steps" in capsys.readouterr().err


def test_bad_requests_are_refused_in_words(data_set: Path, tmp_path: Path) -> None:
    out = prepare_output(tmp_path / "out")
    for options, word in (
        ({"step": "5"}, "step"),
        ({"steps": "x"}, "steps"),
        ({"shDegree": "4"}, "shDegree"),
    ):
        with pytest.raises(ConfigError, match=word):
            reconstruct(Request((data_set,), out, options=options), NullListener())
    with pytest.raises(ConfigError, match="maxPoints"):
        read_options(Options, {"maxPoints": "10"})
    with pytest.raises(NextGenFaceError, match="v9"):
        reconstruct(Request((data_set,), out, held_out=("v9",), options=SMALL), NullListener())
    with pytest.raises(NextGenFaceError, match="nothing to learn"):
        reconstruct(Request((data_set,), out, held_out=tuple(f"v{i}" for i in range(5))), NullListener())
    with pytest.raises(NextGenFaceError, match="nowhere"):
        reconstruct(Request((tmp_path / "nowhere",), out), NullListener())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NextGenFaceError, match="neither photos nor"):
        reconstruct(Request((empty,), out), NullListener())
