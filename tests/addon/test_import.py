"""Results folders become scenes: geometry, camera, material, world, takeover, updates. Needs bpy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import MODEL_TO_BLENDER, Folder, Photo, face_grid


def do_import(folder: Path, **options: Any) -> Any:
    """Import with Python warnings recorded: our own code must give none."""
    from nextgenface_addon.scene.importer import ImportOptions, import_result

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = import_result(None, folder, ImportOptions(**options))
    assert [str(w.message) for w in caught] == []
    return report


def evaluated_points(bpy: Any, head: Any) -> np.ndarray:
    """World positions (V, 3) of the head with its shape keys as they are set."""
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = head.evaluated_get(graph).to_mesh()
    points = np.array([head.matrix_world @ vertex.co for vertex in mesh.vertices])
    head.evaluated_get(graph).to_mesh_clear()
    return points


def pixels(bpy: Any, camera: Any, points: np.ndarray) -> np.ndarray:
    """Pixels (V, 2), y down, of world points through Blender's own camera."""
    from bpy_extras.object_utils import world_to_camera_view
    from mathutils import Vector

    scene = bpy.context.scene
    views = np.array([world_to_camera_view(scene, camera, Vector(point)) for point in points])
    return np.stack(
        [views[:, 0] * scene.render.resolution_x, (1 - views[:, 1]) * scene.render.resolution_y], axis=-1
    )


