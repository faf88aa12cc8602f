"""Turning, scaling and replacing the light that was solved from a photo, and going back to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy

from ..problems import AddonProblem
from .images import check_readable
from .owned import PROPERTY
from .world import BACKGROUND_NODE, ENVIRONMENT_NODE, ROTATION_NODE, add_light

HDRI_NODE = "NextGenFace HDRI"
HDRI_BACKGROUND_NODE = "NextGenFace HDRI Light"
HDRI_ROTATION_NODE = "NextGenFace HDRI Rotation"


class LightError(AddonProblem):
    """The light cannot be changed; the message says why and what to do."""


@dataclass(frozen=True)
class LightControls:
    """What there is to turn: `rotation.default_value` (x, y, z; radians; z turns it about the vertical) and
    `strength.default_value`. `uses_hdri`: whether an HDRI stands in for the photo's light.
    """

    rotation: bpy.types.NodeSocket
    strength: bpy.types.NodeSocket
    image: bpy.types.Image | None
    uses_hdri: bool


def light_controls(world: bpy.types.World | None) -> LightControls | None:
    """The controls of the light that shines now, or None for a world that is not an import's."""
    if world is None or PROPERTY not in world or world.node_tree is None:
        return None
    output = _output(world)
    links = output.inputs["Surface"].links if output is not None else ()
    shining = links[0].from_node.name if links else ""
    for background, rotation, environment in (
        (BACKGROUND_NODE, ROTATION_NODE, ENVIRONMENT_NODE),
        (HDRI_BACKGROUND_NODE, HDRI_ROTATION_NODE, HDRI_NODE),
    ):
        nodes = [world.node_tree.nodes.get(name) for name in (background, rotation, environment)]
        if shining == background and None not in nodes:
            return LightControls(
                nodes[1].inputs["Rotation"],
                nodes[0].inputs["Strength"],
                nodes[2].image,
                background == HDRI_BACKGROUND_NODE,
            )
    return None


def reset_light(world: bpy.types.World) -> None:
    """Turn the light that shines back to where it came from, at its own strength. Raises LightError."""
    controls = light_controls(world)
    if controls is None:
        raise _not_ours(world)
    controls.rotation.default_value = (0.0, 0.0, 0.0)
    controls.strength.default_value = 1.0


def use_hdri(world: bpy.types.World, path: Path, *, pack: bool) -> bpy.types.Image:
    """Light the scene with an image file instead of the photo's light, which is kept; returns the image.

    Replaces an HDRI of before, and keeps how that was turned and scaled. Raises LightError, ResultsError.
    """
    output = _output(world)
    if PROPERTY not in world or output is None:
        raise _not_ours(world)
    if not path.is_file():
        raise LightError(f"There is no image at {path}. Choose an .hdr or .exr file.")
    check_readable(path)
    tree = world.node_tree
    if None in (tree.nodes.get(HDRI_BACKGROUND_NODE), tree.nodes.get(HDRI_NODE)):
        for name in (HDRI_BACKGROUND_NODE, HDRI_NODE, HDRI_ROTATION_NODE):
            if (left_over := tree.nodes.get(name)) is not None:
                tree.nodes.remove(left_over)
        add_light(tree, HDRI_NODE, HDRI_BACKGROUND_NODE, HDRI_ROTATION_NODE, height=-350.0)
    image = bpy.data.images.load(str(path), check_existing=True)
    if pack and image.packed_file is None:
        image.pack()
    tree.nodes[HDRI_NODE].image = image
    tree.links.new(tree.nodes[HDRI_BACKGROUND_NODE].outputs["Background"], output.inputs["Surface"])
    return image


def use_photo_light(world: bpy.types.World) -> None:
    """Light the scene with the photo's own light again, turned and scaled as it was. Raises LightError."""
    output = _output(world)
    background = world.node_tree.nodes.get(BACKGROUND_NODE) if world.node_tree is not None else None
    if PROPERTY not in world or output is None or background is None:
        raise _not_ours(world)
    world.node_tree.links.new(background.outputs["Background"], output.inputs["Surface"])


def _output(world: bpy.types.World) -> bpy.types.Node | None:
    if world.node_tree is None:
        return None
    outputs = [node for node in world.node_tree.nodes if node.type == "OUTPUT_WORLD"]
    return next((node for node in outputs if node.is_active_output), outputs[0] if outputs else None)


def _not_ours(world: bpy.types.World) -> LightError:
    return LightError(f"The world {world.name} holds no photo's light. Look through a photo first.")
