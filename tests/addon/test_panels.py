"""Panels drawn onto a strict stand-in for Blender's layout, in every state of a job. Needs bpy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from process_helpers import within


@pytest.fixture
def addon(bpy: Any, in_folder: Path) -> Iterator[Any]:
    import nextgenface_addon
    from nextgenface_addon import session

    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()
    session.current().__init__()


class Drawn:
    """A panel, menu or preferences page; only what draw() may use."""

    def __init__(self, layout: Any) -> None:
        self.layout = layout


def draw(cls: Any, bpy: Any, *, open_panels: bool = True) -> Any:
    from fake_layout import FakeLayout

    panel = Drawn(FakeLayout(open_panels=open_panels))
    cls.draw(panel, bpy.context)
    return panel.layout


def own_panels() -> list[Any]:
    from nextgenface_addon.panels import jobs, main, settings

    return [*main.CLASSES[1:], *settings.CLASSES, *jobs.CLASSES]


def all_texts(bpy: Any) -> str:
    return "\n".join(draw(cls, bpy).text() for cls in own_panels())


def put_job(folder: Path, **status: Any) -> Any:
    """Make this the job that the panel shows."""
    from nextgenface_addon import session
    from nextgenface_addon.job_events import JobStatus
    from nextgenface_addon.jobs import Job

    job = Job(folder)
    job.status = JobStatus(**status)
    now = session.current()
    now.entry = session.Entry(job, runs_on=True)  # nothing may be sent to the process
    if job.status.state == "running":
        job._attached = os.getpid()
    return now


def test_an_empty_panel_says_what_to_do(addon: Any) -> None:
    assert "Add photos" in all_texts(addon)
    layout = draw(own_panels()[2], addon)
    assert layout.names()[0] == "nextgenface.add_photos" and "nextgenface.run" in layout.names()


def test_photos_settings_and_presets(addon: Any, results: Path) -> None:
    from fake_layout import FakeLayout

    from nextgenface_addon.panels.main import NEXTGENFACE_UL_photos

    files = [{"name": "photo_0.png"}, {"name": "render_0.png"}]
    addon.ops.nextgenface.add_photos(directory=str(results), files=files)
    settings = addon.context.scene.nextgenface
    settings.photos[0].rotate, settings.photos[0].face = "90", 2
    settings.photos[0].faces_found = 1
    addon.ops.nextgenface.save_preset(name="Mein Licht")
    text = all_texts(addon)
    assert "Faces found: 1" in text and "Mein Licht" in text and "Harsh Light" in text
    row = FakeLayout()
    NEXTGENFACE_UL_photos.draw_item(
        None, addon.context, row, settings, settings.photos[0], 0, settings, "", 0
    )
    assert row.texts == ["", "photo_0.png", "90°", "#2"]
    for cls in own_panels():
        draw(cls, addon, open_panels=False)


@pytest.mark.parametrize(
    ("status", "said", "button"),
    [
        ({"state": "running"}, "Starting the solver", "nextgenface.cancel"),
        (
            {"state": "running", "stage": "textures", "step": 3, "total": 9, "loss": 0.25, "eta": 200.0},
            "Textures 3/9, 3 min left",
            "nextgenface.cancel",
        ),
        ({"state": "finished", "warnings": ("Lens guessed",)}, "Finished", "nextgenface.import_job"),
        ({"state": "cancelled"}, "Cancelled", "nextgenface.resume_job"),
        ({"state": "stopped"}, "Stopped before", "nextgenface.resume_job"),
        (
            {"state": "failed", "error": "No face in a.png", "kind": "NoFaceError", "exit_code": 2},
            "No face",
            "nextgenface.find_faces",
        ),
        (
            {"state": "failed", "error": "The solver was ended", "exit_code": -9},
            "ended",
            "nextgenface.apply_preset",
        ),
        (
            {"state": "failed", "error": "Press Install in the add-on's preferences", "kind": "JobError"},
            "preferences",
            "nextgenface.open_preferences",
        ),
        ({"state": "failed", "error": "KeyError: 3", "exit_code": 1}, "KeyError", "nextgenface.write_report"),
        (
            {"state": "broken", "error": "job.json cannot be read"},
            "cannot be read",
            "nextgenface.open_folder",
        ),
    ],
)
def test_a_job_in_every_state(addon: Any, tmp_path: Path, status: Any, said: str, button: str) -> None:
    now = put_job(tmp_path / "Müller", **status)
    now.entry.checkpoints = (1, 2)
    layout = draw(own_panels()[2], addon)
    assert said in layout.text() and "Müller" in layout.text()
    assert button in layout.names()
    assert ("Add to Queue" in layout.texts) == (status["state"] == "running")
    stages = [b.given.get("filepath", "") for b in layout.operators if b.name_of_operator.endswith("_result")]
    assert len(stages) == (0 if status["state"] == "running" else 2)
    now.found = now.listed()
    now.selected = tmp_path / "Müller"
    listed = draw(own_panels()[-1], addon)
    assert "Müller" in listed.text()


def test_settings_show_the_options_of_the_method(addon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_layout import FakeLayout

    shown: list[str] = []
    monkeypatch.setattr(FakeLayout, "prop", lambda self, data, name, **more: shown.append(name))
    settings = addon.context.scene.nextgenface
    draw(own_panels()[3], addon)
    assert {"engine", "rtTrainingSamples", "rtBounces", "outlierPhotos"} <= set(shown)
    engines = settings.options.bl_rna.properties["engine"].enum_items.keys()
    assert list(engines) == ["deferred", "hybrid", "raytraced"]
    shown.clear()
    settings.method = "mesh"
    draw(own_panels()[3], addon)
    assert "mesh_iterations" in shown and "engine" not in shown


def test_a_mesh_from_many_views_asks_for_a_data_set_and_a_start(
    addon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fake_layout import FakeLayout

    from nextgenface_addon.panels.main import NEXTGENFACE_PT_main

    shown: list[str] = []
    monkeypatch.setattr(FakeLayout, "prop", lambda self, data, name, **more: shown.append(name))
    settings = addon.context.scene.nextgenface
    settings.method = "mesh"
    draw(NEXTGENFACE_PT_main, addon)
    assert {"dataset", "mesh"} <= set(shown) and "active_photo" not in shown
    shown.clear()
    settings.method = "face"
    draw(NEXTGENFACE_PT_main, addon)
    assert not {"dataset", "mesh"} & set(shown)


def test_an_engine_that_was_not_used_is_told_until_the_end(addon: Any, tmp_path: Path) -> None:
    """The solver says it in stages 2 and 3, and other things before and after."""
    from nextgenface_addon.job_events import JobStatus, apply_event

    fallback = "engine = hybrid was asked for, but it does not work here. The deferred engine is used."
    status = JobStatus(state="running", stage="photometric")
    for text in ("Lens guessed", "Option unknown", fallback, fallback, "Not converged", fallback, "Noisy"):
        status = apply_event(status, {"event": "warning", "text": text}, tmp_path)
    assert status.warnings == ("Lens guessed", "Option unknown", fallback, "Not converged", "Noisy")
    for state in ("running", "finished"):
        put_job(tmp_path / "x", state=state, warnings=status.warnings)
        text = draw(own_panels()[2], addon).text()
        assert text.count("engine = hybrid") == 1 and "Noisy" in text
        assert "More warnings in the log: 1" in text and "Lens guessed" not in text


def test_long_errors_stay_short(addon: Any, tmp_path: Path) -> None:
    put_job(tmp_path / "x", state="failed", error="word " * 2000 + "\nTraceback\n" * 50)
    lines = [text for text in draw(own_panels()[2], addon).texts if "word" in text]
    assert len(lines) <= 5 and lines[-1].endswith("…") and max(map(len, lines)) < 60


def test_the_preferences_in_every_state(addon: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fake_layout import FakeLayout

    from nextgenface_addon import tasks
    from nextgenface_addon.environment import Installer
    from nextgenface_addon.job_events import JobStatus
    from nextgenface_addon.operators.environment import Known
    from nextgenface_addon.panels.environment import draw_environment

    class Preferences:
        bl_rna = addon.types.Scene.bl_rna  # has a property `name`
        solver_python = ""

    rows = [
        {"name": "LLVM", "status": "warning", "found": "none", "wrong": "w", "action": "brew install llvm"}
    ]
    preferences = Preferences()
    monkeypatch.setattr(FakeLayout, "prop", lambda self, data, name: getattr(data, name))
    for state in ("missing", "ready", "outdated", "broken"):
        for installer in (True, False):
            layout = FakeLayout()
            known = Known(state, installer, "" if state != "ready" else "/p", "why", rows, [{"name": "m"}])
            draw_environment(layout, preferences, known)
            assert ("nextgenface.install_environment" in layout.names()) == installer
            assert "brew install llvm" in layout.text()
    running = Installer(tmp_path)
    running.status = JobStatus(state="running", stage="packages", fraction=0.4, note="Collecting torch")
    monkeypatch.setitem(tasks._tasks, "installer", (running, lambda: None))
    layout = FakeLayout()
    draw_environment(layout, preferences, Known(installer=True))
    assert "Collecting torch" in layout.texts and "nextgenface.cancel_installation" in layout.names()
    assert "nextgenface.install_environment" not in layout.names()
    running.status = JobStatus(state="failed", error="The package registry could not be reached")
    layout = FakeLayout()
    draw_environment(layout, preferences, Known("missing", True))
    assert "could not be reached" in layout.text() and "nextgenface.install_environment" in layout.names()
    monkeypatch.delitem(tasks._tasks, "installer")


def test_drawing_is_quick_with_many_photos_and_jobs(addon: Any, tmp_path: Path) -> None:
    """A list of 300 photos on a drive that is gone, and 40 jobs."""
    from fake_layout import FakeLayout

    from nextgenface_addon.job_events import JobStatus
    from nextgenface_addon.job_list import FoundJob
    from nextgenface_addon.panels.main import NEXTGENFACE_UL_photos

    settings = addon.context.scene.nextgenface
    for number in range(300):
        settings.photos.add().path = f"/gone/{number}.png"
    now = put_job(
        tmp_path / "a", state="running", stage="pose", warnings=tuple("word " * 50 for _ in range(100))
    )
    now.found = [FoundJob(tmp_path / str(i), "finished", None, JobStatus("finished")) for i in range(40)]

    def seconds() -> float:
        before = time.perf_counter()
        for cls in own_panels():
            draw(cls, addon)
        for photo in settings.photos:
            row = FakeLayout()
            NEXTGENFACE_UL_photos.draw_item(None, addon.context, row, settings, photo, 0, settings, "")
        took = time.perf_counter() - before
        print(f"drawing all panels: {took * 1000:.1f} ms")
        return took

    assert within(seconds, 0.1)


def test_photos_are_dropped_only_where_the_tab_is_open(addon: Any) -> None:
    def context(kind: str, shown: bool, tab: str) -> SimpleNamespace:
        regions = [SimpleNamespace(type="WINDOW"), SimpleNamespace(type="UI", active_panel_category=tab)]
        area = SimpleNamespace(type=kind, regions=regions)
        return SimpleNamespace(area=area, space_data=SimpleNamespace(show_region_ui=shown))

    handler = addon.types.NEXTGENFACE_FH_photos
    assert handler.poll_drop(context("VIEW_3D", True, "NextGenFace"))
    assert not handler.poll_drop(context("VIEW_3D", True, "Item"))
    assert not handler.poll_drop(context("VIEW_3D", False, "NextGenFace"))
    assert not handler.poll_drop(context("TEXT_EDITOR", True, "NextGenFace"))
    assert not handler.poll_drop(SimpleNamespace(area=None))
    assert ".jpg" in handler.bl_file_extensions.split(";")


def test_thumbnails_are_loaded_outside_of_drawing(addon: Any, results: Path) -> None:
    from nextgenface_addon import thumbnails

    there, gone = str(results / "photo_0.png"), "/gone/a.png"
    for path in (there, gone, there):
        thumbnails.icon(path)
    assert thumbnails._wanted == [there, gone] and there not in thumbnails._collection
    assert addon.app.timers.is_registered(thumbnails._load_wanted)
    while thumbnails._load_wanted() is not None:
        pass
    assert there in thumbnails._collection and gone not in thumbnails._collection
    thumbnails.icon(gone)
    assert thumbnails._wanted == [], "a picture that is not there is not asked for at each drawing"
    for number in (1, 2, 2):
        thumbnails.show_live("job", results / "photo_0.png", number)
    assert [name for name in thumbnails._collection if "#" in name] == [f"{there}#2"]
    thumbnails.show_live("job", results / "gone.png", 3)
    thumbnails.show_live("job", Path("\0"), 4)
