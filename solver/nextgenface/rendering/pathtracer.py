"""Final pictures by Mitsuba's path tracer: passes until the noise is low, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import Cancelled, EnvironmentProblem
from nextgenface.rendering.mitsuba_scene import (
    Array,
    Crop,
    Environment,
    Geometry,
    PinholeCamera,
    SceneCamera,
    Textures,
    build_mesh,
    build_scene,
    build_sensor,
    face_crop,
    matte_bsdf,
    mitsuba,
    skin_bsdf,
)

Progress = Callable[[int, int, float], None]

# What one sample may cost. Measured: under 8 bytes with LLVM; a GPU keeps more of a path in memory.
_BYTES_PER_SAMPLE = 64
_LARGEST_WAVEFRONT = 2**24
_SMALLEST_WAVEFRONT = 2**14
# Noise is judged at this viewing size: in a larger picture, on means of blocks of pixels.
_VIEWING_SIZE = 768
_CLAY = 0.5  # albedo of the matte surface in the illumination picture


@dataclass(frozen=True)
class FinalPicture:
    """A rendered picture.

    rgb (H, W, 3): linear Rec.709, premultiplied by coverage; alpha (H, W): share of the pixel that the mesh
    covers; samples_used: per pixel; noise: standard error of the picture relative to its mean luminance,
    inside the coverage (infinite when a single pass allows no estimate); scale: 1, or 1/2, 1/4 … when memory
    only allowed a smaller picture, which was then enlarged; warnings: what did not go as asked.
    """

    rgb: Array
    alpha: Array
    samples_used: int
    noise: float
    scale: float = 1.0
    warnings: tuple[str, ...] = ()


def render_final(
    geometry: Geometry,
    textures: Textures,
    camera: PinholeCamera,
    environment: Environment,
    *,
    max_samples: int = 10000,
    noise_level: float = 0.015,
    seed: int = 0,
    max_depth: int = 6,
    memory_mb: float = 1024,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FinalPicture:
    """Path-trace the lit face in front of nothing (the environment lights it but is not seen).

    max_samples caps the samples per pixel; rendering stops earlier once the relative noise is below
    noise_level (0: never). max_depth: path vertices (2 = direct light only). memory_mb bounds the samples
    in flight. progress(samples, max_samples, noise) is called after each pass; cancelled() is asked there
    too and raises Cancelled. The same seed, variant and settings give the same picture.
    """
    return _render_lit(
        geometry, skin_bsdf(textures, geometry.uv), camera, environment,
        max_samples=max_samples, noise_level=noise_level,
        seed=seed, max_depth=max_depth, memory_mb=memory_mb, progress=progress, cancelled=cancelled,
    )  # fmt: skip


def render_illumination(
    geometry: Geometry,
    camera: PinholeCamera,
    environment: Environment,
    *,
    max_samples: int = 1024,
    noise_level: float = 0.02,
    seed: int = 0,
    max_depth: int = 6,
    memory_mb: float = 1024,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FinalPicture:
    """The light alone: the same picture of the face made of matte clay, a Lambertian grey of albedo 0.5."""
    return _render_lit(
        geometry, matte_bsdf(_CLAY), camera, environment, max_samples=max_samples, noise_level=noise_level,
        seed=seed, max_depth=max_depth, memory_mb=memory_mb, progress=progress, cancelled=cancelled,
    )  # fmt: skip


def render_map(
    geometry: Geometry, texture: NDArray[Any], camera: PinholeCamera, *, samples: int = 16, seed: int = 0
) -> tuple[Array, Array]:
    """A texture as the camera sees it, without light.

    texture (T, T, 1 or 3), top row first, any linear data. Returns ((H, W, 3) premultiplied by coverage,
    (H, W) coverage).
    """
    values = np.asarray(texture, np.float32)
    values = values[..., None] if values.ndim == 2 else values
    values = np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
    channels = _render_aovs(geometry, matte_bsdf(values), camera, "value:albedo", samples, seed)
    return channels[..., 4:7], channels[..., 3]


def render_geometry(
    geometry: Geometry, camera: PinholeCamera, *, samples: int = 16, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Depth (H, W) camera z in mm, unit normals (H, W, 3) in camera axes, coverage (H, W).

    Normals face the viewer. Depth and normals are means over the covered part of a pixel,
    0 where nothing is seen.
    """
    channels = _render_aovs(
        geometry, matte_bsdf(_CLAY), camera, "where:position,direction:sh_normal", samples, seed
    )
    coverage = channels[..., 3]
    weight = np.where(coverage > 0, coverage, 1.0)[..., None]
    rotation = np.asarray(camera.R, np.float64)
    position = channels[..., 4:7] / weight @ rotation.T + np.asarray(camera.t, np.float64).reshape(3)
    normals = channels[..., 7:10] @ rotation.T
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    # The surface is two-sided; its stored normal may point away where the inside is seen.
    away = (normals * position).sum(-1, keepdims=True) > 0
    normals = np.where(away, -normals, normals)
    seen = coverage > 0
    depth = np.where(seen, position[..., 2], 0.0)
    return depth.astype(np.float32), (normals * seen[..., None]).astype(np.float32), coverage


