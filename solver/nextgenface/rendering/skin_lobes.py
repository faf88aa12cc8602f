"""The skin of the ray-traced engine, in Dr.Jit: what Blender's Principled means by the three maps.

A Lambertian base under a GGX layer (alpha = roughness^2, separable Smith masking) with dielectric Fresnel
reflectance that rises from F0 = 0.08 level; the base receives what the layer does not reflect. That is the
deferred engine's model, and Mitsuba's `principled` with a specular level per sample, which the plugin itself
cannot have. Every function works on whole wavefronts and is differentiable in all of its arguments;
directions are unit vectors that point away from the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .deferred import F0_OF_LEVEL, LOWEST_COSINE, directional_albedo_table
from .mitsuba_scene import mitsuba

_F0, _IOR = 0.04, 1.5  # the Fresnel curve's shape is that of level 0.5; it hardly depends on the level
_LEAST_ALPHA = 0.002  # a sharper lobe is a mirror, and its density overflows


def albedo_texture() -> Any:
    """Directional albedo of the layer, F0 a + b, over (cosine, roughness) as a texture with channels a, b."""
    mi = mitsuba()
    table = directional_albedo_table()[:, 0].permute(1, 2, 0).contiguous()
    return mi.Texture2f(mi.TensorXf(table.numpy()), use_accel=False, migrate=False)


@dataclass
class Skin:
    """Skin at the hits of a wavefront, seen from `view`: normal, base colour, level, roughness."""

    normal: Any
    view: Any
    colour: Any
    level: Any
    roughness: Any
    table: Any  # of `albedo_texture`

    def detached(self) -> Skin:
        """The same without derivatives."""
        import drjit as dr

        return Skin(
            dr.detach(self.normal), dr.detach(self.view), dr.detach(self.colour), dr.detach(self.level),
            dr.detach(self.roughness), self.table,
        )  # fmt: skip

    @property
    def _alpha(self) -> Any:
        import drjit as dr

        return dr.maximum(self.roughness * self.roughness, _LEAST_ALPHA)

    @property
    def cos_view(self) -> Any:
        """Cosine between normal and view, kept off zero: at outlines shading normals look away."""
        import drjit as dr

        return dr.maximum(dr.dot(self.normal, self.view), LOWEST_COSINE)

    def reflected(self) -> Any:
        """Share of light that the layer reflects towards the view."""
        mi = mitsuba()
        size = self.table.shape[0]
        across = (self.cos_view - LOWEST_COSINE) / (1 - LOWEST_COSINE) * (size - 1)
        down = (self.roughness - 0.05) / 0.95 * (size - 1)
        a, b = self.table.eval(mi.Point2f(across + 0.5, down + 0.5) / size)
        return F0_OF_LEVEL * self.level * a + b

    def scatter(self, towards: Any) -> Any:
        """Radiance to the view per radiance from `towards`, times its cosine; 0 below the horizon."""
        import drjit as dr

        cos_view = self.cos_view
        cosine = dr.dot(self.normal, towards)
        above = cosine > 0
        cosine = dr.select(above, cosine, 1.0)
        half = dr.select(above, self.view + towards, self.normal)
        half = half * dr.rsqrt(dr.maximum(dr.squared_norm(half), 1e-12))
        alpha = self._alpha
        density = _ggx(dr.dot(self.normal, half), alpha)
        masking = _masking(cos_view, alpha) * _masking(cosine, alpha)
        start = F0_OF_LEVEL * self.level
        fresnel = start + (1 - start) * _rise(dr.dot(self.view, half))
        layer = density * masking * fresnel / (4 * cos_view)
        base = self.colour * ((1 - self.reflected()) * cosine * dr.inv_pi)
        return dr.select(above, base + layer, 0.0)

    def layer_share(self) -> Any:
        """How many of the directions `sample` takes from the specular lobe."""
        import drjit as dr

        reflected = self.reflected()
        brightness = dr.mean(self.colour) * (1 - reflected)
        return dr.clip(reflected / dr.maximum(reflected + brightness, 1e-6), 0.25, 0.75)

    def density(self, towards: Any) -> Any:
        """Density (per steradian) with which `sample` takes a direction."""
        import drjit as dr

        cosine = dr.dot(self.normal, towards)
        half = self.view + towards
        half = half * dr.rsqrt(dr.maximum(dr.squared_norm(half), 1e-12))
        alpha, cos_view = self._alpha, self.cos_view
        layer = _ggx(dr.dot(self.normal, half), alpha) * _masking(cos_view, alpha) / (4 * cos_view)
        share = self.layer_share()
        return dr.select(cosine > 0, share * layer + (1 - share) * cosine * dr.inv_pi, 0.0)

    def sample(self, choice: Any, u: Any, v: Any) -> Any:
        """A direction for numbers in the unit interval: visible half vectors of the layer, or the cosine."""
        import drjit as dr

        mi = mitsuba()
        frame = mi.Frame3f(self.normal)
        sine, cosine = dr.sincos(2 * dr.pi * v)
        radius = dr.sqrt(u)
        flat = mi.Vector3f(radius * cosine, radius * sine, dr.safe_sqrt(1 - u))
        # Visible half vectors by a spherical cap (Dupuy and Benyoub 2023).
        alpha = self._alpha
        seen = frame.to_local(self.view)
        seen = dr.normalize(mi.Vector3f(alpha * seen.x, alpha * seen.y, self.cos_view))
        height = (1 - u) * (1 + seen.z) - seen.z
        across = dr.safe_sqrt(1 - height * height)
        cap = mi.Vector3f(across * cosine, across * sine, height) + seen
        half = frame.to_world(
            dr.normalize(mi.Vector3f(alpha * cap.x, alpha * cap.y, dr.maximum(cap.z, 1e-6)))
        )
        mirrored = 2 * dr.dot(self.view, half) * half - self.view
        return dr.select(choice < self.layer_share(), dr.normalize(mirrored), frame.to_world(flat))


def _ggx(cosine: Any, alpha: Any) -> Any:
    squared = alpha * alpha
    root = cosine * cosine * (squared - 1) + 1
    return squared * _INV_PI / (root * root)


_INV_PI = 0.3183098861837907


def _masking(cosine: Any, alpha: Any) -> Any:
    import drjit as dr

    squared = alpha * alpha
    return 2 * cosine / (cosine + dr.sqrt(squared + (1 - squared) * cosine * cosine))


def _rise(cosine: Any) -> Any:
    """0 straight on to 1 at grazing incidence: unpolarised Fresnel reflectance beyond F0, over 1 - F0."""
    import drjit as dr

    c = dr.clip(cosine, 1e-3, 1.0)
    g = dr.sqrt(_IOR * _IOR - 1 + c * c)
    minus, plus = g - c, g + c
    ratio = (c * plus - 1) / (c * minus + 1)
    full = 0.5 * (minus * minus) / (plus * plus) * (1 + ratio * ratio)
    return (full - _F0) / (1 - _F0)
