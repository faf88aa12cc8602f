"""Cycles pictures of an imported folder against what the solver's conventions say. Needs bpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from synthetic import MODEL_TO_BLENDER, Folder, Photo, light_of


def render(bpy: Any, folder: Path, out: Path, *, show_world: bool, samples: int = 16) -> np.ndarray:
    """Import into an empty scene and render through the scene's view settings; (h, w, 4) as stored, y
    down.
    """
    from nextgenface_addon import headless
    from nextgenface_addon.scene.importer import ImportOptions, import_result

    bpy.ops.wm.read_factory_settings(use_empty=True)
    report = import_result(None, folder, ImportOptions(takeover="ALWAYS", show_world=show_world))
    headless.prepare_cycles(samples, denoise=False)  # the denoiser smears the edges of so small a picture
    headless.render(out, report.cameras[0])
    image = bpy.data.images.load(str(out))
    values = np.array(image.pixels).reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return values


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def pixel_directions(photo: Photo) -> np.ndarray:
    """Unit directions (h, w, 3) in Blender's world that the pixels of a photo look along."""
    x, y = np.meshgrid(np.arange(photo.width) + 0.5, np.arange(photo.height) + 0.5)
    camera = np.stack([(x - photo.cx) / photo.fx, (y - photo.cy) / photo.fy, np.ones_like(x)], -1)
    model = camera @ photo.R  # rows times R: Rᵀ applied
    model /= np.linalg.norm(model, axis=-1, keepdims=True)
    return model @ MODEL_TO_BLENDER.T


def test_the_sky_is_where_the_solver_says(bpy: Any, tmp_path: Path) -> None:
    """Camera pose, principal point, environment mapping, colour space and view transform at once."""
    for i, photo in enumerate(
        [Photo(), Photo(width=128, height=64, fx=60, fy=60, cx=90, angles=(0.5, 2.2, -0.4))]
    ):
        folder = Folder(photos=[photo]).write(tmp_path / str(i))
        picture = render(bpy, folder, tmp_path / f"{i}.png", show_world=True)
        mask = render(bpy, folder, tmp_path / f"{i}m.png", show_world=False)[..., 3]
        sky = mask == 0
        assert sky.mean() > 0.2
        found = srgb_to_linear(picture[..., :3])[sky]
        expected = light_of(pixel_directions(photo))[sky]
        assert np.abs(found - expected).max() < 0.015  # 8-bit steps and the map's 3-degree texels


def test_the_light_falls_from_where_the_solver_says(bpy: Any, tmp_path: Path) -> None:
    """Under L(d) = 0.5 + 0.4·d, a convex diffuse surface sees irradiance/π = 0.5 + 0.4·(2/3)·n, one axis a
    channel.
    """
    from synthetic import write_png

    photo = Photo(angles=(0.0, 0.0, 0.0), cx=48, cy=64, fx=220, fy=220)
    folder = Folder(photos=[photo], specular=(0, 0, 0), grid=61)
    path = folder.write(tmp_path / "r")
    grey = 0.5
    code = round(255 * (1.055 * grey ** (1 / 2.4) - 0.055))
    write_png(path / "diffuseMap_0.png", np.full((8, 8, 3), code, np.uint8))
    write_png(path / "roughnessMap_0.png", np.full((8, 8), 255, np.uint8))
    picture = render(bpy, path, tmp_path / "r.png", show_world=False, samples=64)
    # The forehead, away from the nose and from the border, where a pixel sees one normal.
    points = folder.neutral
    normals = points / np.array([75.0, 100.0, 60.0]) ** 2
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    row, column = np.divmod(np.arange(len(points)), folder.grid)
    chosen = (row >= 38) & (row <= 52) & (column >= 8) & (column <= 52)
    where = photo.project(points[chosen] + folder.expression(0)[chosen])
    column, row = np.floor(where).astype(int).T
    inside = (column > 0) & (column < 95) & (row > 0) & (row < 127)
    found = srgb_to_linear(picture[row[inside], column[inside], :3])
    blender_normals = (normals @ MODEL_TO_BLENDER.T)[chosen][inside]
    expected = grey * (0.5 + 0.4 * 2 / 3 * blender_normals)
    assert inside.sum() > 100
    assert np.abs(found - expected).max() < 0.025 and np.median(np.abs(found - expected)) < 0.005
    assert np.ptp(expected, axis=0).min() > 0.05, "the test sees the light's direction in all axes"


def test_transparent_background_keeps_the_light(bpy: Any, tmp_path: Path) -> None:
    picture = render(bpy, Folder().write(tmp_path / "r"), tmp_path / "r.png", show_world=False)
    assert picture.shape == (128, 96, 4)
    face = picture[..., 3] == 1
    assert 0.05 < face.mean() < 0.95 and picture[0, 0, 3] == 0
    assert picture[face][:, :3].mean() > 0.1
