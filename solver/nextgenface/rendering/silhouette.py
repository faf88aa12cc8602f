"""Antialiasing of silhouettes: outlines become smooth, and coverage gets gradients that are right.

Which face a pixel shows jumps when an outline moves over the pixel's centre, so a rasterised picture alone
has no gradient there. Here every edge of the outline is intersected with the lines through pixel centres; the
two pixels on both sides of a crossing are blended by where between their centres it lies, and that place is
differentiable. Blend coverage and final colours, never positions or normals: half of a normal and half of
nothing is no normal.

    edges = mesh_edges(faces)                        # once per mesh
    fragments = rasterize(screen, depth, faces, height, width)
    outline = find_outline(fragments, screen, depth, edges)
    coverage = outline.coverage()                    # (H, W)
    picture = outline.blend(fragments.picture(colours))

Limits: where two faces cut through each other there is no edge, and it stays aliased. What is thinner than a
pixel may fall between centres. Faces that reach behind the camera are not drawn at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .raster import NEAREST, Fragments

DEPTH_TOLERANCE = 0.15
"""How far the inner pixel's 1/z may be from the edge's: at an outline the surface bends away quickly, and the
face that is seen there need not be one of the edge's. A tolerance of 2 % loses two thirds of the gradient."""

BEHIND = 1e-3
"""By how much nearer than the outer pixel's surface the edge must be, relative; else the surface goes on."""


@dataclass(frozen=True)
class Edges:
    """The E edges of a mesh of F faces, each once, however many faces it has.

    `faces` (F, 3); `ends` (E, 2) vertices; `edge_of` (F, 3) the edge of each side of each face; `direction`
    (F, 3) +1 where the face runs from ends[0] to ends[1], else -1.
    """

    faces: Tensor
    ends: Tensor
    edge_of: Tensor
    direction: Tensor


def mesh_edges(faces: Tensor, vertices: Tensor | None = None) -> Edges:
    """The edges of faces (F, 3); made once per mesh. Holes and edges of more than two faces are fine.

    Give `vertices` (V, 3) where they are repeated along the seams of a UV layout: those at the same place
    count as one, else every seam would look like an outline.
    """
    if vertices is not None:
        same = torch.unique(vertices.detach(), dim=0, return_inverse=True)[1]
        first = torch.full((len(vertices),), len(vertices), device=same.device)
        first.scatter_reduce_(0, same, torch.arange(len(vertices), device=same.device), "amin")
        faces = first[same][faces]
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2).long()
    low, high = sides.min(1).values, sides.max(1).values
    count = int(high.max()) + 1 if len(sides) else 1
    keys, edge_of = torch.unique(low * count + high, return_inverse=True)
    ends = torch.stack([torch.div(keys, count, rounding_mode="floor"), keys % count], 1)
    direction = torch.where(sides[:, 0] <= sides[:, 1], 1.0, -1.0)
    return Edges(faces, ends, edge_of.view(-1, 3), direction.view(-1, 3))


@dataclass(frozen=True)
class Outline:
    """Where outlines pass between neighbouring pixel centres: M crossings.

    `inner`, `outer` (M,) row*W+column of the pixel on the surface and of its neighbour beyond the edge;
    `reach` (M,) 0..1 distance from the inner centre to the crossing, differentiable.
    """

    fragments: Fragments
    inner: Tensor
    outer: Tensor
    reach: Tensor

    def blend(self, picture: Tensor) -> Tensor:
        """(H, W, C) picture -> the same antialiased; gradients reach the picture and the outline.

        A surface that reaches over the middle between the centres covers a part of the outer pixel; one that
        stops before it leaves a part of the inner pixel to what is behind.
        """
        if len(self.inner) == 0:
            return picture
        flat = picture.reshape(-1, picture.shape[-1])
        step = flat.index_select(0, self.inner) - flat.index_select(0, self.outer)
        beyond = self.reach - 0.5
        target = torch.where(beyond.detach() > 0, self.outer, self.inner)
        return flat.index_add(0, target, beyond[:, None] * step).view(picture.shape)

    def coverage(self) -> Tensor:
        """(H, W) the part of each pixel that the mesh covers, 0..1."""
        hard = self.fragments.coverage().to(self.reach.dtype)
        return self.blend(hard[..., None])[..., 0].clamp(0.0, 1.0)


