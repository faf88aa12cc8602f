"""The panels of results, light, maps and animation, drawn onto a stand-in for Blender's layout. Needs bpy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import Folder, Photo, write_exr

PHOTOS = [Photo("anna"), Photo("anna 2", width=160, height=90)]


@pytest.fixture
def addon(bpy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import nextgenface_addon

    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path / "home"))
    nextgenface_addon.register()
    yield bpy
    nextgenface_addon.unregister()


def drawn(bpy: Any) -> str:
    """The texts of all panels that are shown, and the names of the operators that can be pressed."""
    from fake_layout import FakeLayout

    from nextgenface_addon.panels import animation, results

    class Panel:
        layout: Any

    texts = []
    for cls in (*results.CLASSES, *animation.CLASSES):
        if hasattr(cls, "poll") and not cls.poll(bpy.context):
            continue
        panel = Panel()
        panel.layout = FakeLayout(open_panels=True)
        cls.draw(panel, bpy.context)
        texts += [panel.layout.text(), *(button.name_of_operator for button in panel.layout.operators)]
    return "\n".join(texts)


def test_an_empty_scene_offers_the_import_only(addon: Any) -> None:
    texts = drawn(addon)
    assert "nextgenface.import_result" in texts
    assert "nextgenface.mark_asset" not in texts and "nextgenface.load_take" not in texts


def test_a_head_has_photos_light_maps_and_expressions(addon: Any, tmp_path: Path) -> None:
    folder = Folder(photos=PHOTOS, name="anna").write(tmp_path / "r")
    addon.ops.nextgenface.import_result(directory=str(folder))
    texts = drawn(addon)
    for word in (
        "anna 2",
        "Render to Photo",
        "Rotation",
        "Strength",
        "Expression anna 2",
        "ARKit",
        "Full (64)",
    ):
        assert word in texts, word
    assert "nextgenface.use_photo_light" not in texts and "nextgenface.photo_colours" not in texts
    addon.context.scene.view_settings.view_transform = "AgX"
    assert "nextgenface.photo_colours" in drawn(addon)
    write_exr(tmp_path / "studio.exr", np.ones((4, 8, 3), np.float32))
    addon.ops.nextgenface.use_hdri(filepath=str(tmp_path / "studio.exr"))
    texts = drawn(addon)
    assert "studio.exr" in texts and "nextgenface.use_photo_light" in texts


def test_an_artists_changes_do_not_break_the_panels(addon: Any, tmp_path: Path) -> None:
    folder = Folder(photos=PHOTOS, name="anna").write(tmp_path / "r")
    addon.ops.nextgenface.import_result(directory=str(folder))
    scene, head = addon.context.scene, addon.data.objects["anna"]
    head.data["nextgenface_expressions"] = "not json"
    head.data.materials.clear()
    scene.world.node_tree.nodes.clear()
    for background in scene.camera.data.background_images:
        background.image = None
    assert "anna 2" in drawn(addon)
    head.shape_key_clear()
    addon.data.worlds.remove(scene.world)
    assert "anna 2" in drawn(addon)
    addon.data.objects.remove(head)
    assert "nextgenface.import_result" in drawn(addon)
    scene.camera = None
    assert "nextgenface.import_result" in drawn(addon)


def test_drawing_is_quick_in_a_large_scene(addon: Any, tmp_path: Path) -> None:
    folder = Folder(photos=[Photo(str(i)) for i in range(20)], name="anna").write(tmp_path / "r")
    addon.ops.nextgenface.import_result(directory=str(folder))
    for _ in range(3000):
        addon.context.scene.collection.objects.link(addon.data.objects.new("Rock", None))
    drawn(addon)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        drawn(addon)
        times.append(time.perf_counter() - started)
    print(f"all result panels: {min(times) * 1000:.1f} ms")
    assert min(times) < 0.05
