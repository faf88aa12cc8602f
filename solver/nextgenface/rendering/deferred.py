"""The deferred engine: shade the vertices under the light lobes, rasterise, look the reflectance up.

Irradiance and the prefiltered specular reflection are integrated at the vertices (the mesh has several
vertices per light-shadow transition, so interpolating them is accurate), with the visibility of
`rendering.visibility` and the light from skin to skin of `rendering.bounce`. It is noise-free and
differentiable in torch alone. Model of reflectance: a Lambertian base colour under the Principled specular
lobe (Burley 2012, GGX with alpha = roughness^2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..geometry.rotations import euler_to_matrix
from .bounce import Bounce, trace_bounce
from .light import quadrature
from .prefilter import gather
from .raster import Fragments, mixed, rasterize
from .sites import Sites
from .visibility import vertex_visibility

F0_OF_LEVEL = 0.08
"""Normal-incidence reflectance of specular level 1 (Burley 2012); level 0.5 is F0 = 0.04."""

LOWEST_COSINE = 0.03
"""Between normal and view: at outlines interpolated normals look away from the camera."""

CAMERA_TO_LIGHT = (1.0, -1.0, -1.0)
"""Diagonal that takes camera axes (y down, z forward) to the light frame (y up, z to the viewer)."""


@dataclass(frozen=True)
class Pose:
    """One photo's camera: R (3, 3), t (3,) mm, focal and principal point in pixels of the picture."""

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    principal: Tensor

    def camera_space(self, vertices: Tensor) -> Tensor:
        """Model-space points (V, 3) mm -> camera space."""
        return vertices @ self.rotation.T + self.translation

    def screen(self, camera_vertices: Tensor) -> Tensor:
        """Camera-space points (V, 3) -> pixels (V, 2)."""
        return self.focal * camera_vertices[:, :2] / camera_vertices[:, 2:] + self.principal

    def scaled(self, factor: float) -> Pose:
        """The same camera for a picture `factor` times as large."""
        return Pose(self.rotation, self.translation, self.focal * factor, self.principal * factor)

    @staticmethod
    def from_euler(angles: Tensor, translation: Tensor, focal: Tensor, principal: Tensor) -> Pose:
        """A pose from the Euler angles of the public API."""
        return Pose(euler_to_matrix(angles), translation, focal, principal)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit area-weighted normals (V, 3) of vertices (V, 3) and faces (F, 3)."""
    corner = vertices.index_select(0, faces.reshape(-1)).view(-1, 3, 3)
    across = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    summed = torch.zeros_like(vertices)
    for k in range(3):
        summed = summed.index_add(0, faces[:, k], across)
    return tf.normalize(summed, dim=1)


@dataclass(frozen=True)
class Transfer:
    """Traced once per geometry update: who sees which part of the sky.

    `used` (U,) vertices that can face the camera (light sites alone, where there are some), `visible` (U, Q)
    their visibility, `openness` (U,) the cosine-weighted share of the sky they see, `directions` (Q, 3) the
    quadrature in the light frame, `lobes` (Q, D) its lobe weights, `solid_angle` of a sample; `bounce` the
    exchange of light between parts of the surface (None: there is none); without `highlights` nothing is
    reflected specularly. `sites`: where the other vertices take their light from.
    """

    used: Tensor
    visible: Tensor
    openness: Tensor
    directions: Tensor
    lobes: Tensor
    solid_angle: float
    bounce: Bounce | None = None
    highlights: bool = True
    sites: Sites | None = None

    def at(self, vertices: Tensor, count: int) -> Transfer:
        """The transfer of `vertices` alone, out of `count`: a small picture shows few of a fine mesh."""
        wanted = torch.zeros(count, dtype=torch.bool, device=vertices.device)
        wanted[vertices.reshape(-1)] = True
        if self.sites is not None:
            around = self.sites.of.index_select(0, torch.nonzero(wanted)[:, 0])
            wanted = torch.zeros_like(wanted)
            wanted[around.view(-1)] = True
        rows = torch.nonzero(wanted[self.used])[:, 0]
        if 10 * len(rows) > 9 * len(self.used):
            return self  # copying the rows would cost more than it saves
        return replace(
            self,
            used=self.used.index_select(0, rows),
            visible=self.visible.index_select(0, rows),
            openness=self.openness.index_select(0, rows),
            bounce=None if self.bounce is None else self.bounce.at(rows),
        )


@torch.no_grad()
def trace_transfer(
    vertices: Tensor,
    faces: Tensor,
    pose: Pose,
    *,
    shadows: bool = True,
    highlights: bool = True,
    sites: Sites | None = None,
) -> Transfer:
    """Trace the visibility of model-space `vertices` (V, 3) for the light of one photo.

    Without `shadows` every vertex sees its whole sky, and no light goes from skin to skin. `sites`: those of
    the mesh (`light_sites`), where light need not be gathered at every vertex.
    """
    directions, lobes, solid_angle = quadrature()
    directions, lobes = directions.to(vertices), lobes.to(vertices)
    axes = torch.tensor(CAMERA_TO_LIGHT).to(vertices)
    in_light = pose.camera_space(vertices) * axes
    normals = vertex_normals(in_light, faces)
    view = tf.normalize(-in_light, dim=1)
    facing = (normals * view).sum(1) > -0.2
    if sites is not None:
        facing &= sites.chosen()
    used = torch.nonzero(facing)[:, 0]
    sites = None if sites is None else sites.among(used)
    if not shadows:
        visible = torch.ones(len(used), len(directions)).to(vertices)
        openness = torch.ones(len(used)).to(vertices)
        return Transfer(
            used, visible, openness, directions, lobes, solid_angle, highlights=highlights, sites=sites
        )
    visible = vertex_visibility(in_light, normals, faces, directions)
    cosine = (normals @ directions.T).clamp(min=0)
    openness = (visible * cosine).sum(1) / cosine.sum(1).clamp(min=1e-6)
    bounce = trace_bounce(in_light, normals, faces, visible, openness, used)
    return Transfer(
        used, visible[used], openness[used], directions, lobes, solid_angle, bounce, highlights, sites
    )


@lru_cache(maxsize=2)
def directional_albedo_table(size: int = 24, samples: int = 512) -> Tensor:
    """GGX reflectance for F0 = 1 - and its Schlick complement - over (roughness, cos view): (2, 1, S, S).

    Split-sum integration over visible half vectors (Karis 2013): reflectance = F0 A + B.
    """
    roughness = torch.linspace(0.05, 1.0, size)[:, None, None]
    cos_view = torch.linspace(LOWEST_COSINE, 1.0, size)[None, :, None]
    i = torch.arange(samples)
    u = (i + 0.5) / samples
    phi = 2 * torch.pi * ((i * 0.6180339887) % 1.0)
    alpha = roughness**2
    cos_h = torch.sqrt((1 - u) / (1 + (alpha**2 - 1) * u))
    sin_h = torch.sqrt(1 - cos_h**2)
    sin_view = torch.sqrt(1 - cos_view**2)
    vh = (sin_view * sin_h * torch.cos(phi) + cos_view * cos_h).clamp(min=0)
    nl = (2 * vh * cos_h - cos_view).clamp(min=0)

    def g1(cos: Tensor) -> Tensor:
        return 2 * cos / (cos + torch.sqrt(alpha**2 + (1 - alpha**2) * cos**2)).clamp(min=1e-6)

    weight = g1(nl) * g1(cos_view.expand_as(nl)) * vh / (cos_h * cos_view).clamp(min=1e-6) * (nl > 0)
    fresnel = (1 - vh) ** 5
    return torch.stack([(weight * (1 - fresnel)).mean(-1), (weight * fresnel).mean(-1)])[:, None]


def specular_reflectance(level: Tensor, roughness: Tensor, cos_view: Tensor) -> Tensor:
    """Share of light a Principled specular lobe reflects (N,): level, roughness, cos(view) all (N,)."""
    table = directional_albedo_table().to(level)
    across = (cos_view - LOWEST_COSINE) / (1 - LOWEST_COSINE)
    grid = torch.stack([across, (roughness - 0.05) / 0.95], -1) * 2 - 1
    grid = grid.expand(2, *grid.shape)[:, :, None]
    ab = tf.grid_sample(table, grid, align_corners=True, padding_mode="border")
    a, b = ab[0, 0, :, 0], ab[1, 0, :, 0]
    return F0_OF_LEVEL * level * a + b


def lobe_sharpness(roughness: Tensor) -> Tensor:
    """von Mises-Fisher sharpness of the reflected GGX lobe, kappa = 1 / (2 alpha^2) (Wang et al. 2009).

    Bounded so that a lobe never falls between the quadrature directions.
    """
    return (0.5 / roughness.clamp(min=0.05) ** 4).clamp(max=60.0)


@dataclass(frozen=True)
class Shading:
    """Vertex shading factors, zero where the camera cannot look: radiance = colour*diffuse + level part.

    `diffuse` (V, 3): irradiance / pi. `glossy` (V, 3): prefiltered radiance from the mirror direction.
    `cos_view` (V,).
    """

    diffuse: Tensor
    glossy: Tensor
    cos_view: Tensor

    def layers(self, level: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
        """What a base colour is multiplied with (V, 3), and the light the specular layer adds (V, 3).

        As in Blender's Principled, the base gets what the layer above does not reflect.
        """
        reflected = specular_reflectance(level, roughness, self.cos_view)[:, None]
        return self.diffuse * (1 - reflected), self.glossy * reflected


def diffuse_factors(normals: Tensor, visible: Tensor, transfer: Transfer) -> Tensor:
    """Light-independent diffuse transfer (N, Q): visibility (N, Q) * cosine * solid angle / pi."""
    cosine = (normals @ transfer.directions.T).clamp(min=0)
    return visible * cosine * (transfer.solid_angle / torch.pi)


def glossy_factors(normals: Tensor, view: Tensor, roughness: Tensor, transfer: Transfer) -> Tensor:
    """Light-independent specular transfer (U, Q): a lobe about the mirror direction, shadowed.

    It is normalised over the hemisphere with the cosine; what the horizon takes from a lobe is part of
    `specular_reflectance` already.
    """
    if not transfer.highlights:
        return torch.zeros_like(transfer.visible)
    mirror = 2 * (normals * view).sum(1, keepdim=True) * normals - view
    lobe = torch.softmax(lobe_sharpness(roughness)[:, None] * (mirror @ transfer.directions.T), 1)
    lobe = lobe * (normals @ transfer.directions.T).clamp(min=0)
    return lobe * transfer.visible / lobe.sum(1, keepdim=True).clamp(min=1e-6)


def shade_vertices(
    camera_vertices: Tensor,
    faces: Tensor,
    environment: Tensor,
    colour: Tensor,
    roughness: Tensor,
    transfer: Transfer,
    normals: Tensor | None = None,
    needed: Tensor | None = None,
) -> Shading:
    """Light arriving at the vertices; with `needed` (any vertex numbers) only at those, zero elsewhere.

    `camera_vertices` (V, 3) mm, `environment` (D, 3), `colour` (V, 3) base colour for the bounce,
    `roughness` (V,). Differentiable with respect to all of them; `transfer` is held fixed.
    """
    axes = torch.tensor(CAMERA_TO_LIGHT).to(camera_vertices)
    in_light = camera_vertices * axes
    normal = vertex_normals(in_light, faces) if normals is None else normals
    if needed is not None:
        transfer = transfer.at(needed, len(camera_vertices))
    used = transfer.used
    towards = tf.normalize(-in_light, dim=1)
    n, view = normal.index_select(0, used), towards.index_select(0, used)
    radiance = transfer.lobes @ environment
    mirror = 2 * (n * view).sum(1, keepdim=True) * n - view
    sharpness = lobe_sharpness(roughness[used])
    direct, glossy = gather(
        n, mirror, sharpness, radiance, transfer.directions, transfer.visible, transfer.solid_angle
    )
    if not transfer.highlights:
        glossy = torch.zeros_like(glossy)
    if transfer.bounce is not None:
        direct = direct + _from_skin(normal, radiance, colour, transfer, transfer.bounce)
    light = torch.zeros(len(camera_vertices), 6).to(camera_vertices)
    light = light.index_copy(0, used, torch.cat([direct, glossy], 1))
    if transfer.sites is not None:
        light = mixed(transfer.sites.of, transfer.sites.share, light)
    cos_view = (normal * towards).sum(1).clamp(min=LOWEST_COSINE)
    return Shading(light[:, :3], light[:, 3:], cos_view)


def _from_skin(
    normal: Tensor, radiance: Tensor, colour: Tensor, transfer: Transfer, bounce: Bounce
) -> Tensor:
    """Irradiance / pi (U, 3) that used vertices get from the surface itself; `normal`, `colour` (V, 3)."""
    arriving = diffuse_factors(normal[bounce.patches].detach(), bounce.visible, transfer) @ radiance
    return bounce.gathered(arriving, colour[bounce.patches].detach().clamp(0, 1))


@dataclass(frozen=True)
class Drawing:
    """A rendered picture at its covered pixels: `radiance` (N, 3) linear, and what it was made of."""

    fragments: Fragments
    radiance: Tensor
    diffuse_light: Tensor  # (N, 3) irradiance / pi below the specular layer
    specular_light: Tensor  # (N, 3) radiance reflected by the specular lobe at level and roughness given


def draw_vertices(
    camera_vertices: Tensor,
    faces: Tensor,
    screen: Tensor,
    size: tuple[int, int],
    shading: Shading,
    colour: Tensor,
    level: Tensor,
    roughness: Tensor,
    fragments: Fragments | None = None,
) -> Drawing:
    """Draw a mesh whose reflectance sits at the vertices.

    `size` (height, width), `colour` (V, 3), `level` (V,), `roughness` (V,). `fragments`: of this very mesh
    and size, where they are known already.
    """
    if fragments is None:
        fragments = rasterize(screen, camera_vertices[:, 2], faces, *size)
    under, gloss = shading.layers(level, roughness)
    values = fragments.interpolate(torch.cat([under, gloss, colour], 1))
    diffuse, specular, base = values[:, :3], values[:, 3:6], values[:, 6:]
    return Drawing(fragments, diffuse * base + specular, diffuse, specular)
