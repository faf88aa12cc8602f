"""A coloured, bumpy ball in views from all around: a data set for tests that need no files of others."""

from __future__ import annotations

import numpy as np
import torch
from nextgenface.multiview.neural_shading.initial import octahedral_sphere
from nextgenface.rendering.raster import rasterize
from nextgenface.rendering.silhouette import find_outline, mesh_edges
from nextgenface.views import Bounds, Camera, View, ViewSet

RADIUS = 80.0  # mm


def bumpy_ball(subdivisions: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """vertices (V, 3) mm, faces (F, 3): a ball with dents and a nose."""
    unit, faces = octahedral_sphere(subdivisions)
    radius = (
        1
        + 0.08 * np.sin(3 * unit[:, 0]) * np.cos(2 * unit[:, 1])
        + 0.15 * np.exp(-8 * ((unit - (0, 0, 1)) ** 2).sum(1))
    )
    return RADIUS * radius[:, None] * unit * (1.0, 1.2, 0.9), faces


def look_at(place: np.ndarray, size: int, focal: float) -> Camera:
    """A camera at `place` that looks at the origin, y of the world up in the picture."""
    forward = -place / np.linalg.norm(place)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(K, R, -R @ place, size, size)


def photographed(count: int = 6, size: int = 64) -> ViewSet:
    """The ball from `count` sides with exact masks; colours are a smooth function of the place."""
    vertices, faces = bumpy_ball()
    views = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        height = (0.2, -0.25, 0.5)[i % 3]
        place = 420 * np.array((np.sin(angle), height, np.cos(angle)))
        camera = look_at(place, size, 1.6 * size)
        screen, depth = camera.project(vertices)
        tensors = [torch.as_tensor(a, dtype=torch.float32) for a in (screen, depth)]
        triangles = torch.as_tensor(faces)
        fragments = rasterize(*tensors, triangles, size, size)
        place_of = fragments.interpolate(torch.as_tensor(vertices, dtype=torch.float32)) / RADIUS
        colour = 0.35 + 0.25 * torch.sin(torch.tensor([3.0, 5.0, 4.0]) * place_of)
        outline = find_outline(fragments, *tensors, mesh_edges(triangles))
        views.append(
            View(
                f"view_{i}",
                fragments.picture(colour).numpy().astype(np.float32),
                camera,
                outline.coverage().numpy().astype(np.float32),
            )
        )
    return ViewSet(tuple(views), Bounds.around(vertices, 0.02))
