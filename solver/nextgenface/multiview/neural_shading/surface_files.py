"""The files of a reconstructed mesh, in the space of the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...files import atomic_path
from ...geometry.ply import write_ply
from ...images import write_png
from ...views import Normalisation
from ..meshes import Mesh, unwrap, write_obj
from .bake import texture, vertex_colours
from .face_start import FaceStart
from .initial import Start
from .optimise import NeuralMesh, Target


def write_snapshot(path: Path, mesh: NeuralMesh, way: Normalisation) -> None:
    """The mesh as it is now, as OBJ; the folder is made when it is missing. Raises OutputError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_obj(path, Mesh(surface(mesh, way), mesh.faces))


def surface(mesh: NeuralMesh, way: Normalisation) -> NDArray[np.float64]:
    """(V, 3) vertices in the space of the data set."""
    return way.undo(mesh.vertices.detach().cpu().double().numpy())


def write_surface(
    output: Path, mesh: NeuralMesh, start: Start, way: Normalisation, texture_size: int
) -> dict[str, str | None]:
    """`mesh.ply` with vertex colours, `mesh.obj` with texture, `geometry.npz`; returns their names by kind.

    The geometry holds welded vertices, faces, texture coordinates with indices of their own, and colours; of
    a face also its neutral form and blendshapes, in the topology of the model.
    """
    vertices = surface(mesh, way)
    targets: list[Target] = mesh.targets(mesh.options.image_scale)
    colours = np.round(vertex_colours(mesh, targets) * 255).clip(0, 255).astype(np.uint8)
    write_ply(output / "mesh.ply", vertices, mesh.faces, colours)
    if start.face is not None:
        laid = Mesh(vertices, mesh.faces, start.face.uv, mesh.faces)
    else:
        laid = unwrap(Mesh(vertices, mesh.faces), size=max(texture_size, 256))
    names: dict[str, str | None] = {"mesh": "mesh.ply", "obj": "mesh.obj", "texture": None}
    if texture_size:
        uv, uv_faces = laid.layout
        write_png(output / "texture.png", texture(mesh, targets, uv, uv_faces, texture_size), srgb=False)
        names["texture"] = "texture.png"
    write_obj(output / "mesh.obj", laid, texture=names["texture"])
    uv, uv_faces = laid.layout
    arrays: dict[str, NDArray] = {
        "vertices": vertices,
        "faces": mesh.faces.astype(np.int32),
        "uv": uv.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int32),
        "colours": colours,
    }
    if start.face is not None:
        arrays |= _animated(start.face, vertices)
    with atomic_path(output / "geometry.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    names["geometry"] = "geometry.npz"
    return names


def _animated(face: FaceStart, vertices: NDArray[np.float64]) -> dict[str, NDArray]:
    """Neutral form (V, 3), expression offset (1, V, 3) and blendshapes (B, V, 3) of a refined face."""
    expression = face.directions(face.expression)
    return {
        "neutral_vertices": vertices - expression,
        "expression_offsets": expression[None].astype(np.float32),
        "blendshape_names": np.array(face.names, dtype=np.str_),
        "blendshape_deltas": face.directions(face.deltas).astype(np.float32),
    }
