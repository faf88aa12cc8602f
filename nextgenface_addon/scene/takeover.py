"""Whether and how an import takes over the scene's world, camera, render size and view transform."""

from __future__ import annotations

from typing import Literal

import bpy

from .owned import Owner

Mode = Literal["AUTO", "ALWAYS", "NEVER"]

# What Blender's startup file holds; an artist's scene differs by name, type or place.
_STARTUP_OBJECTS = {
    "Cube": ("MESH", (0.0, 0.0, 0.0)),
    "Light": ("LIGHT", (4.0762, 1.0055, 5.9039)),
    "Camera": ("CAMERA", (7.3589, -6.9258, 4.9583)),
}
_STARTUP_CUBE_VERTICES = 8
_STARTUP_WORLD_GREY = 0.0509


def should_take_over(scene: bpy.types.Scene, owner: Owner, mode: Mode) -> bool:
    """AUTO takes over a scene that holds nothing but Blender's startup objects and world, or our own
    earlier import.
    """
    if mode != "AUTO":
        return mode == "ALWAYS"
    if scene.camera is not None and not (owner.owns(scene.camera) or is_startup_object(scene.camera)):
        return False
    if scene.world is not None and not (owner.owns(scene.world) or _is_startup_world(scene.world)):
        return False
    if owner.updated:
        # The artist may have added things around the head since; it is enough that they kept our camera and
        # world.
        return owner.owns(scene.camera) and owner.owns(scene.world)
    return all(owner.owns(item) or is_startup_object(item) for item in scene.objects)


def is_startup_object(item: bpy.types.Object) -> bool:
    """Whether an object is the untouched cube, light or camera of Blender's startup file."""
    kind, place = _STARTUP_OBJECTS.get(item.name, ("", (0.0, 0.0, 0.0)))
    if item.type != kind or any(abs(a - b) > 1e-3 for a, b in zip(item.location, place, strict=True)):
        return False
    return kind != "MESH" or len(item.data.vertices) == _STARTUP_CUBE_VERTICES


def _is_startup_world(world: bpy.types.World) -> bool:
    if world.name != "World" or world.library is not None:
        return False
    # Before 5.0 a world made by a script has no nodes until it is told to.
    nodes = list(world.node_tree.nodes) if world.node_tree is not None else []
    if {node.type for node in nodes} - {"BACKGROUND", "OUTPUT_WORLD"}:
        return False
    backgrounds = [node for node in nodes if node.type == "BACKGROUND"]
    return all(
        abs(value - _STARTUP_WORLD_GREY) < 1e-3
        for node in backgrounds
        for value in tuple(node.inputs["Color"].default_value)[:3]
    )


def hide_startup_objects(scene: bpy.types.Scene) -> list[str]:
    """Hide the startup cube, which would enclose the head, and the startup light, which is not in the
    photo.
    """
    hidden = []
    for item in scene.objects:
        if is_startup_object(item) and item.type in ("MESH", "LIGHT") and not item.hide_render:
            item.hide_render = True
            item.hide_viewport = True
            hidden.append(item.name)
    return hidden


def take_over(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    world: bpy.types.World,
    *,
    show_world: bool,
    view_settings: bool,
) -> None:
    """Make the scene's picture the photo's: camera, size, world and, when asked, the view transform."""
    scene.world = world
    look_through(scene, camera)
    if view_settings:
        show_as_photo(scene, show_world=show_world)


def show_as_photo(scene: bpy.types.Scene, *, show_world: bool) -> None:
    """Show colours as photos hold them, before transparency unless the world is to be seen.

    The view transform has to be Standard with nothing added, because the solver compares linear light with
    the photo through the plain sRGB curve.
    """
    scene.render.film_transparent = not show_world
    scene.display_settings.display_device = "sRGB"
    view = scene.view_settings
    view.view_transform = "Standard"
    view.look = "None"
    view.exposure = 0.0
    view.gamma = 1.0
    view.use_curve_mapping = False
    if hasattr(view, "use_white_balance"):  # from 4.3
        view.use_white_balance = False


def look_through(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Make a photo's camera the active one and give the picture the photo's size and pixel aspect."""
    width, height = camera.data["nextgenface_resolution"]
    aspect_x, aspect_y = camera.data["nextgenface_pixel_aspect"]
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = int(width), int(height)
    scene.render.resolution_percentage = 100
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect_x, aspect_y
    scene.render.use_border = False
