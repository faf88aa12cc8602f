"""The skin: a Principled material whose colour, specular level and roughness come from image nodes."""

from __future__ import annotations

import bpy

from .images import ColourSpace, is_grey, load_image
from .mesh import UV_NAME
from .owned import Owner
from .results_folder import PhotoResult

# Index of refraction at which a specular level of 0.5 means a reflectance of 0.04 straight on, as in the
# solver.
SKIN_IOR = 1.5

_MAPS: tuple[tuple[str, str, ColourSpace, str, float], ...] = (
    # file, socket, colour space, node name, height in the editor
    ("diffuse", "Base Color", "sRGB", "NextGenFace Diffuse", 300.0),
    ("specular", "Specular IOR Level", "Non-Color", "NextGenFace Specular", 0.0),
    ("roughness", "Roughness", "Non-Color", "NextGenFace Roughness", -300.0),
)


MAP_NODES = tuple(node_name for _, _, _, node_name, _ in _MAPS)


def build_material(
    owner: Owner, role: str, name: str, photo: PhotoResult, *, pack: bool
) -> bpy.types.Material:
    """Create or update the material of one person.

    On update the images of our own nodes are renewed; nodes and links the artist changed stay as they are.
    """
    material = owner.find(bpy.data.materials, role)
    fresh = material is None
    if material is None:
        material = owner.tag(bpy.data.materials.new(name), role)
        if bpy.app.version < (5, 0, 0):  # always on from 5.0, where even reading it warns
            material.use_nodes = True
    tree = material.node_tree
    shader = next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
    if shader is None and fresh:
        shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
        output = next((node for node in tree.nodes if node.type == "OUTPUT_MATERIAL"), None)
        output = output or tree.nodes.new("ShaderNodeOutputMaterial")
        tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    if shader is not None and fresh:
        shader.inputs["IOR"].default_value = SKIN_IOR
        shader.inputs["Metallic"].default_value = 0.0
    for key, socket, colour_space, node_name, height in _MAPS:
        if key not in photo.files:
            continue
        image = load_image(
            owner, f"{role}/{key}", photo.files[key], colour_space, name=f"{name} {key}", pack=pack
        )
        node = tree.nodes.get(node_name)
        if node is None:
            if shader is None or (not fresh and shader.inputs[socket].is_linked):
                continue  # the artist built something of their own here; the image is at hand
            node = tree.nodes.new("ShaderNodeTexImage")
            node.name = node.label = node_name
            node.location = (shader.location.x - 500.0, shader.location.y + height - 200.0)
            # The maps end at the edge of the layout; repeating would bleed in the opposite border.
            node.extension = "EXTEND"
            node.image = image
            _link_uv(tree, node)
            _link(tree, node, shader.inputs[socket], image)
        node.image = image
    return material


def _link(
    tree: bpy.types.NodeTree, node: bpy.types.Node, socket: bpy.types.NodeSocket, image: bpy.types.Image
) -> None:
    if socket.name != "Specular IOR Level" or is_grey(image):
        tree.links.new(node.outputs["Color"], socket)
        return
    # Blender turns a colour into a number by its luminance; the specular level is the channels' mean.
    mean = tree.nodes.new("ShaderNodeVectorMath")
    mean.operation = "DOT_PRODUCT"
    mean.name = mean.label = "NextGenFace Specular Mean"
    mean.location = (node.location.x + 280.0, node.location.y)
    mean.inputs[1].default_value = (1 / 3, 1 / 3, 1 / 3)
    tree.links.new(node.outputs["Color"], mean.inputs[0])
    tree.links.new(mean.outputs["Value"], socket)


def _link_uv(tree: bpy.types.NodeTree, node: bpy.types.Node) -> None:
    """Name the UV map, so that the skin stays where it is when the artist adds another one and makes it
    active.
    """
    uv = tree.nodes.get("NextGenFace UV")
    if uv is None:
        uv = tree.nodes.new("ShaderNodeUVMap")
        uv.name = uv.label = "NextGenFace UV"
        uv.uv_map = UV_NAME
        uv.location = (node.location.x - 250.0, node.location.y - 300.0)
    tree.links.new(uv.outputs["UV"], node.inputs["Vector"])