def test_head_is_in_metres_and_faces_front(bpy: Any, results: Path) -> None:
    report = do_import(results, takeover="ALWAYS")
    head = bpy.data.objects[report.heads[0]]
    neutral, faces, uv = face_grid()
    assert head.location[:] == (0, 0, 0)
    mesh = head.data
    np.testing.assert_allclose([v.co for v in mesh.vertices], neutral @ MODEL_TO_BLENDER.T * 0.001, atol=1e-7)
    nose = min(mesh.vertices, key=lambda vertex: vertex.co.y)
    assert abs(nose.co.x) < 0.01 and nose.co.y < -0.07
    assert mesh.polygons[len(mesh.polygons) // 4].normal.y < 0, "faces look outward"
    assert all(polygon.use_smooth for polygon in mesh.polygons)
    layer = mesh.uv_layers["UVMap"]
    np.testing.assert_allclose([layer.uv[i].vector for i in range(9)], uv[faces.ravel()[:9]], atol=1e-6)
    assert bpy.data.collections["Müller"].objects[:] and head.name in bpy.data.collections["Müller"].objects
    assert mesh.validate() is False, "nothing to correct"


def test_shape_keys(bpy: Any, results: Path) -> None:
    report = do_import(results)
    head = bpy.data.objects[report.heads[0]]
    keys = head.data.shape_keys
    assert {key.name: key.value for key in keys.key_blocks if key != keys.reference_key} == {
        "Expression Müller 1": 1.0, "Residual Müller 1": 0.0, "jawOpen": 0.0, "eyeBlinkLeft": 0.0,
    }  # fmt: skip
    assert keys.reference_key.name == "Basis"
    expected = (Folder().neutral + Folder().expression(0)) @ MODEL_TO_BLENDER.T * 0.001
    np.testing.assert_allclose(evaluated_points(bpy, head), expected, atol=1e-6)


@pytest.mark.parametrize(
    "photo",
    [
        Photo(),
        Photo(width=200, height=80, fx=150, fy=150, cx=130.25, cy=20.0, angles=(-0.4, 0.6, 2.0)),
        Photo(fx=180, fy=150),
        Photo(fx=150, fy=180),
        Photo(fx=900, fy=900, t=(0, 0, 1500)),
    ],
    ids=["portrait", "landscape", "wide pixels", "tall pixels", "tele"],
)
def test_projection_matches_the_solvers_camera(bpy: Any, tmp_path: Path, photo: Photo) -> None:
    folder = Folder(photos=[photo])
    report = do_import(folder.write(tmp_path / "r"), takeover="ALWAYS")
    head, camera = bpy.data.objects[report.heads[0]], bpy.data.objects[report.cameras[0]]
    assert bpy.context.scene.camera == camera
    bpy.context.view_layer.update()
    found = pixels(bpy, camera, evaluated_points(bpy, head))
    expected = photo.project(folder.neutral + folder.expression(0))
    assert np.abs(found - expected).max() < 0.05
    # The same through the matrix that rendering uses.
    graph = bpy.context.evaluated_depsgraph_get()
    render = bpy.context.scene.render
    matrix = np.array(
        camera.calc_matrix_camera(
            graph, x=render.resolution_x, y=render.resolution_y,
            scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y,
        )
    ) @ np.array(camera.matrix_world.inverted())  # fmt: skip
    points = np.c_[evaluated_points(bpy, head), np.ones(len(expected))] @ matrix.T
    ndc = points[:, :2] / points[:, 3:]
    drawn = np.stack([(ndc[:, 0] + 1) / 2 * photo.width, (1 - ndc[:, 1]) / 2 * photo.height], -1)
    assert np.abs(drawn - expected).max() < 0.05
    assert camera.data.clip_start < photo.t[2] * 0.0005 and camera.data.clip_end > photo.t[2] * 0.002


def test_cameras_follow_the_head(bpy: Any, results: Path) -> None:
    from mathutils import Matrix

    report = do_import(results, takeover="ALWAYS")
    head, camera = bpy.data.objects[report.heads[0]], bpy.data.objects[report.cameras[0]]
    head.matrix_world = Matrix.Translation((1, 2, 3)) @ Matrix.Rotation(0.7, 4, "Z")
    bpy.context.view_layer.update()
    found = pixels(bpy, camera, evaluated_points(bpy, head))
    assert np.abs(found - Photo().project(Folder().neutral + Folder().expression(0))).max() < 0.05


def test_the_photo_stands_behind_the_camera_view(bpy: Any, results: Path) -> None:
    data = bpy.data.objects[do_import(results).cameras[0]].data
    behind, over = data.background_images
    assert data.show_background_images and behind.image == over.image
    assert (behind.display_depth, behind.alpha) == ("BACK", 1.0)
    assert (over.display_depth, over.alpha) == ("FRONT", 0.0), "unseen until its opacity is raised"
    image = behind.image
    assert tuple(image.size) == (96, 128) and image.colorspace_settings.name == "sRGB"


def test_material_sockets_and_colour_spaces(bpy: Any, results: Path) -> None:
    head = bpy.data.objects[do_import(results).heads[0]]
    tree = head.active_material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    for socket, file, space in (
        ("Base Color", "diffuseMap_0.png", "sRGB"),
        ("Roughness", "roughnessMap_0.png", "Non-Color"),
        ("Specular IOR Level", "specularMap_0.png", "Non-Color"),
    ):
        (link,) = shader.inputs[socket].links
        assert link.from_node.type == "TEX_IMAGE"
        assert link.from_node.image.filepath.endswith(file)
        assert link.from_node.image.colorspace_settings.name == space
    assert shader.inputs["IOR"].default_value == pytest.approx(1.5)
    output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL")
    assert output.inputs["Surface"].links[0].from_node == shader


def test_a_coloured_specular_map_is_averaged(bpy: Any, tmp_path: Path) -> None:
    folder = Folder(specular=(200, 100, 50)).write(tmp_path / "r")
    tree = bpy.data.objects[do_import(folder).heads[0]].active_material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    mean = shader.inputs["Specular IOR Level"].links[0].from_node
    assert mean.operation == "DOT_PRODUCT"
    np.testing.assert_allclose(mean.inputs[1].default_value, [1 / 3] * 3)
    assert mean.inputs[0].links[0].from_node.type == "TEX_IMAGE"


def test_world_is_float_and_not_turned(bpy: Any, results: Path) -> None:
    from synthetic import blender_directions, light_of

    world = bpy.data.worlds[do_import(results).worlds[0]]
    node = next(node for node in world.node_tree.nodes if node.type == "TEX_ENVIRONMENT")
    assert node.image.is_float and node.image.colorspace_settings.name == "Linear Rec.709"
    mapping = node.inputs["Vector"].links[0].from_node
    assert mapping.inputs["Rotation"].default_value[:] == (0, 0, 0) and node.projection == "EQUIRECTANGULAR"
    width, height = node.image.size
    found = np.array(node.image.pixels).reshape(height, width, -1)[::-1, :, :3]
    np.testing.assert_allclose(found, light_of(blender_directions(width, height)), atol=1e-6)


@pytest.mark.parametrize("pack", [True, False])
def test_images_are_packed_or_linked(bpy: Any, results: Path, pack: bool) -> None:
    do_import(results, pack=pack)
    images = [image for image in bpy.data.images if "nextgenface_id" in image]
    assert len(images) == 5
    assert all((image.packed_file is not None) == pack for image in images)
    assert all(Path(bpy.path.abspath(image.filepath)).is_file() for image in images)


def counts(bpy: Any) -> dict[str, int]:
    """Datablocks by kind; of the images only ours, because Blender keeps a few of its own now and then."""
    kinds = ("objects", "meshes", "materials", "worlds", "cameras", "collections", "shape_keys")
    images = sum("nextgenface_id" in image for image in bpy.data.images)
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds} | {"images": images}


