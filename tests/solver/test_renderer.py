"""The guide's Renderer class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from nextgenface.rendering.renderer import Renderer
from nextgenface.rendering.sh import equirect_directions
from scipy.spatial import ConvexHull

mi = pytest.importorskip("mitsuba")


@pytest.fixture(autouse=True)
def _keep_variant() -> Iterator[None]:
    previous = mi.variant()
    yield
    if previous:
        mi.set_variant(previous)


def _scene(count: int = 1, focal: float = 150.0) -> dict[str, Any]:
    """A ball 500 mm in front of the camera, lit from above only, per-picture base colours."""
    directions = np.random.default_rng(0).normal(size=(1500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    faces = ConvexHull(directions).simplices
    a, b, c = (directions[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    ball = torch.tensor(directions * 60 + [0, 0, 500], dtype=torch.float32)
    light = (equirect_directions(32, 64)[..., 1:2] > 0).float().repeat(1, 1, 3)
    return {
        "vertices": ball.expand(count, -1, -1),
        "indices": torch.tensor(faces.astype(np.int32)),
        "normal": torch.tensor(directions, dtype=torch.float32).expand(count, -1, -1),
        "uv": torch.full((1500, 2), 0.5),
        "diffuse": torch.linspace(0.3, 0.6, count)[:, None, None, None].expand(count, 4, 4, 3),
        "specular": torch.zeros(1, 4, 4, 3),
        "roughness": torch.full((1, 4, 4, 1), 0.5),
        "focal": torch.full((count,), focal),
        "envMap": light[None],
    }


def _renderer(samples: int = 32) -> Renderer:
    renderer = Renderer(samples, 1, "cpu")
    renderer.screenWidth, renderer.screenHeight = 48, 40
    return renderer


def test_pictures_have_light_from_above_and_coverage() -> None:
    renderer = _renderer()
    scenes = renderer.buildScenes(**_scene(2))
    pictures = renderer.render(scenes)
    assert pictures.shape == (2, 40, 48, 4) and pictures.dtype == torch.float32 and not pictures.requires_grad
    assert pictures[0, 20, 24, 3] == 1 and pictures[0, 0, 0].abs().sum() == 0
    radius = 150 * 60 / np.sqrt(500**2 - 60**2)
    assert pictures[0, ..., 3].sum().item() == pytest.approx(np.pi * radius**2, rel=0.02)
    top, bottom = pictures[0, 20 - 13, 24, 0], pictures[0, 20 + 13, 24, 0]
    assert top > 4 * bottom  # +y of the light frame is up in the picture, although camera space has y down
    assert pictures[1, 8, 24, 0] > 1.6 * pictures[0, 8, 24, 0]


def test_albedo_is_the_base_colour_without_light() -> None:
    renderer = _renderer()
    renderer.buildScenes(**_scene(2))
    albedo = renderer.renderAlbedo()
    assert albedo[0, 10:30, 14:34].reshape(-1, 4).mean(0).tolist() == pytest.approx(
        [0.3, 0.3, 0.3, 1.0], abs=1e-3
    )
    assert albedo[1, 20, 24, :3].tolist() == pytest.approx([0.6] * 3, abs=1e-3)


def test_principal_point_moves_the_picture() -> None:
    renderer = _renderer()
    scenes = renderer.buildScenes(**_scene(), principal=torch.tensor([[20.0, 26.0]]))
    alpha = renderer.renderAlbedo(scenes)[0, ..., 3]
    rows, columns = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    assert ((columns * alpha).sum() / alpha.sum()).item() == pytest.approx(20.0, abs=0.15)
    assert ((rows * alpha).sum() / alpha.sum()).item() == pytest.approx(25.0, abs=1.2)  # cut at the border


def test_mistakes_are_named() -> None:
    renderer = _renderer()
    with pytest.raises(ValueError, match="buildScenes"):
        renderer.render()
    wrong = _scene(3)
    wrong["diffuse"] = wrong["diffuse"][:2]
    with pytest.raises(ValueError, match="2 of diffuse"):
        renderer.buildScenes(**wrong)
