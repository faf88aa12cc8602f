"""A results folder becomes part of a scene. The operator, batch.py and scripts all call `import_result`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from . import takeover
from .camera import build_camera
from .images import check_readable
from .map_size import MAP_SIZE, set_map_size
from .material import build_material
from .mesh import build_head
from .owned import FOLDER_PROPERTY, Owner
from .photo_views import IDENTITY, PHOTO_NAME
from .results_folder import PhotoResult, ResultsFolder, inside, read_head, read_results
from .shape_keys import build_shape_keys
from .splats import build_splats, build_views, read_photos
from .surface import build_surface
from .texture_target import find_target, put_texture
from .world import build_world

VIEW_METHODS = ("texture", "mesh", "gaussians")
USED_FILES = ("diffuse", "specular", "roughness", "environment", "photo")


@dataclass(frozen=True)
class ImportOptions:
    """pack: store images in the .blend, else they are linked to the results folder.
    takeover: whether the scene's world, camera, render size and view transform become the photo's.
    show_world: whether a taken-over scene's picture shows the light's map behind the head, else transparency.
    """

    pack: bool = True
    takeover: takeover.Mode = "AUTO"
    show_world: bool = False


@dataclass
class ImportReport:
    """What an import made, by name. References to datablocks would not survive an undo.

    `note`: the line for a person where nothing but a texture came in.
    """

    collection: str = ""
    heads: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    worlds: list[str] = field(default_factory=list)
    expressions: list[str] = field(default_factory=list)
    updated: bool = False
    took_over: bool = False
    hidden: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    note: str = ""

    def text(self) -> str:
        """One line for a person."""
        if self.note:
            return self.note
        verb = "Updated" if self.updated else "Imported"
        line = f"{verb} {self.collection}: {len(self.cameras)} photo{'s' if len(self.cameras) != 1 else ''}"
        if not self.took_over:
            line += "; the scene's own camera, world and colour settings were left alone"
        if self.hidden:
            line += f"; hid {' and '.join(self.hidden)}"
        return line


def import_result(
    context: bpy.types.Context | None, folder: Path | str, options: ImportOptions | None = None
) -> ImportReport:
    """Import a finished results folder into the context's scene, or update what an earlier import of it made.

    Raises results_folder.ResultsError before anything in the scene is changed when the folder is not usable.
    Makes no undo step itself; the operator around it does.
    """
    options = options or ImportOptions()
    place, head = read_head(Path(folder))
    if head.get("method") in VIEW_METHODS:
        target = find_target(head, (context or bpy.context).scene)
        if target is not None:
            return _import_onto(target, place, head, options)
        return _import_views(context, place, head, options)
    results = read_results(place)
    for photo in results.photos:
        for key in USED_FILES:
            if key in photo.files:
                check_readable(photo.files[key])
    scene = (context or bpy.context).scene
    owner = Owner(results.folder)
    report = ImportReport(warnings=list(results.warnings))
    collection = owner.find(bpy.data.collections, "collection")
    owner.updated = report.updated = collection is not None and _in_scene(scene, collection)
    # Decided before anything is added, for it depends on what the artist has in the scene.
    take = takeover.should_take_over(scene, owner, options.takeover)
    if collection is None:
        collection = owner.tag(bpy.data.collections.new(results.name), "collection")
    if not _in_scene(scene, collection):
        scene.collection.children.link(collection)
    collection[FOLDER_PROPERTY] = str(results.folder.resolve())
    report.collection = collection.name

    cameras: list[bpy.types.Object] = []
    worlds: list[bpy.types.World] = []
    for position, identity in enumerate(sorted(results.geometries)):
        photos = [photo for photo in results.photos if photo.identity == identity]
        head = _build_person(owner, results, photos, identity, options, report)
        _link(collection, head)
        if position > 0 and not report.updated:
            # Every person stands at the origin, where the light and the cameras are theirs.
            head.hide_viewport = head.hide_render = True
            report.warnings.append(f"{head.name} is hidden, because it stands where {report.heads[0]} does.")
        report.heads.append(head.name)
        for photo in photos:
            role = f"photo {photo.index}"
            camera = build_camera(owner, role, f"{photo.name} camera", photo, head, pack=options.pack)
            camera.data[PHOTO_NAME], camera.data[IDENTITY] = photo.name, identity
            _link(collection, camera)
            world = build_world(owner, role, f"{photo.name} light", photo, pack=options.pack)
            cameras.append(camera)
            worlds.append(world)
    report.cameras = [camera.name for camera in cameras]
    report.worlds = [world.name for world in worlds]

    if take:
        report.took_over = True
        takeover.take_over(
            scene,
            cameras[0],
            worlds[0],
            show_world=options.show_world,
            # An artist who has chosen another view since the first import keeps it.
            view_settings=not report.updated or options.takeover == "ALWAYS",
        )
        if not report.updated:
            report.hidden = takeover.hide_startup_objects(scene)
    elif any(list(camera.data["nextgenface_pixel_aspect"]) != [1.0, 1.0] for camera in cameras):
        report.warnings.append(
            "The photo's pixels are not square; set the scene's pixel aspect to see it undistorted."
        )
    return report


def _import_onto(
    target: bpy.types.Object, folder: Path, head: dict[str, Any], options: ImportOptions
) -> ImportReport:
    """A texture for an object of the scene, whose mesh and cameras are there already."""
    report = ImportReport(heads=[target.name], warnings=[str(text) for text in head.get("warnings") or []])
    texture = (head.get("files") or {}).get("texture")
    image, done = put_texture(Owner(folder), target, inside(folder, texture), pack=options.pack)
    report.collection, report.note = image.name, done
    return report


def _import_views(
    context: bpy.types.Context | None, folder: Path, head: dict[str, Any], options: ImportOptions
) -> ImportReport:
    """What a method for many views has made, and the cameras of its views."""
    photos = read_photos(folder, head.get("photos"))
    listed = head.get("files")
    files = listed if isinstance(listed, dict) else {}
    scene = (context or bpy.context).scene
    owner = Owner(folder)
    report = ImportReport(warnings=[str(text) for text in head.get("warnings") or []])
    collection = owner.find(bpy.data.collections, "collection")
    owner.updated = report.updated = collection is not None and _in_scene(scene, collection)
    take = takeover.should_take_over(scene, owner, options.takeover)
    name = str(head.get("name") or folder.name)
    if head.get("method") == "gaussians":
        item = build_splats(owner, "splats", name, inside(folder, files.get("points")))
    else:
        texture = files.get("texture")
        item = build_surface(
            owner,
            "surface",
            name,
            inside(folder, files.get("geometry")),
            None if texture is None else inside(folder, texture),
            photos,
            pack=options.pack,
        )
    if collection is None:
        collection = owner.tag(bpy.data.collections.new(item.name), "collection")
    if not _in_scene(scene, collection):
        scene.collection.children.link(collection)
    collection[FOLDER_PROPERTY] = str(folder.resolve())
    report.collection, report.heads = collection.name, [item.name]
    _link(collection, item)
    cameras = build_views(owner, photos, item, pack=options.pack)
    for camera in cameras:
        _link(collection, camera)
    report.cameras = [camera.name for camera in cameras]
    if take:
        report.took_over = True
        takeover.look_through(scene, cameras[0])
        if not report.updated:
            takeover.show_as_photo(scene, show_world=options.show_world)
            report.hidden = takeover.hide_startup_objects(scene)
    return report


def _build_person(
    owner: Owner,
    results: ResultsFolder,
    photos: list[PhotoResult],
    identity: int,
    options: ImportOptions,
    report: ImportReport,
) -> bpy.types.Object:
    name = results.name if len(results.geometries) == 1 else photos[0].name
    role = f"identity {identity}"
    head, _ = build_head(owner, role, name, results.geometries[identity])
    report.expressions += build_shape_keys(head, photos, results.geometries[identity])
    # With one identity over several photos the maps of its first photo are everybody's.
    material = build_material(owner, role, f"{name} skin", photos[0], pack=options.pack)
    if material.get(MAP_SIZE):  # the artist works with smaller copies: make them anew
        set_map_size(material, int(material[MAP_SIZE]))
    if not head.data.materials:
        head.data.materials.append(material)
    return head


def _in_scene(scene: bpy.types.Scene, collection: bpy.types.Collection) -> bool:
    return collection in scene.collection.children_recursive


def _link(collection: bpy.types.Collection, item: bpy.types.Object) -> None:
    """Put an object into our collection unless the artist has sorted it elsewhere."""
    if not item.users_collection:
        collection.objects.link(item)
