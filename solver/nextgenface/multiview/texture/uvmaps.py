"""Which texel each pixel of a view shows, and how much that pixel is to be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from ...geometry.normals import vertex_normals_array
from ...rendering.raster import Fragments, rasterize
from ...rendering.silhouette import Edges, find_outline, mesh_edges
from ...views import Camera, View
from ..datasets.neural_texgen import UvView
from ..meshes import Mesh

GRAZING = 0.1
"""Cosine of the angle of view below which a pixel says nothing: it covers ten times as many texels."""

JUMP = 0.02
"""Relative jump of depth between neighbours that is an edge; pixels beside one mix two surfaces."""


Sample = Callable[[Tensor], Tensor]
"""Texture coordinates (N, 2) -> colours (N, 3)."""


@dataclass(frozen=True)
class Surface:
    """A mesh as tensors: vertices (V, 3), normals (V, 3), faces (F, 3), uv (U, 2), uv_faces (F, 3).

    `outward` is -1 where the faces of the file are wound the wrong way round, so that they can be seen.
    """

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    edges: Edges
    outward: float = 1.0

    @staticmethod
    def of(mesh: Mesh, device: torch.device | str = "cpu") -> Surface:
        """The tensors of a mesh with a layout. Raises MeshError without one."""
        uv, uv_faces = mesh.layout
        faces = torch.as_tensor(mesh.faces, device=device)
        vertices = torch.as_tensor(mesh.vertices, dtype=torch.float32, device=device)
        normals = torch.as_tensor(vertex_normals_array(mesh.vertices, mesh.faces), device=device)
        return Surface(
            vertices,
            normals,
            faces,
            torch.as_tensor(uv, dtype=torch.float32, device=device),
            torch.as_tensor(uv_faces, device=device),
            mesh_edges(faces, vertices),
        )

    def turned_outward(self, cameras: list[Camera]) -> Surface:
        """With `outward` such that most of what the cameras see faces them."""
        towards = 0.0
        for camera in cameras:
            small = camera.scaled(min(1.0, 128 / max(camera.width, camera.height)))
            _, cosine, _ = self.seen(small)
            towards += float(torch.sign(cosine).sum())
        return replace(self, outward=-1.0 if towards < 0 else 1.0)

    def projected(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """(V, 2) pixels and (V,) depth."""
        device = self.vertices.device
        R, t, K = (
            torch.as_tensor(x, dtype=torch.float32, device=device) for x in (camera.R, camera.t, camera.K)
        )
        inside = self.vertices @ R.T + t
        flat = inside @ K.T
        return flat[:, :2] / flat[:, 2:], inside[:, 2]

    def seen(self, camera: Camera) -> tuple[Fragments, Tensor, Tensor]:
        """(fragments, (N,) cosine of the angle between normal and view, negative from behind, (N,) depth)."""
        screen, depth = self.projected(camera)
        fragments = rasterize(screen, depth, self.faces, camera.height, camera.width)
        normal = torch.nn.functional.normalize(fragments.interpolate(self.normals), dim=1)
        place = fragments.interpolate(self.vertices)
        centre = torch.as_tensor(camera.centre, dtype=torch.float32, device=place.device)
        view = torch.nn.functional.normalize(centre - place, dim=1)
        cosine = self.outward * (normal * view).sum(1)
        return fragments, cosine, fragments.interpolate(depth[:, None])[:, 0]

    def uv_of(self, fragments: Fragments) -> Tensor:
        """(N, 2) texture coordinates of fragments, perspective-correct."""
        corners = self.uv[self.uv_faces[fragments.face]]
        return (fragments.weights[..., None] * corners).sum(1)

    @torch.no_grad()
    def drawn(
        self, camera: Camera, sample: Sample, *, back: Tensor | None = None, supersample: int = 2
    ) -> tuple[Tensor, Tensor]:
        """((H, W, 3) picture over black, (H, W) coverage), antialiased.

        `sample` gives the texture's colours; `back` (3,) is the colour of what is seen from behind, None: the
        texture's. Surfaces are sampled `supersample` times as finely as the picture and averaged.
        """
        fine = camera.scaled(supersample)
        fragments, cosine, _ = self.seen(fine)
        colours = sample(self.uv_of(fragments))
        if back is not None:
            colours = torch.where(cosine[:, None] > 0, colours, back.to(colours))
        picture = fragments.picture(torch.cat([colours, torch.ones_like(colours[:, :1])], 1))
        screen, depth = self.projected(fine)
        picture = find_outline(fragments, screen, depth, self.edges).blend(picture).clamp(0, 1)
        picture = avg_pool2d(picture.permute(2, 0, 1)[None], supersample)[0].permute(1, 2, 0)
        return picture[..., :3], picture[..., 3]


def uv_view(surface: Surface, view: View, *, power: float = 2.0) -> UvView:
    """The UV map of a view, one sample at every pixel's centre, and the weight of every pixel.

    The weight is the cosine of the angle of view to `power`, 0 where the surface is seen from behind or
    grazing, outside the mask, and beside edges of the mask or of the depth.
    """
    camera = view.camera
    fragments, cosine, depth = surface.seen(camera)
    count = camera.height * camera.width
    device = fragments.pixel.device

    def picture(values: Tensor) -> Tensor:
        return (
            torch.zeros(count, device=device)
            .index_copy(0, fragments.pixel, values)
            .view(camera.height, camera.width)
        )

    covered = fragments.coverage().to(device)
    trusted = covered * (1 - _spread(_jumps(picture(depth), covered)))
    if view.mask is not None:
        outside = torch.tensor(view.mask, device=device) < 0.95
        trusted = trusted * (1 - _spread(outside.float()))
    facing = picture(cosine.clamp(min=0))
    weight = trusted * facing**power * (facing > GRAZING)
    uv = torch.zeros(count, 2, device=device).index_copy(0, fragments.pixel, surface.uv_of(fragments))
    return UvView(
        view.name,
        view.image,
        uv.clamp(0, 1).view(camera.height, camera.width, 2).cpu().numpy(),
        (picture(cosine) > 0).cpu().numpy(),
        weight.cpu().numpy(),
    )


def _spread(marked: Tensor) -> Tensor:
    """(H, W) marks and all their neighbours."""
    return max_pool2d(marked[None, None], 3, 1, 1)[0, 0]


def _jumps(depth: Tensor, covered: Tensor) -> Tensor:
    """(H, W) 1 at covered pixels beside nothing, or nearer than a neighbour by a jump."""
    far = torch.where(covered > 0, depth, torch.full_like(depth, 1e9))
    reach = max_pool2d(far[None, None], 3, 1, 1)[0, 0]
    near = -max_pool2d(-far[None, None], 3, 1, 1)[0, 0]
    return ((reach > depth * (1 + JUMP)) | (near < depth * (1 - JUMP))).float() * covered


def texel_centres(surface: Surface, size: int, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """The texels of rows first..last-1 of a `size` x `size` texture (top row first) that lie on a face.

    (N,) number within these rows, (N,) face, (N, 3) barycentric weights.
    """
    place = surface.uv * torch.tensor([size, -size], device=surface.uv.device, dtype=torch.float32)
    place = place + torch.tensor([0.0, size - first], device=surface.uv.device)
    flat = torch.ones(len(place), device=place.device)
    fragments = rasterize(place, flat, surface.uv_faces, last - first, size)
    return fragments.pixel, fragments.face, fragments.weights


@torch.no_grad()
def overlap(surface: Surface, size: int = 1024) -> float:
    """Share of the layout's area that lies under another face of it, 0 to nearly 1."""
    a, b, c = (surface.uv[surface.uv_faces[:, k]] * size for k in range(3))
    ab, ac = b - a, c - a
    area = 0.5 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]).abs().sum()
    pixel, _, _ = texel_centres(surface, size, 0, size)
    return max(0.0, 1.0 - len(pixel) / max(float(area), 1.0))


def outside_share(mesh: Mesh, slack: float = 1e-3) -> float:
    """Share of the faces with a corner outside 0..1."""
    uv, uv_faces = mesh.layout
    outside = ((uv < -slack) | (uv > 1 + slack)).any(1)
    return float(outside[uv_faces].any(1).mean())


def footprint(view: UvView) -> float:
    """Median step of u or v between neighbouring pixels of a map: the size of a pixel in the layout."""
    both = view.valid[:, 1:] & view.valid[:, :-1]
    steps: NDArray[np.float32] = np.abs(np.diff(view.uv, axis=1)).max(2)[both]
    steps = steps[steps < 0.05]  # larger ones cross a seam
    return float(np.median(steps)) if len(steps) else 0.0
