"""Gaussian splats as a point cloud, and a Geometry Nodes preview that draws them as ellipsoids."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .camera import build_camera
from .owned import Owner
from .results_folder import PhotoResult, ResultsError, inside, read_camera
from .splat_file import SplatCloud, read_splats

PREVIEW = "Gaussian Splats"
COLOUR, SCALE, ROTATION, OPACITY = "splat_color", "splat_scale", "splat_rotation", "splat_opacity"
VERSION = 1
"""Of the node group; a group of another version is left to the files that hold it."""
_VERSION_KEY = "nextgenface_preview"


def read_photos(folder: Path, entries: object) -> list[PhotoResult]:
    """The views of a result of a method for many views: names, cameras, files. Raises ResultsError."""
    if not isinstance(entries, list) or not entries:
        raise ResultsError(f"{folder / 'result.json'} lists no photos. Run the reconstruction again.")
    photos = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ResultsError(f"result.json: photo {index} is not a JSON object.")
        name = entry.get("name") if isinstance(entry.get("name"), str) else f"photo {index}"
        width, height, K, R, t = read_camera(entry, f"photo {name!r}")
        listed = entry.get("files")
        named = listed.items() if isinstance(listed, dict) else ()
        files = {key: inside(folder, value) for key, value in named if value is not None}
        found = {key: path for key, path in files.items() if path.is_file()}
        photos.append(PhotoResult(str(name), index, 0, width, height, K, R, t, 0, "", found, {}))
    return photos


def build_splats(owner: Owner, role: str, name: str, path: Path) -> bpy.types.Object:
    """Create or update the point cloud of a PLY file, with all its properties as attributes.

    An existing object keeps its transform and modifiers. The caller links it. Raises ResultsError.
    """
    cloud = read_splats(path)
    data = owner.tag(_point_cloud(name, cloud), role)
    item = owner.find(bpy.data.objects, role)
    if item is None or item.type not in ("POINTCLOUD", "MESH"):
        item = owner.tag(bpy.data.objects.new(name, data), role)
        modifier = item.modifiers.new(PREVIEW, "NODES")
        modifier.node_group = preview_group()
    else:
        old, item.data = item.data, data
        materials = list(old.materials)
        bpy.data.batch_remove([old])
        data.materials.clear()
        for material in materials:
            data.materials.append(material)
    data.name = name
    if not data.materials:
        data.materials.append(splat_material())
    return item


def build_views(
    owner: Owner, photos: list[PhotoResult], head: bpy.types.Object, *, pack: bool
) -> list[bpy.types.Object]:
    """The cameras of the views, children of the head. The caller links them."""
    return [
        build_camera(owner, f"photo {photo.index}", f"{photo.name} camera", photo, head, pack=pack)
        for photo in photos
    ]


def _point_cloud(name: str, cloud: SplatCloud) -> bpy.types.PointCloud | bpy.types.Mesh:
    """The data; before Blender 4.5, where Python cannot make a point cloud, a mesh of loose vertices."""
    count = len(cloud.positions)
    if hasattr(bpy.types.PointCloud, "resize"):  # from Blender 5.2
        data = bpy.data.pointclouds.new(name)
        data.resize(count)
        data.points.foreach_set("co", cloud.positions.ravel())
    elif bpy.app.version >= (4, 5, 0):
        data = _converted(_vertices(name, cloud.positions))
    else:
        data = _vertices(name, cloud.positions)
    _attribute(data, COLOUR, "FLOAT_COLOR", "color", cloud.colours)
    _attribute(data, SCALE, "FLOAT_VECTOR", "vector", cloud.scales)
    _attribute(data, ROTATION, "QUATERNION", "value", cloud.rotations)
    _attribute(data, OPACITY, "FLOAT", "value", cloud.opacities)
    _attribute(data, "radius", "FLOAT", "value", cloud.scales.mean(1))
    for key, values in cloud.raw.items():
        if key not in "xyz":
            _attribute(data, key, "FLOAT", "value", values)
    return data


def _attribute(
    data: bpy.types.PointCloud | bpy.types.Mesh, name: str, kind: str, field: str, values: NDArray[np.float32]
) -> None:
    attribute = data.attributes.get(name) or data.attributes.new(name, kind, "POINT")
    attribute.data.foreach_set(field, np.ascontiguousarray(values).ravel())


def _vertices(name: str, positions: NDArray[np.float32]) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(positions))
    mesh.vertices.foreach_set("co", positions.ravel())
    return mesh


def _converted(mesh: bpy.types.Mesh) -> bpy.types.PointCloud:
    """The point cloud of a mesh, which is removed: before Blender 5.2 Python cannot give one its points."""
    item = bpy.data.objects.new(mesh.name, mesh)
    layer = bpy.context.view_layer
    layer.active_layer_collection.collection.objects.link(item)
    active, chosen = layer.objects.active, [other for other in layer.objects if other.select_get()]
    for other in chosen:
        other.select_set(False)
    layer.objects.active = item
    item.select_set(True)
    try:
        with bpy.context.temp_override(
            object=item, active_object=item, selected_objects=[item], selected_editable_objects=[item]
        ):
            bpy.ops.object.convert(target="POINTCLOUD")
        data = item.data
    finally:
        bpy.data.objects.remove(item)
        if mesh.users == 0:
            bpy.data.meshes.remove(mesh)
        layer.objects.active = active
        for other in chosen:
            other.select_set(True)
    return data


def splat_material() -> bpy.types.Material:
    """The material of the preview: every splat shines in its own colour, whatever the light."""
    for material in bpy.data.materials:
        if material.library is None and material.get(_VERSION_KEY) == VERSION:
            return material
    material = bpy.data.materials.new(PREVIEW)
    material[_VERSION_KEY] = VERSION
    if bpy.app.version < (5, 0, 0):  # always on from 5.0, where even reading it warns
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    colour = nodes.new("ShaderNodeAttribute")
    colour.attribute_type, colour.attribute_name = "INSTANCER", COLOUR
    shine = nodes.new("ShaderNodeEmission")
    output = nodes.new("ShaderNodeOutputMaterial")
    links.new(colour.outputs["Color"], shine.inputs["Color"])
    links.new(shine.outputs["Emission"], output.inputs["Surface"])
    for x, node in enumerate((colour, shine, output)):
        node.location = (220 * x, 0)
    return material


def preview_group() -> bpy.types.NodeTree:
    """The node group that puts an ellipsoid where each splat is more opaque than `Opacity`.

    That ellipsoid's half axes are the standard deviations times sqrt(2 ln(opacity / level)), times `Size`.
    """
    for group in bpy.data.node_groups:
        if group.library is None and group.get(_VERSION_KEY) == VERSION:
            return group
    group = bpy.data.node_groups.new(PREVIEW, "GeometryNodeTree")
    group[_VERSION_KEY] = VERSION
    group.is_modifier = True
    face = group.interface
    face.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    size = face.new_socket("Size", in_out="INPUT", socket_type="NodeSocketFloat")
    size.default_value, size.min_value = 1.0, 0.0
    size.description = "Scales every splat"
    level = face.new_socket("Opacity", in_out="INPUT", socket_type="NodeSocketFloat")
    level.default_value, level.min_value, level.max_value = 0.25, 0.001, 0.99
    level.description = "A splat reaches as far as it is more opaque than this"
    detail = face.new_socket("Detail", in_out="INPUT", socket_type="NodeSocketInt")
    detail.default_value, detail.min_value, detail.max_value = 2, 1, 5
    detail.description = "Subdivisions of the ellipsoids"
    material = face.new_socket("Material", in_out="INPUT", socket_type="NodeSocketMaterial")
    material.default_value = splat_material()
    face.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")

    nodes, links = group.nodes, group.links

    def node(kind: str, x: int, y: int = 0) -> bpy.types.Node:
        made = nodes.new(kind)
        made.location = (200 * x, -160 * y)
        return made

    def named(attribute: str, kind: str, x: int, y: int) -> bpy.types.NodeSocket:
        made = node("GeometryNodeInputNamedAttribute", x, y)
        made.data_type = kind
        made.inputs["Name"].default_value = attribute
        return next(socket for socket in made.outputs if socket.name == "Attribute" and socket.enabled)

    def math(operation: str, x: int, *values: bpy.types.NodeSocket | float) -> bpy.types.NodeSocket:
        made = node("ShaderNodeMath", x, 2)
        made.operation = operation
        for socket, value in zip(made.inputs, values, strict=False):
            if isinstance(value, float):
                socket.default_value = value
            else:
                links.new(value, socket)
        return made.outputs[0]

    given = node("NodeGroupInput", -2)
    opacity = named(OPACITY, "FLOAT", -2, 2)
    above = math("MAXIMUM", 0, math("DIVIDE", -1, opacity, given.outputs["Opacity"]), 1.0)
    reach = math("SQRT", 3, math("MULTIPLY", 2, math("LOGARITHM", 1, above, float(np.e)), 2.0))
    factor = math("MULTIPLY", 4, reach, given.outputs["Size"])
    scale = node("ShaderNodeVectorMath", 5, 2)
    scale.operation = "SCALE"
    links.new(named(SCALE, "FLOAT_VECTOR", 4, 3), scale.inputs[0])
    links.new(factor, scale.inputs["Scale"])
    ball = node("GeometryNodeMeshIcoSphere", 3, 1)
    links.new(given.outputs["Detail"], ball.inputs["Subdivisions"])
    painted = node("GeometryNodeSetMaterial", 4, 1)
    links.new(ball.outputs["Mesh"], painted.inputs["Geometry"])
    links.new(given.outputs["Material"], painted.inputs["Material"])
    placed = node("GeometryNodeInstanceOnPoints", 6)
    links.new(given.outputs["Geometry"], placed.inputs["Points"])
    links.new(painted.outputs["Geometry"], placed.inputs["Instance"])
    links.new(math("GREATER_THAN", 3, opacity, given.outputs["Opacity"]), placed.inputs["Selection"])
    links.new(named(ROTATION, "QUATERNION", 4, 4), placed.inputs["Rotation"])
    links.new(scale.outputs["Vector"], placed.inputs["Scale"])
    result = node("NodeGroupOutput", 7)
    links.new(placed.outputs["Instances"], result.inputs["Geometry"])
    return group
