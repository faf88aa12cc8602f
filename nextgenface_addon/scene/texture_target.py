"""A texture comes back to the object it was made for: one image node in its material, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from .images import check_readable, load_image
from .owned import Owner
from .surface import TEXTURE_NODE

MESH_FILE = "nextgenface_mesh_file"
"""Custom property of an object: the file it was written to for the solver."""


def remember(item: bpy.types.Object, path: Path) -> None:
    """Note on an object which mesh file is it, so that the result finds it again."""
    item[MESH_FILE] = str(path)


def find_target(head: dict[str, Any], scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The object of the scene that a texture result's mesh was written from; None when it was a file."""
    config = head.get("config")
    wanted = config.get("mesh") if isinstance(config, dict) else None
    if head.get("method") != "texture" or not isinstance(wanted, str):
        return None
    return next((item for item in scene.objects if item.get(MESH_FILE) == wanted), None)


def put_texture(
    owner: Owner, item: bpy.types.Object, path: Path, *, pack: bool
) -> tuple[bpy.types.Image, str]:
    """Load the texture and put it into the object's active material; returns it and what was done.

    An object without a material gets one. In an existing one our node is renewed, or added; it is linked only
    to a base colour that nothing else is linked to.
    """
    check_readable(path)
    image = load_image(owner, "texture", path, "sRGB", name=f"{item.name} texture", pack=pack)
    material = item.active_material
    fresh = material is None
    if material is None:
        material = owner.tag(bpy.data.materials.new(f"{item.name} texture"), "material")
        item.data.materials.append(material)
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.get(TEXTURE_NODE)
    if node is not None and node.type == "TEX_IMAGE":
        node.image = image
        return image, f"{material.name} shows the new texture"
    node = tree.nodes.new("ShaderNodeTexImage")
    node.name = node.label = TEXTURE_NODE
    node.image = image
    shader = next((other for other in tree.nodes if other.type == "BSDF_PRINCIPLED"), None)
    if shader is None:
        return image, f"{material.name} has the texture as a node; link it where it is wanted"
    node.location = (shader.location.x - 350.0, shader.location.y)
    if fresh:
        shader.inputs["Roughness"].default_value = 1.0  # the texture holds the light of the pictures
        shader.inputs["Specular IOR Level"].default_value = 0.0
    if shader.inputs["Base Color"].is_linked:
        return image, f"{material.name} keeps its base color; the texture is a node beside it"
    tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    return image, f"{material.name} shows the texture"
