"""The method "texture" from a folder to a result: resume, UV data sets, commands, jobs, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nextgenface import job
from nextgenface.cli import texture as texture_command
from nextgenface.cli import uv as uv_command
from nextgenface.errors import Cancelled, CheckpointError, ConfigError, NextGenFaceError
from nextgenface.events import CancelWhen, NullListener, Tee, WarningLog
from nextgenface.images import read_image
from nextgenface.multiview.datasets import DataSetError, nds
from nextgenface.multiview.meshes import Mesh, MeshError, read_mesh, unwrap, write_obj
from nextgenface.multiview.method import Request
from nextgenface.multiview.texture import method
from nextgenface.multiview.texture.method import reconstruct, typed
from nextgenface.multiview.texture.uvmaps import outside_share
from nextgenface.views import View, ViewSet

from tests.solver.textured_ball import ball, looking, photograph

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = {"tex_dim": "64", "niter": "4", "niter_decay": "4", "padding": "2", "device": "cpu"}


@pytest.fixture(autouse=True)
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 64 pixels are quicker on the one thread of `one_thread`."""
    monkeypatch.setattr(method, "compute_threads", lambda _config: nullcontext())


@pytest.fixture(scope="module")
def views() -> ViewSet:
    angles = [(0, 0), (50, 20), (-50, 10), (130, -20), (-130, 0), (20, 5)]
    return photograph(ball(), [looking(azimuth, elevation, size=64) for azimuth, elevation in angles])


