"""One fit in one results folder: photos in, stages run, a checkpoint after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .checkpoint import PhotoRecord, load_checkpoint, restore_state, save_checkpoint
from .config import Config
from .errors import CheckpointError, NextGenFaceError, NoFaceError, PhotoError
from .events import Listener
from .facemodel.model import FaceModel
from .files import prepare_output
from .fitting.state import FaceState, StageReport, initial_state
from .images import read_image, write_png
from .landmarks import Landmarks, create_detector, select_face
from .measure import measured
from .photos import Photo, PhotoChoice, list_photos
from .pictures import draw_landmarks, save_loss_curve
from .views import FaceView, face_view, fitted_size

LARGEST_PHOTO = 4096
"""Longest side of the photos' copies in the results; larger photos are reduced, and their cameras too."""

STAGES = ("pose", "photometric", "textures")
"""Stages 1, 2 and 3 by their names."""


class Session:
    """Photos, state and reports of one fit. Everything is written into `output`; nothing is global.

    `state` is None until photos are opened. Stages are run with `run_stage`, in any order that makes sense.
    """

    def __init__(
        self, output: Path, config: Config, model: FaceModel, device: str, listener: Listener
    ) -> None:
        """Raises OutputError when the folder cannot be written to."""
        self.output = prepare_output(output)
        self.config = config
        self.model = model
        self.device = device
        self.listener = listener
        self.views: list[FaceView] = []
        self.records: tuple[PhotoRecord, ...] = ()
        self.state: FaceState | None = None
        self.reports: dict[str, StageReport] = {}
        for note in model.notes:
            listener.warning(f"{model.name}: {note}")

    @property
    def name(self) -> str:
        """What the result is called: the photo's name, or the folder's where there are several photos."""
        return self.records[0].name if len(self.records) == 1 else self.output.name

    @property
    def seed(self) -> int:
        """The seed: what the user chose, else that of the state (which may come from a checkpoint)."""
        if self.state is None or self.config.source("seed") != "default":
            return int(self.config.seed)
        return self.state.seed

    def open_photos(self, photos: Sequence[Path | PhotoChoice], *, shared: bool) -> None:
        """Decode photos, find their faces, and start the state at a mean face in front of each camera.

        Of several photos those without a usable face are left out with a warning. Copies of the photos go to
        `photo_i.png`, with their landmarks to `landmarks{i}.png`. Raises PhotoError (NoFaceError when no
        photo has a face).
        """
        found = self._find_faces([p if isinstance(p, PhotoChoice) else PhotoChoice(p) for p in photos])
        size = fitted_size([landmarks for _, landmarks, _ in found], self.config)
        self.views, records = [], []
        for i, (choice, landmarks, photo) in enumerate(found):
            photo = choice.load() if photo is None else photo
            self.views.append(face_view(photo, landmarks, self.config, size))
            crop = self.views[-1].crop
            records.append(
                PhotoRecord(
                    photo.name,
                    str(choice.path.absolute()),
                    (photo.width, photo.height),
                    (crop.x0, crop.y0, crop.scale),
                    landmarks.blendshapes,
                    choice.rotate,
                )
            )
            copy = reduced(photo.srgb8())
            write_png(self.output / f"photo_{i}.png", copy)
            marked = draw_landmarks(copy, landmarks.points * (copy.shape[1] / photo.width), landmarks.weights)
            write_png(self.output / f"landmarks{i}.png", marked)
        self.records = tuple(records)
        self.reports = {}
        self.state = initial_state(
            self.model, self.views, shared=shared, seed=int(self.config.seed), device=self.device
        )

    def _find_faces(self, photos: Sequence[PhotoChoice]) -> list[tuple[PhotoChoice, Landmarks, Photo | None]]:
        """Each usable photo, its landmarks in pixels, and the decoded photo when it is the only one."""
        found: list[tuple[PhotoChoice, Landmarks, Photo | None]] = []
        problems: list[PhotoError] = []
        detector = create_detector(self.config)
        try:
            for choice in photos:
                try:
                    photo = choice.load()
                    faces = detector.detect(photo.srgb8())
                    wanted = choice.face or self.config.face
                    face = select_face(faces, wanted, str(choice.path), photo.width, photo.height)
                except PhotoError as problem:
                    if len(photos) == 1:
                        raise
                    problems.append(problem)
                    self.listener.warning(f"{problem} (this photo is left out)")
                    continue
                found.append((choice, face, photo if len(photos) == 1 else None))
        finally:
            detector.close()
        if not found:
            raise NoFaceError(f"None of the {len(photos)} photos can be used. The first: {problems[0]}")
        return found

    def run_stage(self, number: int) -> StageReport:
        """Run stage 1, 2 or 3 on the current state; write its checkpoint and loss curve. Raises Cancelled."""
        if self.state is None:
            raise NextGenFaceError("No photo has been set yet: call setImage() before the stages.")
        if not self.views:
            raise NextGenFaceError(f"Stage {number} needs the photos: call setImage() before it.")
        name = STAGES[number - 1]
        self.listener.stage(name)
        state = detached(replace(self.state, seed=self.seed).to(self.device))
        with measured() as cost, compute_threads(self.config):
            self.state, report = stage_function(number)(
                self.model, self.views, state, self.config, self.listener
            )
        report.peak_mb = max(report.peak_mb, cost.peak_mb)
        report.seconds = cost.seconds
        self.reports[name] = report
        for note in report.notes:
            self.listener.warning(note)
        self.save_checkpoint(self.output / "checkpoints" / f"stage{number}_output.pickle")
        save_loss_curve(self.output / "checkpoints" / f"stage{number}_loss.png", report.losses, name)
        return report

    def save_checkpoint(self, path: Path) -> None:
        """Write the current state; the folder is made when it is missing."""
        if self.state is None:
            raise NextGenFaceError("There is nothing to save yet: call setImage() first.")
        path = Path(path)
        prepare_output(path.parent)
        save_checkpoint(
            path, self.state, self.records, config=self.config.toDict(), engine=self.config.engine
        )

    def load_checkpoint(self, path: Path) -> None:
        """Go on from a checkpoint with the photos that are open. Raises CheckpointError."""
        checkpoint = load_checkpoint(Path(path))
        opened = self.state
        if opened is None:
            raise CheckpointError(f"Open the photos that {path} was made from first (setImage).")
        self.state = restore_state(
            checkpoint,
            self.model,
            self.records,
            (opened.width, opened.height),
            texture_resolution=int(self.config.textureResolution),
            shared=opened.shared if opened.photo_count > 1 else None,
            seed=None if self.config.source("seed") == "default" else self.seed,
            say=self.listener.warning,
        ).to(self.device)

    def photo_picture(self, index: int) -> NDArray[np.float32] | None:
        """The copy of a photo, (H, W, 3) sRGB code values 0..1, or None when there is none."""
        path = self.output / f"photo_{index}.png"
        return read_image(path)[..., :3] if path.is_file() else None


