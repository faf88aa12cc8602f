"""The face models in the preferences, with a command that plays the solver's. The last tests need bpy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import fake_python, wait_for

from nextgenface_addon.job_events import JobStatus
from nextgenface_addon.models import ModelCommand, ModelList, name_for, removable, with_progress

FAKE_COMMAND = """
import json, os, shutil, time
from pathlib import Path
models = Path(os.environ["NEXTGENFACE_HOME"]) / "models"
action = arguments[0]

def answer(value, code=0):
    print(json.dumps(value), flush=True)
    sys.exit(code)

def refuse(problem):
    print(json.dumps({"ok": False, "problem": problem}), flush=True)
    print("error: " + problem, file=sys.stderr, flush=True)
    sys.exit(2)

def row(name, path=None, **more):
    return {"name": name, "title": name.title(), "kind": "Fake", "installed": path is not None,
            "path": path and str(path), "size_mb": 1.5 if path else 0.0, "licence": "MIT",
            "source": "https://example.org/" + name, "commercial": True, "downloadable": False,
            "download_mb": 0, "note": "", **more}

def keep(name, facts):
    (models / name).mkdir(parents=True)
    answer({"name": name, "ok": True, "vertices": 3, "notes": ["a note on " + name], **facts})

assert arguments[-1] == "--json", arguments
if action == "list":
    print("[WARNING] a library says something", file=sys.stderr, flush=True)
    own = sorted(models.iterdir()) if models.is_dir() else []
    rows = [row("builtin", models / "builtin.h5", note="built")] + [row(path.name, path) for path in own]
    answer(rows + [row("open", downloadable=True, download_mb=60), row("form", note="ask for form.h5")]
           + [row("bfm", folder) for folder in [os.environ.get("NEXTGENFACE_DATA_DIR")] if folder])
if action == "add":
    paths, name = [Path(path) for path in arguments[1:-3]], arguments[-2]
    assert arguments[-3] == "--name"
    if "bad" in paths[0].name:
        refuse(paths[0].name + " is no face model of a known format.")
    keep(name, {"added": [str(path) for path in paths]})
if action == "check":
    good = arguments[1] != "broken"
    more = {"notes": ["derived: landmarks"]} if good else {"problem": "a basis holds NaN"}
    answer([{"name": arguments[1], "ok": good, **more}], 0 if good else 2)
if action == "remove":
    if not (models / arguments[1]).exists():
        refuse("There is no model '" + arguments[1] + "'; nothing was removed.")
    shutil.rmtree(models / arguments[1])
    answer({"ok": True})
if action == "download":
    print("1/2 head.npz: 30.0 of 60.0 MB", file=sys.stderr, flush=True)
    if arguments[1] == "slow":
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("error: Stopped.", file=sys.stderr, flush=True)
            sys.exit(130)
    keep(arguments[1], {})
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, for the command as well."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NEXTGENFACE_HOME", str(folder))
    return folder


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The solver's Python, whose only module is the fake command."""
    monkeypatch.delenv("NEXTGENFACE_DATA_DIR", raising=False)
    return fake_python(tmp_path, FAKE_COMMAND)


def test_face_models_are_listed(home: Path, python: Path) -> None:
    (home / "models" / "mine").mkdir(parents=True)
    models = ModelList(home)
    models.begin(python)
    assert models.wait(interval=0.01).state == "finished"
    rows = models.rows()
    assert [row["name"] for row in rows] == ["builtin", "mine", "open", "form"]
    assert [row["name"] for row in rows if removable(row)] == ["mine"], "nothing else is the user's own"


def test_what_is_no_list_is_no_list(tmp_path: Path) -> None:
    models = ModelList(tmp_path)
    models.begin(fake_python(tmp_path, "print('[1, {}, {\"name\": 3}]')\nprint('{')\nsys.exit(1)\n"))
    assert models.wait(interval=0.01).state == "failed" and models.rows() == []
    assert ModelList(tmp_path / "never asked").rows() == []