def _render_lit(
    geometry: Geometry,
    bsdf: dict[str, Any],
    camera: PinholeCamera,
    environment: Environment,
    *,
    max_samples: int,
    noise_level: float,
    seed: int,
    max_depth: int,
    memory_mb: float,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> FinalPicture:
    """Render, with smaller passes and then a smaller picture when memory runs out."""
    mi = mitsuba()
    if max_samples < 1:
        raise ValueError("max_samples must be at least 1")
    full = SceneCamera(camera.K, camera.R, camera.t, int(camera.width), int(camera.height))
    wavefront = int(np.clip(memory_mb * 2**20 / _BYTES_PER_SAMPLE, _SMALLEST_WAVEFRONT, _LARGEST_WAVEFRONT))
    scale = 1.0
    warnings: list[str] = []
    while True:
        try:
            scene = build_scene(build_mesh(geometry, bsdf), environment)
            integrator = mi.load_dict({"type": "path", "max_depth": max_depth, "hide_emitters": True})
            picture = _accumulate(
                scene, integrator, full.scaled(scale) if scale < 1 else full, geometry.vertices,
                max_samples, noise_level, seed, wavefront, progress, cancelled,
            )  # fmt: skip
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            scene = None
            release_memory()
            if wavefront > _SMALLEST_WAVEFRONT:
                wavefront = max(wavefront // 4, _SMALLEST_WAVEFRONT)
                warnings.append(f"Out of memory: rendering again in passes of {wavefront} samples.")
            elif scale > 1 / 16:
                scale /= 2
                warnings.append(
                    f"Out of memory: the final picture was rendered at {scale:g} of its size and enlarged."
                )
            else:
                raise EnvironmentProblem(
                    "Out of memory even for a small final picture. "
                    "Close other programs or lower maxResolution."
                ) from error
    if scale < 1:
        picture = _enlarged(picture, full.width, full.height)
    if 0 < noise_level < picture.noise and math.isfinite(picture.noise):
        warnings.append(
            f"The final picture stopped at {picture.samples_used} samples with {picture.noise:.1%} noise "
            f"(asked: {noise_level:.1%}); raise rtSamples for a cleaner one."
        )
    return replace(picture, scale=scale, warnings=tuple(warnings) + picture.warnings)


def _accumulate(
    scene: Any,
    integrator: Any,
    camera: SceneCamera,
    vertices: NDArray[Any],
    max_samples: int,
    noise_level: float,
    seed: int,
    wavefront: int,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> FinalPicture:
    """Passes into two half-buffers, whose difference measures the noise of their mean."""
    shape = (camera.height, camera.width)
    crop = face_crop(camera, vertices)
    if crop is None:
        warning = "The face lies outside the picture; the final picture is empty."
        return FinalPicture(
            np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32), 0, 0.0, 1.0, (warning,)
        )
    per_pass = _samples_per_pass(crop, max_samples)
    tiles = _tiles(crop, max(1, wavefront // per_pass))
    sensors = [build_sensor(camera, tile, per_pass) for tile in tiles]
    halves = np.zeros((2, crop.height, crop.width, 4), np.float64)
    passes = 0
    noise = math.inf
    while (passes + 1) * per_pass <= max_samples:
        if cancelled is not None and cancelled():
            raise Cancelled("The final picture was cancelled.")
        rows = [
            _render_pass(scene, sensor, integrator, per_pass, _pass_seed(seed, passes, k))
            for k, sensor in enumerate(sensors)
        ]
        halves[passes % 2] += np.concatenate(rows, axis=0)
        passes += 1
        if passes % 2 == 0:
            noise = _relative_noise(halves / (passes / 2))
        if progress is not None:
            progress(passes * per_pass, max_samples, noise)
        if passes % 2 == 0 and noise <= noise_level:
            break
    picture = np.zeros((*shape, 4), np.float32)
    picture[crop.y0 : crop.y0 + crop.height, crop.x0 : crop.x0 + crop.width] = halves.sum(0) / passes
    return FinalPicture(picture[..., :3], np.clip(picture[..., 3], 0, 1), passes * per_pass, noise)


def _render_pass(scene: Any, sensor: Any, integrator: Any, samples: int, seed: int) -> Array:
    """One pass over one tile: (h, w, 4 or more) float32."""
    mi = mitsuba()
    image = mi.render(scene, sensor=sensor, integrator=integrator, spp=samples, seed=seed)
    # A path that divides by a vanishing density may give NaN or infinity; one such sample spoils a pixel.
    return np.nan_to_num(np.array(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _render_aovs(
    geometry: Geometry, bsdf: dict[str, Any], camera: PinholeCamera, aovs: str, samples: int, seed: int
) -> Array:
    """Channels (H, W, 4 + …): depth three times, coverage, then the arbitrary output variables."""
    mi = mitsuba()
    scene = build_scene(build_mesh(geometry, bsdf), None)
    crop = face_crop(camera, geometry.vertices)
    integrator = mi.load_dict({"type": "aov", "aovs": aovs, "image": {"type": "depth"}})
    channels = 4 + 3 * len(aovs.split(","))
    picture = np.zeros((int(camera.height), int(camera.width), channels), np.float32)
    if crop is None:
        return picture
    row = crop.y0
    for tile in _tiles(crop, max(1, _LARGEST_WAVEFRONT // samples)):
        sensor = build_sensor(camera, tile, samples)
        image = _render_pass(scene, sensor, integrator, samples, _pass_seed(seed, 0, row))
        picture[row : row + tile.height, crop.x0 : crop.x0 + crop.width] = image
        row += tile.height
    return picture


def _samples_per_pass(crop: Crop, max_samples: int) -> int:
    """A square (for the sampler's strata), few in large pictures, at most half the cap for two halves."""
    pixels = crop.width * crop.height
    wanted = 64 if pixels <= 2**18 else 16 if pixels <= 2**20 else 4
    return math.isqrt(max(1, min(wanted, max_samples // 2))) ** 2


def _tiles(crop: Crop, most_pixels: int) -> list[Crop]:
    """Bands of whole rows with at most most_pixels each (a band has at least one row)."""
    rows = max(1, most_pixels // crop.width)
    return [
        Crop(crop.x0, y, crop.width, min(rows, crop.y0 + crop.height - y))
        for y in range(crop.y0, crop.y0 + crop.height, rows)
    ]


def _pass_seed(seed: int, number: int, tile: int) -> int:
    """An independent 32-bit seed for a pass over a tile."""
    return int(np.random.SeedSequence([seed % 2**32, number, tile]).generate_state(1)[0])


def _relative_noise(halves: NDArray[np.float64]) -> float:
    """Standard error of the mean of two half-buffers (2, h, w, 4) / mean luminance inside the coverage."""
    block = max(1, math.ceil(max(halves.shape[1:3]) / _VIEWING_SIZE))
    height, width = (side // block * block for side in halves.shape[1:3])
    blocks = (
        halves[:, :height, :width].reshape(2, height // block, block, width // block, block, 4).mean((2, 4))
    )
    luminance = blocks[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    inside = blocks[..., 3].mean(0) > 0.5
    mean = luminance[:, inside].mean() if inside.any() else 0.0
    if mean <= 0:
        return 0.0  # nothing is lit, so there is nothing to be noisy
    difference = luminance[0, inside] - luminance[1, inside]
    return float(0.5 * np.sqrt((difference**2).mean()) / mean)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Dr.Jit or the allocator means that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text
        for words in ("out of memory", "bad_alloc", "bad alloc", "could not allocate", "jit_malloc")
    )


def release_memory() -> None:
    """Give freed arrays back to the system before trying again."""
    import gc

    import drjit as dr

    gc.collect()
    dr.flush_malloc_cache()


def _enlarged(picture: FinalPicture, width: int, height: int) -> FinalPicture:
    """The picture at (height, width) by repeating pixels."""
    rows = (np.arange(height) + 0.5) * picture.alpha.shape[0] / height
    columns = (np.arange(width) + 0.5) * picture.alpha.shape[1] / width
    index = np.ix_(rows.astype(int), columns.astype(int))
    return replace(picture, rgb=picture.rgb[index], alpha=picture.alpha[index])
