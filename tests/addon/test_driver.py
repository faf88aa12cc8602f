"""Jobs as the window drives them: started by the button, followed by the timer's function, which is called
here by hand because timers tick only where there is a window. Needs bpy.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import wait_for, within
from synthetic import Folder


@pytest.fixture
def addon(bpy: Any, in_folder: Path, solver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Blender as if it had a window, with the fake solver, a photo in the list and an output folder."""
    import nextgenface_addon
    from nextgenface_addon import driver, session
    from nextgenface_addon.operators import run

    monkeypatch.setenv("NEXTGENFACE_PYTHON", sys.executable)
    monkeypatch.setattr(run, "solver_folder", lambda: solver)
    nextgenface_addon.register()
    monkeypatch.setattr(driver, "windowless", lambda: False)
    made = Folder().write(in_folder / "made")
    monkeypatch.setenv("FAKE_RESULT", str(made))
    shutil.copy(made / "photo_0.png", in_folder / "Foto ü.png")
    bpy.ops.nextgenface.add_photos(directory=str(in_folder), files=[{"name": "Foto ü.png"}])
    bpy.context.scene.nextgenface.output = str(in_folder / "out")
    yield bpy
    job = session.current().job
    nextgenface_addon.unregister()
    if job is not None and job.pid is not None:
        job.cancel()
        job.wait(interval=0.02)
    session.current().__init__()


def ticked(seconds: float = 30.0, until: Callable[[], object] = lambda: False) -> list[float]:
    """Call the timer's function as Blender would; returns how long each call took."""
    from nextgenface_addon import driver

    times, end, pause = [], time.monotonic() + seconds, 0.0
    while pause is not None and not until():
        assert time.monotonic() < end
        before = time.perf_counter()
        pause = driver.follow()
        times.append(time.perf_counter() - before)
        time.sleep(min(pause or 0.0, 0.02))
    return times


def now() -> Any:
    from nextgenface_addon import session

    return session.current()


def running_in(stage: str) -> Callable[[], bool]:
    return lambda: bool(now().status.stage == stage)


def values(settings: Any) -> dict[str, Any]:
    from nextgenface_addon.properties import option_values

    return option_values(settings)


def cameras(bpy: Any) -> list[str]:
    return [camera.name for camera in bpy.data.objects if camera.type == "CAMERA"]


def test_the_button_returns_at_once_and_the_result_comes_by_itself(addon: Any) -> None:
    before = time.perf_counter()
    assert addon.ops.nextgenface.run() == {"FINISHED"}
    assert time.perf_counter() - before < 1.0
    assert now().running
    ticked()
    assert now().status.state == "finished" and now().message == ""
    assert "Müller 1 camera" in cameras(addon)
    # Pressed again it updates the same head.
    addon.ops.nextgenface.run()
    ticked()
    assert len([item for item in addon.data.objects if item.type == "MESH"]) == 2  # with the startup cube
    assert cameras(addon).count("Müller 1 camera") == 1


@pytest.mark.parametrize("behaviour", ["", "flood", "garbage", "long line"])
def test_blender_is_never_held_up_while_a_job_runs(
    addon: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], behaviour: str
) -> None:
    """What runs in Blender's own thread between two frames: the timer's function and the panels."""
    from test_panels import draw, own_panels

    from nextgenface_addon import driver

    monkeypatch.setenv("FAKE_BEHAVIOUR", behaviour)
    addon.context.scene.nextgenface.auto_import = False

    def longest() -> float:
        before = time.perf_counter()
        addon.ops.nextgenface.run()
        pressed = time.perf_counter() - before
        times, drawn = [], []
        while not now().status.done:
            before = time.perf_counter()
            driver.follow()
            times.append(time.perf_counter() - before)
            before = time.perf_counter()
            for cls in own_panels():
                draw(cls, addon)
            drawn.append(time.perf_counter() - before)
            time.sleep(0.005)
        assert now().status.state == "finished"
        figures = f"button {pressed * 1000:.0f} ms, longest look {max(times) * 1000:.1f} ms of {len(times)}, "
        with capsys.disabled():
            print(f"\n{behaviour or 'plain'} job: {figures}longest drawing {max(drawn) * 1000:.1f} ms")
        return max(pressed, *times, *drawn)

    assert within(longest, 0.1)


