"""One pass of the ray-traced engine as a function of Dr.Jit tensors; `rendering.raytraced` explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .bridge import to_floats, to_index
from .deferred import CAMERA_TO_LIGHT
from .mitsuba_scene import mitsuba
from .skin_lobes import Skin

if TYPE_CHECKING:
    from .raytraced import RayTracer

LIGHT_ROWS = 32
"""Rows of the map that the lobes are turned into: 6 degrees a texel, a third of a lobe."""

_LIFT = 1e-4  # of the distance: how far rays start above the surface they leave


@dataclass
class _Hit:
    """Where a wavefront of rays meets the mesh."""

    prim: Any
    valid: Any
    position: Any  # detached
    geometric: Any  # detached unit normal, towards the origin of the ray
    skin: Skin


class RayPass:
    """One pass as a function of Dr.Jit tensors, for `bridge.call`."""

    def __init__(
        self, owner: RayTracer, pixel: Tensor, width: int, samples: int, seed: int, footprint: int,
        chances: Tensor, maps: bool, focal: float, principal: tuple[float, float],
    ) -> None:  # fmt: skip
        import drjit as dr

        mi = mitsuba()
        self.owner, self.samples, self.maps = owner, samples, maps
        self.column = to_index(pixel % width)
        self.row = to_index(torch.div(pixel, width, rounding_mode="floor"))
        self.count = len(pixel)
        # Opaque: numbers written into the kernels would have them compiled again at every step.
        self.seed = dr.opaque(mi.UInt32, seed & 0xFFFFFFFF)
        self.focal, self.cx, self.cy, self.side = (
            dr.opaque(mi.Float, x) for x in (focal, *principal, footprint)
        )
        self.chances = mi.DiscreteDistribution(to_floats(chances))

    def __call__(self, vertices: Any, normals: Any, skin: Any, light: Any) -> Any:
        """(N, 4) radiance and coverage."""
        import drjit as dr

        mi = mitsuba()
        self.vertices, self.normals, self.values = vertices.array, normals.array, skin.array
        if self.maps:
            self.values = mi.Texture2f(skin, use_accel=False, migrate=False)
        self.light = mi.Texture2f(light, use_accel=False, migrate=False, wrap_mode=dr.WrapMode.Repeat)
        index = dr.arange(mi.UInt32, self.count * self.samples)
        place = index // self.samples
        self.sample = index - place * self.samples
        self.column, self.row = (dr.gather(mi.UInt32, x, place) for x in (self.column, self.row))
        self.key = self.row * 65536 + self.column
        self.drawn = 0
        self.kept: list[Any] = []

        u, v = self._pair()
        direction = dr.normalize(
            mi.Vector3f(
                ((mi.Float(self.column) + u) * self.side - self.cx) / self.focal,
                ((mi.Float(self.row) + v) * self.side - self.cy) / self.focal,
                1.0,
            )
        )
        hit = self._meet(mi.Ray3f(mi.Point3f(0.0), direction), True, True)
        covered = hit.valid
        radiance, throughput = mi.Color3f(0.0), mi.Color3f(1.0)
        for bounce in range(self.owner.bounces):
            last = bounce + 1 == self.owner.bounces
            towards, density = self._from_light()
            fixed = hit.skin.detached()
            radiance += throughput * self._arriving(hit, towards, density + fixed.density(towards), hit.valid)
            towards = fixed.sample(self._pair()[0], *self._pair())
            chance = fixed.density(towards)
            active = hit.valid & (chance > 0)
            ray = self._leaving(hit, towards)
            both = chance + self._light_density(towards)
            if last:
                radiance += throughput * self._arriving(hit, towards, both, active)
                break
            reached = hit.skin.scatter(towards)
            following = self._meet(ray, active, False)
            lit = self._lookup(towards) * reached / both
            radiance += throughput * dr.select(active & ~following.valid, lit, 0.0)
            throughput *= dr.select(following.valid, reached / dr.maximum(chance, 1e-8), 0.0)
            hit = following
        alpha = dr.select(covered, mi.Float(1.0), 0.0)
        # Together with the picture: what rays found stays for the backward pass.
        dr.eval(radiance, alpha, *self.kept)
        means = [dr.block_sum(x, self.samples) / self.samples for x in (*radiance, alpha)]
        flat = dr.zeros(mi.Float, self.count * 4)
        rows = dr.arange(mi.UInt32, self.count) * 4
        for k, mean in enumerate(means):
            dr.scatter(flat, mean, rows + k)
        return mi.TensorXf(flat, (self.count, 4))

    def _pair(self) -> tuple[Any, Any]:
        """Two numbers in the unit interval for each sample.

        The samples of a pixel form an even pattern (Roberts' R2 lattice), shifted at random per pixel, seed
        and pair, and taken in another order each time, so that pairs know nothing of each other.
        """
        import drjit as dr

        mi = mitsuba()
        self.drawn += 1
        key = self.seed + mi.UInt32(0x9E3779B9 * self.drawn % 2**32)
        one, two = mi.sample_tea_32(self.key, key, 8)
        turn = mi.Float(mi.permute_kensler(self.sample, self.samples, one ^ (two >> 7)))
        pair = []
        for bits, stride in ((one, 0.7548776662466927), (two, 0.5698402909980532)):
            x = mi.Float(bits) * 2.0**-32 + turn * stride
            pair.append(dr.minimum(x - dr.floor(x), 0.99999994))
        return pair[0], pair[1]

    def _meet(self, ray: Any, active: Any, coherent: bool) -> _Hit:
        """Trace rays; the interaction is computed with derivatives."""
        import drjit as dr

        mi = mitsuba()
        with dr.suspend_grad():
            found = self.owner.scene.ray_intersect_preliminary(ray, coherent=coherent, active=mi.Bool(active))
            valid, prim = found.is_valid(), found.prim_index
        self.kept += [valid, prim]
        index = [dr.gather(mi.UInt32, self.owner.faces, prim * 3 + k, valid) for k in range(3)]
        a, b, c = (dr.gather(mi.Point3f, self.vertices, k, valid) for k in index)
        ab, ac, start = b - a, c - a, ray.o - a
        across = dr.cross(ray.d, ac)
        determinant = dr.dot(ab, across)
        good = valid & (dr.abs(determinant) > 1e-12)
        inverse = 1.0 / dr.select(good, determinant, 1.0)
        u = dr.select(good, dr.dot(start, across) * inverse, 0.0)
        v = dr.select(good, dr.dot(ray.d, dr.cross(start, ab)) * inverse, 0.0)
        weights = (1.0 - u - v, u, v)
        geometric = dr.detach(dr.cross(ab, ac))
        geometric = geometric * dr.rsqrt(dr.maximum(dr.squared_norm(geometric), 1e-20))
        inside = dr.dot(geometric, ray.d) > 0
        corner = [dr.gather(mi.Vector3f, self.normals, k, valid) for k in index]
        normal = sum((w * n for w, n in zip(weights, corner, strict=True)), mi.Vector3f(0.0))
        normal = dr.select(valid, normal, mi.Vector3f(0.0, 0.0, -1.0))
        normal = normal * dr.rsqrt(dr.maximum(dr.squared_norm(normal), 1e-12))
        normal = dr.select(inside, -normal, normal)
        geometric = dr.select(inside, -geometric, geometric)
        position = dr.detach(weights[0] * a + u * b + v * c)
        if self.maps:
            place = mi.Point2f(0.0)
            for weight, k in zip(weights, index, strict=True):
                place += weight * dr.gather(mi.Point2f, self.owner.uv, k, valid)
            values = self.values.eval(mi.Point2f(place.x, 1.0 - place.y), valid)
        else:
            values = [mi.Float(0.0)] * 5
            for w, k in zip(weights, index, strict=True):
                values = [
                    values[j] + w * dr.gather(mi.Float, self.values, k * 5 + j, valid) for j in range(5)
                ]
        skin = Skin(normal, -ray.d, mi.Color3f(*values[:3]), values[3], values[4], self.owner.table)
        return _Hit(prim, valid, position, geometric, skin)

    def _leaving(self, hit: _Hit, towards: Any) -> Any:
        import drjit as dr

        mi = mitsuba()
        lift = _LIFT * dr.norm(hit.position)
        return mi.Ray3f(hit.position + hit.geometric * lift, dr.detach(towards))

    def _arriving(self, hit: _Hit, towards: Any, density: Any, active: Any) -> Any:
        """Light from a direction, reflected to the view, over the density of drawing it."""
        import drjit as dr

        with dr.suspend_grad():
            active = active & (dr.dot(hit.geometric, towards) > 0) & (density > 0)
            free = active & ~self.owner.scene.ray_test(self._leaving(hit, towards), active=active)
        self.kept.append(free)
        value = self._lookup(towards) * hit.skin.scatter(towards) / dr.maximum(density, 1e-8)
        return dr.select(free, value, 0.0)

    # ---- light ----------------------------------------------------------------------------------------

    def _lookup(self, towards: Any) -> Any:
        """Radiance of the light from directions in camera axes."""
        mi = mitsuba()
        u, v = _equirectangular(towards)
        rows = LIGHT_ROWS
        return mi.Color3f(self.light.eval(mi.Point2f(u, (v * rows + 1) / (rows + 2))))

    def _from_light(self) -> tuple[Any, Any]:
        """Directions drawn where the light is bright, and their densities."""
        import drjit as dr

        mi = mitsuba()
        u, v = self._pair()
        texel, u = self.chances.sample_reuse(u)
        row = texel // (2 * LIGHT_ROWS)
        column = texel - row * (2 * LIGHT_ROWS)
        turn = (mi.Float(column) + u) / (2 * LIGHT_ROWS) * dr.two_pi
        sine, cosine = dr.sincos((mi.Float(row) + v) / LIGHT_ROWS * dr.pi)
        around = dr.sincos(turn)
        x, y, z = CAMERA_TO_LIGHT
        towards = mi.Vector3f(x * sine * around[0], y * cosine, -z * sine * around[1])
        return towards, self._density(texel, sine)

    def _light_density(self, towards: Any) -> Any:
        """Density with which `_from_light` draws a direction."""
        import drjit as dr

        mi = mitsuba()
        u, v = _equirectangular(towards)
        row = dr.minimum(mi.UInt32(v * LIGHT_ROWS), LIGHT_ROWS - 1)
        column = dr.minimum(mi.UInt32(u * (2 * LIGHT_ROWS)), 2 * LIGHT_ROWS - 1)
        return self._density(row * (2 * LIGHT_ROWS) + column, dr.safe_sqrt(1 - towards.y * towards.y))

    def _density(self, texel: Any, sine: Any) -> Any:
        import drjit as dr

        texels = 2 * LIGHT_ROWS * LIGHT_ROWS
        chance = self.chances.eval_pmf_normalized(texel)
        return chance * texels / (2 * dr.pi * dr.pi * dr.maximum(sine, 1e-4))


def _equirectangular(towards: Any) -> tuple[Any, Any]:
    """u and v of directions in camera axes on a map in the light frame."""
    import drjit as dr

    x, y, z = CAMERA_TO_LIGHT
    turn = dr.atan2(x * towards.x, -z * towards.z) * (0.5 * dr.inv_pi)
    return turn - dr.floor(turn), dr.safe_acos(y * towards.y) * dr.inv_pi
