"""Skin colour statistics from pigments, and specular level and roughness by region.

Diffuse colour follows an absorption model: bloodless, unpigmented dermis dimmed by melanin and haemoglobin,
a = base * exp(-m * melanin - h * haemoglobin) per linear RGB channel (the pigment view of skin colour of
Tsumura et al. 2003, "Image-Based Skin Color and Texture Analysis/Synthesis"). Random faces are drawn from it,
and their principal components become the albedo basis.

Specular: skin reflects like an index of refraction of 1.4, F0 = 0.028, which is a Principled specular level
of 0.35 (d'Eon and Luebke, "Advanced Techniques for Realistic Real-Time Skin Rendering", GPU Gems 3, ch. 14,
2007; they suggest a microfacet slope of m = 0.3 for the whole face, after the measurements of Weyrich et al.
2006, "Analysis of Human Faces Using a Measurement-Based Skin Reflectance Model"). With alpha = roughness^2
and alpha ~ m that is a roughness of 0.55. That nose, forehead and lips are smoother and cheeks rougher
follows those measurements; the size of the steps is our estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MELANIN = np.array([1.0, 1.14, 1.22])
HAEMOGLOBIN = np.array([0.06, 1.0, 0.80])
DERMIS = np.array([0.78, 0.61, 0.44])  # linear Rec.709

# Inside of the mouth, enamel and gums, linear Rec.709 (estimates).
MOUTH, ENAMEL, GUM = (
    np.array([0.11, 0.028, 0.026]),
    np.array([0.52, 0.46, 0.36]),
    np.array([0.34, 0.11, 0.10]),
)

SKIN_LEVEL, SKIN_ROUGHNESS = 0.35, 0.53
EYE_LEVEL, EYE_ROUGHNESS = 0.5, 0.12


@dataclass(frozen=True)
class Complexion:
    """One person's pigments and what sits on the skin; the defaults are the mean face."""

    melanin: float = 0.38
    haemoglobin: float = 0.27
    blush: float = 1.0
    lips: float = 1.0
    brows: float = 0.82
    beard: float = 0.05
    shade: float = 1.0  # darkness under the eyes
    hair: tuple[float, float, float] = (0.040, 0.027, 0.020)
    iris: tuple[float, float, float] = (0.085, 0.060, 0.042)


def random_complexion(rng: np.random.Generator) -> Complexion:
    """A draw that spans very light to very dark skin."""
    tone = rng.beta(1.2, 1.6)
    hair = np.array([0.085, 0.058, 0.040]) * np.exp(rng.normal(-0.9, 0.7))
    iris = np.array([0.10, 0.08, 0.065]) * np.exp(
        rng.normal(0, 0.45) + rng.normal() * np.array([-0.25, 0.12, 0.5])
    )
    return Complexion(
        melanin=0.12 + 1.75 * tone**2,
        haemoglobin=float(np.clip(rng.normal(0.27, 0.07), 0.10, 0.52)),
        blush=float(np.clip(rng.normal(1, 0.4), 0, 2.2)),
        lips=float(np.clip(rng.normal(1, 0.25), 0.2, 1.8)),
        brows=float(np.clip(rng.normal(0.72, 0.16), 0.25, 1.0)),
        beard=float(rng.beta(1.3, 3.0)) if rng.random() < 0.4 else 0.0,
        shade=float(np.clip(rng.normal(1, 0.6), 0, 2.5)),
        hair=tuple(hair),
        iris=tuple(iris),
    )


def _mix(colour: NDArray, other: NDArray, weight: NDArray) -> NDArray:
    return colour + weight[:, None] * (other - colour)


