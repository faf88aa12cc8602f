"""The environment that the preferences install: the process, its states; the doctor. Mostly no bpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import fake_python, wait_for

from nextgenface_addon import environment
from nextgenface_addon.environment import Doctor, Installer, estimate, lock_hash, own_python, state
from nextgenface_addon.faces import FaceFinder
from nextgenface_addon.jobs import PhotoInput
from nextgenface_addon.solver_python import SolverPythonError, find_solver_python

FAKE_TOOL = """
import json, os, signal, sys, time
from pathlib import Path
action, folder = sys.argv[1], Path(sys.argv[2])
behaviour = os.environ["FAKE_BEHAVIOUR"]
with open(folder / "install" / "events.jsonl", "w") as events:
    def tell(**event):
        events.write(json.dumps(event) + chr(10))
        events.flush()
    tell(event="stage", stage="packages")
    tell(event="progress", stage="packages", step=2, total=4, note="Collecting torch")
    time.sleep(0.1)
    if behaviour == "wait":
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
    if behaviour == "fail":
        tell(event="error", text="The package registry could not be reached.", kind="SetupError")
        sys.exit(2)
    if action == "remove":
        import shutil
        shutil.rmtree(folder / "solver")
    else:
        python = folder / "solver" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("")
        rows = [{"name": "Fake", "status": "ok"}]
        (folder / "install" / "doctor.json").write_text(json.dumps({"checks": rows}))
        stamp = {"python": "3.11", "lock": os.environ["FAKE_LOCK"], "checked": behaviour != "unchecked"}
        (folder / "solver" / "nextgenface-stamp.json").write_text(json.dumps(stamp))
    tell(event="done", result="events.jsonl")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the environment, with a script in the installer's place that only plays it."""
    script = tmp_path / "tool.py"
    script.write_text(FAKE_TOOL)
    monkeypatch.setattr(environment, "installer_script", lambda: script)
    monkeypatch.setenv("FAKE_BEHAVIOUR", "")
    monkeypatch.setenv("FAKE_LOCK", str(lock_hash("3.11")))
    return tmp_path / "Größe" / "environment"


def begun(place: Path, action: str = "install") -> Installer:
    installer = Installer(place)
    installer.begin(action, [sys.executable])
    return installer


def test_install_and_remove(place: Path) -> None:
    assert state(place) == "missing" and own_python(place) is None
    installer, seen = begun(place), []
    installer.wait(seen.append, interval=0.01)
    assert installer.status.state == "finished"
    assert any(status.note == "Collecting torch" and 0 < status.fraction < 1 for status in seen)
    assert state(place) == "ready" and own_python(place) is not None
    remover = begun(place, "remove")
    assert remover.wait(interval=0.01).state == "finished"
    assert state(place) == "missing" and own_python(place) is None


@pytest.mark.parametrize("behaviour", ["fail", "unchecked"])
def test_a_failed_installation_is_never_taken_for_a_good_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", behaviour)
    installer = begun(place)
    assert installer.wait(interval=0.01).state == "failed"
    assert own_python(place) is None and state(place) in ("missing", "broken")
    if behaviour == "fail":
        assert "could not be reached" in installer.status.text()