def test_a_problem_is_told_in_the_solvers_words(home: Path, python: Path) -> None:
    for action, name, words in (("remove", "gone", "no model 'gone'"), ("check", "broken", "holds NaN")):
        command = ModelCommand(home, action, name)  # type: ignore[arg-type]
        command.begin(python)
        status = command.wait(interval=0.01)
        assert status.state == "failed" and words in status.error and "{" not in status.error
    command = ModelCommand(home, "check", "builtin")
    command.begin(fake_python(home, "sys.exit('No module named nextgenface')\n"))
    assert command.wait(interval=0.01).state == "failed" and "not installed" in command.status.error
    (home / "python").unlink()
    with pytest.raises(Exception, match="cannot be started"):
        command.begin(home / "python")


def test_progress_counts_all_files_and_never_goes_back() -> None:
    status = with_progress(JobStatus(state="running"), "x\n2/4 a/b.obj: 1.0 of 2.0 MB\nsomething else")
    assert status.fraction == pytest.approx(0.375) and status.note.startswith("2/4 a/b.obj")
    assert with_progress(status, "1/4 a: 1.0 of 2.0 MB").fraction == pytest.approx(0.375)
    assert with_progress(status, "nothing of the kind") == status
    assert 0.0 <= with_progress(status, "9/4 a: 9.0 of 0.0 MB").fraction <= 1.0


def test_a_name_is_made_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "Größe (1).h5").write_bytes(b"")
    assert name_for(tmp_path / "Größe (1).h5") == "Gr-e-1"
    assert name_for(tmp_path / "FaceXModel.v1") == "FaceXModel.v1", "a folder has no suffix"


# ---- in Blender ------------------------------------------------------------


