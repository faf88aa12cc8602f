"""The rasteriser: visibility by candidate expansion and a depth test, differentiable barycentrics.

Plain torch, the same code on CPU and CUDA. Visibility (which face a pixel shows) is computed without
gradients; the perspective-correct barycentrics of visible pixels are recomputed differentiably, so every
interpolated attribute has gradients with respect to the vertices as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EDGE = 1e-5  # barycentric slack that closes rounding gaps between neighbours
NEAREST = 1e-3
"""Faces with a corner nearer to the camera's plane than this (or behind it) are not drawn."""

_CHUNK = 4_000_000  # candidate pixels held at once; bounds the memory


@dataclass(frozen=True)
class Fragments:
    """The visible samples of a picture: N covered pixels.

    `pixel` (N,) row*W+column, `face` (N,), `weights` (N, 3) perspective-correct barycentrics
    (differentiable), `corners` (N, 3) the vertex indices of the face.
    """

    pixel: Tensor
    face: Tensor
    corners: Tensor
    weights: Tensor
    height: int
    width: int

    def subset(self, rows: Tensor) -> Fragments:
        """The fragments with these row numbers."""
        return Fragments(
            self.pixel[rows], self.face[rows], self.corners[rows], self.weights[rows], self.height, self.width
        )

    def interpolate(self, attribute: Tensor) -> Tensor:
        """Vertex attribute (V, C) -> (N, C) at the covered pixels."""
        picked = attribute.index_select(0, self.corners.reshape(-1))
        picked = picked.view(*self.corners.shape, attribute.shape[1])
        return torch.einsum("nk,nkc->nc", self.weights, picked)

    def picture(self, values: Tensor, background: float = 0.0) -> Tensor:
        """Values (N, C) of the covered pixels -> picture (H, W, C)."""
        flat = values.new_full((self.height * self.width, values.shape[1]), background)
        return flat.index_copy(0, self.pixel, values).view(self.height, self.width, -1)

    def coverage(self) -> Tensor:
        """(H, W) 1 where a face is seen, else 0."""
        flat = torch.zeros(self.height * self.width, device=self.pixel.device)
        flat[self.pixel] = 1.0
        return flat.view(self.height, self.width)


