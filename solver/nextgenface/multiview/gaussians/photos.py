"""Photos without cameras: the face fit gives each its camera, and a surface to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...errors import NextGenFaceError
from ...events import Listener
from ...facemodel.registry import load_model
from ...fitting.state import StageReport
from ...fitting.surface import shape_vertices
from ...personmask import person_mask
from ...photos import load_photo
from ...results import shown_camera
from ...session import Session
from ...views import Camera, View, ViewSet

FACE_FOLDER = "face"
LEAST_PHOTOS = 2


@dataclass(frozen=True)
class FittedPhotos:
    """Photos with their cameras in the head's frame (mm), and the fitted head: `vertices` (V, 3) with the
    mean of the photos' expressions, `faces` (F, 3). `reports` of the stages that ran; `info`: files and
    cameras for a checkpoint.
    """

    views: ViewSet
    vertices: NDArray[np.float64]
    faces: NDArray[np.integer]
    reports: dict[str, StageReport]
    info: dict[str, Any]


def fit_photos(
    paths: Sequence[Path],
    output: Path,
    stages: int,
    listener: Listener,
    *,
    seed: int = 0,
    device: str = "auto",
) -> FittedPhotos:
    """Fit one face to all photos; its files go to `output`/face.

    `stages`: 1 = pose from landmarks, 2 = refined on the pictures. Masks are the photos' transparency, else
    MediaPipe's person segmentation. Raises PhotoError, NextGenFaceError for fewer than two usable photos.
    """
    config = Config()
    config.set("seed", str(seed))
    config.set("device", device)
    session = Session(output / FACE_FOLDER, config, load_model(config), config.resolveDevice(), listener)
    session.open_photos(paths, shared=True)
    if len(session.records) < LEAST_PHOTOS:
        raise NextGenFaceError(
            f"A Gaussian head needs a face in at least {LEAST_PHOTOS} photos; {len(session.records)} of "
            f"{len(paths)} show one. Give more photos of the same head."
        )
    for number in range(1, stages + 1):
        session.run_stage(number)
    state = session.state
    assert state is not None
    info: dict[str, Any] = {"photos": []}
    for index, record in enumerate(session.records):
        camera = shown_camera(state, index, record, None)[0]
        numbers = {"K": camera.K.tolist(), "R": camera.R.tolist(), "t": camera.t.tolist()}
        info["photos"].append({"source": record.source, "rotate": record.rotate, **numbers})
    views = known_views(info, listener)
    vertices = np.mean(
        [shape_vertices(session.model, state, i) for i in range(len(views))], axis=0, dtype=np.float64
    )
    return FittedPhotos(ViewSet(tuple(views)), vertices, session.model.faces, session.reports, info)


def known_views(info: dict[str, Any], listener: Listener) -> list[View]:
    """Photos whose cameras are known, with masks: their transparency, else MediaPipe's segmentation.

    `info` is what `FittedPhotos` holds. Raises PhotoError.
    """
    views = []
    for entry in info["photos"]:
        photo = load_photo(Path(entry["source"]), rotate=int(entry["rotate"]))
        camera = Camera(entry["K"], entry["R"], entry["t"], photo.width, photo.height)
        mask = photo.alpha if photo.alpha is not None else person_mask(photo.srgb8())
        if mask is None:
            listener.warning(
                f"{photo.name}: nothing tells the head from the background, which becomes part of the "
                "result. Give photos with transparency to avoid that."
            )
        views.append(View(photo.name, photo.linear, camera, mask))
    return views