def test_two_jobs_wait_for_each_other(addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "wait:pose")
    addon.ops.nextgenface.run()
    ticked(until=running_in("pose"))
    monkeypatch.setenv("FAKE_BEHAVIOUR", "")
    addon.ops.nextgenface.run()
    assert [entry.job.folder.name for entry in now().waiting] == ["Foto ü_2"]
    listed = {job.folder.name: job.state for job in now().listed()}
    assert listed == {"Foto ü": "running", "Foto ü_2": "created"}
    assert addon.ops.nextgenface.cancel() == {"FINISHED"}
    with pytest.raises(RuntimeError, match="after the current step"):
        addon.ops.nextgenface.cancel()
    ticked()
    assert now().job.folder.name == "Foto ü_2" and now().status.state == "finished"
    assert (in_folder / "out" / "Foto ü" / "process.json").is_file()


def test_each_person_gets_a_job(addon: Any, in_folder: Path) -> None:
    shutil.copy(in_folder / "Foto ü.png", in_folder / "b.png")
    addon.ops.nextgenface.add_photos(directory=str(in_folder), files=[{"name": "b.png"}])
    settings = addon.context.scene.nextgenface
    settings.shared_identity = False
    addon.ops.nextgenface.run()
    assert now().job.folder.name == "Foto ü" and now().waiting[0].job.folder.name == "b"
    ticked()
    assert (in_folder / "out" / "b" / "result.json").is_file()


def test_what_the_panel_says_reaches_the_solver(addon: Any, in_folder: Path) -> None:
    from nextgenface_addon.jobs import JobRequest, PhotoInput

    for name in ("b.png", "c.png"):
        shutil.copy(in_folder / "Foto ü.png", in_folder / name)
    addon.ops.nextgenface.add_photos(directory=str(in_folder), files=[{"name": "b.png"}, {"name": "c.png"}])
    settings = addon.context.scene.nextgenface
    settings.active_photo = 1
    addon.ops.nextgenface.rotate_photo(clockwise=False)
    addon.ops.nextgenface.move_photo(direction="UP")
    settings.photos[0].face, settings.photos[0].focal35 = 2, 85.0
    settings.photos[2].enabled = False
    settings.options.weightShapeReg = 0.004
    settings.options.engine = "raytraced"
    settings.device = "cpu"
    addon.ops.nextgenface.run()
    asked = JobRequest.read(now().job.folder)
    assert list(asked.input) == [
        PhotoInput(in_folder / "b.png", rotate=270, face=2, focal35=85.0),
        PhotoInput(in_folder / "Foto ü.png"),
    ]
    assert asked.set == {"device": "cpu", "weightShapeReg": 0.004, "engine": "raytraced"}
    assert asked.shared_identity and asked.method == "face"
    ticked()


def test_a_folder_beside_a_file_that_is_not_saved_yet_is_refused(addon: Any, in_folder: Path) -> None:
    settings = addon.context.scene.nextgenface
    settings.output = "//results"
    with pytest.raises(RuntimeError, match="Save the file first"):
        addon.ops.nextgenface.run()
    addon.ops.wm.save_as_mainfile(filepath=str(in_folder / "a.blend"))
    addon.ops.nextgenface.run()
    assert now().job.folder == in_folder / "results" / "Foto ü"
    settings.output = ""
    addon.ops.nextgenface.run()
    assert now().waiting[0].job.folder == in_folder / "nextgenface" / "Foto ü"
    ticked()


def test_another_file_is_not_touched(addon: Any, in_folder: Path) -> None:
    addon.ops.nextgenface.run()
    addon.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    addon.ops.wm.save_as_mainfile(filepath=str(in_folder / "other.blend"))
    ticked()
    assert now().status.state == "finished" and "Another file is open" in now().message
    assert cameras(addon) == []
    assert addon.ops.nextgenface.import_job() == {"FINISHED"}
    assert cameras(addon) == ["Müller 1 camera"] and now().message == ""


def test_a_failure_is_one_sentence_and_resume_goes_on(
    addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "killed")
    addon.ops.nextgenface.run()
    ticked()
    assert now().status.state == "failed" and "memory" in now().status.text()
    assert now().checkpoints == (1, 2, 3)
    monkeypatch.setenv("FAKE_BEHAVIOUR", "")
    assert addon.ops.nextgenface.resume_job(folder=str(now().job.folder)) == {"FINISHED"}
    ticked()
    assert now().status.state == "finished" and "Müller 1 camera" in cameras(addon)


