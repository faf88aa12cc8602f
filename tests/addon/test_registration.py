"""Registering, operators, undo. Needs bpy."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import Folder


@pytest.fixture
def addon(bpy: Any) -> Iterator[Any]:
    import nextgenface_addon

    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()


def test_register_twice_without_warnings(bpy: Any, capfd: pytest.CaptureFixture[str]) -> None:
    import nextgenface_addon

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            nextgenface_addon.register()
            assert bpy.context.scene.nextgenface.takeover == "AUTO"
            assert hasattr(bpy.types, "NEXTGENFACE_PT_main")
            nextgenface_addon.unregister()
            assert not hasattr(bpy.types, "NEXTGENFACE_PT_main")
            assert not hasattr(bpy.types.Scene, "nextgenface")
    assert [str(warning.message) for warning in caught] == []
    output = "".join(capfd.readouterr())
    assert "Warning" not in output and "Error" not in output


def test_paths_may_be_relative_to_the_file(addon: Any, tmp_path: Path) -> None:
    addon.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    settings = addon.context.scene.nextgenface
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings.photos.add().path = "//a.png"
        for name in ("output", "dataset", "mesh", "config"):
            setattr(settings, name, "//x")
        settings.options.landmarker = "//a.task"
    assert [str(warning.message) for warning in caught] == []
    from nextgenface_addon.properties import solver_options

    assert solver_options(settings) == {"device": "auto", "landmarker": str(tmp_path / "a.task")}


def test_every_operator_explains_itself(addon: Any) -> None:
    from nextgenface_addon.registration import CLASSES

    operators = [cls for cls in CLASSES if issubclass(cls, addon.types.Operator)]
    assert len(operators) >= 6
    assert all(cls.__doc__ and not cls.__doc__.rstrip().endswith(".") for cls in operators)


def test_photo_list(addon: Any, results: Path) -> None:
    settings = addon.context.scene.nextgenface
    with pytest.raises(RuntimeError, match="no photos in the list"):
        addon.ops.nextgenface.remove_photo()
    addon.ops.nextgenface.add_photos(directory=str(results), files=[{"name": "photo_0.png"}])
    assert [photo.path for photo in settings.photos] == [str(results / "photo_0.png")]
    assert addon.ops.nextgenface.add_photos(directory=str(results), files=[{"name": "gone.png"}]) == {
        "CANCELLED"
    }
    addon.ops.nextgenface.remove_photo()
    assert len(settings.photos) == 0
    addon.ops.nextgenface.add_photos(directory=str(results), files=[{"name": "photo_0.png"}])
    addon.ops.nextgenface.clear_photos()
    assert len(settings.photos) == 0


def test_import_operator(addon: Any, results: Path, tmp_path: Path) -> None:
    assert addon.ops.nextgenface.import_result(directory=str(results)) == {"FINISHED"}
    assert addon.context.scene.camera.name == "Müller 1 camera"
    with pytest.raises(RuntimeError, match="no result.json"):
        addon.ops.nextgenface.import_result(directory=str(tmp_path))
    addon.context.view_layer.objects.active = addon.context.scene.camera
    addon.context.scene.render.resolution_x = 7
    addon.ops.nextgenface.look_through()
    assert addon.context.scene.render.resolution_x == 96


def test_import_is_one_undo_step(addon: Any, results: Path) -> None:
    if not addon.ops.ed.undo_push.poll():
        pytest.skip("this Blender keeps no undo steps without a window")
    addon.ops.ed.undo_push(message="before")
    addon.ops.nextgenface.import_result("EXEC_DEFAULT", True, directory=str(results))
    assert "Müller" in addon.data.collections
    addon.ops.ed.undo()
    assert "Müller" not in addon.data.collections and addon.context.scene.camera.name == "Camera"
    assert not addon.data.objects["Cube"].hide_render
    addon.ops.ed.redo()
    assert addon.context.scene.camera.name == "Müller 1 camera"
    # A later import finds what the redo brought back.
    addon.ops.nextgenface.import_result("EXEC_DEFAULT", True, directory=str(results))
    assert (
        len([item for item in addon.data.objects if item.type == "MESH"]) == 2
    )  # the head and the startup cube


def test_run_operator_drives_the_solver_and_imports(
    addon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way through the panel's button, with a fake solver that leaves a synthetic result."""
    from nextgenface_addon.operators import run

    package = tmp_path / "solver" / "nextgenface"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    made = Folder().write(tmp_path / "made")
    (package / "job.py").write_text(
        f"import shutil, sys\nshutil.copytree({str(made)!r}, sys.argv[1], dirs_exist_ok=True)\n"
    )
    monkeypatch.setenv("NEXTGENFACE_PYTHON", sys.executable)
    monkeypatch.setattr(run, "solver_folder", lambda: package.parent)
    photo = tmp_path / "Foto ü.png"
    shutil.copy(made / "photo_0.png", photo)
    settings = addon.context.scene.nextgenface
    with pytest.raises(RuntimeError, match="Add at least one photo first"):
        addon.ops.nextgenface.run()
    addon.ops.nextgenface.add_photos(directory=str(tmp_path), files=[{"name": photo.name}])
    settings.output = str(tmp_path / "out")
    assert addon.ops.nextgenface.run() == {"FINISHED"}
    assert (tmp_path / "out" / "Foto ü" / "result.json").is_file()
    assert addon.context.scene.camera.name == "Müller 1 camera"
    with pytest.raises(RuntimeError, match="No reconstruction is running"):
        addon.ops.nextgenface.cancel()
    os.remove(photo)
    with pytest.raises(RuntimeError, match="does not exist"):
        addon.ops.nextgenface.run()
