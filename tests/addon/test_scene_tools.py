"""What can be done with an imported head: photos, expressions, light, maps, recordings, asset. Needs bpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import MODEL_TO_BLENDER, Folder, Photo, light_of, write_exr, write_png

PHOTOS = [
    Photo("anna", scores={"jawOpen": 0.75, "eyeBlinkLeft": 0.1, "tongueOut": 0.3}),
    Photo("anna 2", width=160, height=90, angles=(0.0, 0.4, 0.0)),
]


@pytest.fixture
def two(bpy: Any, tmp_path: Path) -> Any:
    """A head from two photos, in a scene that has taken over the first one's view."""
    return imported(bpy, Folder(photos=PHOTOS, name="anna").write(tmp_path / "r"))


def imported(bpy: Any, folder: Path, **options: Any) -> Any:
    from nextgenface_addon.scene.importer import ImportOptions, import_result

    return import_result(None, folder, ImportOptions(**options))


def positions(bpy: Any, head: Any) -> np.ndarray:
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = head.evaluated_get(graph).to_mesh()
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    head.evaluated_get(graph).to_mesh_clear()
    return points.reshape(-1, 3)


def expected(index: int | None) -> np.ndarray:
    folder = Folder(photos=PHOTOS)
    offset = 0 if index is None else folder.expression(index)
    return (folder.neutral + offset) @ MODEL_TO_BLENDER.T * 0.001


def save_and_open(bpy: Any, path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(path))


# ---- photos ------------------------------------------------------------------------------------------------