@pytest.fixture
def addon(bpy: Any, in_folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import nextgenface_addon

    monkeypatch.setenv("NEXTGENFACE_PYTHON", str(python))
    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()


@pytest.fixture
def online(addon: Any) -> Iterator[Any]:
    addon.context.preferences.system.use_online_access = True
    yield addon
    addon.context.preferences.system.use_online_access = False


def drawn(*, open_panels: bool = True) -> Any:
    from fake_layout import FakeLayout

    from nextgenface_addon.operators.environment import known
    from nextgenface_addon.panels.models import draw_models

    layout = FakeLayout(open_panels=open_panels)
    draw_models(layout, known)
    return layout


def listed() -> list[str]:
    from nextgenface_addon.operators.environment import known

    return [row["name"] for row in known.models]


def test_the_list_says_what_there_is_and_offers_what_can_be_done(addon: Any) -> None:
    assert addon.ops.nextgenface.list_models() == {"FINISHED"}
    assert listed() == ["builtin", "open", "form"]
    layout = drawn()
    for words in ("builtin: Builtin", "Size: 1.5 MB", "Size: 60 MB", "Licence: MIT", "ask for form.h5"):
        assert words in layout.texts
    assert "Source: https://example.org/form" in layout.texts
    pressed = [(b.name_of_operator.removeprefix("nextgenface."), b.given) for b in layout.operators]
    assert pressed == [
        ("list_models", {}),
        ("add_model", {}),
        ("check_model", {"model": "builtin"}),
        ("download_model", {"model": "open"}),
        ("add_model", {"model": "open"}),
        ("add_model", {"model": "form"}),
    ]


def test_models_are_added_checked_and_removed(addon: Any, tmp_path: Path) -> None:
    from nextgenface_addon import tasks

    for name in ("mine.h5", "albedo.h5", "bad.h5"):
        (tmp_path / name).write_bytes(b"")
    two = [{"name": "mine.h5"}, {"name": "albedo.h5"}]
    assert addon.ops.nextgenface.add_model(directory=str(tmp_path), files=two) == {"FINISHED"}
    assert "mine" in listed()
    added = tasks.get("model command").facts["added"]
    assert added == [str(tmp_path / "mine.h5"), str(tmp_path / "albedo.h5")]
    layout = drawn()
    assert "mine was added and can be used" in layout.texts and "a note on mine" in layout.texts
    assert "nextgenface.remove_model" in layout.names()

    (tmp_path / "FaceXModel").mkdir()
    nothing = [{"name": ""}]
    folder = str(tmp_path / "FaceXModel")
    assert addon.ops.nextgenface.add_model(directory=folder, files=nothing, model="ict") == {"FINISHED"}
    assert "ict" in listed() and tasks.get("model command").facts["added"] == [folder]

    with pytest.raises(RuntimeError, match="no face model of a known format"):
        addon.ops.nextgenface.add_model(directory=str(tmp_path), files=[{"name": "bad.h5"}])
    for open_panels in (True, False):
        texts = drawn(open_panels=open_panels).texts
        assert any("bad: bad.h5 is no face model" in text for text in texts)
    with pytest.raises(RuntimeError, match="or its folder"):
        addon.ops.nextgenface.add_model()

    assert addon.ops.nextgenface.check_model(model="mine") == {"FINISHED"}
    assert "mine can be used" in drawn().texts and "derived: landmarks" in drawn().texts
    with pytest.raises(RuntimeError, match="holds NaN"):
        addon.ops.nextgenface.check_model(model="broken")

    assert addon.ops.nextgenface.remove_model(model="mine") == {"FINISHED"}
    assert "mine" not in listed() and "ict" in listed()
    with pytest.raises(RuntimeError, match="nothing was removed"):
        addon.ops.nextgenface.remove_model(model="mine")


def test_the_folder_in_the_preferences_counts(addon: Any, tmp_path: Path) -> None:
    entry = addon.context.preferences.addons.new()
    entry.module = "nextgenface_addon"
    try:
        entry.preferences.bfm_folder = str(tmp_path / "bfm")
        assert addon.ops.nextgenface.list_models() == {"FINISHED"}
        assert listed()[-1] == "bfm" and str(tmp_path / "bfm") in drawn().texts
    finally:
        addon.context.preferences.addons.remove(entry)


def test_nothing_is_downloaded_in_offline_mode(addon: Any, tmp_path: Path) -> None:
    assert not addon.app.online_access, "the tests run with Blender's defaults"
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        addon.ops.nextgenface.download_model(model="open")
    assert not (tmp_path / "home" / "model-command").exists(), "not even asked"


def test_a_download_adds_the_model(online: Any) -> None:
    assert online.ops.nextgenface.download_model(model="open") == {"FINISHED"}
    assert "open was downloaded and can be used" in drawn().texts
    assert listed()[:2] == ["builtin", "open"]


def test_a_download_shows_how_far_it_is_and_can_be_cancelled(
    online: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nextgenface_addon import driver, tasks

    with pytest.raises(RuntimeError, match="No download is running"):
        online.ops.nextgenface.cancel_model_download()
    monkeypatch.setattr(driver, "windowless", lambda: False)
    before = time.monotonic()
    assert online.ops.nextgenface.download_model(model="slow") == {"FINISHED"}
    assert time.monotonic() - before < 10.0, "the window must not wait for it"
    wait_for(lambda: tasks.follow() is None or tasks.get("model command").status.stage)
    layout = drawn()
    assert tasks.get("model command").status.fraction == pytest.approx(0.25)
    assert "slow is being downloaded" in layout.texts and "1/2 head.npz: 30.0 of 60.0 MB" in layout.texts
    for name in ("check_model", "check_environment", "use_environment"):
        with pytest.raises(RuntimeError, match="face model is being worked on"):
            getattr(online.ops.nextgenface, name)()
    assert online.ops.nextgenface.cancel_model_download() == {"FINISHED"}
    # The list that is read after it belongs to the same timer, which may not end before.
    wait_for(lambda: tasks.follow() is None)
    assert tasks.get("model command").status.state == "cancelled"
    assert tasks.get("models").status.state == "finished" and listed() == ["builtin", "open", "form"]
    assert any("was stopped; the next one goes on" in text for text in drawn().texts)
