"""The operators of results, light, maps, expressions and recordings; checkpoints; undo. Needs bpy."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import Folder, Photo, write_exr

PHOTOS = [Photo("anna"), Photo("anna 2", width=160, height=90, angles=(0.0, 0.4, 0.0))]


@pytest.fixture
def addon(bpy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import nextgenface_addon

    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path / "home"))
    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()


@pytest.fixture
def two(addon: Any, tmp_path: Path) -> Any:
    """Blender with a head from two photos."""
    folder = Folder(photos=PHOTOS, name="anna").write(tmp_path / "r")
    addon.ops.nextgenface.import_result(directory=str(folder))
    return addon


def keys(bpy: Any) -> Any:
    return bpy.data.objects["anna"].data.shape_keys.key_blocks


# ---- import ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["directory", "filepath", "result.json"])
def test_a_result_is_imported_from_its_folder_or_file(addon: Any, results: Path, way: str) -> None:
    arguments = {
        "directory": {"directory": f"{results}{os.sep}"},
        "filepath": {"filepath": f"{results}{os.sep}", "directory": f"{results}{os.sep}"},
        "result.json": {"filepath": str(results / "result.json"), "directory": f"{results}{os.sep}"},
    }[way]
    assert addon.ops.nextgenface.import_result(**arguments) == {"FINISHED"}
    assert "Müller" in addon.data.objects
    assert [item.name for item in addon.context.selected_objects] == ["Müller"]
    assert addon.context.active_object.name == "Müller"


def test_file_import_and_dropping_lead_to_the_operators(addon: Any) -> None:
    draws = addon.types.TOPBAR_MT_file_import._dyn_ui_initialize()
    assert any(draw.__module__ == "nextgenface_addon.operators.import_result" for draw in draws)
    handlers = {
        handler.bl_import_operator: handler.bl_file_extensions
        for handler in addon.types.FileHandler.__subclasses__()
        if handler.__name__.startswith("NEXTGENFACE")
    }
    assert set(handlers["nextgenface.import_result"].split(";")) == {".json", ".pickle", ".pkl"}
    assert handlers["nextgenface.load_take"] == ".csv"


def test_the_menu_entry_goes_with_the_addon(bpy: Any) -> None:
    import nextgenface_addon

    before = len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize())
    nextgenface_addon.register()
    nextgenface_addon.unregister()
    assert len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()) == before


@pytest.mark.parametrize("name", ["notes.json", "photo_0.png", "gone.pickle"])
def test_other_files_are_refused(addon: Any, results: Path, name: str) -> None:
    (results / "notes.json").write_text("{}")
    before = len(addon.data.objects)
    with pytest.raises(RuntimeError, match=name.split(".")[0]):
        addon.ops.nextgenface.import_result(filepath=str(results / name))
    assert len(addon.data.objects) == before


@pytest.fixture
def exporting(addon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Blender with a solver that writes down its job and leaves a synthetic result of stage 2."""
    from nextgenface_addon.operators import run

    package = tmp_path / "solver" / "nextgenface"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    made = Folder(photos=PHOTOS[:1], name="anna").write(tmp_path / "made", {"stage": 2})
    (package / "job.py").write_text(
        "import os, shutil, sys\n"
        f"shutil.copytree({str(made)!r}, sys.argv[1], dirs_exist_ok=True)\n"
        "os.utime(os.path.join(sys.argv[1], 'result.json'))\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
    )
    monkeypatch.setenv("NEXTGENFACE_PYTHON", sys.executable)
    monkeypatch.setattr(run, "solver_folder", lambda: package.parent)
    return addon


