"""The building blocks of the Gaussian-head description: round points, cameras of two angles, their pictures.

Axes are a picture's: x right, y down, z away from the viewer. The origin lies `DISTANCE` in front of every
camera, which turns around it by yaw and pitch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import harmonics
from .rendering import Pinhole, render
from .splats import Splats

DISTANCE = 500.0
SPREAD = 70.0
FIRST_SCALE = 3.0
MOST_ANGLE = 1.0
FOCAL_RANGE = (200.0, 800.0)
FIRST_YAW = (0.4, -0.4, 0.4, -0.4)
FIRST_PITCH = (0.25, 0.25, -0.25, -0.25)

Size = int | tuple[int, int]


class GaussianPoints:
    """N round Gaussians that are learned: raw tensors `xyz` (N, 3), `rgb` (N, 3), `opacity` (N, 1), `scale`
    (N, 1), which `get_point_data` brings into their ranges.
    """

    def __init__(
        self,
        num_points: int = 1000,
        device: torch.device | str = "cpu",
        *,
        spread: float = SPREAD,
        seed: int = 0,
    ) -> None:
        """Points evenly in a cube from -`spread` to `spread`, grey, half opaque, of size 3."""
        random = torch.Generator().manual_seed(seed)
        xyz = (torch.rand(num_points, 3, generator=random) * 2 - 1) * spread
        self._set(
            xyz.to(device),
            torch.zeros(num_points, 3, device=device),
            torch.zeros(num_points, 1, device=device),
            torch.full((num_points, 1), FIRST_SCALE, device=device).log(),
        )

    def _set(self, xyz: Tensor, rgb: Tensor, opacity: Tensor, scale: Tensor) -> None:
        self.xyz, self.rgb = xyz.detach().requires_grad_(), rgb.detach().requires_grad_()
        self.opacity, self.scale = opacity.detach().requires_grad_(), scale.detach().requires_grad_()

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def device(self) -> torch.device:
        """Where the points are."""
        return self.xyz.device

    def parameters(self) -> Iterator[Tensor]:
        """The raw tensors, for an optimiser."""
        yield from (self.xyz, self.rgb, self.opacity, self.scale)

    def get_point_data(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions (N, 3), colours (N, 3) and opacities (N, 1) in 0..1, sizes (N, 1) > 0."""
        return self.xyz, torch.sigmoid(self.rgb), torch.sigmoid(self.opacity), self.scale.exp()

    def clone_points(self, chosen: Tensor, noise: float = 0.1, *, seed: int = 0) -> None:
        """Add copies of the points that an index or mask names, moved by `noise` times their size."""
        random = torch.Generator().manual_seed(seed)
        xyz, rgb, opacity, scale = (value.detach()[chosen] for value in self.parameters())
        xyz = xyz + torch.randn(xyz.shape, generator=random).to(xyz) * noise * scale.exp()
        self._set(
            torch.cat([self.xyz.detach(), xyz]),
            torch.cat([self.rgb.detach(), rgb]),
            torch.cat([self.opacity.detach(), opacity]),
            torch.cat([self.scale.detach(), scale]),
        )

    def prune_points(self, keep: Tensor) -> None:
        """Keep only the points that an index or mask names."""
        self._set(*(value.detach()[keep] for value in self.parameters()))

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the raw tensors by name."""
        names = ("xyz", "rgb", "opacity", "scale")
        return {n: value.detach().clone() for n, value in zip(names, self.parameters(), strict=True)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take raw tensors over."""
        self._set(*(state[name].to(self.device) for name in ("xyz", "rgb", "opacity", "scale")))


