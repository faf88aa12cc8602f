"""A checkpoint becomes a complete results folder, without optimising anything."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint, PhotoRecord, default_photos, load_checkpoint, restore_state
from .config import Config, options
from .errors import CheckpointError, ConfigError, ModelError, NextGenFaceError, OutputError
from .events import Listener
from .facemodel.model import FaceModel
from .facemodel.registry import load_model
from .files import atomic_path, prepare_output
from .fitting.state import FaceState
from .foreign import needed_model, with_its_model
from .photos import load_photo
from .results import Output, write_results
from .session import reduced

Picture = NDArray[np.float32]


def export(
    path: Path, folder: Path, changes: Config | None, listener: Listener, photos: Sequence[Path] = ()
) -> Path:
    """Write the results folder of a checkpoint; returns the path of its `result.json`.

    `changes`: options given for this export; all others are those the checkpoint was made with. `photos`: the
    photos it was made from, where they are not beside it or in their old place. Raises CheckpointError,
    OutputError.
    """
    folder = prepare_output(folder)
    checkpoint = load_checkpoint(path)
    config = checkpoint_config(checkpoint, changes)
    records, pictures, beside = find_photos(checkpoint, photos, listener)
    state, model = open_state(checkpoint, config, records, listener)
    result = write_results(
        folder,
        state,
        model,
        records,
        Output(
            name=records[0].name if len(records) == 1 else folder.name,
            config=config.toDict(),
            config_sources=dict(config.sources()),
            device=config.resolveDevice(),
            pictures=pictures,
            source=beside,
            samples=int(config.rtSamples),
        ),
        listener,
    )
    _keep_checkpoint(path, folder, state.stage)
    return result


def checkpoint_config(checkpoint: Checkpoint, changes: Config | None = None) -> Config:
    """The options that a checkpoint was made with, where this version knows them, then `changes`."""
    config = Config()
    for name, value in ((checkpoint.info or {}).get("config") or {}).items():
        if name in options() and isinstance(value, (str, bool, int, float)):
            try:
                config.set(name, str(value), "file")
            except ConfigError as problem:
                raise CheckpointError(f"{checkpoint.path}: {problem}") from problem
    if "vEnhancedDiffuse" in checkpoint.arrays:
        # Maps of any size are written as they are; the option only has to agree where it can.
        with suppress(ConfigError):
            config.set("textureResolution", str(checkpoint.arrays["vEnhancedDiffuse"].shape[1]), "file")
    if changes is not None:
        for name, source in changes.sources().items():
            if source != "default":
                config.set(name, str(getattr(changes, name)), source)
    return config


def open_state(
    checkpoint: Checkpoint, config: Config, records: tuple[PhotoRecord, ...], listener: Listener
) -> tuple[FaceState, FaceModel]:
    """The state of a checkpoint and its face model. Raises CheckpointError, ModelError."""
    if checkpoint.info is None:
        config, chosen = with_its_model(config, checkpoint.arrays)
        if chosen:
            listener.warning(chosen)
    try:
        model = load_model(config)
    except ModelError as problem:
        if checkpoint.info is not None:
            raise
        raise CheckpointError(
            f"{checkpoint.path} needs {needed_model(checkpoint.arrays)}. {problem}"
        ) from problem
    return restore_state(checkpoint, model, records, checkpoint.screen, say=listener.warning), model


def find_photos(
    checkpoint: Checkpoint, given: Sequence[Path], listener: Listener
) -> tuple[tuple[PhotoRecord, ...], list[Picture | None], Path]:
    """What is known of the photos, their sRGB copies (None where a photo is gone), and the folder of the run.

    Looked for: the photos given, the copies in the results folder that the checkpoint lies in, the original
    places.
    """
    records = list(default_photos(checkpoint))
    if given and len(given) != len(records):
        raise CheckpointError(
            f"{checkpoint.path} was made from {len(records)} photo(s), but {len(given)} were given with "
            "--input."
        )
    beside = (
        checkpoint.path.parent.parent
        if checkpoint.path.parent.name == "checkpoints"
        else checkpoint.path.parent
    )
    pictures: list[Picture | None] = []
    for i, record in enumerate(records):
        if given:
            picture, size = _open(given[i], record.rotate)
            if checkpoint.info is None:
                # Another program fits the whole photo, scaled to the size of its picture.
                record = replace(record, name=given[i].stem, source=str(given[i].absolute()), size=size)
                records[i] = replace(record, crop=(0.0, 0.0, checkpoint.screen[0] / size[0]))
            elif size != record.size:
                raise CheckpointError(
                    f"{checkpoint.path} was made from a photo of {record.size[0]} x {record.size[1]} "
                    f"pixels, but {given[i]} has "
                    f"{size[0]} x {size[1]}. Give the photo that it was made from."
                )
            pictures.append(picture)
            continue
        pictures.append(_search(record, beside / f"photo_{i}.png"))
        if pictures[-1] is None:
            where = f" ({record.source})" if record.source else ""
            listener.warning(
                f"The photo of {checkpoint.path.name}{where} was not found; the results are without it. "
                "Name it with --input."
            )
    return tuple(records), pictures, beside


def _search(record: PhotoRecord, copy: Path) -> Picture | None:
    """The copy of a photo beside the checkpoint, else the photo in its old place if it has the same size."""
    for place in (copy, Path(record.source) if record.source else None):
        if place is None or not place.is_file():
            continue
        try:
            picture, size = _open(place, 0 if place == copy else record.rotate)
        except NextGenFaceError:
            continue
        same_aspect = abs(size[0] * record.size[1] - size[1] * record.size[0]) <= max(record.size)
        if size == record.size or (place == copy and same_aspect):
            return picture
    return None


def _open(path: Path, rotate: int) -> tuple[Picture, tuple[int, int]]:
    """Copy of a photo, turned clockwise, as sRGB codes 0..1 (H, W, 3), and its full size in pixels."""
    photo = load_photo(path, rotate=rotate)
    return reduced(photo.srgb8()).astype(np.float32) / 255.0, (photo.width, photo.height)


def _keep_checkpoint(path: Path, folder: Path, stage: int) -> None:
    target = folder / "checkpoints" / f"stage{max(stage, 1)}_output.pickle"
    if target.exists() and target.samefile(path):
        return
    try:
        target.parent.mkdir(exist_ok=True)
    except OSError as problem:
        raise OutputError(f"Cannot write {target.parent} ({problem.strerror}).") from problem
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
