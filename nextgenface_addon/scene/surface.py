"""A surface from many views: mesh with texture and vertex colours, of the methods "mesh" and "texture"."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .axes import to_blender
from .images import check_readable, load_image
from .mesh import UV_NAME, build_head
from .owned import Owner
from .results_folder import PhotoResult, ResultsError, read_geometry
from .shape_keys import build_shape_keys

COLOURS = "Color"
TEXTURE_NODE, COLOURS_NODE = "NextGenFace Texture", "NextGenFace Colors"


@dataclass(frozen=True)
class SurfaceFile:
    """vertices (V, 3) mm, faces (F, 3), uv (U, 2) with uv_faces (F, 3); colours (V, 3) sRGB bytes or None.

    `animated`: the file holds a face's neutral form and blendshapes as well.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    uv_faces: NDArray[np.int32]
    colours: NDArray[np.uint8] | None
    animated: bool


def read_surface(path: Path) -> SurfaceFile:
    """Read the geometry file of a result. Raises ResultsError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = set(stored.files)
            surface = SurfaceFile(
                np.asarray(stored["vertices"], np.float64),
                np.asarray(stored["faces"], np.int32),
                np.asarray(stored["uv"], np.float32),
                np.asarray(stored["uv_faces"], np.int32),
                np.asarray(stored["colours"], np.uint8) if "colours" in names else None,
                "neutral_vertices" in names,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path} cannot be read ({error}). Run the reconstruction again.") from error
    for indices, count in ((surface.faces, len(surface.vertices)), (surface.uv_faces, len(surface.uv))):
        if indices.ndim != 2 or indices.shape[1:] != (3,) or len(indices) == 0:
            raise ResultsError(f"{path} holds no triangles. Run the reconstruction again.")
        if indices.min() < 0 or indices.max() >= count:
            raise ResultsError(f"{path}: faces name what does not exist. Run the reconstruction again.")
    if len(surface.faces) != len(surface.uv_faces) or not np.isfinite(surface.vertices).all():
        raise ResultsError(f"{path} is damaged. Run the reconstruction again.")
    if surface.colours is not None and len(surface.colours) != len(surface.vertices):
        raise ResultsError(f"{path}: there is not one colour for every vertex. Run the reconstruction again.")
    return surface


def build_surface(
    owner: Owner,
    role: str,
    name: str,
    geometry: Path,
    texture: Path | None,
    photos: list[PhotoResult],
    *,
    pack: bool,
) -> bpy.types.Object:
    """Create or update the object; a face gets its shape keys. The caller links it. Raises ResultsError.

    An existing object keeps its transform, modifiers and materials.
    """
    surface = read_surface(geometry)
    if texture is not None:
        check_readable(texture)
    if surface.animated:
        face = read_geometry(geometry)
        item, _ = build_head(owner, role, name, face)
        build_shape_keys(item, photos[:1], face)
    else:
        item = _plain(owner, role, name, surface)
    if surface.colours is not None:
        _write_colours(item.data, surface.colours)
    material = _material(owner, role, name, texture, pack=pack)
    if not item.data.materials:
        item.data.materials.append(material)
    return item


def _plain(owner: Owner, role: str, name: str, surface: SurfaceFile) -> bpy.types.Object:
    item = owner.find(bpy.data.objects, role)
    if item is None or item.type != "MESH":
        mesh = owner.tag(bpy.data.meshes.new(name), role)
        item = owner.tag(bpy.data.objects.new(name, mesh), role)
    mesh = item.data
    item.shape_key_clear()
    mesh.clear_geometry()
    mesh.vertices.add(len(surface.vertices))
    mesh.vertices.foreach_set("co", to_blender(surface.vertices).ravel())
    mesh.loops.add(surface.faces.size)
    mesh.loops.foreach_set("vertex_index", surface.faces.ravel())
    mesh.polygons.add(len(surface.faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, surface.faces.size, 3, dtype=np.int32))
    mesh.update(calc_edges=True)
    layer = mesh.uv_layers.get(UV_NAME) or mesh.uv_layers.new(name=UV_NAME)
    layer.uv.foreach_set("vector", np.ascontiguousarray(surface.uv[surface.uv_faces.ravel()]).ravel())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    mesh.update()
    return item


def _write_colours(mesh: bpy.types.Mesh, colours: NDArray[np.uint8]) -> None:
    attribute = mesh.color_attributes.get(COLOURS)
    if attribute is not None and (attribute.domain, attribute.data_type) != ("POINT", "BYTE_COLOR"):
        mesh.color_attributes.remove(attribute)
        attribute = None
    if attribute is None:
        attribute = mesh.color_attributes.new(COLOURS, "BYTE_COLOR", "POINT")
    rgba = np.ones((len(colours), 4), np.float32)
    rgba[:, :3] = colours / 255
    attribute.data.foreach_set("color_srgb", rgba.ravel())
    mesh.color_attributes.active_color = attribute


def _material(owner: Owner, role: str, name: str, texture: Path | None, *, pack: bool) -> bpy.types.Material:
    """A matte material that shows the texture, or the vertex colours where there is none."""
    material = owner.find(bpy.data.materials, role)
    fresh = material is None
    if material is None:
        material = owner.tag(bpy.data.materials.new(f"{name} surface"), role)
        if bpy.app.version < (5, 0, 0):
            material.use_nodes = True
    tree = material.node_tree
    shader = next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
    if shader is not None and fresh:
        # The colours hold the light of the pictures; highlights of ours would come on top.
        shader.inputs["Roughness"].default_value = 1.0
        shader.inputs["Specular IOR Level"].default_value = 0.0
    node_name = COLOURS_NODE if texture is None else TEXTURE_NODE
    node = tree.nodes.get(node_name)
    if node is None and fresh and shader is not None:
        node = tree.nodes.new("ShaderNodeVertexColor" if texture is None else "ShaderNodeTexImage")
        node.name = node.label = node_name
        node.location = (-350.0, 300.0)
        tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    if texture is None:
        if node is not None:
            node.layer_name = COLOURS
    else:
        image = load_image(owner, f"{role}/texture", texture, "sRGB", name=f"{name} texture", pack=pack)
        if node is not None:
            node.image = image
    return material