def stage_function(
    number: int,
) -> Callable[[FaceModel, list[FaceView], FaceState, Config, Listener], tuple[FaceState, StageReport]]:
    """The function that fits stage 1, 2 or 3; imported when it is needed."""
    if number == 1:
        from .fitting.pose import fit_pose

        return fit_pose
    if number == 2:
        from .fitting.photometric import fit_photometric

        return fit_photometric
    if number == 3:
        from .fitting.textures import fit_textures

        return fit_textures
    raise ValueError(f"there is no stage {number}")


def detached(state: FaceState) -> FaceState:
    """The same state without gradients; the stages make their own."""
    plain: dict[str, Any] = {k: v.detach() for k, v in state.__dict__.items() if isinstance(v, torch.Tensor)}
    return replace(state, **plain)


def gather_photos(inputs: Sequence[Path | PhotoChoice]) -> list[PhotoChoice]:
    """All photos that files and folders stand for, in the order given; folders in natural order."""
    choices = [item if isinstance(item, PhotoChoice) else PhotoChoice(item) for item in inputs]
    return [replace(choice, path=path) for choice in choices for path in list_photos(choice.path)]


def reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with its longer side at most `LARGEST_PHOTO` pixels."""
    height, width = picture.shape[:2]
    factor = LARGEST_PHOTO / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


@contextmanager
def compute_threads(config: Config) -> Iterator[None]:
    """Inside the block torch uses as many threads as the options say; more than free cores slow it down."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threadCount())
    try:
        yield
    finally:
        torch.set_num_threads(before)