def diffuse_colour(masks: dict[str, NDArray], person: Complexion, residual: NDArray | None = None) -> NDArray:
    """Linear Rec.709 base colour (V, 3). residual (V, 2): log-variation of melanin and haemoglobin."""
    m = masks
    melanin = person.melanin * (
        1 + 0.05 * m["forehead"] + 0.09 * person.shade * m["under_eye"] + 0.06 * m["upper_lid"]
    )
    blood = (
        1 + person.blush * (0.5 * m["cheeks"] + 0.35 * m["nose"]) + 0.22 * m["chin"] - 0.15 * m["forehead"]
    )
    blood = blood + 0.2 * person.shade * m["under_eye"] + 0.3 * m["alar"] + 0.15 * m["ear_side"]
    blood = person.haemoglobin * blood
    if residual is not None:
        melanin = melanin * np.exp(0.22 * residual[:, 0])
        blood = blood * np.exp(0.25 * residual[:, 1])
    blood = blood + m["lips"] * (0.52 * person.lips + 0.25 * person.haemoglobin)
    melanin = melanin * (1 + 0.15 * m["lips"])
    colour = DERMIS * np.exp(-melanin[:, None] * MELANIN - blood[:, None] * HAEMOGLOBIN)
    hair = np.array(person.hair)
    # Hair over skin never brightens it, however dark the skin.
    covering = np.minimum(hair, 0.45 * colour)
    colour = _mix(colour, covering, m["brows"] * person.brows)
    stubble = np.minimum(0.6 * covering + 0.4 * colour * [0.55, 0.62, 0.70], colour)
    colour = _mix(colour, stubble, m["beard"] * person.beard)
    colour = _mix(colour, np.minimum(0.5 * hair, 0.4 * colour), 0.75 * m["lash_upper"])
    colour = _mix(colour, colour * [0.80, 0.58, 0.52], 0.4 * m["lash_lower"])
    colour = colour * (1 - 0.88 * m["nostrils"][:, None] * np.array([0.92, 1, 1]))
    colour = colour * (1 - 0.45 * m["lip_seam"][:, None] * np.array([0.80, 1, 1]))
    wet = np.array([0.42, 0.20, 0.17]) * np.exp(-0.25 * person.melanin)
    colour = _mix(colour, wet, 0.8 * m["lid_rim"] * (1 - m["lash_upper"]))
    sclera = np.array([0.54, 0.495, 0.46]) * (1 - 0.5 * m["eye_shade"][:, None] * np.array([0.8, 1, 1]))
    ring = np.array(person.iris) * (1 - 0.6 * m["limbus"][:, None]) * (0.8 + 0.45 * m["iris_inner"][:, None])
    eye = _mix(_mix(sclera, ring, m["iris"]), np.full_like(sclera, 0.008), m["pupil"])
    colour = _mix(colour, eye, m["eyes"])
    colour = _mix(colour, np.broadcast_to(MOUTH, colour.shape), m["mouth"])
    enamel = ENAMEL * (1 - 0.3 * m["tooth_gap"][:, None] * np.array([0.8, 1, 1]))
    return _mix(colour, _mix(enamel, np.broadcast_to(GUM, colour.shape), m["gum"]), m["teeth"])


def specular_level(masks: dict[str, NDArray]) -> NDArray:
    """Principled specular level (V,), 0.5 meaning F0 = 0.04."""
    m = masks
    level = SKIN_LEVEL + 0.05 * m["forehead"] + 0.07 * m["nose"] + 0.09 * m["lips"] - 0.03 * m["cheeks"]
    level = level + (EYE_LEVEL - level) * np.maximum(m["eyes"], m["lid_rim"])
    level = level * (1 - 0.4 * m["mouth"] * (1 - m["teeth"]))
    return level * (1 - 0.6 * m["nostrils"]) * (1 - 0.25 * m["brows"])


def roughness(masks: dict[str, NDArray]) -> NDArray:
    """Principled roughness (V,), alpha = roughness squared."""
    m = masks
    value = SKIN_ROUGHNESS - 0.06 * m["forehead"] - 0.09 * m["nose"] - 0.10 * m["lips"] + 0.04 * m["cheeks"]
    value = value + 0.02 * m["chin"] + 0.06 * m["brows"]
    value = value + (0.25 - value) * 0.8 * m["lid_rim"]
    value = value + (0.25 - value) * m["teeth"]
    return value + (EYE_ROUGHNESS - value) * m["eyes"]
