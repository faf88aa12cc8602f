"""The head as a mesh object: metres, at the origin, facing −Y, smooth, with the model's UV map."""

from __future__ import annotations

import bpy
import numpy as np

from .axes import to_blender
from .owned import Owner
from .results_folder import Geometry

UV_NAME = "UVMap"


def build_head(owner: Owner, role: str, name: str, geometry: Geometry) -> tuple[bpy.types.Object, bool]:
    """Create or update the head object; returns it and whether its topology is unchanged since the last
    import.

    An existing object keeps its transform, modifiers, materials and, with the same topology, the artist's own
    vertex groups, UV maps and shape keys.
    """
    head = owner.find(bpy.data.objects, role)
    if head is None or head.type != "MESH":
        mesh = owner.tag(bpy.data.meshes.new(name), role)
        head = owner.tag(bpy.data.objects.new(name, mesh), role)
    mesh = head.data
    same = _same_topology(mesh, geometry)
    if not same:
        head.shape_key_clear()
        mesh.clear_geometry()
        _fill(mesh, geometry)
    else:
        mesh.vertices.foreach_set("co", to_blender(geometry.neutral).ravel())
    _write_uv(mesh, geometry)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    mesh.update()
    return head, same


def _same_topology(mesh: bpy.types.Mesh, geometry: Geometry) -> bool:
    if len(mesh.vertices) != len(geometry.neutral) or len(mesh.loops) != geometry.faces.size:
        return False
    corners = np.empty(len(mesh.loops), dtype=np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    return bool(np.array_equal(corners, geometry.faces.ravel()))


def _fill(mesh: bpy.types.Mesh, geometry: Geometry) -> None:
    faces = geometry.faces
    mesh.vertices.add(len(geometry.neutral))
    mesh.vertices.foreach_set("co", to_blender(geometry.neutral).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.update(calc_edges=True)


def _write_uv(mesh: bpy.types.Mesh, geometry: Geometry) -> None:
    layer = mesh.uv_layers.get(UV_NAME) or mesh.uv_layers.new(name=UV_NAME)
    layer.uv.foreach_set("vector", np.ascontiguousarray(geometry.uv[geometry.faces.ravel()]).ravel())
