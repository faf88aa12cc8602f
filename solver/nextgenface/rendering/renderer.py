"""The guide's `Renderer`: path-traced pictures of meshes in camera space."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .llvm import activate, select_variant
from .mitsuba_scene import CAMERA_FROM_LIGHT, Environment, Geometry, SceneCamera, Textures
from .pathtracer import render_final, render_map

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderScene:
    """One picture to draw, all in camera space (x right, y down, z forward)."""

    geometry: Geometry
    textures: Textures
    camera: SceneCamera
    environment: Environment


class Renderer:
    """Path tracer with the guide's names.

    `samples`: most samples per pixel (whole passes are taken); `bounces`: reflections of light (1 = direct
    light only); `device`: where the returned tensors live and which Mitsuba variant draws ("auto",
    "cpu", "cuda"); `screenWidth`, `screenHeight`: size of the pictures in pixels; `seed`: changes the
    noise. The pictures carry no gradients: `Pipeline.render` is the differentiable engine.
    """

    def __init__(self, samples: int, bounces: int, device: str) -> None:
        self.samples = int(samples)
        self.bounces = int(bounces)
        self.device = device
        self.screenWidth = 256
        self.screenHeight = 256
        self.seed = 0
        self._scenes: list[RenderScene] = []

    def buildScenes(
        self,
        vertices: Any,
        indices: Any,
        normal: Any,
        uv: Any,
        diffuse: Any,
        specular: Any,
        roughness: Any,
        focal: Any,
        envMap: Any,
        principal: Any = None,
    ) -> list[RenderScene]:
        """Prepare n pictures; returns the scenes, which `render` and `renderAlbedo` take.

        vertices (n, V, 3) mm and normal (n, V, 3), camera space; indices (F, 3); uv (V, 2) origin bottom
        left; diffuse and specular (m, T, T, 3), roughness (m, T, T, 1), m = 1 or n, top row first, linear;
        focal (n,) pixels; envMap (n or 1, h, w, 3) linear radiance, equirectangular in the light frame
        (x right, y up, z towards the viewer; centre column = +z); principal (n, 2) pixels, the middle of
        the picture when left out. Tensors or arrays.
        """
        points, directions, faces, coordinates = (_numpy(x) for x in (vertices, normal, indices, uv))
        maps = [_numpy(x) for x in (diffuse, specular, roughness)]
        lights, focals = _numpy(envMap), _numpy(focal).reshape(-1)
        centres = None if principal is None else _numpy(principal).reshape(-1, 2)
        for name, values in (
            ("diffuse", maps[0]), ("specular", maps[1]), ("roughness", maps[2]),
            ("envMap", lights), ("focal", focals), ("normal", directions),
        ):  # fmt: skip
            if len(values) not in (1, len(points)):
                raise ValueError(f"buildScenes: {len(points)} meshes but {len(values)} of {name}")
        self._scenes = [
            RenderScene(
                Geometry(points[i], faces, coordinates, _pick(directions, i)),
                Textures(*(_pick(values, i) for values in maps)),
                self._camera(float(_pick(focals, i)), None if centres is None else _pick(centres, i)),
                Environment(_pick(lights, i), CAMERA_FROM_LIGHT),
            )
            for i in range(len(points))
        ]
        return self._scenes

    def render(
        self,
        scenes: list[RenderScene] | None = None,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> Tensor:
        """Lit pictures (n, H, W, 4): linear premultiplied radiance and coverage, on `device`.

        Without `scenes`, those of the last `buildScenes`. Raises EnvironmentProblem when no Mitsuba
        variant works here.
        """
        self._activate()
        pictures = []
        for scene in self._wanted(scenes):
            picture = render_final(
                scene.geometry, scene.textures, scene.camera, scene.environment, max_samples=self.samples,
                noise_level=0.0, seed=self.seed, max_depth=self.bounces + 1, progress=progress,
            )  # fmt: skip
            for text in picture.warnings:
                log.warning("%s", text)
            pictures.append(np.concatenate([picture.rgb, picture.alpha[..., None]], axis=-1))
        return self._tensor(pictures)

    def renderAlbedo(self, scenes: list[RenderScene] | None = None) -> Tensor:
        """The base colour without light: (n, H, W, 4), premultiplied by the coverage in the last channel."""
        self._activate()
        pictures = []
        for scene in self._wanted(scenes):
            colour, coverage = render_map(
                scene.geometry, scene.textures.diffuse, scene.camera, samples=max(1, min(self.samples, 64)),
                seed=self.seed,
            )  # fmt: skip
            pictures.append(np.concatenate([colour, coverage[..., None]], axis=-1))
        return self._tensor(pictures)

    def _camera(self, focal: float, principal: NDArray[Any] | None) -> SceneCamera:
        width, height = int(self.screenWidth), int(self.screenHeight)
        cx, cy = (width / 2, height / 2) if principal is None else principal
        K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])
        return SceneCamera(K, np.eye(3), np.zeros(3), width, height)

    def _wanted(self, scenes: list[RenderScene] | None) -> list[RenderScene]:
        scenes = self._scenes if scenes is None else scenes
        if not scenes:
            raise ValueError("There is nothing to draw: call buildScenes() first.")
        return scenes

    def _activate(self) -> None:
        wanted = "cuda" if str(self.device).startswith("cuda") else str(self.device)
        activate(select_variant(cast(Literal["auto", "cpu", "cuda"], wanted)))

    def _tensor(self, pictures: list[NDArray[Any]]) -> Tensor:
        stacked = torch.from_numpy(np.stack(pictures).astype(np.float32))
        return stacked if self.device == "auto" else stacked.to(self.device)


def _numpy(values: Any) -> NDArray[Any]:
    """A numpy array from an array-like or a tensor on any device."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _pick(values: NDArray[Any], index: int) -> Any:
    """Row `index`, or the only row."""
    return values[index if len(values) > 1 else 0]