def test_a_checkpoint_is_completed_by_the_solver_and_imported(exporting: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run ü" / "checkpoints" / "stage2_output.pickle"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"opened by the solver only")
    assert exporting.ops.nextgenface.import_result(filepath=str(checkpoint)) == {"FINISHED"}
    job = json.loads((tmp_path / "run ü" / "stage2" / "job.json").read_text(encoding="utf-8"))
    assert job["input"] == [] and job["checkpoint"] == str(checkpoint)
    assert Path(job["output"]) == tmp_path / "run ü" / "stage2"
    assert "anna stage 2" in exporting.data.objects
    # Again: the folder is there already, so nothing is run, and the head is updated.
    exporting.ops.nextgenface.import_result(filepath=str(checkpoint))
    assert (tmp_path / "runs").read_text() == "x"
    assert len([item for item in exporting.data.objects if item.name.startswith("anna stage 2")]) == 1
    # A newer checkpoint is completed anew.
    made = (tmp_path / "run ü" / "stage2" / "result.json").stat().st_mtime
    os.utime(checkpoint, (made + 10, made + 10))
    exporting.ops.nextgenface.import_result(filepath=str(checkpoint))
    assert (tmp_path / "runs").read_text() == "xx"


def test_a_checkpoint_elsewhere_is_completed_beside_it(exporting: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "kept" / "best.pkl"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    exporting.ops.nextgenface.import_result(filepath=str(checkpoint))
    assert (tmp_path / "kept" / "best" / "result.json").is_file()


# ---- the scene's tools -------------------------------------------------------------------------------------


def test_operators_say_what_they_need(addon: Any, tmp_path: Path) -> None:
    ops = addon.ops.nextgenface
    for operator, words in (
        (ops.look_through, "Import a result first"),
        (ops.show_expression, "no imported head"),
        (ops.map_size, "no imported head"),
        (ops.mark_asset, "no imported head"),
        (ops.load_take, "no imported head"),
        (ops.reset_light, "Look through a photo first"),
        (ops.use_hdri, "Look through a photo first"),
        (ops.use_photo_light, "Look through a photo first"),
    ):
        with pytest.raises(RuntimeError, match=words):
            operator()


def test_look_through_by_name_by_selection_and_by_itself(two: Any) -> None:
    scene, ops = two.context.scene, two.ops.nextgenface
    ops.look_through(camera="anna 2 camera")
    assert scene.camera.name == "anna 2 camera" and scene.world.name == "anna 2 light"
    assert keys(two)["Expression anna 2"].value == 1.0 and keys(two)["Expression anna"].value == 0.0
    two.context.view_layer.objects.active = two.data.objects["anna camera"]
    ops.look_through()
    assert scene.camera.name == "anna camera" and scene.render.resolution_x == 96
    scene.camera = None
    two.context.view_layer.objects.active = None
    ops.look_through()
    assert scene.camera.name == "anna camera"
    with pytest.raises(RuntimeError, match="not the camera of a photo"):
        ops.look_through(camera="Cube")


def test_the_photos_colours(two: Any) -> None:
    scene = two.context.scene
    scene.view_settings.view_transform = "AgX"
    two.ops.nextgenface.photo_colours()
    assert scene.view_settings.view_transform == "Standard" and scene.render.film_transparent


def test_views_without_light_and_expression_are_looked_through(two: Any) -> None:
    camera = two.data.objects["anna 2 camera"]
    del camera.data["nextgenface_identity"]
    world = two.context.scene.world
    two.ops.nextgenface.look_through(camera="anna 2 camera")
    assert two.context.scene.camera == camera and two.context.scene.world == world


def test_expressions(two: Any) -> None:
    ops = two.ops.nextgenface
    ops.show_expression(photo=1, form="ARKIT")
    assert keys(two)["Residual anna 2"].value == 1.0
    ops.show_expression()
    assert all(key.value == 0.0 for key in keys(two) if key.name != "Basis")
    with pytest.raises(RuntimeError, match="no expression of a photo 7"):
        ops.show_expression(photo=7)


def test_light(two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.relight import light_controls

    world, ops = two.context.scene.world, two.ops.nextgenface
    light_controls(world).rotation.default_value[2] = 1.0
    ops.reset_light()
    assert light_controls(world).rotation.default_value[2] == 0.0
    write_exr(tmp_path / "sky.exr", np.ones((4, 8, 3), np.float32))
    ops.use_hdri(filepath=str(tmp_path / "sky.exr"))
    assert light_controls(world).uses_hdri
    ops.use_photo_light()
    assert not light_controls(world).uses_hdri
    with pytest.raises(RuntimeError, match=r"gone\.exr"):
        ops.use_hdri(filepath=str(tmp_path / "gone.exr"))


def test_map_size_and_asset(two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.map_size import full_size, skin_of

    head = two.data.objects["anna"]
    two.ops.nextgenface.map_size(size="256")
    assert full_size(skin_of(head)) == 64, "there is nothing smaller than the maps themselves"
    two.ops.nextgenface.mark_asset()
    assert head.asset_data is not None
    shutil.rmtree(tmp_path / "r")
    two.ops.nextgenface.mark_asset()  # only a warning: the preview's picture is gone
    head.data.materials.clear()
    with pytest.raises(RuntimeError, match="does not wear"):
        two.ops.nextgenface.map_size(size="256")


def test_a_recording_is_loaded(two: Any, tmp_path: Path) -> None:
    lines = ["Timecode,BlendShapeCount,JawOpen", *(f"00:00:0{i}:00.0,61,{i / 4}" for i in range(4))]
    (tmp_path / "talk.csv").write_text("\n".join(lines))
    scene = two.context.scene
    two.ops.nextgenface.load_take(filepath=str(tmp_path / "talk.csv"), start=11, set_range=True)
    assert (scene.frame_start, scene.frame_end) == (11, 83)
    scene.frame_set(35)
    assert keys(two)["jawOpen"].value == pytest.approx(0.25)
    with pytest.raises(RuntimeError, match=r"bad\.csv"):
        (tmp_path / "bad.csv").write_text("x")
        two.ops.nextgenface.load_take(filepath=str(tmp_path / "bad.csv"))


def test_each_is_one_undo_step(two: Any, tmp_path: Path) -> None:
    if not two.ops.ed.undo_push.poll():
        pytest.skip("this Blender keeps no undo steps without a window")
    (tmp_path / "talk.csv").write_text("Timecode,BlendShapeCount,JawOpen\n00:00:00:00.0,61,0.5\n")
    write_exr(tmp_path / "sky.exr", np.ones((4, 8, 3), np.float32))

    def state() -> tuple[object, ...]:
        scene = two.context.scene
        world = scene.world
        return (
            scene.camera.name,
            world.name,
            tuple(round(key.value, 3) for key in keys(two)),
            two.data.objects["anna"].asset_data is not None,
            len(two.data.actions),
            len(world.node_tree.nodes),
        )

    two.ops.ed.undo_push(message="before")
    for name, arguments in (
        ("look_through", {"camera": "anna 2 camera"}),
        ("show_expression", {"photo": 0, "form": "ARKIT"}),
        ("use_hdri", {"filepath": str(tmp_path / "sky.exr")}),
        ("mark_asset", {}),
        ("load_take", {"filepath": str(tmp_path / "talk.csv")}),
    ):
        before = state()
        getattr(two.ops.nextgenface, name)("EXEC_DEFAULT", True, **arguments)
        after = state()
        assert after != before, name
        two.ops.ed.undo()
        assert state() == before, name
        two.ops.ed.redo()
        assert state() == after, name
