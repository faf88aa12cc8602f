"""The diffuse map before refinement: what the photos show of the skin, and what nobody sees filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..rendering.deferred import vertex_normals
from .fusion import SkinView, fuse
from .photoset import AGREEMENT_SCALE, ROBUST_SCALE
from .separation import blur
from .targets import encode
from .texels import TexelView

if TYPE_CHECKING:
    from .textures import TextureProblem

MIRROR_TRUST = 0.7
HAIR_REACH = 3.0  # mm over which texels must agree with the fit to be taken for skin


@dataclass(frozen=True)
class SkinMap:
    """Statistical base colour (T*T, 3), its log change (T*T, 3), confidence (T*T,) 0..1."""

    base: Tensor
    change: Tensor
    confidence: Tensor


@torch.no_grad()
def skin_map(problem: TextureProblem) -> SkinMap:
    """The skin that the photos of a texture problem show; its relief and lights are taken as they are."""
    p, w, texels = problem.photometric, problem.white, problem.texels
    n = texels.resolution
    colour = w.colour(p.z_albedo)
    base = texels.gather(colour)
    size = texels.millimetres(problem.neutral)
    inner, sclera = texels.gather(w.inner[:, None]), texels.gather(w.sclera[:, None])[:, 0]
    looks, whole = [], []
    for k, photo in enumerate(p.photos):
        target = photo.targets[-1]
        pose = p.pose(k, target)
        shading, camera, fragments = problem.shading(k, target)
        light = texels.gather(torch.cat(shading.layers(p.level(), w.roughness), 1))
        normals = vertex_normals(camera, w.faces)
        view = texels.look_up(camera, normals, pose, fragments, target, torch.maximum(w.skin, w.inner))
        rendered = base * light[:, :3] + light[:, 3:]
        off = ((encode(rendered) - encode(view.colour)) ** 2).mean(1)
        weight = view.weight / (1 + off / (2 * ROBUST_SCALE) ** 2) ** 2
        weight = weight * _agreement(problem, off, view, size) * photo.trust
        observed = (view.colour - light[:, 3:]).clamp(min=0.002) / light[:, :3].clamp(min=0.01)
        residual = (observed / base.clamp(min=0.004)).log().clamp(-1.5, 1.0)
        residual = residual * (weight[:, None] > 0.01)
        # the finer of the photo's own pixels and those that are compared does not help the coarser
        focal = torch.minimum(pose.focal, photo.focal / photo.view.crop.scale)
        facing = texels.gather(shading.cos_view[:, None]).clamp(min=0.2)
        pixel = texels.gather(camera[:, 2:]) / focal / facing
        luminance = light[:, :3].mean(1).clamp(min=0.01).log()
        weight, luminance = weight.view(n, n), luminance.view(n, n)
        looks.append(SkinView(residual.view(n, n, 3), weight, luminance, pixel.view(n, n)))
        # where the white of an eye looks like skin, a lid covers it
        lidless = 1 - sclera + sclera / (1 + off / ROBUST_SCALE**2) ** 2
        whole.append(view.weight * photo.trust * lidless)
    skin, mass = fuse(looks, size)
    seen, mass = skin.view(-1, 3), mass.view(-1, 1)
    # eyes and teeth are taken as they look, from the photo that shows them best: nobody relights an
    # iris, and two photos look two ways
    best = int(torch.stack([(inner[:, 0] * w).sum() for w in whole]).argmax())
    seen = seen + inner * (looks[best].residual.view(-1, 3) - seen)
    mass = mass + inner * (whole[best][:, None] - mass)
    own = mass.clamp(max=1.0)
    mirrored, theirs = seen[texels.mirror], own[texels.mirror] * MIRROR_TRUST * (1 - own)
    change = (seen * own + mirrored * theirs) / (own + theirs).clamp(min=1e-4)
    trust = (own + theirs).clamp(max=1.0)
    trust = blur(trust.view(n, n, 1), texels.on_face.view(n, n).float(), 4.0 / size).view(-1, 1).clamp(0, 1)
    missed = torch.stack([1 - look.weight.view(-1).clamp(0, 1) for look in looks]).prod(0)
    return SkinMap(base, change * trust, torch.maximum(1 - missed, inner[:, 0] * own[:, 0]))


def _agreement(problem: TextureProblem, squared: Tensor, view: TexelView, size: float) -> Tensor:
    """(T*T,) 0 where the neighbourhood of a texel on forehead or temples looks like hair, else 1."""
    n, w = problem.texels.resolution, problem.white
    around = blur(squared.view(n, n, 1), view.weight.view(n, n), HAIR_REACH / size).view(-1)
    # no hair grows in eyes and mouth: lashes, irises and gaps between teeth are theirs
    bare = problem.texels.gather(torch.maximum(w.core, w.inner)[:, None])[:, 0]
    return bare + (1 - bare) * view.smooth / (1 + around / AGREEMENT_SCALE**2) ** 2
