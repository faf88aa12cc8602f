"""The rasteriser: visibility by candidate expansion and a depth test, differentiable barycentrics.

Plain torch, the same code on CPU and CUDA. Visibility (which face a pixel shows) is computed without
gradients; the perspective-correct barycentrics of visible pixels are recomputed differentiably, so every
interpolated attribute has gradients with respect to the vertices as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as tf

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
        return mixed(self.corners, self.weights, attribute)

    def picture(self, values: Tensor, background: float = 0.0) -> Tensor:
        """Values (N, C) of the covered pixels -> picture (H, W, C)."""
        flat = values.new_full((self.height * self.width, values.shape[1]), background)
        return flat.index_copy(0, self.pixel, values).view(self.height, self.width, -1)

    def coverage(self) -> Tensor:
        """(H, W) 1 where a face is seen, else 0."""
        flat = torch.zeros(self.height * self.width, device=self.pixel.device)
        flat[self.pixel] = 1.0
        return flat.view(self.height, self.width)


def mixed(rows: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sums (N, C) of rows (N, K) of `values` (V, C), with `weights` (N, K); differentiable."""
    result: Tensor = _Mixed.apply(weights, values, rows)
    return result


class _Mixed(torch.autograd.Function):
    """See `mixed`: in one go, and without a copy of all rows for the backward pass."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, attribute: Tensor, corners: Tensor) -> Tensor:
        ctx.save_for_backward(weights, attribute, corners)
        return tf.embedding_bag(corners, attribute, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, attribute, corners = ctx.saved_tensors
        by_weights = by_attribute = None
        if ctx.needs_input_grad[0]:
            by_weights = torch.stack(
                [(attribute.index_select(0, corner) * gradient).sum(1) for corner in corners.unbind(1)], 1
            )
        if ctx.needs_input_grad[1]:
            by_attribute = torch.zeros_like(attribute)
            for corner, weight in zip(corners.unbind(1), weights.unbind(1), strict=True):
                by_attribute.index_add_(0, corner, weight[:, None] * gradient)
        return by_weights, by_attribute, None


@torch.no_grad()
def visible_faces(
    screen: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, *, orthographic: bool = False
) -> Tensor:
    """Which face each pixel shows: (H, W) int64, -1 for none.

    `screen` (V, 2) pixels, `depth` (V,) camera z (mm), `faces` (F, 3). Pixel centres lie at +0.5. The depth
    test interpolates 1/z (z itself when `orthographic`), which is exact for planar triangles.
    """
    # One coordinate at a time with `index_select`: several times as fast as indexing rows of coordinates.
    corners = faces.T.contiguous().unbind(0)
    across, down = screen.T.contiguous().unbind(0)
    ax, bx, cx = (across.index_select(0, corner) for corner in corners)
    ay, by, cy = (down.index_select(0, corner) for corner in corners)
    x0 = (torch.minimum(torch.minimum(ax, bx), cx) - 0.5).ceil_().clamp_(0, width)
    x1 = (torch.maximum(torch.maximum(ax, bx), cx) - 0.5).floor_().clamp_(-1, width - 1)
    y0 = (torch.minimum(torch.minimum(ay, by), cy) - 0.5).ceil_().clamp_(0, height)
    y1 = (torch.maximum(torch.maximum(ay, by), cy) - 0.5).floor_().clamp_(-1, height - 1)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    usable = (x1 >= x0) & (y1 >= y0) & (area.abs() > 1e-12)
    if not orthographic:
        for corner in corners:
            usable &= depth.index_select(0, corner) > NEAREST
    kept = torch.nonzero(usable)[:, 0]
    best = torch.full((height * width,), -torch.inf, device=screen.device, dtype=screen.dtype)
    owner = torch.full((height * width,), -1, dtype=torch.int64, device=screen.device)
    if kept.numel() == 0:
        return owner.view(height, width)
    ax, bx, cx, ay, by, cy, area = (v.index_select(0, kept) for v in (ax, bx, cx, ay, by, cy, area))
    x0, x1, y0, y1 = (v.index_select(0, kept).long() for v in (x0, x1, y0, y1))
    nearness = -depth if orthographic else 1.0 / depth
    n0, n1, n2 = (nearness.index_select(0, corner.index_select(0, kept)) for corner in corners)
    # barycentrics are linear in the pixel: l1 = u1.(x - a), l2 = u2.(x - a). Coordinates relative to a corner
    # keep float32 exact enough that neighbouring triangles leave no holes between them.
    inverse = 1.0 / area
    linear = (ax, ay, (cy - ay) * inverse, (ax - cx) * inverse, (ay - by) * inverse, (bx - ax) * inverse)
    columns = x1 - x0 + 1
    count = columns * (y1 - y0 + 1)
    ends = torch.cumsum(count, 0)
    start = 0
    while start < len(kept):
        base = ends[start - 1] if start else ends.new_zeros(())
        stop = int(torch.searchsorted(ends, base + _CHUNK, right=True))
        stop = max(stop, start + 1)
        f = torch.repeat_interleave(torch.arange(start, stop, device=count.device), count[start:stop])
        k = torch.arange(len(f), device=f.device) - (ends - count - base).index_select(0, f)
        wide = columns.index_select(0, f)
        row = torch.div(k, wide, rounding_mode="floor")
        px = x0.index_select(0, f) + k - row * wide
        py = y0.index_select(0, f) + row
        fx, fy, u1x, u1y, u2x, u2y = (v.index_select(0, f) for v in linear)
        x = px.to(screen.dtype) + 0.5 - fx
        y = py.to(screen.dtype) + 0.5 - fy
        l1 = u1x * x + u1y * y
        l2 = u2x * x + u2y * y
        inside = torch.nonzero((l1 >= -_EDGE) & (l2 >= -_EDGE) & (l1 + l2 <= 1 + _EDGE))[:, 0]
        f, l1, l2, pixel = (v.index_select(0, inside) for v in (f, l1, l2, py * width + px))
        near, towards1, towards2 = (v.index_select(0, f) for v in (n0, n1 - n0, n2 - n0))
        z = near + l1 * towards1 + l2 * towards2
        best.scatter_reduce_(0, pixel, z, "amax", include_self=True)
        won = torch.nonzero(z >= best.index_select(0, pixel))[:, 0]
        owner[pixel.index_select(0, won)] = kept.index_select(0, f.index_select(0, won))
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
    face = owner.index_select(0, pixel)
    corners = faces.index_select(0, face)
    flat = corners.reshape(-1)
    w = corner_weights(screen.index_select(0, flat).view(-1, 3, 2), pixel, width)
    w = w / depth.index_select(0, flat).view(-1, 3)
    w = w / w.sum(1, keepdim=True)
    return Fragments(pixel, face, corners, w, height, width)