@torch.no_grad()
def visible_faces(
    screen: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, *, orthographic: bool = False
) -> Tensor:
    """Which face each pixel shows: (H, W) int64, -1 for none.

    `screen` (V, 2) pixels, `depth` (V,) camera z (mm), `faces` (F, 3). Pixel centres lie at +0.5. The depth
    test interpolates 1/z (z itself when `orthographic`), which is exact for planar triangles.
    """
    a, b, c = (screen[faces[:, k]] for k in range(3))
    nearness = -depth if orthographic else 1.0 / depth
    corner_near = nearness[faces]
    low = torch.minimum(torch.minimum(a, b), c)
    high = torch.maximum(torch.maximum(a, b), c)
    x0 = (low[:, 0] - 0.5).ceil().clamp(0, width).long()
    x1 = (high[:, 0] - 0.5).floor().clamp(-1, width - 1).long()
    y0 = (low[:, 1] - 0.5).ceil().clamp(0, height).long()
    y1 = (high[:, 1] - 0.5).floor().clamp(-1, height - 1).long()
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    columns = (x1 - x0 + 1).clamp(min=0)
    count = columns * (y1 - y0 + 1).clamp(min=0)
    usable = area.abs() > 1e-12
    if not orthographic:
        usable &= depth[faces].min(1).values > NEAREST
    kept = torch.nonzero((count > 0) & usable)[:, 0]
    best = torch.full((height * width,), -torch.inf, device=screen.device, dtype=screen.dtype)
    owner = torch.full((height * width,), -1, dtype=torch.int64, device=screen.device)
    if kept.numel() == 0:
        return owner.view(height, width)
    # barycentrics are linear in the pixel: l1 = u1.(x - a), l2 = u2.(x - a). Coordinates relative to a corner
    # keep float32 exact enough that neighbouring triangles leave no holes between them.
    inverse = 1.0 / area[kept]
    a, b, c = a[kept], b[kept], c[kept]
    u1 = torch.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], 1) * inverse[:, None]
    u2 = torch.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], 1) * inverse[:, None]
    n0, n1, n2 = corner_near[kept].unbind(1)
    rows = torch.cat([u1, u2, a, n0[:, None], (n1 - n0)[:, None], (n2 - n0)[:, None]], 1)
    count, columns, x0, y0 = count[kept], columns[kept], x0[kept], y0[kept]
    ends = torch.cumsum(count, 0)
    start = 0
    while start < len(kept):
        base = ends[start - 1] if start else ends.new_zeros(())
        stop = int(torch.searchsorted(ends, base + _CHUNK, right=True))
        stop = max(stop, start + 1)
        n = count[start:stop]
        f = torch.repeat_interleave(torch.arange(start, stop, device=n.device), n)
        k = torch.arange(len(f), device=n.device) - (torch.cumsum(n, 0) - n).repeat_interleave(n)
        row = torch.div(k, columns[f], rounding_mode="floor")
        px = x0[f] + k - row * columns[f]
        py = y0[f] + row
        row_of = rows[f]
        x = px.to(screen.dtype) + 0.5 - row_of[:, 4]
        y = py.to(screen.dtype) + 0.5 - row_of[:, 5]
        l1 = row_of[:, 0] * x + row_of[:, 1] * y
        l2 = row_of[:, 2] * x + row_of[:, 3] * y
        inside = torch.nonzero((l1 >= -_EDGE) & (l2 >= -_EDGE) & (l1 + l2 <= 1 + _EDGE))[:, 0]
        f, row_of, l1, l2 = f[inside], row_of[inside], l1[inside], l2[inside]
        z = row_of[:, 6] + l1 * row_of[:, 7] + l2 * row_of[:, 8]
        pixel = py[inside] * width + px[inside]
        best.scatter_reduce_(0, pixel, z, "amax", include_self=True)
        won = z >= best[pixel]
        owner[pixel[won]] = kept[f[won]]
        start = stop
    return owner.view(height, width)


def corner_weights(corners: Tensor, pixel: Tensor, width: int) -> Tensor:
    """Twice the signed area that each corner's opposite edge makes with the pixel's centre, (N, 3).

    `corners` (N, 3, 2) in pixels, `pixel` (N,) row*width+column. Divided by their sum they are the
    barycentric weights on the screen.
    """
    x = (pixel % width).to(corners.dtype) + 0.5
    y = torch.div(pixel, width, rounding_mode="floor").to(corners.dtype) + 0.5
    dx, dy = corners[..., 0] - x[:, None], corners[..., 1] - y[:, None]
    return torch.stack(
        [
            dx[:, 1] * dy[:, 2] - dx[:, 2] * dy[:, 1],
            dx[:, 2] * dy[:, 0] - dx[:, 0] * dy[:, 2],
            dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0],
        ],
        1,
    )


def rasterize(screen: Tensor, depth: Tensor, faces: Tensor, height: int, width: int) -> Fragments:
    """Fragments of a mesh seen in perspective; see `visible_faces` for the arguments.

    Faces must be oriented consistently, but both sides are drawn. Gradients reach `screen` and `depth`
    through the barycentric weights (not through which face is visible).
    """
    owner = visible_faces(screen.detach(), depth.detach(), faces, height, width).view(-1)
    pixel = torch.nonzero(owner >= 0)[:, 0]
    face = owner[pixel]
    corners = faces[face]
    flat = corners.reshape(-1)
    w = corner_weights(screen.index_select(0, flat).view(-1, 3, 2), pixel, width)
    w = w / depth.index_select(0, flat).view(-1, 3)
    w = w / w.sum(1, keepdim=True)
    return Fragments(pixel, face, corners, w, height, width)