def test_looking_through_switches_camera_size_light_and_expression(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.photo_views import active_head, head_of, look_through, photo_views

    scene = bpy.context.scene
    first, second = photo_views(scene)
    head = bpy.data.objects[two.heads[0]]
    assert [first.name, second.name] == ["anna", "anna 2"] and head_of(second) == head
    assert look_through(scene, second) == []
    assert scene.camera.name == two.cameras[1] and scene.world.name == two.worlds[1]
    assert (scene.render.resolution_x, scene.render.resolution_y) == (160, 90)
    np.testing.assert_allclose(positions(bpy, head), expected(1), atol=1e-6)
    look_through(scene, first)
    assert scene.camera.name == two.cameras[0] and scene.world.name == two.worlds[0]
    np.testing.assert_allclose(positions(bpy, head), expected(0), atol=1e-6)
    assert active_head(bpy.context) == head


def test_photos_are_found_after_renaming_saving_and_opening(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.photo_views import look_through, photo_views

    for kind in (bpy.data.objects, bpy.data.worlds, bpy.data.cameras):
        for number, block in enumerate(kind):
            block.name = f"Renamed {number}"
    save_and_open(bpy, tmp_path / "s.blend")
    views = photo_views(bpy.context.scene)
    assert [view.index for view in views] == [0, 1]
    assert look_through(bpy.context.scene, views[1]) == []
    head = views[1].camera.parent
    np.testing.assert_allclose(positions(bpy, head), expected(1), atol=1e-6)


def test_looking_at_another_person_hides_who_stands_there(bpy: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.photo_views import look_through, photo_views

    folder = Folder(photos=[Photo("anna"), Photo("ben")], shared=False).write(tmp_path / "r")
    imported(bpy, folder)
    aside = imported(bpy, Folder(name="carl", photos=[Photo("carl")]).write(tmp_path / "c"))
    bpy.data.objects[aside.heads[0]].location.x = 1.0
    bpy.context.view_layer.update()
    anna, ben, carl = (bpy.data.objects[name] for name in ("anna", "ben", "carl"))
    views = {view.name: view for view in photo_views(bpy.context.scene)}
    look_through(bpy.context.scene, views["ben"])
    assert not ben.hide_render and not ben.hide_viewport and anna.hide_render and anna.hide_viewport
    assert not carl.hide_render, "the artist has put this one elsewhere"
    look_through(bpy.context.scene, views["anna"])
    assert not anna.hide_render and ben.hide_render


def test_a_photo_whose_light_or_head_is_gone_says_so(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.photo_views import look_through, photo_views

    view = photo_views(bpy.context.scene)[1]
    bpy.data.worlds.remove(bpy.data.worlds[two.worlds[1]])
    assert ["light" in text for text in look_through(bpy.context.scene, view)] == [True]
    bpy.data.objects.remove(bpy.data.objects[two.heads[0]])
    assert len(look_through(bpy.context.scene, view)) == 2


def test_the_slider_mixes_photo_and_render(bpy: Any, two: Any, results: Path) -> None:
    from nextgenface_addon.scene.camera import photo_overlay

    camera = bpy.data.objects[two.cameras[0]]
    overlay = photo_overlay(camera)
    assert overlay is not None and overlay.alpha == 0.0 and overlay.image.name.startswith("anna")
    overlay.alpha = 0.5
    folder = Path(bpy.data.collections[two.collection]["nextgenface_folder"])
    imported(bpy, folder)
    assert photo_overlay(camera).alpha == 0.5 and len(camera.data.background_images) == 2
    assert photo_overlay(bpy.data.objects["Camera"]) is None


# ---- expressions -------------------------------------------------------------------------------------------


def test_both_forms_of_an_expression_give_the_same_face(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.shape_keys import photo_expressions, show_expression

    head = bpy.data.objects[two.heads[0]]
    keys = head.data.shape_keys.key_blocks
    by_detector, by_fit = photo_expressions(head)
    assert (by_detector.source, by_fit.source) == ("detector", "fitted")
    assert by_detector.weights == {"eyeBlinkLeft": 0.1, "jawOpen": 0.75}
    for index in (0, 1):
        show_expression(head, index, as_arkit=True)
        assert keys[f"Expression {PHOTOS[index].name}"].value == 0.0
        assert keys[f"Residual {PHOTOS[index].name}"].value == 1.0
        np.testing.assert_allclose(positions(bpy, head), expected(index), atol=2e-6)
    show_expression(head, 0, as_arkit=True)
    assert keys["jawOpen"].value == pytest.approx(0.75)
    show_expression(head, None)
    np.testing.assert_allclose(positions(bpy, head), expected(None), atol=1e-6)
    show_expression(head, 0)
    assert keys["Residual anna"].value == 1.0, "the form that was chosen last is kept"
    show_expression(head, 0, as_arkit=False)
    assert keys["Residual anna"].value == 0.0 and keys["jawOpen"].value == 0.0
    np.testing.assert_allclose(positions(bpy, head), expected(0), atol=1e-6)


def test_fitted_weights_leave_a_smaller_residual(bpy: Any, two: Any) -> None:
    head = bpy.data.objects[two.heads[0]]
    keys = head.data.shape_keys.key_blocks

    def size(name: str) -> float:
        points, basis = (np.empty(len(head.data.vertices) * 3, np.float32) for _ in range(2))
        keys[name].data.foreach_get("co", points)
        keys["Basis"].data.foreach_get("co", basis)
        return float(np.linalg.norm(points - basis))

    assert size("Residual anna 2") < size("Expression anna 2")


def test_an_artists_own_key_keeps_its_value(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.shape_keys import show_expression

    head = bpy.data.objects[two.heads[0]]
    own = head.shape_key_add(name="Scar", from_mix=False)
    own.value = 0.5
    show_expression(head, 1)
    assert own.value == 0.5


def test_animated_keys_are_told_of(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.shape_keys import show_expression

    head = bpy.data.objects[two.heads[0]]
    assert show_expression(head, 0) == []
    head.data.shape_keys.key_blocks["jawOpen"].keyframe_insert("value", frame=1)
    assert "animated" in show_expression(head, 0)[0]


def test_a_model_without_named_shapes_has_expressions_only(bpy: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.shape_keys import photo_expressions, show_expression

    folder = Folder().write(tmp_path / "r")
    with np.load(folder / "geometry.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays["blendshape_names"] = np.array([], dtype="U1")
    arrays["blendshape_deltas"] = arrays["blendshape_deltas"][:0]
    np.savez(folder / "geometry.npz", **arrays)
    head = bpy.data.objects[imported(bpy, folder).heads[0]]
    assert [key.name for key in head.data.shape_keys.key_blocks] == ["Basis", "Expression Müller 1"]
    assert photo_expressions(head)[0].residual == ""
    show_expression(head, 0, as_arkit=True)
    assert head.data.shape_keys.key_blocks["Expression Müller 1"].value == 1.0


# ---- light -------------------------------------------------------------------------------------------------


def sky(bpy: Any, tmp_path: Path, name: str) -> np.ndarray:
    """What Cycles shows of the world along +x, +y, −x, −y, linear (4, 3)."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.render.film_transparent = False
    scene.render.resolution_x, scene.render.resolution_y = 64, 32
    camera = bpy.data.objects.get("probe")
    if camera is None:
        camera = bpy.data.objects.new("probe", bpy.data.cameras.new("probe"))
        scene.collection.objects.link(camera)
        camera.location.z = 50.0
        camera.rotation_euler.x = np.pi / 2  # the picture's middle looks along +y
        camera.data.type = "PANO"
        lens = camera.data if hasattr(camera.data, "panorama_type") else camera.data.cycles
        lens.panorama_type = "EQUIRECTANGULAR"
    scene.camera = camera
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.filepath = str(tmp_path / f"{name}.exr")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    rows = np.array(image.pixels).reshape(32, 64, image.channels)[15:17, :, :3].mean(0)
    bpy.data.images.remove(image)
    return np.stack([(rows[i - 1] + rows[i]) / 2 for i in (48, 32, 16, 0)])


def test_the_light_is_turned_scaled_replaced_and_brought_back(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.relight import (
        light_controls,
        reset_light,
        use_hdri,
        use_photo_light,
    )

    world = bpy.context.scene.world
    along = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    controls = light_controls(world)
    controls.rotation.default_value[2] = np.pi / 2
    controls.strength.default_value = 2.0
    turned = sky(bpy, tmp_path, "b")
    # Counter-clockwise from above: what stood along +x is now along +y.
    np.testing.assert_allclose(turned, 2 * light_of(np.roll(along, 1, axis=0)), atol=0.04)

    write_exr(tmp_path / "studio.exr", np.full((4, 8, 3), 3.0, np.float32))
    use_hdri(world, tmp_path / "studio.exr", pack=True)
    assert light_controls(world).uses_hdri
    np.testing.assert_allclose(sky(bpy, tmp_path, "c"), 3.0, atol=0.01)
    light_controls(world).strength.default_value = 0.5
    use_photo_light(world)
    assert not light_controls(world).uses_hdri
    np.testing.assert_allclose(sky(bpy, tmp_path, "d"), turned, atol=1e-3)
    use_hdri(world, tmp_path / "studio.exr", pack=True)
    assert light_controls(world).strength.default_value == 0.5, "each light keeps its own strength"
    use_photo_light(world)
    reset_light(world)
    controls = light_controls(world)
    assert controls.rotation.default_value[:] == (0, 0, 0) and controls.strength.default_value == 1.0


def test_a_changed_light_survives_saving_and_importing_again(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.relight import light_controls, use_hdri

    folder = Path(bpy.data.collections[two.collection]["nextgenface_folder"])
    world = bpy.context.scene.world
    light_controls(world).rotation.default_value[2] = 0.5
    write_exr(tmp_path / "studio.exr", np.full((4, 8, 3), 3.0, np.float32))
    use_hdri(world, tmp_path / "studio.exr", pack=True)
    light_controls(world).rotation.default_value[2] = 0.7
    save_and_open(bpy, tmp_path / "s.blend")
    imported(bpy, folder)
    controls = light_controls(bpy.context.scene.world)
    assert controls.uses_hdri and controls.image.packed_file is not None
    assert controls.rotation.default_value[2] == pytest.approx(0.7)
    node = bpy.context.scene.world.node_tree.nodes["NextGenFace Rotation"]
    assert node.inputs["Rotation"].default_value[2] == pytest.approx(0.5)
    assert sum(node.type == "MAPPING" for node in bpy.context.scene.world.node_tree.nodes) == 2


def test_only_a_photos_light_has_controls(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.problems import AddonProblem
    from nextgenface_addon.scene.relight import light_controls, reset_light, use_hdri, use_photo_light

    own = bpy.data.worlds.new("Own")
    assert light_controls(own) is None and light_controls(None) is None
    for change in (reset_light, use_photo_light, lambda w: use_hdri(w, tmp_path / "a.exr", pack=False)):
        with pytest.raises(AddonProblem, match="no photo's light"):
            change(own)
    world = bpy.context.scene.world
    with pytest.raises(AddonProblem, match=r"gone\.exr"):
        use_hdri(world, tmp_path / "gone.exr", pack=False)
    (tmp_path / "bad.exr").write_bytes(b"no image")
    with pytest.raises(AddonProblem, match="bad"):
        use_hdri(world, tmp_path / "bad.exr", pack=False)
    assert not light_controls(world).uses_hdri


# ---- maps --------------------------------------------------------------------------------------------------


def test_smaller_maps_and_back(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.map_size import full_size, set_map_size, skin_of

    material = skin_of(bpy.data.objects[two.heads[0]])
    nodes = [node for node in material.node_tree.nodes if node.type == "TEX_IMAGE"]
    full = {node.name: node.image for node in nodes}
    images = len(bpy.data.images)
    assert full_size(material) == 64 and len(nodes) == 3
    before = {node.name: np.array(node.image.pixels).reshape(64, 64, 4) for node in nodes}
    assert set_map_size(material, 16) == 16 and set_map_size(material, 20) == 16
    for node in nodes:
        small = node.image
        assert tuple(small.size) == (16, 16) and small.packed_file is not None
        assert small.colorspace_settings.name == full[node.name].colorspace_settings.name
        blocks = before[node.name].reshape(16, 4, 16, 4, 4)
        if small.colorspace_settings.name == "sRGB":  # averaged in linear light
            low, high = blocks.min((1, 3)), blocks.max((1, 3))
            found = np.array(small.pixels).reshape(16, 16, 4)
            assert (found >= low - 0.003).all() and (found <= high + 0.003).all()
        else:
            np.testing.assert_allclose(
                np.array(small.pixels).reshape(16, 16, 4), blocks.mean((1, 3)), atol=0.003
            )
    assert len(bpy.data.images) == images + 3
    save_and_open(bpy, tmp_path / "s.blend")
    material = skin_of(bpy.data.objects[two.heads[0]])
    assert {tuple(n.image.size) for n in material.node_tree.nodes if n.type == "TEX_IMAGE"} == {(16, 16)}
    assert full_size(material) == 64, "the full maps have stayed with the file"
    assert set_map_size(material, 0) == 64
    assert not any("@" in image.get("nextgenface_id", "") for image in bpy.data.images)
    assert {
        n.image.name for n in material.node_tree.nodes if n.type == "TEX_IMAGE"
    } == {"anna skin diffuse", "anna skin specular", "anna skin roughness"}  # fmt: skip


def test_colours_are_averaged_in_linear_light(bpy: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.map_size import set_map_size, skin_of

    folder = Folder().write(tmp_path / "r")
    board = np.zeros((64, 64, 3), np.uint8)
    board[::2], board[1::2] = 255, 0
    write_png(folder / "diffuseMap_0.png", board)
    material = skin_of(bpy.data.objects[imported(bpy, folder).heads[0]])
    set_map_size(material, 32)
    node = material.node_tree.nodes["NextGenFace Diffuse"]
    assert np.array(node.image.pixels)[0] == pytest.approx(0.7354, abs=0.003), (
        "half the light, not half the code"
    )


def test_importing_again_renews_the_smaller_maps(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.map_size import set_map_size, skin_of

    folder = Path(bpy.data.collections[two.collection]["nextgenface_folder"])
    material = skin_of(bpy.data.objects[two.heads[0]])
    set_map_size(material, 32)
    images = len(bpy.data.images)
    write_png(folder / "diffuseMap_0.png", np.full((64, 64, 3), 255, np.uint8))
    imported(bpy, folder)
    image = material.node_tree.nodes["NextGenFace Diffuse"].image
    assert tuple(image.size) == (32, 32) and image.pixels[0] == pytest.approx(1.0)
    assert len(bpy.data.images) == images


def test_an_artists_own_map_is_left_alone(bpy: Any, two: Any) -> None:
    from nextgenface_addon.scene.map_size import set_map_size, skin_of

    material = skin_of(bpy.data.objects[two.heads[0]])
    own = material.node_tree.nodes["NextGenFace Diffuse"].image = bpy.data.images.new("Paint", 128, 128)
    set_map_size(material, 16)
    assert material.node_tree.nodes["NextGenFace Diffuse"].image == own and own.size[0] == 128
    head = bpy.data.objects[two.heads[0]]
    head.data.materials.clear()
    assert skin_of(head) is None


# ---- recordings --------------------------------------------------------------------------------------------


def curve_values(bpy: Any, head: Any, name: str) -> list[float]:
    values = []
    for frame in (1, 13, 25):
        bpy.context.scene.frame_set(frame)
        values.append(head.data.shape_keys.key_blocks[name].value)
    return values


def recording(path: Path, jaw: tuple[float, ...] = (0.0, 1.0, 0.5)) -> Path:
    lines = [f"00:00:{second:02d}:{frame:02d}.0,61,{value},0.25,0.9"
             for (second, frame), value in zip([(1, 0), (1, 30), (2, 0)], jaw, strict=True)]  # fmt: skip
    path.write_text("Timecode,BlendShapeCount,JawOpen,EyeBlinkLeft,TongueOut\n" + "\n".join(lines))
    return path


def test_a_recording_becomes_an_action(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.face_action import apply_take
    from nextgenface_addon.scene.live_link import read_take

    head = bpy.data.objects[two.heads[0]]
    keys = head.data.shape_keys
    take = read_take(recording(tmp_path / "talk.csv"), 60)
    report = apply_take(head, take, "talk", start=1, fps=24)
    assert (report.first, report.last, report.missing) == (1.0, 25.0, ("tongueOut",))
    assert curve_values(bpy, head, "jawOpen") == pytest.approx([0.0, 1.0, 0.5])
    assert keys.key_blocks["Expression anna"].value == 0.0, "the recording counts from the neutral face"
    bpy.context.scene.frame_set(13)
    jaw = Folder().neutral[:, 1] < 0
    moved = positions(bpy, head)[jaw] - expected(None)[jaw]
    np.testing.assert_allclose(moved[:, 2], -0.008, atol=1e-6)

    # The same recording again replaces its action; another one leaves the first in the file.
    take = read_take(recording(tmp_path / "talk.csv", (0.2, 0.4, 0.6)), 60)
    assert apply_take(head, take, "talk", start=1, fps=24).action == report.action
    assert len(bpy.data.actions) == 1
    assert curve_values(bpy, head, "jawOpen") == pytest.approx([0.2, 0.4, 0.6])
    apply_take(head, take, "second", start=1, fps=24)
    assert len(bpy.data.actions) == 2 and bpy.data.actions[report.action].use_fake_user
    save_and_open(bpy, tmp_path / "s.blend")
    head = bpy.data.objects[two.heads[0]]
    assert len(bpy.data.actions) == 2
    assert curve_values(bpy, head, "jawOpen") == pytest.approx([0.2, 0.4, 0.6])


def test_importing_again_keeps_the_recording(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.face_action import apply_take
    from nextgenface_addon.scene.live_link import read_take

    head = bpy.data.objects[two.heads[0]]
    apply_take(head, read_take(recording(tmp_path / "talk.csv"), 60), "talk", start=1, fps=24)
    imported(bpy, Path(bpy.data.collections[two.collection]["nextgenface_folder"]))
    assert curve_values(bpy, head, "jawOpen") == pytest.approx([0.0, 1.0, 0.5])


def test_a_head_without_arkit_keys_is_refused(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.face_action import ActionError, apply_take
    from nextgenface_addon.scene.live_link import read_take

    take = read_take(recording(tmp_path / "talk.csv"))
    for item in (bpy.data.objects["Cube"], bpy.data.objects["Camera"]):
        with pytest.raises(ActionError, match="no ARKit shape keys"):
            apply_take(item, take, "talk", start=1, fps=24)
    assert len(bpy.data.actions) == 0


# ---- asset -------------------------------------------------------------------------------------------------


def test_a_head_becomes_an_asset_with_its_picture(bpy: Any, two: Any, tmp_path: Path) -> None:
    from nextgenface_addon.scene.asset import mark_as_asset

    head = bpy.data.objects[two.heads[0]]
    folder = Path(bpy.data.collections[two.collection]["nextgenface_folder"])
    assert mark_as_asset(head, folder) and mark_as_asset(head, folder)
    assert head.asset_data is not None and [tag.name for tag in head.asset_data.tags] == ["NextGenFace"]
    assert tuple(head.preview.image_size) == (256, 256)
    pixels = np.array(head.preview.image_pixels_float).reshape(256, 256, 4)
    # The photo is 96 by 128 in one grey: a band of it between transparent sides.
    assert pixels[128, 128] == pytest.approx([90 / 255] * 3 + [1.0], abs=0.01) and pixels[128, 5, 3] == 0.0
    save_and_open(bpy, tmp_path / "library.blend")
    assert bpy.data.objects[two.heads[0]].asset_data.description
    assert not mark_as_asset(bpy.data.objects[two.heads[0]], tmp_path / "gone")
