"""`train`: photos in a circle around a head become Gaussians; the entry of the Gaussian-head description."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...config import Config
from ...errors import NextGenFaceError
from ...events import BarListener, Listener, NullListener, Tee
from ...files import atomic_path, prepare_output
from ...images import write_png
from ...photos import load_photo
from ...session import compute_threads
from ...views import Bounds, Camera, View, ViewSet
from . import files, harmonics
from .options import Options
from .pictures import make_target
from .points import DISTANCE, SPREAD, LearnableCamera
from .rendering import render
from .splats import Splats
from .training import Training

PICTURE_EVERY = 100
STARTING_SIZE = 0.25
"""Standard deviation of the first points, in mean distances between them."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainedHead:
    """What `train` returns: Gaussians in the axes of `points`, cameras, losses of the steps, the folder."""

    splats: Splats
    camera: LearnableCamera
    losses: list[float]
    output: Path


def train(
    image_paths: Sequence[PathLike] = ("1.jpg", "2.jpg", "3.jpg", "4.jpg"),
    canvas_size: int = 256,
    num_steps: int = 2000,
    initial_points: int = 500,
    max_points: int = 10_000,
    geometry_lr: float = 0.01,
    camera_lr: float = 0.001,
    *,
    output: PathLike = "output",
    yaw: Sequence[float] | None = None,
    pitch: Sequence[float] | None = None,
    device: str = "auto",
    seed: int = 0,
    listener: Listener | None = None,
) -> TrainedHead:
    """Learn a head from any number of photos whose cameras differ by a yaw and a pitch around it.

    `canvas_size`: longer side of the pictures, which keep their shape. Angles (radians) start from `yaw` and
    `pitch`; they and one focal length are learned. Transparency masks the head. Leaves `final_model.pt`,
    `points.ply` and `step_N.png` in `output`. Raises PhotoError for a photo that is missing or unreadable.
    """
    if not image_paths:
        raise NextGenFaceError("Give train at least one photo in image_paths.")
    folder = prepare_output(Path(output))
    listener = BarListener() if listener is None else listener
    config = Config()
    config.set("device", device)
    device = config.resolveDevice()
    photos = [load_photo(Path(path)) for path in image_paths]
    views = ViewSet(
        tuple(
            View(
                f"{number}_{photo.name}",
                photo.linear,
                _nominal_camera(photo.width, photo.height, canvas_size),
                photo.alpha,
            )
            for number, photo in enumerate(photos)
        )
    )
    options = Options(
        steps=num_steps,
        resolution=canvas_size,
        initialPoints=initial_points,
        maxPoints=max(max_points, initial_points),
        shDegree=0,
        positionRate=geometry_lr / 3,
        scaleRate=geometry_lr,
        rotationRate=geometry_lr,
        opacityRate=5 * geometry_lr,
        colourRate=2 * geometry_lr,
        cameraRate=camera_lr,
        cameraStart=0.05,
        seed=seed,
    )
    # The focal length counts pixels of the canvas, whatever the photos' own size.
    sizes = [(round(p.width * _factor(p.width, p.height, canvas_size)),
              round(p.height * _factor(p.width, p.height, canvas_size))) for p in photos]  # fmt: skip
    rig = LearnableCamera(
        len(views), device, yaw=yaw, pitch=pitch, focal=400.0 * canvas_size / 256,
        focal_range=(200.0 * canvas_size / 256, 800.0 * canvas_size / 256), sizes=sizes,
    )  # fmt: skip
    box = Bounds(np.full(3, -SPREAD), np.full(3, SPREAD))
    random = torch.Generator().manual_seed(seed)
    xyz = (torch.rand(initial_points, 3, generator=random) * 2 - 1) * SPREAD
    spacing = 2 * SPREAD / initial_points ** (1 / 3)
    splats = Splats.from_points(
        xyz.to(device), torch.full((initial_points, 3), 0.5, device=device), scale=STARTING_SIZE * spacing
    )
    training = Training(views, splats, box, options, device, rig)
    pictures = _Pictures(training, rig, folder, len(views))
    with compute_threads(config):
        outcome = training.run(Tee(listener, pictures))
        pictures.write(num_steps)
    head = TrainedHead(training.splats.detached(), rig, outcome.losses, folder)
    _save(head)
    return head


def _factor(width: int, height: int, canvas_size: int) -> float:
    return min(1.0, canvas_size / max(width, height))


def _nominal_camera(width: int, height: int, canvas_size: int) -> Camera:
    """A camera of a photo's size straight in front; the real one is learned."""
    focal = 400.0 / 256 * canvas_size / _factor(width, height, canvas_size)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(K, np.eye(3), np.array([0, 0, DISTANCE]), width, height)


class _Pictures(NullListener):
    """Writes `step_N.png` now and then: every picture above what the Gaussians make of it."""

    def __init__(self, training: Training, rig: LearnableCamera, folder: Path, count: int) -> None:
        self.training, self.rig, self.folder, self.count = training, rig, folder, count

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        """One step is done."""
        if step % PICTURE_EVERY == 0:
            self.write(step)

    def write(self, step: int) -> None:
        """Write the picture of a step."""
        columns = []
        training = self.training
        black = torch.zeros(3, device=training.device)
        for index in range(self.count):
            width = self.rig.sizes[index][0]
            target = make_target(training.views[index], width, training.device, cut=False)
            with torch.no_grad():
                seen = render(training.splats, self.rig.pinhole(index, width), black).image
            columns.append(torch.cat([target.over(black), seen.clamp(0, 1)]).cpu().numpy())
        tallest = max(len(column) for column in columns)
        columns = [np.pad(c, ((0, tallest - len(c)), (0, 0), (0, 0))) for c in columns]
        write_png(self.folder / f"step_{step:05d}.png", np.concatenate(columns, 1), srgb=False)


def _save(head: TrainedHead) -> None:
    """`final_model.pt`: raw tensors by the description's names; `points.ply`."""
    splats = head.splats
    state = {
        "xyz": splats.positions,
        "rgb": (splats.base * harmonics.BAND0 + 0.5).clamp(1e-4, 1 - 1e-4).logit(),
        "opacity": splats.opacity_logits[:, None],
        "scale": splats.log_scales,
        "rotation": splats.rotations,
        "camera": head.camera.state_dict(),
    }
    with atomic_path(head.output / "final_model.pt") as path:
        torch.save(state, path)
    # These axes are a picture's already, which files want.
    files.write_ply(head.output / "points.ply", files.turned_over(splats))