def test_a_list_entry_can_be_looked_at_reported_and_forgotten(
    addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "exit:7")
    addon.ops.nextgenface.run()
    ticked()
    wait_for(lambda: now().found and now().found[0].state == "failed")
    (found,) = now().found
    folder = str(found.folder)
    assert addon.ops.nextgenface.show_job(folder=folder) == {"FINISHED"} and now().selected == found.folder
    assert addon.ops.nextgenface.open_log(folder=folder) == {"FINISHED"}
    assert "out of luck" in addon.data.texts["Foto ü.log"].as_string()
    assert addon.ops.nextgenface.write_report(folder=folder) == {"FINISHED"}
    (report,) = (in_folder.parent / "home" / "reports").iterdir()
    text = report.read_text(encoding="utf-8")
    assert "out of luck" in text and '"weight' not in text and addon.app.version_string in text
    with pytest.raises(RuntimeError, match="no result yet"):
        addon.ops.nextgenface.import_job(folder=folder)
    assert addon.ops.nextgenface.forget_job(folder=folder) == {"FINISHED"}
    assert now().listed() == [] and found.folder.is_dir()
    with pytest.raises(RuntimeError, match="no job in"):
        addon.ops.nextgenface.open_folder(folder=str(in_folder / "nowhere"))
    addon.ops.nextgenface.refresh_jobs()


def test_after_a_restart_the_jobs_are_there_again(
    addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    """A new session as after a crash, with the job of the old one still running."""
    from nextgenface_addon import driver, session

    monkeypatch.setenv("FAKE_BEHAVIOUR", "wait:textures")
    addon.ops.nextgenface.run()
    ticked(until=running_in("textures"))
    old = now().job
    monkeypatch.setattr(session, "_session", session.Session())
    assert now().job is None
    driver.scan()
    wait_for(lambda: now().found)
    driver._show_found()
    assert now().job.folder == old.folder and now().running
    ticked(until=running_in("textures"))
    addon.ops.nextgenface.cancel_job(folder=str(old.folder))
    ticked()
    assert now().status.state == "cancelled"
    old.wait()


def test_settings_survive_saving_and_a_running_job_survives_loading(
    addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    settings = addon.context.scene.nextgenface
    settings.options.maxResolution = 321
    settings.photos[0].rotate = "180"
    settings.preset = "Mine"
    addon.ops.wm.save_as_mainfile(filepath=str(in_folder / "ä.blend"))
    monkeypatch.setenv("FAKE_BEHAVIOUR", "wait:pose")
    addon.ops.nextgenface.run()
    addon.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert len(addon.context.scene.nextgenface.photos) == 0
    addon.ops.wm.open_mainfile(filepath=str(in_folder / "ä.blend"))
    settings = addon.context.scene.nextgenface
    assert values(settings) == {"maxResolution": 321} and settings.preset == "Mine"
    assert settings.photos[0].rotate == "180" and settings.photos[0].path == str(in_folder / "Foto ü.png")
    assert now().running
    ticked(until=running_in("pose"))
    addon.ops.nextgenface.cancel()
    ticked()
    assert now().status.state == "cancelled"


def test_a_fault_becomes_a_report(addon: Any, monkeypatch: pytest.MonkeyPatch, in_folder: Path) -> None:
    from nextgenface_addon.operators import presets

    def fail(*_: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(presets, "values_of", fail)
    with pytest.raises(RuntimeError, match="fault of NextGenFace.*report-"):
        addon.ops.nextgenface.apply_preset(name="Default")
    (report,) = (in_folder.parent / "home" / "reports").iterdir()
    text = report.read_text(encoding="utf-8")
    assert "KeyError: 'a fault'" in text and "test_driver.py" in text and "'name': 'Default'" in text
    assert str(Path.home()) not in text


def test_presets_undo(addon: Any) -> None:
    settings = addon.context.scene.nextgenface
    settings.options.seed = 5
    assert addon.ops.nextgenface.save_preset(name="Mein Licht") == {"FINISHED"}
    addon.ops.nextgenface.apply_preset(name="Quality")
    assert settings.options.seed == 0 and settings.options.textureResolution == 2048
    addon.ops.nextgenface.apply_preset(name="Mein Licht")
    assert values(settings) == {"seed": 5} and settings.preset == "Mein Licht"
    with pytest.raises(RuntimeError, match="no preset"):
        addon.ops.nextgenface.apply_preset(name="Nobody's")
    assert addon.ops.nextgenface.remove_preset() == {"FINISHED"} and settings.preset == "Default"
    with pytest.raises(RuntimeError, match="of your own"):
        addon.ops.nextgenface.remove_preset()
    with pytest.raises(RuntimeError, match="cannot be a preset's name"):
        addon.ops.nextgenface.save_preset(name="a/b")
    if not addon.ops.ed.undo_push.poll():
        pytest.skip("this Blender keeps no undo steps without a window")
    addon.ops.ed.undo_push(message="before")
    addon.ops.nextgenface.apply_preset("EXEC_DEFAULT", True, name="Fast Preview")
    addon.ops.nextgenface.clear_photos("EXEC_DEFAULT", True)
    addon.ops.ed.undo()
    assert len(addon.context.scene.nextgenface.photos) == 1
    addon.ops.ed.undo()
    assert values(addon.context.scene.nextgenface) == {"seed": 5}
