"""The light of a photo as a world: an environment texture that is right as it is and can be turned."""

from __future__ import annotations

import bpy

from .images import load_image
from .owned import Owner
from .results_folder import PhotoResult

ENVIRONMENT_NODE = "NextGenFace Environment"
BACKGROUND_NODE = "NextGenFace Light"
ROTATION_NODE = "NextGenFace Rotation"
COORDINATES_NODE = "NextGenFace Coordinates"


def build_world(owner: Owner, role: str, name: str, photo: PhotoResult, *, pack: bool) -> bpy.types.World:
    """Create or update the world of one photo.

    The file is written for Blender's own equirectangular mapping in world axes, so it needs no rotation; the
    mapping node starts at zero and is there to be turned. The light belongs to the head at its imported
    orientation. On update the image is renewed; what the artist turned, scaled or linked stays.
    """
    image = load_image(
        owner,
        f"{role}/environment",
        photo.files["environment"],
        "Linear Rec.709",
        name=f"{name} light",
        pack=pack,
    )
    world = owner.find(bpy.data.worlds, role)
    if world is None:
        world = owner.tag(bpy.data.worlds.new(name), role)
        if bpy.app.version < (5, 0, 0):  # always on from 5.0, where even reading it warns
            world.use_nodes = True
        world.use_fake_user = True  # it is kept with the file even while no scene uses it
        tree = world.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("ShaderNodeOutputWorld")
        output.location = (300.0, 0.0)
        background = add_light(tree, ENVIRONMENT_NODE, BACKGROUND_NODE, ROTATION_NODE, height=0.0)
        tree.links.new(background.outputs["Background"], output.inputs["Surface"])
    node = world.node_tree.nodes.get(ENVIRONMENT_NODE)
    if node is not None:  # else the artist has replaced the light; the image is at hand
        node.image = image
        if not node.inputs["Vector"].is_linked:
            _add_rotation(world.node_tree, node, ROTATION_NODE)
    return world


def add_light(
    tree: bpy.types.NodeTree,
    environment_name: str,
    background_name: str,
    rotation_name: str,
    *,
    height: float,
) -> bpy.types.Node:
    """Add an environment texture that can be turned and scaled; returns its Background node, not linked."""
    background = tree.nodes.new("ShaderNodeBackground")
    background.name = background.label = background_name
    background.location = (50.0, height)
    environment = tree.nodes.new("ShaderNodeTexEnvironment")
    environment.name = environment.label = environment_name
    environment.location = (-250.0, height)
    environment.projection = "EQUIRECTANGULAR"
    tree.links.new(environment.outputs["Color"], background.inputs["Color"])
    _add_rotation(tree, environment, rotation_name)
    return background


def _add_rotation(tree: bpy.types.NodeTree, environment: bpy.types.Node, name: str) -> None:
    coordinates = tree.nodes.get(COORDINATES_NODE)
    if coordinates is None:
        coordinates = tree.nodes.new("ShaderNodeTexCoord")
        coordinates.name = coordinates.label = COORDINATES_NODE
        coordinates.location = (environment.location.x - 400.0, environment.location.y)
    rotation = tree.nodes.new("ShaderNodeMapping")
    rotation.name = rotation.label = name
    rotation.location = (environment.location.x - 200.0, environment.location.y)
    rotation.vector_type = "TEXTURE"  # turns the picture itself: positive is counter-clockwise from above
    tree.links.new(coordinates.outputs["Generated"], rotation.inputs["Vector"])
    tree.links.new(rotation.outputs["Vector"], environment.inputs["Vector"])