def find_outline(fragments: Fragments, screen: Tensor, depth: Tensor, edges: Edges) -> Outline:
    """The outlines in a rasterised picture: of the mesh before its background and of parts before others.

    `screen` (V, 2) pixels, differentiable; `depth` (V,) camera z; both as given to `rasterize`, `edges` of
    the same faces. An edge is on an outline when all its faces project to the same side of it. Only crossings
    along the edge's dominant axis count (both would count every outline twice).
    """
    height, width = fragments.height, fragments.width
    with torch.no_grad():
        chosen, inside = _outline_edges(screen, depth, edges)
        near = _nearness(fragments, depth)
        owner = torch.full((height * width,), -1, dtype=torch.int64, device=screen.device)
        owner[fragments.pixel] = fragments.face
    inner, outer, reach = [], [], []
    first, second = edges.ends[chosen, 0], edges.ends[chosen, 1]
    p, q = screen.index_select(0, first), screen.index_select(0, second)
    edge_near = torch.stack([1.0 / depth[first], 1.0 / depth[second]], 1).detach()
    for along, across, length, lines in ((0, 1, width, height), (1, 0, height, width)):
        # `along` is the axis of the pixel pair, `across` numbers the line of pixel centres it lies on.
        with torch.no_grad():
            run = (q - p).abs()
            dominant = run[:, across] > run[:, along] if along else run[:, across] >= run[:, along]
            low, high = torch.minimum(p, q)[:, across], torch.maximum(p, q)[:, across]
            start = (low - 0.5).ceil().clamp(0, lines).long()
            stop = (high - 0.5).ceil().clamp(0, lines).long()
            count = torch.where(dominant, (stop - start).clamp(min=0), 0)
            which = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
            line = start[which] + torch.arange(len(which), device=count.device)
            line -= (torch.cumsum(count, 0) - count)[which]
        a, b = p.index_select(0, which), q.index_select(0, which)
        part = (line + 0.5 - a[:, across]) / (b[:, across] - a[:, across])
        place = a[:, along] + part * (b[:, along] - a[:, along])
        with torch.no_grad():
            left = (place - 0.5).floor().long()
            inside_picture = (left >= 0) & (left < length - 1)
            left = left.clamp(0, max(length - 2, 0))
            one = line * width + left if along == 0 else left * width + line
            other = one + (1 if along == 0 else width)
            other = torch.where(inside_picture, other, one)
            # the sign of `inside` times the edge's slope says on which side of the crossing the surface lies
            slope = (b - a)[:, across] * (-1.0 if along == 0 else 1.0)
            surface_first = inside[which] * slope < 0
            i = torch.where(surface_first, one, other)
            o = torch.where(surface_first, other, one)
            at_edge = edge_near[which, 0] + part * (edge_near[which, 1] - edge_near[which, 0])
            good = inside_picture & (owner[i] != owner[o]) & (near[i] > near[o])
            good &= (near[i] - at_edge).abs() < DEPTH_TOLERANCE * at_edge
            good &= near[o] < at_edge * (1.0 - BEHIND)
            centre = left.to(place.dtype) + torch.where(surface_first, 0.5, 1.5)
            sign = torch.where(surface_first, 1.0, -1.0).to(place.dtype)
            far = (place - centre) * sign
            # a fold of a fine mesh crosses a pair of pixels several times: the outermost crossing counts
            pair = 2 * i + surface_first
            furthest = near.new_full((2 * len(near),), -1.0)
            furthest.scatter_reduce_(0, pair[good], far[good], "amax")
            good = torch.nonzero(good & (far >= furthest[pair]))[:, 0]
        inner.append(i[good])
        outer.append(o[good])
        reach.append((place[good] - centre[good]) * sign[good])
    return Outline(fragments, torch.cat(inner), torch.cat(outer), torch.cat(reach))


def _outline_edges(screen: Tensor, depth: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """(numbers of the edges on an outline, the side of ends[0] -> ends[1] their surface is on: +1 or -1)."""
    a, b, c = (screen.index_select(0, edges.faces[:, k]) for k in range(3))
    ab, ac = b - a, c - a
    turn = torch.sign(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    side = (turn[:, None] * edges.direction.to(turn.dtype)).view(-1)
    edge_of = edges.edge_of.view(-1)
    low = side.new_zeros(len(edges.ends)).scatter_reduce_(0, edge_of, side, "amin")
    high = torch.zeros_like(low).scatter_reduce_(0, edge_of, side, "amax")
    inside = low + high  # 0: faces on both sides, or none that can be seen
    in_front = depth[edges.ends].min(1).values > NEAREST
    chosen = torch.nonzero((inside != 0) & in_front)[:, 0]
    return chosen, inside[chosen]


def _nearness(fragments: Fragments, depth: Tensor) -> Tensor:
    """(H*W,) 1/z of what each pixel shows, 0 for nothing."""
    flat = depth.new_zeros(fragments.height * fragments.width)
    z = (fragments.weights.detach() * depth.detach()[fragments.corners]).sum(1)
    flat[fragments.pixel] = 1.0 / z
    return flat
