"""The light of a photo as a world: an environment texture that needs no rotation."""

from __future__ import annotations

import bpy

from .images import load_image
from .owned import Owner
from .results_folder import PhotoResult

ENVIRONMENT_NODE = "NextGenFace Environment"


def build_world(owner: Owner, role: str, name: str, photo: PhotoResult, *, pack: bool) -> bpy.types.World:
    """Create or update the world of one photo.

    The file is written for Blender's own equirectangular mapping in world axes, so neither a rotation nor
    texture coordinates are needed. The light belongs to the head at its imported orientation.
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
        background = tree.nodes.new("ShaderNodeBackground")
        environment = tree.nodes.new("ShaderNodeTexEnvironment")
        environment.name = environment.label = ENVIRONMENT_NODE
        environment.location = (-350.0, 0.0)
        environment.projection = "EQUIRECTANGULAR"
        tree.links.new(environment.outputs["Color"], background.inputs["Color"])
        tree.links.new(background.outputs["Background"], output.inputs["Surface"])
    node = world.node_tree.nodes.get(ENVIRONMENT_NODE)
    if node is not None:  # else the artist has replaced the light; the image is at hand
        node.image = image
    return world