@pytest.mark.parametrize("pack", [True, False])
def test_importing_twice_updates_in_place(bpy: Any, results: Path, pack: bool) -> None:
    first = do_import(results, pack=pack)
    before, names = counts(bpy), sorted(item.name for item in bpy.data.objects)
    head = bpy.data.objects[first.heads[0]]
    head.location = (0.1, 0.2, 0.3)
    head.data.shape_keys.key_blocks["jawOpen"].value = 0.4
    own = head.shape_key_add(name="Artist", from_mix=False)
    own.data[0].co.x += 0.01
    own.value = 0.0  # from 5.0 new keys start at 1
    head.modifiers.new("Subdivision", "SUBSURF")
    material = head.active_material
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Coat Weight"].default_value = 0.25

    changed = Folder(photos=[Photo(cx=50.0)], scale=1.1)
    changed.write(results)
    from synthetic import write_png

    write_png(results / "diffuseMap_0.png", np.full((64, 64, 3), 255, np.uint8))
    second = do_import(results, pack=pack)

    assert not first.updated and second.updated and second.took_over
    assert counts(bpy) == before and sorted(item.name for item in bpy.data.objects) == names
    assert head.location[:] == pytest.approx((0.1, 0.2, 0.3)), "the artist's placement is kept"
    assert head.data.shape_keys.key_blocks["jawOpen"].value == pytest.approx(0.4)
    assert [modifier.type for modifier in head.modifiers] == ["SUBSURF"]
    assert shader.inputs["Coat Weight"].default_value == pytest.approx(0.25)
    basis = head.data.shape_keys.reference_key
    np.testing.assert_allclose(
        [point.co for point in basis.data], changed.neutral @ MODEL_TO_BLENDER.T * 0.001, atol=1e-6
    )
    own = head.data.shape_keys.key_blocks["Artist"]
    assert (own.data[0].co - basis.data[0].co)[:] == pytest.approx((0.01, 0, 0), abs=1e-6)
    assert (own.data[5].co - basis.data[5].co)[:] == pytest.approx((0, 0, 0), abs=1e-6)
    diffuse = shader.inputs["Base Color"].links[0].from_node.image
    assert diffuse.pixels[0] == pytest.approx(1.0), "the new map was read from disk"
    head.modifiers.clear()
    head.location = (0, 0, 0)
    bpy.context.view_layer.update()
    head.data.shape_keys.key_blocks["jawOpen"].value = 0.0
    found = pixels(bpy, bpy.data.objects[second.cameras[0]], evaluated_points(bpy, head))
    assert np.abs(found - changed.photos[0].project(changed.neutral + changed.expression(0))).max() < 0.05


def test_another_topology_replaces_the_mesh(bpy: Any, results: Path) -> None:
    first = do_import(results)
    before = counts(bpy)
    Folder(grid=11).write(results)
    second = do_import(results)
    head = bpy.data.objects[second.heads[0]]
    assert first.heads == second.heads and counts(bpy) == before
    assert len(head.data.vertices) == 121 and len(head.data.shape_keys.key_blocks) == 5
    assert head.data.validate() is False


def test_several_photos_of_one_person(bpy: Any, tmp_path: Path) -> None:
    long = "Ü" * 60
    folder = Folder(photos=[Photo("a"), Photo("a", angles=(0, 0.5, 0)), Photo(long)])
    report = do_import(folder.write(tmp_path / "r"))
    assert len(report.heads) == 1 and len(report.cameras) == len(report.worlds) == 3
    keys = bpy.data.objects[report.heads[0]].data.shape_keys.key_blocks
    assert report.expressions[:2] == ["Expression a", "Expression a 2"]
    assert [keys[name].value for name in report.expressions] == [1.0, 0.0, 0.0]
    before = counts(bpy)
    do_import(tmp_path / "r")
    assert counts(bpy) == before and len(keys) == 9
    folder.photos.pop(1)
    folder.write(tmp_path / "r")
    assert do_import(tmp_path / "r").expressions[0] == "Expression a"
    assert "Expression a 2" not in keys


def test_several_people_in_one_folder(bpy: Any, tmp_path: Path) -> None:
    folder = Folder(photos=[Photo("anna"), Photo("ben")], shared=False)
    report = do_import(folder.write(tmp_path / "r"))
    assert report.heads == ["anna", "ben"]
    assert bpy.data.objects["ben"].hide_render and not bpy.data.objects["anna"].hide_render
    assert bpy.data.objects["anna"].active_material != bpy.data.objects["ben"].active_material
    assert bpy.data.objects[report.cameras[1]].parent.name == "ben"


