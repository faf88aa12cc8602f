"""Pictures of Gaussians: projection, depth order, compositing. One function, two engines.

`torch` runs on any device; `gsplat` (https://github.com/nerfstudio-project/gsplat, Apache-2.0) is used for
CUDA tensors when it is installed. Both draw the same: a Gaussian's flat image has a little blur added
(`BLUR`), its opacity is lowered by as much as that makes it larger, and alpha below 1/255 is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import EnvironmentProblem
from ...views import Camera
from . import harmonics
from .compositing import composite
from .splats import Splats

Engine = Literal["auto", "torch", "gsplat"]

BLUR = 0.3
"""Added to both variances of a flat Gaussian, pixel^2: none falls between the pixels."""
_WIDEST = 1.3
"""Slope of a viewing ray, as a multiple of the picture's edge, at which the flattening stops to grow."""


@dataclass
class Pinhole:
    """A camera of tensors, so that it can be learned: `focal` (2,), `principal` (2,) pixels, `R` (3, 3),
    `t` (3,); X_cam = R X + t, OpenCV axes.
    """

    focal: Tensor
    principal: Tensor
    R: Tensor
    t: Tensor
    width: int
    height: int

    @staticmethod
    def of(camera: Camera, device: torch.device | str = "cpu") -> Pinhole:
        """The tensors of a camera (its skew, if any, is left out)."""
        K, R, t = (
            torch.as_tensor(v, dtype=torch.float32, device=device) for v in (camera.K, camera.R, camera.t)
        )
        return Pinhole(K.diagonal()[:2].clone(), K[:2, 2].clone(), R, t, camera.width, camera.height)

    def camera(self) -> Camera:
        """The same camera as plain numbers."""
        K = np.eye(3)
        K[0, 0], K[1, 1] = self.focal.tolist()
        K[:2, 2] = self.principal.tolist()
        # float32 steps leave a matrix that is not quite a rotation
        u, _, vt = np.linalg.svd(np.asarray(self.R.tolist()))
        return Camera(K, u @ vt, np.asarray(self.t.tolist()), self.width, self.height)


