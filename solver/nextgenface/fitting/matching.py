"""Where the photos of one person disagree about the skin: dense matches through one shared texture.

Every photo is unwrapped onto the texture layout and freed of the fitted light. Were shape and cameras right,
all photos would show the same skin at the same texel; where they are wrong, freckles, brows and lips sit at
different places. Band-passed log colour, in which shading is faint, is aligned window by window (Lucas and
Kanade 1981) with what the other photos show. Only differences between photos count: the mean displacement
of a texel over its photos is taken out, because sliding all of them together says nothing about the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..rendering.deferred import shade_vertices, vertex_normals
from ..rendering.raster import rasterize
from .separation import blur
from .texels import Texels

if TYPE_CHECKING:
    from .photoset import PhotoSet

RESOLUTION = 256  # of the layout: about as fine as the photos
GREY_NOISE = 0.06  # log units in a band: shading that the fit has not explained
COLOUR_NOISE = (0.025, 0.04)  # the same of red against green and against blue
LEAST_CORRELATION = 0.5  # of a window with the other photos, to be taken for the same skin
SURE_CORRELATION = 0.7  # of a window that is the same skin without a doubt: faces are alike, skins are not
SPACING_MM = 4.0  # between the matches that are kept
FLOOR_MM = 0.35  # standard deviation of a perfect match
LARGEST_MM = 12.0  # displacements beyond this are mistakes
_ITERATIONS = 8
_LEAST_MASS = 0.15  # of two photos' weights, to compare them at all
_ROBUST = 9.0  # squared residual, in noise or sigmas, at which an observation counts half


@dataclass(frozen=True)
class Scale:
    """One pass, mm: detail finer than `fine` is smoothed, coarser than `coarse` removed.

    `window`: standard deviation of the windows, `reach`: of the displacements that are expected.
    """

    fine: float
    coarse: float
    window: float
    reach: float


SCALES = (Scale(2.0, 8.0, 7.0, 4.0), Scale(1.2, 5.0, 5.0, 2.0), Scale(0.8, 4.0, 4.0, 1.2))


@dataclass(frozen=True)
class Matches:
    """Where M surface points belong in one photo.

    `corners`, `weights` (M, 3): the points on the mesh; `points` (M, 2) in fitted pixels; `root` (M, 2, 2)
    whitens a difference in pixels. `agreement`: share of the skin seen by others, too, that is surely the
    same.
    """

    corners: Tensor
    weights: Tensor
    points: Tensor
    root: Tensor
    agreement: float

    def on(self, vertices: Tensor) -> Tensor:
        """The points (M, 3) on a mesh with these vertices (V, 3)."""
        return (vertices[self.corners] * self.weights[..., None]).sum(1)

    def whitened(self, screen: Tensor) -> Tensor:
        """Residuals (M, 2) in sigmas of points seen at `screen` (M, 2)."""
        return (self.root @ (screen - self.points)[..., None])[..., 0]


@dataclass(frozen=True)
class _Unwrapped:
    """One photo on the layout: grey and two colour differences in units of their noise, weight, position."""

    colour: Tensor  # (T, T, 3)
    weight: Tensor  # (T, T)
    screen: Tensor  # (T, T, 2) fitted pixels


@dataclass(frozen=True)
class _Windows:
    """What the windows of one photo say: information about the displacement, correlation, mass."""

    information: Tensor  # (T, T, 2, 2) per texel of independent noise
    correlation: Tensor  # (T, T)
    mass: Tensor  # (T, T)


@torch.no_grad()
def find_matches(problem: PhotoSet, texels: Texels, scale: Scale) -> list[Matches]:
    """Matches of every photo with the others, for the present geometry and light (visibility is traced)."""
    size = texels.millimetres(problem.vertices(0))
    unwrapped = [_unwrap(problem, texels, k) for k in range(len(problem.photos))]
    fine, coarse = scale.fine / size, scale.coarse / size
    bands = [blur(u.colour, u.weight, fine) - blur(u.colour, u.weight, coarse) for u in unwrapped]
    weights = [u.weight * p.trust for u, p in zip(unwrapped, problem.photos, strict=True)]
    shifts, windows = _align(bands, weights, scale, size)
    found = zip(unwrapped, shifts, windows, strict=True)
    return [_kept(u, shift, window, texels, size, fine) for u, shift, window in found]


def match_loss(matches: Matches, screen: Tensor) -> Tensor:
    """Half the robust squared residuals of matched points seen at `screen` (M, 2), in sigmas."""
    squared = (matches.whitened(screen) ** 2).sum(1)
    return 0.5 * (_ROBUST * squared / (_ROBUST + squared)).sum()


def _kept(
    photo: _Unwrapped, shift: Tensor, windows: _Windows, texels: Texels, size: float, fine: float
) -> Matches:
    n = texels.resolution
    step = max(1, round(SPACING_MM / size))
    rows = torch.arange(step // 2, n, step, device=shift.device)
    pick = (rows[:, None] * n + rows[None, :]).reshape(-1)
    pick = pick[windows.mass.view(-1)[pick] > _LEAST_MASS]
    slopes = torch.stack(_slopes(photo.screen), -1).view(-1, 2, 2)[pick]  # pixels per texel
    near = shift.view(-1, 2)[pick].norm(dim=1) * size < LARGEST_MM
    correlation = windows.correlation.view(-1)[pick]
    same, sure = correlation > LEAST_CORRELATION, correlation > SURE_CORRELATION
    good = near & same & (torch.linalg.det(slopes).abs() > 1e-3)
    chosen, slopes = pick[good], slopes[good]
    eye = torch.eye(2).to(slopes)
    # A kept point stands for the texels around it, as many as have noise of their own.
    independent = step * step / max(4 * torch.pi * fine**2, 1.0)
    information = windows.information.view(-1, 2, 2)[chosen] * independent
    covariance = torch.linalg.inv(information + 1e-3 * eye) + (FLOOR_MM / size) ** 2 * eye
    covariance = slopes @ covariance @ slopes.transpose(1, 2) + 0.05**2 * eye
    return Matches(
        texels.corners[chosen],
        texels.weights[chosen],
        _sample(photo.screen, shift).view(-1, 2)[chosen],
        torch.linalg.cholesky(torch.linalg.inv(covariance)).transpose(1, 2),
        float(sure.float().mean()) if len(pick) else 0.0,
    )


def _unwrap(problem: PhotoSet, texels: Texels, k: int) -> _Unwrapped:
    w, photo, n = problem.white, problem.photos[k], texels.resolution
    target = photo.targets[-1]
    assert photo.transfer is not None
    pose = problem.pose(k, target)
    camera = pose.camera_space(problem.vertices(k))
    fragments = rasterize(pose.screen(camera), camera[:, 2], w.faces, target.height, target.width)
    colour = w.colour(problem.z_albedo)
    shading = shade_vertices(camera, w.faces, photo.environment, colour, w.roughness, photo.transfer)
    light = texels.gather(torch.cat(shading.layers(problem.level(), w.roughness), 1))
    still = w.skin * (1 - w.firm)  # lids and lips move between photos: landmarks see them more sharply
    view = texels.look_up(camera, vertex_normals(camera, w.faces), pose, fragments, target, still)
    skin = (view.colour - light[:, 3:]).clamp(min=0.004) / light[:, :3].clamp(min=0.02)
    log = skin.clamp(0.002, 3.0).log()
    grey, red, blue = log.mean(1), log[:, 0] - log[:, 1], log[:, 0] - log[:, 2]
    channels = torch.stack([grey / GREY_NOISE, red / COLOUR_NOISE[0], blue / COLOUR_NOISE[1]], 1)
    points = pose.screen(texels.gather(camera))
    weight = view.weight
    if photo.outside is not None:  # the wall behind a head is not skin
        grid = (points / torch.tensor([target.width, target.height]).to(points) * 2 - 1)[None, :, None]
        weight = weight * (tf.grid_sample(photo.outside, grid, align_corners=False)[0, 0, :, 0] <= 0)
    usable = (weight > 0.02).float()
    return _Unwrapped(
        (channels * usable[:, None]).view(n, n, 3),
        (weight * usable).view(n, n),
        (points / target.scale).view(n, n, 2),
    )


def _slopes(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (T, T, C) along columns and rows, per texel."""
    padded = tf.pad(grid.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return across.permute(1, 2, 0), down.permute(1, 2, 0)


def _sample(grid: Tensor, shift: Tensor) -> Tensor:
    """A texture (T, T, C) looked up at every texel moved by `shift` (T, T, 2) texels."""
    n = grid.shape[0]
    base = torch.arange(n, device=grid.device) + 0.5
    at = torch.stack([base[None, :] + shift[..., 0], base[:, None] + shift[..., 1]], -1)
    found = tf.grid_sample(
        grid.permute(2, 0, 1)[None], (at / n * 2 - 1)[None], align_corners=False, padding_mode="border"
    )
    return found[0].permute(1, 2, 0)


def _window(values: Tensor, sigma: float) -> Tensor:
    """Gaussian mean of (T, T, C)."""
    return blur(values, torch.ones_like(values[..., 0]), sigma)


def _align(
    bands: list[Tensor], weights: list[Tensor], scale: Scale, size: float
) -> tuple[list[Tensor], list[_Windows]]:
    """Displacements (T, T, 2) in texels of every photo's band (T, T, 3), and what the windows say."""
    window = scale.window / size
    independent = max((scale.window / scale.fine) ** 2, 1.0)
    stay = 1.0 / (independent * (scale.reach / size) ** 2)  # information that a displacement is small
    shifts = [torch.zeros_like(band[..., :2]) for band in bands]
    found: list[_Windows] = []
    for i in range(_ITERATIONS):
        stacks = [
            torch.cat([b * w[..., None], w[..., None]], -1) for b, w in zip(bands, weights, strict=True)
        ]
        warped = torch.stack([_sample(s, shift) for s, shift in zip(stacks, shifts, strict=True)])
        total = warped.sum(0)
        last, found = i == _ITERATIONS - 1, []
        for k, own in enumerate(warped):
            steps, windows = _compare(own, total - own, window, stay, shifts[k])
            found.append(windows)
            if not last:
                shifts[k] = shifts[k] + steps
        if not last:
            share = warped[..., 3:] / total[..., 3:].clamp(min=1e-3)
            mean = sum(s * part for s, part in zip(shifts, share, strict=True))
            shifts = [s - mean for s in shifts]
    return shifts, found


def _compare(
    own: Tensor, others: Tensor, window: float, stay: float, shift: Tensor
) -> tuple[Tensor, _Windows]:
    """One Gauss-Newton step (T, T, 2) of one photo's displacement towards the others.

    `own`, `others` (T, T, 4): bands times weight, and weight.
    """
    mass, rest = own[..., 3], others[..., 3].clamp(min=0)
    mine = own[..., :3] / mass.clamp(min=1e-3)[..., None]
    theirs = others[..., :3] / rest.clamp(min=1e-3)[..., None]
    both = mass * rest / (mass + rest).clamp(min=1e-3)
    gap = theirs - mine
    squared = (gap**2).mean(-1)
    trust = both / (1 + squared / _ROBUST)
    dx, dy = _slopes((theirs + mine) / 2)
    pairs = (
        (dx, dx),
        (dx, dy),
        (dy, dy),
        (dx, gap),
        (dy, gap),
        (mine, theirs),
        (mine, mine),
        (theirs, theirs),
    )
    products = torch.stack([(a * b).sum(-1) for a, b in pairs] + [squared, torch.ones_like(squared)], -1)
    xx, xy, yy, gx, gy, cross, first, second, left, weight = _window(
        products * trust[..., None], window
    ).unbind(-1)
    a, c = xx + stay, yy + stay
    bx, by = gx - stay * shift[..., 0], gy - stay * shift[..., 1]
    move = (
        torch.stack([c * bx - xy * by, a * by - xy * bx], -1) / (a * c - xy * xy).clamp(min=1e-12)[..., None]
    )
    # the noise that is left, not the one that was assumed
    noise = (left / weight.clamp(min=1e-3)).clamp(min=0.3)
    information = torch.stack([xx, xy, xy, yy], -1) / noise[..., None]
    correlation = cross / (first * second).clamp(min=1e-12).sqrt()
    windows = _Windows(information.view(*mass.shape, 2, 2), correlation, both)
    return move.clamp(-2.0, 2.0) * (weight > 0.02)[..., None], windows