@pytest.fixture(scope="module")
def folder(views: ViewSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with its mesh."""
    place = tmp_path_factory.mktemp("ball")
    nds.write(place, views)
    write_obj(place / "ball.obj", ball())
    return place


def run(folder: Path, output: Path, *, mesh: str = "ball.obj", **more: object) -> tuple[dict, list[str]]:
    """Result and warnings; options as keywords beside those of Request."""
    fields = {name: more.pop(name) for name in ("held_out", "resume") if name in more}
    log = WarningLog()
    options = {**QUICK, **{name: str(value) for name, value in more.items()}}
    request = Request((folder,), output, folder / mesh if mesh else None, options=options, **fields)  # type: ignore[arg-type]
    path = reconstruct(request, log)
    return json.loads(path.read_text()), log.texts


def test_a_folder_becomes_a_result(folder: Path, tmp_path: Path) -> None:
    result, warnings = run(folder, tmp_path, held_out=("view_05",), niter=15, niter_decay=15)
    assert result["method"] == "texture" and warnings == result["warnings"] == []
    assert result["metrics"]["heldout_psnr"] > 22 and result["metrics"]["held_out"] == ["view_05"]
    texture = read_image(tmp_path / result["files"]["texture"])
    assert texture.shape == (64, 64, 3) and texture.std() > 0.05
    assert len(result["photos"]) == 6
    for photo in result["photos"]:
        assert (tmp_path / photo["files"]["photo"]).is_file() and np.shape(photo["K"]) == (3, 3)
    assert (tmp_path / result["photos"][-1]["files"]["render"]).is_file()
    again = read_mesh(tmp_path / result["files"]["mesh"])
    np.testing.assert_allclose(again.vertices, ball().vertices, atol=1e-4)
    with np.load(tmp_path / result["files"]["geometry"]) as stored:
        assert np.array_equal(stored["uv_faces"], again.layout[1])
    assert not (tmp_path / "checkpoints" / "texture.npz").exists()


def test_a_stopped_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    whole, _ = run(folder, tmp_path / "whole")
    steps: list[int] = []

    class Counting(NullListener):
        def progress(self, stage: str, step: int, total: int, loss: float) -> None:
            steps.append(step)

    request = Request((folder,), tmp_path / "parts", folder / "ball.obj", options=QUICK)
    stop = CancelWhen(lambda: len(steps) >= 5)
    with pytest.raises(Cancelled):
        reconstruct(request, Tee(Counting(), stop))
    assert steps == [1, 2, 3, 4, 5] and not (tmp_path / "parts" / "result.json").exists()
    with pytest.raises(CheckpointError, match="other settings"):
        reconstruct(replace(request, resume=True, options={**QUICK, "lr": "0.02"}), NullListener())
    steps.clear()
    reconstruct(replace(request, resume=True), Counting())
    assert steps == [6, 7, 8]
    a, b = (read_image(tmp_path / name / "texture.png") for name in ("whole", "parts"))
    assert np.array_equal(a, b) and whole["stages"]["texture"]["steps"] == 8


def test_uv_maps_are_written_and_run_as_a_data_set(folder: Path, tmp_path: Path) -> None:
    maps, out = tmp_path / "maps", tmp_path / "out"
    given = ["--mesh", str(folder / "ball.obj"), "--views", str(folder), "--output", str(maps), "--quiet"]
    assert uv_command.main(given) == 0
    assert sorted(p.name for p in (maps / "uvs").iterdir()) == [f"{k}.exr" for k in range(6)]
    assert (maps / "names.txt").read_text().splitlines()[2] == "2 view_02"
    result, warnings = run(maps, out, mesh="")
    assert warnings == [] and result["photos"] == [] and "mesh" not in result["files"]
    direct, _ = run(folder, tmp_path / "direct")
    a, b = (read_image(place / "texture.png") for place in (out, tmp_path / "direct"))
    sure = read_image(tmp_path / "direct" / "confidence.png")[..., 0] > 0.99
    assert np.abs(a - b)[sure].mean() < 0.03  # no masks and no angles there, so not quite the same
    # maps for enlarged pictures are larger; the photos are brought to them, which is said
    assert uv_command.main([*given, "--scale", "2"]) == 0
    assert read_image(maps / "uvs" / "0.exr").shape[:2] == (128, 128)
    _, warnings = run(maps, out, mesh="", exposure=False)
    assert "resized" in warnings[0]
    with pytest.raises(NextGenFaceError, match="held out"):
        run(maps, out, mesh="", held_out=("0",))


def test_the_command_takes_the_reference_s_options(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        f"--dataroot {folder} --mesh {folder / 'ball.obj'} --results_dir {tmp_path} --name ball --gpu_ids -1 "
    )
    given += "--tex_dim 64 --niter 1 --niter_decay 1 --lambda_VGG 0 --hierarchicalTex --batch_size 1 --json"
    assert texture_command.main(given.split()) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["stage"] for line in lines if line["event"] == "stage"] == ["views", "texture", "render"]
    warning = next(line["text"] for line in lines if line["event"] == "warning")
    assert "hierarchicalTex" in warning and "batch_size" in warning
    assert (
        lines[-1]["event"] == "done" and json.loads((tmp_path / "result.json").read_text())["device"] == "cpu"
    )


def test_a_job_starts_it(folder: Path, tmp_path: Path) -> None:
    content = {
        "schema": 1,
        "method": "texture",
        "input": [str(folder)],
        "mesh": str(folder / "ball.obj"),
        "output": "out",
        "set": QUICK,
    }
    (tmp_path / "job.json").write_text(json.dumps(content))
    assert job.run_job(tmp_path) == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "done" and (tmp_path / "out" / "texture.png").is_file()
    assert any(event["event"] == "preview" for event in events)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="vggWeights"):
        typed({"lambda_VGG": "10"}, NullListener())
    with pytest.raises(ConfigError, match="tex_dim"):
        typed({"tex_dim": "9000"}, NullListener())
    with pytest.raises(ConfigError, match="no option"):
        typed({"lamda_L1": "1"}, NullListener())
    assert typed({"gpu_ids": "-1"}, NullListener()).device == "cpu"


def written(folder: Path, mesh: Mesh, name: str = "bad.obj") -> str:
    write_obj(folder / name, mesh)
    return name


def test_meshes_without_a_layout_get_one(folder: Path, tmp_path: Path) -> None:
    plain = written(folder, replace(ball(8), uv=None, uv_faces=None), "plain.obj")
    result, warnings = run(folder, tmp_path, mesh=plain)
    assert "xatlas" in warnings[0] and result["warnings"] == warnings
    made = read_mesh(tmp_path / "mesh.obj")
    assert outside_share(made) == 0 and made.faces.shape == ball(8).faces.shape
    with pytest.raises(MeshError, match="Unwrap it"):
        run(folder, tmp_path, mesh=plain, unwrap="never")


def test_unwrapping_keeps_every_face() -> None:
    mesh = ball(6)
    made = unwrap(mesh, 256)
    assert np.array_equal(np.sort(made.faces, 1), np.sort(mesh.faces, 1))
    uv, uv_faces = made.layout
    assert uv.min() >= 0 and uv.max() <= 1 and len(uv_faces) == len(mesh.faces)
    a, b, c = (mesh.vertices[made.faces[:, k]] for k in range(3))
    assert ((np.cross(b - a, c - a) * a).sum(1) > 0).all()  # still wound outward


def test_layouts_that_cannot_be_used_are_named(folder: Path, tmp_path: Path) -> None:
    uv, uv_faces = ball().layout
    tiled = written(folder, replace(ball(), uv=uv * 2))
    with pytest.raises(MeshError, match="outside 0 to 1.*unwrap=always"):
        run(folder, tmp_path, mesh=tiled)
    folded = np.stack([np.abs(uv[:, 0] - 0.5), uv[:, 1]], 1)
    result, warnings = run(folder, tmp_path, mesh=written(folder, replace(ball(), uv=folded)))
    assert "on top of other parts" in warnings[0]
    _, warnings = run(folder, tmp_path, mesh=tiled, unwrap="always")
    assert warnings == []


def moved(views: ViewSet, change: Callable[[View], View]) -> ViewSet:
    return ViewSet(tuple(change(view) for view in views), views.bounds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: replace(v, camera=replace(v.camera, t=-v.camera.t)), "hardly see|behind"),
        (lambda v: replace(v, camera=replace(v.camera, t=v.camera.t + (9000, 0, 0))), "one space"),
        (lambda v: replace(v, mask=np.zeros_like(v.mask) + (np.arange(64) < 3)), "mask"),
    ],
)
def test_views_that_see_nothing_are_refused(
    change: Callable[[View], View], words: str, views: ViewSet, folder: Path, tmp_path: Path
) -> None:
    nds.write(tmp_path, moved(views, change))
    write_obj(tmp_path / "ball.obj", ball())
    with pytest.raises(DataSetError, match=words):
        run(tmp_path, tmp_path / "out")


def test_one_view_is_enough_and_says_so(views: ViewSet, tmp_path: Path) -> None:
    nds.write(tmp_path, ViewSet(views.views[:1]))
    write_obj(tmp_path / "ball.obj", ball())
    result, warnings = run(tmp_path, tmp_path / "out")
    assert "one view only" in warnings[0] and result["metrics"]["heldout_psnr"] is None


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="--mesh"):
        run(folder, tmp_path, mesh="")
    with pytest.raises(NextGenFaceError, match="held out"):
        run(folder, tmp_path, held_out=[f"view_{k:02d}" for k in range(6)])
    with pytest.raises(NextGenFaceError, match="No view is called"):
        run(folder, tmp_path, held_out=("other",))
    with pytest.raises(NextGenFaceError, match="lost.obj"):
        run(folder, tmp_path, mesh="lost.obj")


def test_little_memory_is_met_by_smaller_pictures_or_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NextGenFaceError, match="tex_dim 256"):
        run(folder, tmp_path, tex_dim=4096, memory_mb=1)
    result, warnings = run(folder, tmp_path, memory_mb=1)
    assert "of their resolution" in warnings[0] and result["photos"][0]["width"] < 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v 0 0 0\nv 1 0 0\nf 1 2 3\n", "do not exist"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "finite"),
        ("hello", "no faces"),
        ("v 0 0 x\n", "damaged"),
    ],
)
def test_damaged_meshes_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(MeshError, match=words):
        read_mesh(tmp_path / "bad.obj")


def test_mesh_files_of_all_kinds(tmp_path: Path) -> None:
    quad = tmp_path / "quad.obj"
    quad.write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf -4/1 -3/2 -2/3 -1/4\n"
    )
    found = read_mesh(quad)
    assert found.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and found.layout[1].tolist() == found.faces.tolist()
    off = tmp_path / "quad.off"
    off.write_text("STOFF\n4 1 0\n0 0 0 0 0\n1 0 0 1 0\n1 1 0 1 1\n0 1 0 0 1\n4 0 1 2 3\n")
    again = read_mesh(off)
    np.testing.assert_array_equal(again.vertices, found.vertices)
    np.testing.assert_array_equal(again.layout[0], found.layout[0])
    assert read_mesh(off).faces.tolist() == found.faces.tolist()
    vertex = np.zeros(3, [(n, "<f4") for n in ("x", "y", "z", "s", "t")])
    vertex["x"], vertex["y"], vertex["s"], vertex["t"] = (0, 1, 0), (0, 0, 1), (0, 0.5, 0), (0, 0, 0.25)
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    head += "".join(f"property float {n}\n" for n in "xyzst")
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    body = vertex.tobytes() + b"\3" + np.arange(3, dtype="<i4").tobytes()
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    assert read_mesh(tmp_path / "a.ply").layout[0].tolist() == [[0, 0], [0.5, 0], [0, 0.25]]
