"""How much of the light reaches the base colour below the specular layer: Blender's answer and Mitsuba's.

Blender's Principled takes from the base what the specular layer reflects towards the viewer: a Lambertian
surface times one minus the layer's directional albedo. Mitsuba's `principled` gives the base all the light
and brightens it with roughness (retro-reflection; Burley 2012, "Physically Based Shading at Disney"). The
maps mean what Blender makes of them; `base_factor` makes Mitsuba's picture of them the same, on the average
over the angles at which a camera sees skin. The specular lobes of the two agree (GGX, alpha = roughness^2,
dielectric Fresnel).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

F0_OF_LEVEL = 0.08
_F0, _IOR = 0.04, 1.5  # the Fresnel curve's shape is that of level 0.5; it hardly depends on the level
_STEEPEST = 0.3  # cosine; the rim beyond is thin, and there the two models differ most

Array = NDArray[np.float64]


def base_factor(level: NDArray[Any], roughness: NDArray[Any]) -> Array:
    """Factor on the base colour for Mitsuba's `principled`; `level`, `roughness` and the result alike."""
    grid, constant, fresnel, disney = _table()
    rough = np.asarray(roughness, np.float64)
    reflected = F0_OF_LEVEL * np.asarray(level, np.float64) * np.interp(rough, grid, constant)
    reflected = reflected + np.interp(rough, grid, fresnel)
    return (1.0 - reflected) / np.interp(rough, grid, disney)


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array, Array, Array]:
    """Roughness, and for it means over visible angles: a and b of specular albedo = F0 a + b, and the albedo
    of Disney's diffuse.

    A camera sees a surface turned by an angle of cosine c on an area proportional to c: the mean of f over a
    sphere in a picture is the integral of 2 c f(c).
    """
    grid = np.linspace(0.05, 1.0, 20)
    rows = [(*_specular(rough), _disney_diffuse(rough)) for rough in grid]
    a, b, d = np.array(rows).T
    return grid, a, b, d


def _views(count: int = 24) -> tuple[Array, Array]:
    """Cosines (count, 1) of the angle of view, and their weights (count,)."""
    cosine = _STEEPEST + (1 - _STEEPEST) * (np.arange(count) + 0.5) / count
    return cosine[:, None], cosine / cosine.sum()


def _spread(count: int = 512) -> tuple[Array, Array]:
    """Well-spread numbers in the unit square: u (count,), and an angle (count,) in radians."""
    i = np.arange(count)
    return (i + 0.5) / count, 2 * np.pi * ((i * 0.6180339887) % 1.0)


def _specular(roughness: float) -> tuple[float, float]:
    """Mean albedo of the GGX lobe as F0 a + b, by sampling half vectors (Karis 2013, split sum)."""
    view, weights = _views()
    u, angle = _spread()
    alpha = roughness**2
    cos_h = np.sqrt((1 - u) / (1 + (alpha**2 - 1) * u))
    view_h = np.sqrt(1 - view**2) * np.sqrt(1 - cos_h**2) * np.cos(angle) + view * cos_h
    view_h = np.clip(view_h, 1e-6, 1.0)
    light = np.clip(2 * view_h * cos_h - view, 0.0, None)

    def masking(cosine: Array) -> Array:
        return 2 * cosine / (cosine + np.sqrt(alpha**2 + (1 - alpha**2) * cosine**2))

    reflected = masking(light) * masking(view) * view_h / (cos_h * view) * (light > 0)
    rise = (_dielectric(view_h) - _F0) / (1 - _F0)  # 0 straight on, 1 at grazing incidence
    means = [float((reflected * part).mean(1) @ weights) for part in (1 - rise, rise)]
    return means[0], means[1]


def _dielectric(cosine: Array) -> Array:
    """Fresnel reflectance of unpolarised light at a dielectric of index `_IOR`, from outside."""
    g = np.sqrt(_IOR**2 - 1 + cosine**2)
    plus, minus = g + cosine, g - cosine
    return 0.5 * (minus / plus) ** 2 * (1 + ((cosine * plus - 1) / (cosine * minus + 1)) ** 2)


def _disney_diffuse(roughness: float) -> float:
    """Mean albedo of Disney's diffuse lobe for a white base, as Mitsuba splits it (Burley 2015)."""
    view, weights = _views()
    u, angle = _spread()
    light = np.sqrt(u)
    between = np.sqrt(1 - view**2) * np.sqrt(1 - u) * np.cos(angle) + view * light
    at_view, at_light = (1 - view) ** 5, (1 - light) ** 5
    retro = roughness * (1 + between)  # 2 roughness cos^2 of the angle to the half vector
    plain = (1 - 0.5 * at_view) * (1 - 0.5 * at_light)
    back = retro * (at_light + at_view + at_light * at_view * (retro - 1))
    return float((plain + back).mean(1) @ weights)