def test_an_installation_can_be_cancelled(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", "wait")
    installer = begun(place)
    wait_for(lambda: installer.poll().stage == "packages")
    before = time.monotonic()
    installer.cancel()
    assert installer.wait(interval=0.01).state == "cancelled"
    assert time.monotonic() - before < 2.0 and own_python(place) is None


def test_an_environment_of_another_version_is_used_but_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LOCK", "of before the update")
    installer = begun(place)
    assert installer.wait(interval=0.01).state == "failed", "what was just made cannot be outdated"
    assert state(place) == "outdated" and own_python(place) is not None
    (place / "solver" / "bin" / "python").unlink()
    assert state(place) == "broken" and own_python(place) is None


REAL_TOOL = Path(__file__).resolve().parents[2] / "tools" / "solver_environment.py"


def real(place: Path, action: str, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the real script as Blender does; its exit code and its events."""
    command = [sys.executable, "-I", "-X", "utf8", "-B", str(REAL_TOOL), action, str(place), *more]
    code = subprocess.run(command, capture_output=True, timeout=60).returncode
    lines = (place / "install" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return code, [json.loads(line) for line in lines]


def test_the_real_script_refuses_what_is_no_python(tmp_path: Path) -> None:
    place = tmp_path / "Größe"
    code, events = real(place, "install", "--python", str(tmp_path / "no python"))
    assert code == 2 and events[-1]["event"] == "error" and "is not a Python" in events[-1]["text"]
    assert not (place / "solver").exists()


def test_the_real_script_removes_what_it_made(tmp_path: Path) -> None:
    for name in ("solver", "llvm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    (tmp_path / "results").mkdir()
    code, events = real(tmp_path, "remove")
    assert code == 0 and events[-1]["event"] == "done"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["install", "results"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_real_script_can_be_cancelled(tmp_path: Path) -> None:
    """While the virtual environment is being made, which takes seconds."""
    installer = Installer(tmp_path)
    installer.environment = tmp_path
    (tmp_path / "install").mkdir()
    command = [sys.executable, "-I", "-B", str(REAL_TOOL), "install", str(tmp_path)]
    installer.launch([*command, "--python", sys.executable], dict(os.environ))
    wait_for(lambda: installer.poll().stage == "packages" or installer.status.done)
    if installer.status.done:
        pytest.skip(f"no environment can be made here: {installer.status.error}")
    before = time.monotonic()
    installer.cancel()
    assert installer.wait(interval=0.02).exit_code == 130
    assert time.monotonic() - before < 5.0 and not (tmp_path / "solver").exists()


def test_which_python_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXTGENFACE_PYTHON", raising=False)
    own, named = tmp_path / "own", tmp_path / "named"
    own.write_text("")
    assert find_solver_python(own=own) == own
    with pytest.raises(SolverPythonError, match="preferences"):
        find_solver_python(preference=str(named), own=own)
    named.write_text("")
    assert find_solver_python(preference=str(named), own=own) == named
    monkeypatch.setattr("nextgenface_addon.solver_python.package_root", lambda: tmp_path / "nowhere")
    with pytest.raises(SolverPythonError, match="Press Install"):
        find_solver_python()


def test_what_an_installation_takes_is_told_before(tmp_path: Path) -> None:
    need = estimate(tmp_path / "not" / "there" / "yet")
    assert 0 < need.download < need.disk and need.free > 0


def test_the_doctors_table_comes_from_its_file(tmp_path: Path) -> None:
    row = {"name": "LLVM", "status": "warning", "found": "none", "wrong": "w", "action": "a"}
    table = json.dumps({"checks": [row, 3, {}]})
    write = f"open(arguments[1], 'w').write({table!r})"
    python = fake_python(tmp_path, f"print('noise')\n{write}\nsys.exit(1)\n")
    doctor = Doctor(tmp_path / "ü")
    doctor.begin(python)
    assert doctor.wait(interval=0.01).state == "finished" and doctor.rows() == [row]
    doctor = Doctor(tmp_path / "ü")
    doctor.begin(fake_python(tmp_path, "print('No module named nextgenface')\nsys.exit(1)\n"))
    assert doctor.wait(interval=0.01).state == "failed" and "not installed" in doctor.status.error
    assert doctor.rows() == [], "the table of before does not hold any more"


def test_faces_are_asked_for(tmp_path: Path) -> None:
    answer = [{"path": "a", "faces": [[0, 0, 1, 1], [2, 2, 3, 3]], "picture": "faces_0.png", "problem": None}]
    code = f"""
import json, os
folder = arguments[arguments.index("--output") + 1]
assert arguments[-1].endswith("a b.png:90"), arguments
open(os.path.join(folder, "faces.json"), "w").write({json.dumps(answer)!r})
"""
    finder = FaceFinder(tmp_path / "f")
    finder.begin(fake_python(tmp_path, code), [PhotoInput(Path("a b.png"), rotate=90)])
    assert finder.wait(interval=0.01).state == "finished", finder.status.error
    (found,) = finder.answer()
    assert found.count == 2 and found.picture == tmp_path / "f" / "faces_0.png"
    (tmp_path / "f" / "faces.json").write_text("[{}]")
    assert finder.answer() == []


# ---- in Blender ------------------------------------------------------------


@pytest.fixture
def addon(bpy: Any, in_folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import nextgenface_addon
    from nextgenface_addon.operators import environment as operators

    monkeypatch.setattr(operators, "environment_folder", lambda: place)
    monkeypatch.setattr(operators, "state", lambda: state(place))
    monkeypatch.setattr(operators, "blender_python", lambda: [sys.executable])
    monkeypatch.setattr("nextgenface_addon.preferences.own_python", lambda: own_python(place))
    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()


def test_nothing_is_fetched_in_offline_mode(addon: Any, place: Path) -> None:
    assert not addon.app.online_access, "the tests run with Blender's defaults"
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        addon.ops.nextgenface.install_environment()
    assert not place.exists()


def test_a_copy_without_the_installer_says_so(addon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nextgenface_addon.operators import environment as operators

    monkeypatch.setattr(operators, "can_install", lambda: False)
    operators.refresh()
    with pytest.raises(RuntimeError, match="existing environment"):
        addon.ops.nextgenface.install_environment()
    with pytest.raises(RuntimeError, match="No environment has been installed"):
        addon.ops.nextgenface.remove_environment()


def test_removing_is_done_by_the_installer(addon: Any, place: Path) -> None:
    from nextgenface_addon.operators import environment as operators

    begun(place).wait(interval=0.01)
    (place / "install" / "doctor.json").write_text("{}")
    operators.refresh()
    assert operators.known.state == "ready"
    assert addon.ops.nextgenface.remove_environment() == {"FINISHED"}
    assert operators.known.state == "missing" and not (place / "solver").exists()


def test_an_existing_environment_is_checked_at_once(
    addon: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nextgenface_addon.operators import environment as operators

    row = {"name": "Python", "status": "ok", "found": "3.11"}
    table = json.dumps({"checks": [row]})
    python = fake_python(
        tmp_path,
        f"if '--output' in arguments: open(arguments[1], 'w').write({table!r})\nelse: print('[]')\n",
    )
    monkeypatch.setenv("NEXTGENFACE_PYTHON", str(python))
    assert addon.ops.nextgenface.check_environment() == {"FINISHED"}
    assert operators.known.checks == [row] and operators.known.python == str(python)
    with pytest.raises(RuntimeError, match="not installed"):
        addon.ops.nextgenface.use_environment(filepath=os.path.dirname(python))
    with pytest.raises(RuntimeError, match="NEXTGENFACE_PYTHON"):
        addon.ops.nextgenface.open_preferences()


def test_faces_are_entered_into_the_list(addon: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(b"")
    answer = [{"path": str(photo), "faces": [[0, 0, 1, 1]] * 3, "picture": "faces_0.png", "problem": None}]
    code = f"""
folder = arguments[arguments.index("--output") + 1]
open(folder + "/faces.json", "w").write({json.dumps(answer)!r})
"""
    monkeypatch.setenv("NEXTGENFACE_PYTHON", str(fake_python(tmp_path, code)))
    with pytest.raises(RuntimeError, match="no photos"):
        addon.ops.nextgenface.find_faces()
    addon.ops.nextgenface.add_photos(directory=str(tmp_path), files=[{"name": "a.png"}])
    assert addon.ops.nextgenface.find_faces() == {"FINISHED"}
    (item,) = addon.context.scene.nextgenface.photos
    assert item.faces_found == 3 and item.faces_picture.endswith("faces_0.png")
    monkeypatch.setenv("NEXTGENFACE_PYTHON", str(fake_python(tmp_path, "sys.exit('error: no detector')\n")))
    with pytest.raises(RuntimeError, match="exit code 1"):
        addon.ops.nextgenface.find_faces()


def test_the_button_installs_with_online_access(
    addon: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nextgenface_addon.operators import environment as operators

    addon.context.preferences.system.use_online_access = True
    try:
        assert addon.app.online_access
        assert addon.ops.nextgenface.install_environment() == {"FINISHED"}
        assert operators.known.state == "ready" and operators.known.python == str(own_python(place))
        assert [row["name"] for row in operators.known.checks] == ["Fake"]
        assert addon.ops.nextgenface.open_installation_log() == {"FINISHED"}
        assert "NextGenFace installation.log" in addon.data.texts
        monkeypatch.setattr(operators, "estimate", lambda: environment.Need(1.0, 2.0, 0.5, False))
        with pytest.raises(RuntimeError, match="only 0.5 GB are free"):
            addon.ops.nextgenface.install_environment()
    finally:
        addon.context.preferences.system.use_online_access = False


def test_the_button_cancels(addon: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nextgenface_addon import driver, tasks
    from nextgenface_addon.operators import environment as operators

    with pytest.raises(RuntimeError, match="No installation is running"):
        addon.ops.nextgenface.cancel_installation()
    monkeypatch.setenv("FAKE_BEHAVIOUR", "wait")
    monkeypatch.setattr(driver, "windowless", lambda: False)
    operators.start_installer("install")
    wait_for(lambda: tasks.follow() is None or tasks.get("installer").status.stage == "packages")
    with pytest.raises(RuntimeError, match="The installation is running"):
        addon.ops.nextgenface.check_environment()
    assert addon.ops.nextgenface.cancel_installation() == {"FINISHED"}
    wait_for(lambda: tasks.follow() is None)
    assert tasks.get("installer").status.state == "cancelled" and operators.known.state == "missing"


@pytest.fixture
def installed(addon: Any) -> Iterator[Any]:
    """The add-on's preferences, as if it had been installed."""
    entry = addon.context.preferences.addons.new()
    entry.module = "nextgenface_addon"
    yield entry.preferences
    addon.context.preferences.addons.remove(entry)


def test_an_existing_environment_is_chosen_by_its_folder(addon: Any, installed: Any, tmp_path: Path) -> None:
    from fake_layout import FakeLayout

    from nextgenface_addon.operators import environment as operators

    (tmp_path / "mine" / "bin").mkdir(parents=True)
    python = fake_python(tmp_path, "if '--output' in arguments: open(arguments[1], 'w').write('{\"checks\": "
                         "[{\"name\": \"Python\", \"status\": \"ok\"}]}')\nelse: print('[]')\n")  # fmt: skip
    python.rename(tmp_path / "mine" / "bin" / "python")
    assert addon.ops.nextgenface.use_environment(filepath=str(tmp_path / "mine") + os.sep) == {"FINISHED"}
    assert installed.solver_python == str(tmp_path / "mine" / "bin" / "python")
    assert operators.known.python == installed.solver_python and operators.known.checks
    layout = FakeLayout()
    page = type("Page", (), {"layout": layout})()
    for name in ("solver_python", "on_close", "output", "bfm_folder", "bl_rna"):
        setattr(page, name, getattr(installed, name))
    type(installed).draw(page, addon.context)
    assert "An existing environment is used" in layout.texts and "Python" in layout.texts
    with pytest.raises(RuntimeError, match="does not exist"):
        addon.ops.nextgenface.use_environment(filepath=str(tmp_path / "gone"))


def test_the_preferences_reach_the_job(addon: Any, installed: Any, tmp_path: Path) -> None:
    from nextgenface_addon.operators.run import job_requests

    photo = tmp_path / "a.png"
    photo.write_bytes(b"")
    addon.ops.nextgenface.add_photos(directory=str(tmp_path), files=[{"name": "a.png"}])
    settings = addon.context.scene.nextgenface
    (asked,) = job_requests(settings, installed)
    assert asked.parent_pid == os.getpid() and asked.output == tmp_path / "nextgenface" / "a"
    installed.on_close, installed.output = "RUN_ON", str(tmp_path / "all")
    installed.bfm_folder = str(tmp_path / "bfm")
    (asked,) = job_requests(settings, installed)
    assert asked.parent_pid is None and asked.output == tmp_path / "all" / "a"
    assert asked.set == {"device": "auto", "path": str(tmp_path / "bfm")}
