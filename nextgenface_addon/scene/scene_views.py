"""A mesh and the cameras of a scene as files for the solver: the way from Blender into a data set.

Everything is written in model space (mm, y up), so what comes back lands where the scene has it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..problems import AddonProblem
from .axes import METRES_PER_MM, MODEL_TO_BLENDER, OPENCV_TO_BLENDER_CAMERA

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".exr")
_SQUARE = 1e-6


class SceneViewsError(AddonProblem):
    """The scene does not hold what the solver needs; the message says what is missing."""


def write_mesh(item: bpy.types.Object, path: Path) -> None:
    """Write an object as it looks (modifiers applied) with its active UV map as OBJ, triangulated.

    Raises SceneViewsError.
    """
    depsgraph = bpy.context.evaluated_depsgraph_get()
    evaluated = item.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    try:
        mesh.calc_loop_triangles()
        count = len(mesh.loop_triangles)
        if count == 0:
            raise SceneViewsError(f"{item.name} has no faces.")
        vertices = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", vertices)
        corners, loops = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        mesh.loop_triangles.foreach_get("loops", loops)
        uv = None
        if mesh.uv_layers.active is not None:
            uv = np.empty(2 * len(mesh.loops), np.float32)
            mesh.uv_layers.active.uv.foreach_get("vector", uv)
    finally:
        evaluated.to_mesh_clear()
    matrix = np.array(item.matrix_world, dtype=np.float64)
    world = vertices.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    model = world @ MODEL_TO_BLENDER / METRES_PER_MM
    if np.linalg.det(matrix[:3, :3]) < 0:  # a mirrored object's faces point inward
        corners, loops = (a.reshape(-1, 3)[:, ::-1].ravel() for a in (corners, loops))
    lines = [_rows("v %.9g %.9g %.9g\n", model)]
    faces = corners.reshape(-1, 3) + 1
    if uv is None:
        lines.append(_rows("f %d %d %d\n", faces))
    else:
        lines.append(_rows("vt %.9g %.9g\n", uv.reshape(-1, 2)))
        both = np.stack([faces, loops.reshape(-1, 3) + 1], 2).reshape(-1, 6)
        lines.append(_rows("f %d/%d %d/%d %d/%d\n", both))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def write_views(scene: bpy.types.Scene, folder: Path) -> list[str]:
    """Write the scene's cameras that have a background picture into `folder`/views, with the pictures.

    Names of the views. An earlier export in the folder is replaced. Raises SceneViewsError.
    """
    found = [(item, picture) for item in scene.objects if (picture := background(item)) is not None]
    if not found:
        raise SceneViewsError(
            "No camera of the scene has a background image. Give each camera its photo (Camera, Background "
            "Images), or choose a data set's folder."
        )
    place = folder / "views"
    if place.is_dir():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    names = []
    for number, (item, picture) in enumerate(sorted(found, key=lambda pair: pair[0].name)):
        width, height = picture.size
        if width == 0 or height == 0:
            raise SceneViewsError(f"The background image {picture.name} of {item.name} cannot be read.")
        K, R, t = intrinsics(item, width, height), *pose(item)
        name = f"{number:03d}_" + "".join(c if c.isalnum() or c in "-." else "_" for c in item.name)
        _write_picture(picture, place, name)
        for part, values in (("k", K), ("r", R), ("t", t)):
            np.savetxt(place / f"{name}_{part}.txt", values, fmt="%.17g")
        names.append(name)
    return names


def background(item: bpy.types.Object) -> bpy.types.Image | None:
    """The first background image of a camera; None for other objects and cameras without one."""
    if item.type != "CAMERA" or item.data.type != "PERSP":
        return None
    pictures = (b.image for b in item.data.background_images if b.source == "IMAGE")
    return next((image for image in pictures if image is not None), None)


def pose(item: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R (3, 3) and t (3,) mm of a camera object, X_cam = R X_model + t: undoes `axes.camera_matrix`."""
    matrix = np.array(item.matrix_world.normalized(), dtype=np.float64)
    R = OPENCV_TO_BLENDER_CAMERA @ matrix[:3, :3].T @ MODEL_TO_BLENDER
    return R, -OPENCV_TO_BLENDER_CAMERA @ matrix[:3, :3].T @ matrix[:3, 3] / METRES_PER_MM


def intrinsics(item: bpy.types.Object, width: int, height: int) -> NDArray[np.float64]:
    """K (3, 3) of a camera for its picture; pixels are square unless an import of ours says otherwise."""
    data = item.data
    aspect_x, aspect_y = (float(a) for a in data.get("nextgenface_pixel_aspect", (1.0, 1.0)))
    ratio = aspect_y / aspect_x
    if abs(ratio - 1) < _SQUARE:
        ratio = 1.0
    tall = height * ratio  # in pixel widths
    fit = data.sensor_fit
    horizontal = fit == "HORIZONTAL" or (fit == "AUTO" and width >= tall)
    side = width if horizontal else tall
    sensor = data.sensor_height if fit == "VERTICAL" else data.sensor_width
    fx = data.lens / sensor * side
    cx = width / 2 - data.shift_x * side
    cy = height / 2 + data.shift_y * side / ratio
    return np.array(((fx, 0, cx), (0, fx / ratio, cy), (0, 0, 1.0)))


def _write_picture(picture: bpy.types.Image, place: Path, name: str) -> None:
    """Copy the file where it is one the solver reads, else (packed, generated, another format) save a PNG."""
    source = Path(bpy.path.abspath(picture.filepath, library=picture.library)) if picture.filepath else None
    usable = source is not None and source.is_file() and source.suffix.lower() in PICTURES
    if usable and picture.packed_file is None and picture.source == "FILE" and not picture.is_dirty:
        shutil.copyfile(source, place / f"{name}{source.suffix.lower()}")
        return
    copy = picture.copy()
    try:
        copy.file_format = "PNG"
        copy.filepath_raw = str(place / f"{name}.png")
        copy.save()
    except RuntimeError as error:
        raise SceneViewsError(f"The background image {picture.name} cannot be saved ({error}).") from error
    finally:
        bpy.data.images.remove(copy)


def _rows(row: str, values: NDArray[np.generic]) -> str:
    return (row * len(values)) % tuple(values.ravel().tolist())
