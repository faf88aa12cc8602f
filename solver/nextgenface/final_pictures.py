"""The pictures at the end of a run: the path-traced reconstruction and the seven panels of the strip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .colour import linear_to_srgb
from .events import Listener
from .facemodel.model import FaceModel
from .lightmaps import LIGHT_FROM_CAMERA
from .pictures import exposed, over, strip
from .rendering.light import lobes_to_map
from .rendering.llvm import activate, select_variant
from .rendering.mitsuba_scene import Environment, Geometry, Textures
from .rendering.pathtracer import render_final, render_illumination, render_map
from .views import Camera, Crop, resample

Array = NDArray[np.float32]

LIGHT_MAP_HEIGHT = 128
"""Rows of the map that lights the pictures; the light lobes are 20 degrees wide."""

PANEL_SAMPLES = 256
"""Most samples per pixel of the illumination panel, which is looked at but not used."""


@dataclass(frozen=True)
class FinalPhoto:
    """One photo's pictures. `rgb` (H, W, 3) linear premultiplied, `alpha` (H, W), photo-sized; `strip` uint8.

    `psnr` compares sRGB codes inside the face (NaN without a photo); `coverage`: share of the fitted crop
    that is face.
    """

    rgb: Array
    alpha: Array
    strip: NDArray[np.uint8]
    psnr: float
    coverage: float
    samples: int
    noise: float
    noise_asked: float
    variant: str
    warnings: tuple[str, ...]


def draw_final(
    vertices: Array,
    model: FaceModel,
    textures: tuple[Array, Array, Array],
    camera: Camera,
    crop: Crop,
    environment: Tensor,
    photo: Array | None,
    samples: int,
    config: dict[str, Any],
    *,
    seed: int,
    listener: Listener,
) -> FinalPhoto:
    """Draw one photo's final pictures.

    `vertices` (V, 3) mm model space; `textures` diffuse, specular, roughness, top row first; `camera` and
    `crop` in pixels of the copy of the photo, `photo` (H, W, 3) linear or None; `environment` (D, 3) light
    lobes. `samples` caps the samples per pixel. Raises EnvironmentProblem, Cancelled.
    """
    variant = select_variant(config["device"])
    activate(variant, int(config["threads"]))
    geometry = Geometry(vertices, model.faces, model.uv)
    skin = Textures(*textures)
    light = Environment(
        lobes_to_map(environment.detach().cpu().float(), LIGHT_MAP_HEIGHT).numpy(),
        camera.R.T @ LIGHT_FROM_CAMERA,
    )
    noise_level = float(config["noiseLevel"])
    final = render_final(
        geometry, skin, camera, light, max_samples=samples, noise_level=noise_level, seed=seed,
        progress=_progress(listener), cancelled=listener.cancelled,
    )  # fmt: skip
    near = camera.cropped(crop)
    clay = render_illumination(
        geometry,
        near,
        light,
        max_samples=min(samples, PANEL_SAMPLES),
        seed=seed,
        cancelled=listener.cancelled,
    )
    premultiplied, alpha = _cut(final.rgb, final.alpha, crop)
    target = None if photo is None else resample(np.ascontiguousarray(photo), None, crop)[0]
    shown = np.zeros_like(premultiplied) if target is None else target
    maps = [
        render_map(geometry, texture, near, samples=min(16, samples), seed=seed)[0] for texture in textures
    ]
    panels = strip(
        shown,
        over(premultiplied, alpha, shown),
        premultiplied,
        exposed(clay.rgb, clay.alpha),  # the light of dark skin would be white on brighter clay
        maps[0],
        maps[1],
        maps[2],
    )
    return FinalPhoto(
        rgb=final.rgb,
        alpha=final.alpha,
        strip=panels,
        psnr=float("nan") if target is None else psnr(premultiplied, target, alpha > 0.99),
        coverage=float(alpha.mean()),
        samples=final.samples_used,
        noise=final.noise,
        noise_asked=noise_level,
        variant=variant.name,
        warnings=(*variant.warnings, *final.warnings),
    )


def _cut(rgb: Array, alpha: Array, crop: Crop) -> tuple[Array, Array]:
    """The crop of a premultiplied picture, at the size of the fitted picture."""
    stacked = [
        resample(np.ascontiguousarray(part), None, crop)[0]
        for part in (rgb, np.repeat(alpha[..., None], 3, -1))
    ]
    return stacked[0], np.clip(stacked[1][..., 0], 0, 1)


def psnr(linear: Array, target: Array, where: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio (dB) of the sRGB codes of two linear pictures (H, W, 3), inside `where`."""
    if not where.any():
        return float("nan")
    codes = [linear_to_srgb(np.clip(picture[where], 0.0, 1.0)) for picture in (linear, target)]
    return float(-10 * np.log10(max(float(np.mean((codes[0] - codes[1]) ** 2)), 1e-10)))


def _progress(listener: Listener) -> Callable[[int, int, float], None]:
    """Samples per pixel as steps; the noise takes the place of the loss."""

    def report(done: int, cap: int, noise: float) -> None:
        listener.progress("render", done, cap, noise)

    return report
