"""The optimisation: vertex offsets and a neural shader explain masks and colours of one view after the other.

Everything is in the normalised space, where the box's longest side is 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask
from torch import Tensor
from torch.nn import functional as tf

from ...colour import linear_to_srgb
from ...rendering.raster import Fragments, rasterize
from ...rendering.silhouette import Edges, find_outline, mesh_edges
from ...views import Bounds, View, ViewSet
from .diffusion import Diffusion, UniformAdam
from .options import MeshOptions
from .regularisers import Connectivity, face_normals, laplacian_loss, normal_loss
from .remesh import Remesher, RemeshError
from .shader import NeuralShader
from .topology import Faces, Vertices, edges_of, face_areas

UPSAMPLED = {"laplacian": 4.0, "normal": 4.0, "rate": 0.75}
"""What an upsampling does to the weights of the regularisers and to the vertices' step size."""

BOX_MARGIN = 1.1
"""How much larger than the given box the part of a picture is in which masks count."""

DIFFUSED_RATE = 5.0
"""Times the vertices' step size, where a step is spread over a neighbourhood."""

PIXELS_PER_EDGE = 1.5
"""Edges shorter than this many pixels hold nothing that the pictures show."""


@dataclass(frozen=True)
class Drawing:
    """`shaded` (H, W, 3) display code values on white, `normals` (H, W, 3) camera axes, `coverage` (H, W)."""

    shaded: NDArray[np.float32]
    normals: NDArray[np.float32]
    coverage: NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """A view at the resolution of the work, on the device.

    `colour` (H*W, 3) display code values, `mask` (H*W,) 0..1 (1 where nothing is known), `silhouette` (H*W,)
    whether the mask speaks of this object, `K` (3, 3), `R` (3, 3), `t` (3,), `eye` (3,).
    """

    name: str
    colour: Tensor
    mask: Tensor
    silhouette: Tensor
    K: Tensor
    R: Tensor
    t: Tensor
    eye: Tensor
    height: int
    width: int

    def project(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """(V, 2) pixels and (V,) depth of vertices (V, 3)."""
        camera = vertices @ self.R.T + self.t
        homogeneous = camera @ self.K.T
        return homogeneous[:, :2] / homogeneous[:, 2:], camera[:, 2]


def target_of(view: View, divisor: int, device: str | torch.device, bounds: Bounds | None = None) -> Target:
    """The view at 1/`divisor` of its resolution: colours and masks are averages over the pixels.

    What a mask shows outside the box of `bounds` is another object, and says nothing.
    """
    view = view.scaled(1 / divisor)
    camera = view.camera
    image = torch.from_numpy(np.ascontiguousarray(view.image))
    mask = torch.ones(image.shape[:2]) if view.mask is None else torch.from_numpy(view.mask.copy())
    tensor = lambda a: torch.as_tensor(a, dtype=torch.float32, device=device)  # noqa: E731
    return Target(
        view.name,
        linear_to_srgb(image.reshape(-1, 3).clamp(0, 1)).to(device),
        mask.reshape(-1).to(device),
        tensor(_silhouette(view, bounds).reshape(-1)),
        tensor(camera.K),
        tensor(camera.R),
        tensor(camera.t),
        tensor(camera.centre),
        camera.height,
        camera.width,
    )


def _silhouette(view: View, bounds: Bounds | None) -> NDArray[np.bool_]:
    """(H, W) where the view's mask speaks of what is in the box; nowhere when there is none."""
    camera = view.camera
    if view.mask is None:
        return np.zeros((camera.height, camera.width), bool)
    everywhere = np.ones(view.mask.shape, bool)
    if bounds is None:
        return everywhere
    corners, depth = camera.project(bounds.centre + BOX_MARGIN * (bounds.corners - bounds.centre))
    if depth.min() <= 0:
        return everywhere
    outline = corners[ConvexHull(corners).vertices]
    box = polygon2mask(view.mask.shape, outline[:, ::-1] - 0.5)
    return np.asarray(box | (view.mask < 0.01))


class NeuralMesh:
    """The unknowns and everything that is needed to take a step with them.

    `anchored` keeps the topology (the fitted face): no remeshing, smooth displacements, and a view's mask is
    only taken where this open surface can answer for it.
    """

    def __init__(
        self,
        vertices: Vertices,
        faces: Faces,
        views: ViewSet,
        options: MeshOptions,
        device: str | torch.device,
        *,
        anchored: bool = False,
    ) -> None:
        self.options = options
        self.device = torch.device(device)
        self.anchored = anchored
        self.shader = NeuralShader(options.shader(), seed=options.seed).to(self.device)
        self.weights = {"laplacian": options.weight_laplacian, "normal": options.weight_normal}
        self.rate = options.lr_vertices
        self.generator = torch.Generator(device=self.device).manual_seed(options.seed)
        self._views = views
        self._targets: dict[int, list[Target]] = {}
        self._queue = self._draws()
        self.shader_optimiser = torch.optim.Adam(self.shader.parameters(), lr=options.lr_shader)
        self.set_mesh(vertices, faces)

    # ---- the mesh -------------------------------------------------------------------------------------

    def set_mesh(self, vertices: Vertices, faces: Faces) -> None:
        """Start from this mesh: vertices (V, 3) normalised, faces (F, 3)."""
        self.faces = np.asarray(faces, dtype=np.int64)
        self.start = torch.as_tensor(vertices, dtype=torch.float32, device=self.device)
        self.unknowns = torch.zeros_like(self.start, requires_grad=True)
        self.connectivity = Connectivity.of(self.faces, len(self.start), self.device)
        self.edges: Edges = mesh_edges(self.connectivity.faces)
        count = edges_of(self.faces)
        self.boundary = torch.as_tensor(np.unique(count.ends[count.count == 1]), device=self.device)
        self.diffusion: Diffusion | None = None
        self.vertex_optimiser: torch.optim.Optimizer
        if self.anchored:
            self.diffusion = Diffusion(np.asarray(vertices), self.faces, self.options.diffusion)
            self.vertex_optimiser = UniformAdam([self.unknowns], lr=DIFFUSED_RATE * self.rate)
        else:
            self.vertex_optimiser = torch.optim.Adam([self.unknowns], lr=self.rate)

    @property
    def vertices(self) -> Tensor:
        """(V, 3) now."""
        return self.start + self.offsets

    @property
    def offsets(self) -> Tensor:
        """(V, 3) how far the vertices are from where they started."""
        return self.unknowns if self.diffusion is None else self.diffusion(self.unknowns)

    def upsample(self, remesher: Remesher) -> str:
        """Remesh with edges of half the length, but not finer than pictures and `max_faces` allow.

        Stiffens the regularisers and shortens the steps accordingly. Returns what happened, in words; when
        remeshing fails the mesh stays as it is.
        """
        vertices = self.vertices.detach().cpu().double().numpy()
        edges = edges_of(self.faces)
        length = float(np.linalg.norm(vertices[edges.ends[:, 0]] - vertices[edges.ends[:, 1]], axis=1).mean())
        area = float(face_areas(vertices, self.faces).sum())
        # The remesher makes equilateral triangles; a tenth is left for where it makes more.
        least = math.sqrt(area / (0.9 * self.options.max_faces) / (math.sqrt(3) / 4))
        wanted = max(length / 2, PIXELS_PER_EDGE * self._pixel_footprint(vertices), least)
        growth = (length / wanted) ** 2
        if growth < 1.2:
            return f"the mesh of {len(self.faces)} faces is as fine as pictures and max_faces allow; kept"
        try:
            new, new_faces = remesher.remesh(vertices, self.faces, wanted, max_faces=self.options.max_faces)
        except RemeshError as problem:
            return f"the mesh is kept as it was: {problem}"
        share = math.log(growth) / math.log(4.0)  # halved edges are the step the factors are made for
        self.weights["laplacian"] *= UPSAMPLED["laplacian"] ** share
        self.weights["normal"] *= UPSAMPLED["normal"] ** share
        self.rate *= UPSAMPLED["rate"] ** share
        before = len(self.faces)
        self.set_mesh(new, new_faces)
        return f"remeshed from {before} to {len(new_faces)} faces"

    def _pixel_footprint(self, vertices: Vertices) -> float:
        """Size of a pixel of the pictures on the object (normalised units), median over the views."""
        centre = vertices.mean(0)
        sizes = [
            float((v.camera.R @ centre + v.camera.t)[2]) / float(v.camera.K[0, 0]) * self.options.image_scale
            for v in self._views
        ]
        return float(np.median(sizes))

    # ---- a step ---------------------------------------------------------------------------------------

    def targets(self, divisor: int) -> list[Target]:
        """All views at 1/`divisor` of the pictures' resolution; only one resolution is held at a time."""
        if divisor not in self._targets:
            self._targets = {
                divisor: [target_of(v, divisor, self.device, self._views.bounds) for v in self._views]
            }
        return self._targets[divisor]

    def divisor_at(self, i: int) -> int:
        """Resolution of step i: the first part of the steps works at half of it."""
        coarse = i < self.options.coarse_share * self.options.iterations
        return self.options.image_scale * (2 if coarse else 1)

    def step(self, i: int) -> float:
        """One step of both optimisers; returns the loss."""
        targets = self.targets(self.divisor_at(i))
        with torch.enable_grad():
            offsets = self.offsets
            vertices = self.start + offsets
            normals = face_normals(vertices, self.connectivity.faces)
            # A face keeps the model's own curvature and triangles: what is smooth is how it is displaced.
            loss = self.weights["laplacian"] * laplacian_loss(
                offsets if self.anchored else vertices, self.connectivity
            )
            if not self.anchored:
                loss = loss + self.weights["normal"] * normal_loss(normals, self.connectivity)
            chosen = next(self._queue)
            around = self.vertex_normals(normals)
            for number in chosen:
                loss = loss + self._view_loss(targets[number], vertices, around) / len(chosen)
            self.vertex_optimiser.zero_grad(set_to_none=True)
            self.shader_optimiser.zero_grad(set_to_none=True)
            loss.backward()
        self.vertex_optimiser.step()
        self.shader_optimiser.step()
        return float(loss.detach())

    def _view_loss(self, target: Target, vertices: Tensor, normals: Tensor) -> Tensor:
        screen, depth = target.project(vertices)
        fragments = rasterize(screen, depth, self.connectivity.faces, target.height, target.width)
        outline = find_outline(fragments, screen, depth, self.edges)
        coverage = outline.coverage().view(-1)
        error = (coverage - target.mask) ** 2 * target.silhouette
        if self.anchored:
            error = error * self._answerable(screen, coverage, target)
        loss = self.options.weight_mask * error.mean()
        part = self._samples(fragments, target)
        if len(part.pixel):
            difference = self._colours(part, vertices, normals, target.eye) - target.colour[part.pixel]
            loss = loss + self.options.weight_shading * difference.abs().mean()
        return loss

    def _samples(self, fragments: Fragments, target: Target) -> Fragments:
        """Random pixels that both the mesh and the mask cover."""
        inside = torch.nonzero(target.mask[fragments.pixel] > 0.99)[:, 0]
        count = round(self.options.shading_percentage * len(inside))
        if self.options.shading_samples:
            count = min(count, self.options.shading_samples)
        order = torch.randperm(len(inside), generator=self.generator, device=self.device)
        return fragments.subset(inside[order[:count]])

    def _colours(self, part: Fragments, vertices: Tensor, normals: Tensor, eye: Tensor) -> Tensor:
        position = part.interpolate(vertices)
        normal = tf.normalize(part.interpolate(normals), dim=1)
        colours: Tensor = self.shader(position, normal, tf.normalize(eye - position, dim=1))
        return colours

    def vertex_normals(self, face_normal: Tensor) -> Tensor:
        """(V, 3) means of the unit normals around each vertex."""
        total = torch.zeros_like(self.start)
        for k in range(3):
            total = total.index_add(0, self.connectivity.faces[:, k], face_normal)
        return tf.normalize(total, dim=1)

    @torch.no_grad()
    def _answerable(self, screen: Tensor, coverage: Tensor, target: Target) -> Tensor:
        """(H*W,) 1 where an open surface must match the mask: outside the object, and near its own outline
        but not near its rim, beyond which the object goes on."""
        reach = max(2, round(0.012 * target.height))
        size = 2 * reach + 1
        picture = coverage.detach().view(1, 1, target.height, target.width)
        near = tf.max_pool2d(picture, size, 1, reach).view(-1) > 0
        rim = torch.zeros_like(coverage)
        x, y = screen[self.boundary].detach().floor().long().unbind(1)
        seen = (x >= 0) & (x < target.width) & (y >= 0) & (y < target.height)
        rim[y[seen] * target.width + x[seen]] = 1
        wide = tf.max_pool2d(rim.view(1, 1, target.height, target.width), 2 * size + 1, 1, size).view(-1)
        outside = target.mask < 0.5
        return (outside | (near & (wide == 0))).float()

    def skip_draws(self, steps: int) -> None:
        """Draw the views of the first `steps` steps without using them: they were used before a stop."""
        self._queue = self._draws()
        for _ in range(steps):
            next(self._queue)

    def _draws(self) -> Iterator[list[int]]:
        mode: Any = self.options.view_sampling_mode
        return self._views.batches(self.options.views_per_iter, mode, seed=self.options.seed)

    # ---- pictures and snapshots -----------------------------------------------------------------------

    @torch.no_grad()
    def draw(self, view: View, divisor: int = 1) -> Drawing:
        """The picture that a view should show."""
        target = target_of(view, divisor, self.device)
        vertices = self.vertices
        normals = self.vertex_normals(face_normals(vertices, self.connectivity.faces))
        screen, depth = target.project(vertices)
        fragments = rasterize(screen, depth, self.connectivity.faces, target.height, target.width)
        outline = find_outline(fragments, screen, depth, self.edges)
        colours = torch.cat(
            [
                self._colours(fragments.subset(rows), vertices, normals, target.eye)
                for rows in torch.arange(len(fragments.pixel), device=self.device).split(65536)
            ]
            or [vertices.new_zeros(0, 3)]
        )
        shaded = outline.blend(fragments.picture(colours, background=1.0))
        turned = tf.normalize(fragments.interpolate(normals), dim=1) @ target.R.T
        return Drawing(
            shaded.cpu().numpy(), fragments.picture(turned).cpu().numpy(), outline.coverage().cpu().numpy()
        )

    def snapshot(self) -> dict[str, Any]:
        """Copies of everything that moves, as tensors and plain values."""
        return {
            "start": self.start.clone(),
            "unknowns": self.unknowns.detach().clone(),
            "faces": torch.as_tensor(self.faces.copy()),
            "shader": {k: v.detach().clone() for k, v in self.shader.state_dict().items()},
            "weights": dict(self.weights),
            "rate": self.rate,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot; the optimisers start anew."""
        self.weights, self.rate = dict(snapshot["weights"]), float(snapshot["rate"])
        self.set_mesh(snapshot["start"].cpu().numpy(), snapshot["faces"].cpu().numpy())
        with torch.no_grad():
            self.unknowns.copy_(snapshot["unknowns"])
        self.shader.load_state_dict(snapshot["shader"])
        self.shader_optimiser = torch.optim.Adam(self.shader.parameters(), lr=self.options.lr_shader)