def test_auto_takes_over_the_startup_scene(bpy: Any, results: Path) -> None:
    scene = bpy.context.scene
    scene.view_settings.view_transform = "AgX"
    report = do_import(results)
    assert report.took_over
    assert scene.camera.name == report.cameras[0] and scene.world.name == report.worlds[0]
    assert (scene.render.resolution_x, scene.render.resolution_y) == (96, 128)
    view = scene.view_settings
    assert (view.view_transform, view.look, view.exposure, view.gamma) == ("Standard", "None", 0.0, 1.0)
    assert sorted(report.hidden) == ["Cube", "Light"] and bpy.data.objects["Cube"].hide_render
    assert scene.render.film_transparent
    # What the artist then chooses survives an update.
    view.view_transform = "AgX"
    scene.render.film_transparent = False
    assert do_import(results).took_over
    assert view.view_transform == "AgX" and not scene.render.film_transparent


def test_auto_takes_over_an_empty_scene(bpy: Any, results: Path) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert do_import(results).took_over


def own_camera(bpy: Any) -> None:
    bpy.data.objects["Camera"].location.x += 1


def own_world(bpy: Any) -> None:
    bpy.context.scene.world = bpy.data.worlds.new("Sunset")


def own_sky(bpy: Any) -> None:
    tree = bpy.context.scene.world.node_tree
    next(n for n in tree.nodes if n.type == "BACKGROUND").inputs["Color"].default_value = (0.2, 0.4, 1, 1)


def own_model(bpy: Any) -> None:
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Rig", None))


@pytest.mark.parametrize("change", [own_camera, own_world, own_sky, own_model])
def test_auto_leaves_an_artists_scene_alone(bpy: Any, results: Path, change: Any) -> None:
    scene = bpy.context.scene
    change(bpy)
    camera, world = scene.camera, scene.world
    before = (scene.render.resolution_x, scene.view_settings.view_transform, scene.render.film_transparent)
    report = do_import(results)
    assert not report.took_over and scene.camera == camera and scene.world == world
    assert before == (
        scene.render.resolution_x,
        scene.view_settings.view_transform,
        scene.render.film_transparent,
    )
    assert not bpy.data.objects["Cube"].hide_render
    assert report.cameras[0] in scene.objects and bpy.data.worlds[report.worlds[0]].use_fake_user
    assert do_import(results, takeover="ALWAYS").took_over and scene.camera != camera


def test_never_only_adds(bpy: Any, results: Path) -> None:
    camera = bpy.context.scene.camera
    assert not do_import(results, takeover="NEVER").took_over
    assert bpy.context.scene.camera == camera


def test_a_second_result_does_not_displace_the_first(bpy: Any, results: Path, tmp_path: Path) -> None:
    first = do_import(results)
    other = do_import(Folder(photos=[Photo("other")], name="other").write(tmp_path / "other"))
    assert first.took_over and not other.took_over
    assert bpy.context.scene.camera.name == first.cameras[0]


@pytest.mark.parametrize("pack", [True, False])
def test_save_reload_and_update(bpy: Any, results: Path, tmp_path: Path, pack: bool) -> None:
    report = do_import(results, pack=pack, takeover="ALWAYS")
    before = counts(bpy)
    blend = tmp_path / "sävéd.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    head = bpy.data.objects[report.heads[0]]
    assert bpy.context.scene.camera.name == report.cameras[0]
    assert bpy.context.scene.world.name == report.worlds[0]
    assert head.data.shape_keys.key_blocks["Expression Müller 1"].value == 1.0
    assert head.active_material.node_tree.nodes["NextGenFace Diffuse"].image.size[0] == 64
    again = do_import(results, pack=pack)
    assert (
        again.updated
        and counts(bpy)["objects"] == before["objects"]
        and counts(bpy)["images"] == before["images"]
    )


def test_a_broken_folder_changes_nothing(bpy: Any, results: Path) -> None:
    from nextgenface_addon.scene.results_folder import ResultsError

    before = counts(bpy)
    (results / "geometry.npz").write_bytes(b"PK broken")
    with pytest.raises(ResultsError):
        do_import(results)
    assert counts(bpy) == before
    Folder().write(results)
    (results / "diffuseMap_0.png").write_text("no image")
    with pytest.raises(ResultsError, match="diffuseMap_0.png"):
        do_import(results)
    assert counts(bpy) == before
