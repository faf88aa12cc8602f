"""A ball with a known texture, and pictures of it from around: what the tests of the texture method share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from nextgenface.colour import srgb_to_linear
from nextgenface.multiview.meshes import Mesh
from nextgenface.multiview.texture.evaluation import sampler
from nextgenface.multiview.texture.uvmaps import Surface
from nextgenface.views import Bounds, Camera, View, ViewSet
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

RADIUS = 80.0


def ball(rings: int = 16) -> Mesh:
    """Latitude and longitude; u goes round, v from the bottom up. Seam and poles have UVs of their own."""
    columns = 2 * rings
    u, v = np.meshgrid(np.arange(columns + 1) / columns, np.arange(rings + 1) / rings)
    polar, azimuth = np.pi * (1 - v), 2 * np.pi * u
    points = np.stack(
        [np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], -1
    ).reshape(-1, 3)
    first = (np.arange(rings)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    up, right = columns + 1, 1
    uv_faces = np.concatenate(
        [
            np.stack([first, first + right, first + up + right], 1),
            np.stack([first, first + up + right, first + up], 1),
        ]
    )
    where, same = np.unique(points.round(9), axis=0, return_inverse=True)
    faces = same.reshape(-1)[uv_faces]
    real = np.array([len(set(face)) == 3 for face in faces.tolist()])
    # a margin of 1/16 keeps the layout away from the border of the texture
    uv = np.stack([u, v], -1).reshape(-1, 2) * 0.875 + 0.0625
    return Mesh(RADIUS * where, faces[real], uv, uv_faces[real])


def truth(size: int = 256) -> NDArray[np.float32]:
    """(size, size, 3) code values: smooth colours with dots."""
    y, x = np.mgrid[:size, :size] / size
    smooth = np.stack(
        [0.5 + 0.3 * np.sin(9 * x), 0.5 + 0.3 * np.cos(7 * y + 1), 0.4 + 0.3 * np.sin(5 * x + 6 * y)], -1
    )
    dots = (np.sin(50 * x) * np.sin(50 * y) > 0.55)[..., None]
    return np.where(dots, 0.6 * smooth, smooth).astype(np.float32)


def looking(azimuth: float, elevation: float, size: int = 96, distance: float = 500.0) -> Camera:
    """A camera that looks at the origin, from the front and above where the angles are positive."""
    turn = Rotation.from_euler("YX", (azimuth, -elevation), degrees=True).as_matrix()
    K = np.array([[2.6 * size, 0, size / 2], [0, 2.6 * size, size / 2], [0, 0, 1]])
    return Camera(K, np.diag([1.0, -1, -1]) @ turn.T, np.array([0, 0, distance]), size, size)


ANGLES = [(azimuth, elevation) for elevation in (-25.0, 30.0) for azimuth in range(0, 360, 60)]


def photograph(mesh: Mesh, cameras: list[Camera], texture: NDArray[np.float32] | None = None) -> ViewSet:
    """Pictures of the ball with its mask, linear."""
    surface, sample = Surface.of(mesh), sampler(truth() if texture is None else texture)
    views = []
    for number, camera in enumerate(cameras):
        picture, coverage = surface.drawn(camera, sample, supersample=3)
        straight = (picture / coverage.clamp(min=1e-3)[..., None]).clamp(0, 1).numpy()
        views.append(View(f"view_{number:02d}", srgb_to_linear(straight), camera, coverage.numpy()))
    return ViewSet(tuple(views), Bounds.around(mesh.vertices))


def brightened(view: View, factor: NDArray[np.float64] | float) -> View:
    """The view with its linear light multiplied."""
    return replace(view, image=(view.image * np.asarray(factor)).astype(np.float32).clip(0, 1))