class LearnableCamera:
    """Cameras of a yaw and a pitch each (radians) and one focal length (pixels of the canvas), all learned.

    As a set of cameras it can be handed to `Training`; `picture` says how wide the canvas is there.
    """

    rates = {"yaw": 1.0, "pitch": 1.0, "log_focal": 1.0}

    def __init__(
        self,
        num_views: int = 4,
        device: torch.device | str = "cpu",
        *,
        yaw: Sequence[float] | None = None,
        pitch: Sequence[float] | None = None,
        focal: float = 400.0,
        focal_range: tuple[float, float] = FOCAL_RANGE,
        sizes: Sequence[tuple[int, int]] | None = None,
        learn: bool = True,
    ) -> None:
        """Four views begin in the corners of a square, others evenly from right to left. `sizes`: (width,
        height) of each picture whose pixels the focal length counts.
        """
        even = [0.0] if num_views == 1 else torch.linspace(0.4, -0.4, num_views).tolist()
        yaw = (FIRST_YAW if num_views == 4 else even) if yaw is None else yaw
        pitch = (FIRST_PITCH if num_views == 4 else [0.0] * num_views) if pitch is None else pitch
        if len(yaw) != num_views or len(pitch) != num_views:
            raise ValueError(f"{num_views} views need as many yaw and pitch angles")
        self.learn = learn
        self.focal_range = focal_range
        self.sizes = list(sizes or [])
        self.yaw = torch.tensor(yaw, dtype=torch.float32, device=device, requires_grad=learn)
        self.pitch = torch.tensor(pitch, dtype=torch.float32, device=device, requires_grad=learn)
        self.log_focal = torch.tensor([focal], device=device).log().requires_grad_(learn)

    def get_view(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Yaw, pitch and focal length of a view, inside their bounds and with gradients."""
        low, high = self.focal_range
        focal = self.log_focal[0].exp().clamp(low, high)
        return (
            self.yaw[index].clamp(-MOST_ANGLE, MOST_ANGLE),
            self.pitch[index].clamp(-MOST_ANGLE, MOST_ANGLE),
            focal,
        )

    def parameters(self) -> Iterator[Tensor]:
        """What is learned, for an optimiser."""
        yield from (self.yaw, self.pitch, self.log_focal)

    def hold(self) -> None:
        """Bring everything back into its bounds; call it after an optimiser's step."""
        low, high = self.focal_range
        with torch.no_grad():
            self.yaw.clamp_(-MOST_ANGLE, MOST_ANGLE)
            self.pitch.clamp_(-MOST_ANGLE, MOST_ANGLE)
            self.log_focal.clamp_(torch.tensor(low).log().item(), torch.tensor(high).log().item())

    def tensors(self) -> dict[str, Tensor]:
        """What is learned, by name."""
        return {"yaw": self.yaw, "pitch": self.pitch, "log_focal": self.log_focal}

    def set_tensors(self, values: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        with torch.no_grad():
            for name, value in self.tensors().items():
                value.copy_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the tensors by name."""
        return {name: value.detach().clone() for name, value in self.tensors().items()}

    def pinhole(self, index: int, width: int | None = None) -> Pinhole:
        """Camera `index` for its picture, or for that in `width` pixels."""
        full, tall = self.sizes[index]
        factor = 1.0 if width is None else width / full
        size = (round(tall * factor), width or full)
        yaw, pitch, focal = self.get_view(index)
        return _pinhole(yaw, pitch, focal * factor, size)


def _pinhole(yaw: Tensor, pitch: Tensor, focal: Tensor, size: tuple[int, int]) -> Pinhole:
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(cy)
    R = torch.stack([
        torch.stack([cy, zero, -sy]),
        torch.stack([-sp * sy, cp, -sp * cy]),
        torch.stack([cp * sy, sp, cp * cy]),
    ])  # fmt: skip
    height, width = size
    principal = R.new_tensor((width / 2, height / 2))
    return Pinhole(focal.expand(2), principal, R, R.new_tensor((0.0, 0.0, DISTANCE)), width, height)


def _as_tensor(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(())


def _camera(
    xyz: Tensor, yaw: Tensor | float, pitch: Tensor | float, canvas_size: Size, focal_length: Tensor | float
) -> Pinhole:
    size = (canvas_size, canvas_size) if isinstance(canvas_size, int) else canvas_size
    return _pinhole(_as_tensor(yaw, xyz), _as_tensor(pitch, xyz), _as_tensor(focal_length, xyz), size)


def project_3d(
    xyz: Tensor,
    yaw: Tensor | float,
    pitch: Tensor | float,
    canvas_size: Size = 256,
    focal_length: Tensor | float = 400.0,
) -> tuple[Tensor, Tensor]:
    """Pixels (N, 2) and depths (N,) of points (N, 3); `canvas_size` is a side or (height, width)."""
    camera = _camera(xyz, yaw, pitch, canvas_size, focal_length)
    seen = xyz @ camera.R.T + camera.t
    depth = seen[:, 2].clamp_min(1.0)
    return seen[:, :2] / depth[:, None] * camera.focal + camera.principal, depth


def _round_splats(xyz: Tensor, rgb: Tensor, opacity: Tensor, scale: Tensor) -> Splats:
    identity = torch.zeros(len(xyz), 4, device=xyz.device)
    identity[:, 0] = 1
    size = scale.reshape(len(xyz), -1)
    return Splats(
        positions=xyz,
        log_scales=size.clamp_min(1e-6).log().expand(-1, 3),
        rotations=identity,
        opacity_logits=opacity.reshape(-1).clamp(1e-6, 1 - 1e-6).logit(),
        base=(rgb - 0.5) / harmonics.BAND0,
        bands=rgb.new_zeros(len(xyz), 0, 3),
    )


def render_depth_aware(
    xyz: Tensor,
    rgb: Tensor,
    opacity: Tensor,
    scale: Tensor,
    yaw: Tensor | float,
    pitch: Tensor | float,
    canvas_size: Size = 256,
    focal_length: Tensor | float = 400.0,
    background: Tensor | None = None,
) -> Tensor:
    """The picture (H, W, 3) of points, the nearer before the farther, over black or `background` (3,).

    xyz (N, 3); rgb (N, 3), opacity (N,) or (N, 1) in 0..1; scale (N,), (N, 1) or (N, 3), > 0. Focal
    length and angles may be tensors that learn.
    """
    camera = _camera(xyz, yaw, pitch, canvas_size, focal_length)
    return render(_round_splats(xyz, rgb, opacity, scale), camera, background).image


render_fast = render_depth_aware
"""The description has a second, approximate renderer for training; here the right one is fast enough."""