@dataclass
class Rendered:
    """`image` (H, W, 3) sRGB code values over the background, `alpha` (H, W), `depth` (H, W): mean of the
    camera's z, weighted by visibility, premultiplied by alpha; `means` (N, 2) pixels, with its gradient after
    a backward pass; `visible` (N,) bool.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    means: Tensor
    visible: Tensor


def choose_engine(
    engine: Engine, device: torch.device, *, learns_focal: bool = False
) -> Literal["torch", "gsplat"]:
    """The engine that will draw; gsplat has no gradient for the focal length.

    Raises EnvironmentProblem when gsplat is asked for and cannot be used.
    """
    if learns_focal and engine == "gsplat":
        raise EnvironmentProblem("gsplat cannot learn the focal length. Set engine to torch or auto.")
    usable = device.type == "cuda" and find_spec("gsplat") is not None and not learns_focal
    if engine == "gsplat" and not usable:
        raise EnvironmentProblem(
            "The engine gsplat needs a CUDA device and the package gsplat (pip install gsplat). "
            "Set engine to torch, which draws the same."
        )
    return "gsplat" if engine != "torch" and usable else "torch"


def render(
    splats: Splats,
    camera: Pinhole,
    background: Tensor | None = None,
    *,
    degree: int = harmonics.HIGHEST_DEGREE,
    near: float = 1.0,
    engine: Engine = "auto",
) -> Rendered:
    """Draw Gaussians as `camera` sees them.

    `background` (3,) or (H, W, 3), black when None. `degree`: bands of colour above it are ignored. Gaussians
    nearer than `near` (mm) are not drawn. Differentiable in the splats and in the camera.
    Projection: Zwicker et al., EWA Volume Splatting, 2001; Kerbl et al., 3D Gaussian Splatting, 2023.
    """
    centre = -camera.R.T @ camera.t
    directions = torch.nn.functional.normalize(splats.positions - centre, dim=-1)
    colours = harmonics.colours(splats.sh, directions, degree)
    chosen = choose_engine(engine, splats.positions.device, learns_focal=camera.focal.requires_grad)
    draw = _draw_gsplat if chosen == "gsplat" else _draw_torch
    image, depth, passed, means, visible = draw(splats, colours, camera, near)
    if background is not None:
        image = image + passed[..., None] * background
    return Rendered(image, 1 - passed, depth, means, visible)


def _draw_torch(
    splats: Splats, colours: Tensor, camera: Pinhole, near: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    in_camera = splats.positions @ camera.R.T + camera.t
    depth = in_camera[:, 2]
    visible = depth.detach() > near
    means, conics, kept = flatten(splats, in_camera, camera, near)
    if means.requires_grad:
        means.retain_grad()
    order = torch.argsort(torch.where(visible, depth.detach(), torch.inf), stable=True)[: int(visible.sum())]
    features = torch.cat([colours, depth[:, None]], -1)
    picture, passed = composite(
        means[order],
        conics[order],
        (splats.opacities * kept)[order],
        features[order],
        camera.width,
        camera.height,
    )
    return picture[..., :3], picture[..., 3], passed, means, visible


def flatten(splats: Splats, in_camera: Tensor, camera: Pinhole, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussians in a picture: means (N, 2) pixels, conics (N, 3), and the factor (N,) on their opacity that
    makes up for the blur. `in_camera` (N, 3): centres in camera space.
    """
    z = in_camera[:, 2].clamp_min(near)
    slope = in_camera[:, :2] / z[:, None]
    means = slope * camera.focal + camera.principal
    with torch.no_grad():
        size = torch.tensor((camera.width, camera.height), device=z.device)
        edge = torch.maximum(camera.principal, size - camera.principal) / camera.focal * _WIDEST
    slope = torch.maximum(torch.minimum(slope, edge), -edge)
    # rows of the projection's derivative: focal / z * (e_k - slope_k * e_z), taken to the Gaussian's axes
    turned = camera.R @ (splats.axes * splats.scales[:, None, :])
    flat = (camera.focal / z[:, None])[..., None] * (turned[:, :2] - slope[..., None] * turned[:, 2:])
    (xx, xy), yy = (flat[:, :1] * flat).sum(-1).unbind(-1), flat[:, 1].square().sum(-1)
    before = (xx * yy - xy * xy).clamp_min(1e-12)
    xx, yy = xx + BLUR, yy + BLUR
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], -1) / determinant[:, None]
    return means, conics, (before / determinant).clamp(1e-8, 1).sqrt()


def _draw_gsplat(
    splats: Splats, colours: Tensor, camera: Pinhole, near: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from gsplat import rasterization

    view = torch.eye(4, device=colours.device)
    view = torch.cat([torch.cat([camera.R, camera.t[:, None]], 1), view[3:]])
    zero = torch.zeros_like(camera.focal[0])
    K = torch.stack([
        torch.stack([camera.focal[0], zero, camera.principal[0]]),
        torch.stack([zero, camera.focal[1], camera.principal[1]]),
        torch.stack([zero, zero, zero + 1]),
    ])  # fmt: skip
    picture, alpha, info = rasterization(
        splats.positions,
        splats.rotations,
        splats.scales,
        splats.opacities,
        colours,
        view[None],
        K[None],
        camera.width,
        camera.height,
        near_plane=near,
        eps2d=BLUR,
        packed=False,
        render_mode="RGB+D",
        rasterize_mode="antialiased",
    )
    means = info["means2d"]
    if means.requires_grad:
        means.retain_grad()
    visible = (info["radii"].reshape(len(splats), -1) > 0).all(-1)
    return picture[0, ..., :3], picture[0, ..., 3], 1 - alpha[0, ..., 0], means, visible
