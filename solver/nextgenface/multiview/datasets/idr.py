"""IDR's folder, as DTU scans come: `image/`, `mask/`, `cameras.npz` with `world_mat_i` and `scale_mat_i`.

`world_mat_i` (4, 4) holds K [R | t] of picture i (OpenCV); `scale_mat_i` takes the unit sphere around the
object into the world, and the box [-1/2, 1/2]^3 with it becomes the bounds, as Neural Deferred Shading's own
importer has it.
"""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ...files import write_bytes
from ...images import write_png
from ...views import Bounds, Camera, ViewSet
from .errors import DataSetError
from .pictures import list_pictures, load_view

PICTURES = ("image", "images", "rgb")


def read(folder: Path) -> ViewSet:
    """All views of the folder. Raises DataSetError, PhotoError."""
    path = folder / "cameras.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            matrices = {name: np.asarray(stored[name], np.float64) for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise DataSetError(f"{path} cannot be read ({problem}).") from problem
    pictures = next((found for name in PICTURES if (found := list_pictures(folder / name))), [])
    if not pictures:
        raise DataSetError(f"{folder} holds no pictures in image/.")
    views = []
    for number, picture in enumerate(pictures):
        projection = matrices.get(f"world_mat_{number}")
        if projection is None or projection.shape not in ((3, 4), (4, 4)):
            raise DataSetError(
                f"{path} holds no world_mat_{number}; {picture.name} is picture {number} of {len(pictures)}."
            )
        K, R, t = decompose(projection[:3])
        views.append(load_view(picture.stem, picture, partial(Camera, K, R, t)))
    scale = matrices.get("scale_mat_0")
    bounds = None
    if scale is not None and scale.shape == (4, 4):
        corners = Bounds(np.full(3, -0.5), np.full(3, 0.5)).corners @ scale[:3, :3].T + scale[:3, 3]
        bounds = Bounds.around(corners)
    return ViewSet(tuple(views), bounds)


def write(folder: Path, views: ViewSet) -> None:
    """Write the folder; without bounds the scale matrices are left out. Raises OutputError."""
    matrices: dict[str, NDArray[np.float64]] = {}
    for number, view in enumerate(views):
        for place, values in (("image", view.image), ("mask", view.mask)):
            if values is not None:
                (folder / place).mkdir(parents=True, exist_ok=True)
                write_png(folder / place / f"{view.name}.png", values, srgb=place == "image")
        camera, world = view.camera, np.eye(4)
        world[:3] = camera.K @ np.concatenate([camera.R, camera.t[:, None]], 1)
        matrices[f"world_mat_{number}"] = world
        if views.bounds is not None:
            scale = np.diag([*np.full(3, views.bounds.size.max()), 1.0])
            scale[:3, 3] = views.bounds.centre
            matrices[f"scale_mat_{number}"] = scale
    content = io.BytesIO()
    np.savez(content, **matrices)
    write_bytes(folder / "cameras.npz", content.getvalue())


def decompose(
    projection: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(3, 4) matrix of any scale -> K with K[2, 2] = 1 and positive focal lengths, R with det 1, t."""
    K, R = scipy.linalg.rq(projection[:, :3])
    signs = np.sign(np.diag(K))
    K, R = K * signs, signs[:, None] * R
    t = np.linalg.solve(K, projection[:, 3])
    if np.linalg.det(R) < 0:  # the matrix was given with a negative factor
        R, t = -R, -t
    return K / K[2, 2], R, t
