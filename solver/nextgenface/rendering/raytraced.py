"""The ray-traced engine: Mitsuba finds what rays hit, and every picture has gradients.

Mitsuba's scene is made once and its mesh moved in place; rays decide what is seen and what is shadowed, and
are held fixed in the gradients (detached). What happens at a hit is computed anew from the triangle that was
hit, the skin there and the light, and carries derivatives with respect to vertices, normals, skin and light.
Each hit draws one direction from the light and one from the skin, weighted by the balance heuristic; both
are held fixed, too, because derivatives of where samples go only add noise. What rays found is kept for the
backward pass, so nothing is traced twice.

Outlines have gradients when they are asked for (`rendering.silhouette`, far cheaper than tracing them).
Moving shadows have none; docs/rendering.md says what that costs.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import EnvironmentProblem
from .bridge import call, to_floats, to_index
from .deferred import Pose
from .light import lobe_weights
from .mitsuba_scene import Geometry, build_mesh, build_scene, matte_bsdf, mitsuba
from .pathtracer import is_out_of_memory, release_memory
from .raster import rasterize
from .raypass import LIGHT_ROWS, RayPass
from .sh import equirect_directions, solid_angles
from .silhouette import Edges, find_outline
from .skin_lobes import albedo_texture

log = logging.getLogger(__name__)

SMALLEST_WAVEFRONT = 2**16
SMALLEST_SCALE = 1 / 16
_UNIFORM_SHARE = 0.1  # of the light samples: no direction that shines may have no density


@dataclass(frozen=True)
class Frame:
    """What one picture shows, in camera space (x right, y down, z forward).

    `vertices` (V, 3) mm; `normals` (V, 3) unit, outwards; `skin` (V, 5) at the vertices or (T, T, 5) as maps,
    top row first: base colour (linear Rec.709), specular level, roughness; `light` (D, 3) radiance of the
    lobes; `pose` for focal length and principal point in pixels. Gradients reach all but the pose.
    """

    vertices: Tensor
    normals: Tensor
    skin: Tensor
    light: Tensor
    pose: Pose


class RayTracer:
    """One mesh, kept in a Mitsuba scene and drawn again and again.

    `faces` (F, 3), `uv` (V, 2) origin bottom left (needed for maps only); `bounces`: 1 = direct light only;
    `wavefront`: most samples in flight. A variant has to be active (`rendering.llvm`), and it has to be one
    with derivatives: raises EnvironmentProblem.

    When memory runs out the wavefront is made smaller, and after that the pictures are drawn at half the
    resolution and enlarged, so that their size stays what was asked for; `scale` says so, and the log.
    """

    def __init__(
        self, faces: Tensor, uv: Tensor | None = None, *, bounces: int = 1, wavefront: int = 2**22
    ) -> None:
        mi = mitsuba()
        if "_ad_" not in mi.variant():
            raise EnvironmentProblem(
                f"The ray-traced engine needs derivatives, which Mitsuba's {mi.variant()} has not. "
                "Use engine = deferred, or see nextgenface-doctor."
            )
        self.bounces, self.wavefront, self.scale = max(1, int(bounces)), int(wavefront), 1.0
        corners = np.ascontiguousarray(faces.detach().cpu().numpy(), np.uint32)
        self._count = count = int(corners.max()) + 1 if uv is None else len(uv)
        flat = np.zeros((count, 3), np.float32)
        mesh = build_mesh(Geometry(flat, corners, np.zeros((count, 2)), np.ones((count, 3))), matte_bsdf(0.5))
        self.scene = build_scene(mesh, None)
        self._parameters = mi.traverse(self.scene)
        self._key = next(key for key in self._parameters.keys() if key.endswith("vertex_positions"))  # noqa: SIM118
        self.faces = to_index(faces)
        self.uv = None if uv is None else to_floats(uv)
        self.table = albedo_texture()
        self._placed: Tensor | None = None
        directions = equirect_directions(LIGHT_ROWS, 2 * LIGHT_ROWS).reshape(-1, 3)
        self._lobes = lobe_weights(directions)
        self._solid = solid_angles(LIGHT_ROWS, 2 * LIGHT_ROWS).repeat_interleave(2 * LIGHT_ROWS)

    # ---- drawing --------------------------------------------------------------------------------------

    def picture(
        self,
        frame: Frame,
        size: tuple[int, int],
        *,
        samples: int,
        seed: int,
        where: Tensor | None = None,
        edges: Edges | None = None,
    ) -> Tensor:
        """Linear premultiplied radiance and coverage (H, W, 4), `samples` rays per pixel.

        `size` (height, width). `where` (H, W) bool: pixels that are drawn, the others stay 0 (all that the
        mesh's bounding box covers, when left out). The same seed gives the same noise. With `edges` of the
        mesh the picture also has the gradients of its outlines, against whatever is put behind it.
        """
        height, width = size
        if where is None:
            where = _bounding_box(frame, size)
        while True:
            try:
                block = round(1 / self.scale)
                pixel = _blocks(where, block)
                values = self.radiance(
                    frame, pixel, -(-width // block), samples=samples, seed=seed, footprint=block
                )
                picture = _spread(values, pixel, size, block) * where[..., None]
                return picture if edges is None else picture + _outline_gradient(frame, picture, edges)
            except (RuntimeError, MemoryError) as error:
                if not self.relieve(error):
                    raise

    def relieve(self, error: BaseException) -> bool:
        """Make do with less memory after `error`; False when it was something else.

        Raises EnvironmentProblem when there is nothing left to give up.
        """
        if not is_out_of_memory(error):
            return False
        release_memory()
        if self.wavefront > SMALLEST_WAVEFRONT:
            self.wavefront = max(self.wavefront // 4, SMALLEST_WAVEFRONT)
            log.warning("Out of memory: ray tracing goes on in passes of %d samples.", self.wavefront)
        elif self.scale > SMALLEST_SCALE:
            self.scale /= 2
            log.warning("Out of memory: ray tracing goes on at %g of the resolution.", self.scale)
        else:
            raise EnvironmentProblem(
                "Out of memory even for small ray-traced pictures. Close other programs, lower "
                "maxResolution, or use engine = deferred."
            ) from error
        return True

    def radiance(
        self, frame: Frame, pixel: Tensor, width: int, *, samples: int, seed: int, footprint: int = 1
    ) -> Tensor:
        """Radiance and coverage (N, 4) of pixels `pixel` (N,), row*width+column, in passes.

        `footprint`: side of a pixel, for pictures at a fraction of the resolution.
        """
        self._check(frame)
        self._place(frame.vertices)
        light = (self._lobes.to(frame.light) @ frame.light).view(LIGHT_ROWS, 2 * LIGHT_ROWS, 3)
        # Texels repeat beyond the poles; around the horizon the lookup wraps.
        padded = torch.cat([light[:1], light, light[-1:]])
        chances = self._chances(light.detach())
        focal = float(frame.pose.focal.detach())
        cx, cy = (float(x) for x in frame.pose.principal.detach())
        per_pass = max(1, self.wavefront // samples)
        found = []
        for start in range(0, len(pixel), per_pass):
            some = pixel[start : start + per_pass]
            one = RayPass(
                self, some, width, samples, seed, footprint, chances, frame.skin.dim() == 3,
                focal, (cx, cy),
            )  # fmt: skip
            found.append(call(one, frame.vertices, frame.normals, frame.skin, padded))
        return torch.cat(found) if found else frame.vertices.new_zeros(0, 4)

    # ---- inside ---------------------------------------------------------------------------------------

    def _check(self, frame: Frame) -> None:
        """Rays must not read beyond the end of an array. Raises ValueError."""
        maps = frame.skin.dim() == 3
        wanted = {
            "vertices": (frame.vertices, (self._count, 3)),
            "normals": (frame.normals, (self._count, 3)),
            "skin": (frame.skin, (*frame.skin.shape[:2], 5) if maps else (self._count, 5)),
        }
        for name, (tensor, shape) in wanted.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(f"Frame.{name} has the shape {tuple(tensor.shape)}, not {shape}")
        if maps and self.uv is None:
            raise ValueError("Frame.skin are maps, and this mesh was given without uv")

    def _place(self, vertices: Tensor) -> None:
        """Move Mitsuba's mesh, when it has moved."""
        now = vertices.detach()
        if self._placed is not None and torch.equal(self._placed, now):
            return
        self._parameters[self._key] = to_floats(now)
        self._parameters.update()
        self._placed = now.clone()

    def _chances(self, light: Tensor) -> Tensor:
        """Probability (texels,) of drawing a direction from each texel of the light."""
        brightness = light.clamp(min=0).mean(-1).reshape(-1) * self._solid.to(light)
        even = self._solid.to(light) / (4 * math.pi)
        share = brightness / brightness.sum().clamp(min=1e-12)
        return torch.where(brightness.sum() > 0, (1 - _UNIFORM_SHARE) * share + _UNIFORM_SHARE * even, even)


def _outline_gradient(frame: Frame, picture: Tensor, edges: Edges) -> Tensor:
    """Zero everywhere (H, W, 4), with the gradients of the outlines in `picture`."""
    height, width = picture.shape[:2]
    screen, depth = frame.pose.screen(frame.vertices), frame.vertices[:, 2]
    fragments = rasterize(screen.detach(), depth.detach(), edges.faces, height, width)
    outline = find_outline(fragments, screen, depth, edges)
    seen = picture.detach().reshape(-1, 4)[fragments.pixel]
    whole = seen / seen[:, 3:].clamp(min=0.25)  # what the pixel would show if it were covered
    blended = outline.blend(fragments.picture(whole))
    return blended - blended.detach()


def _bounding_box(frame: Frame, size: tuple[int, int]) -> Tensor:
    """(H, W) bool, pixels that can see the mesh."""
    height, width = size
    screen = frame.pose.screen(frame.vertices.detach())
    where = torch.zeros(height, width, dtype=torch.bool, device=screen.device)
    if bool((frame.vertices[:, 2] <= 0).any()):
        return ~where
    low = screen.min(0).values.floor().long() - 1
    high = screen.max(0).values.ceil().long() + 1
    x0, y0 = int(low[0].clamp(0, width)), int(low[1].clamp(0, height))
    where[y0 : int(high[1].clamp(0, height)), x0 : int(high[0].clamp(0, width))] = True
    return where


def _blocks(where: Tensor, block: int) -> Tensor:
    """Numbers (N,) of the blocks of pixels that hold a wanted pixel, row*columns+column."""
    if block > 1:
        height, width = where.shape
        grown = torch.zeros(-(-height // block) * block, -(-width // block) * block, dtype=torch.bool)
        grown[:height, :width] = where.cpu()
        where = grown.view(grown.shape[0] // block, block, -1, block).any(3).any(1).to(where.device)
    return torch.nonzero(where.reshape(-1))[:, 0]


def _spread(values: Tensor, pixel: Tensor, size: tuple[int, int], block: int) -> Tensor:
    """Values (N, C) of blocks as a picture (H, W, C)."""
    height, width = size
    rows, columns = -(-height // block), -(-width // block)
    flat = values.new_zeros(rows * columns, values.shape[1]).index_copy(0, pixel, values)
    picture = flat.view(rows, columns, -1)
    if block > 1:
        picture = picture.repeat_interleave(block, 0).repeat_interleave(block, 1)
    return picture[:height, :width]
