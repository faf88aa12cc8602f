"""Checkpoints: the guide's pickles of plain NumPy arrays, written atomically and read without running code.

The guide's keys are at the top level, so that `pickle.load` in a script works. Everything else that a fit
needs to go on (the solved environment, gloss, displacement, cameras, seed, model) is under the key
"nextgenface". A file without that key comes from another program that writes the guide's format; it is
accepted where its sizes fit.
"""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import __version__
from .errors import CheckpointError
from .facemodel.model import FaceModel
from .files import write_bytes
from .fitting.state import SH_BANDS, FaceState
from .foreign import adopt, lobes_from_foreign_sh, needed_model
from .rendering.light import lobes_to_sh
from .safe_pickle import read_plain_pickle

log = logging.getLogger(__name__)

SCHEMA = 1

# guide's key -> (field of FaceState, number of dimensions)
_STATE_KEYS = {
    "vShapeCoeff": ("shape", 2),
    "vAlbedoCoeff": ("albedo", 2),
    "vExpCoeff": ("expression", 2),
    "vRotation": ("rotation", 2),
    "vTranslation": ("translation", 2),
    "vFocals": ("focals", 1),
    "vShCoeffs": ("sh", 3),
}
_TEXTURE_KEYS = {
    "vEnhancedDiffuse": "diffuse",
    "vEnhancedSpecular": "specular",
    "vEnhancedRoughness": "roughness",
}
_EXTRA_FIELDS = ("environment", "principal", "gloss", "displacement", "trust", "confidence")


@dataclass(frozen=True)
class PhotoRecord:
    """What a checkpoint remembers of one photo. `size`: upright original pixels; `crop`: (x0, y0, scale);
    `blendshapes`: the detector's scores by ARKit name, 0..1, None where it gives none; `rotate`: degrees by
    which the file was turned clockwise.
    """

    name: str
    source: str
    size: tuple[int, int]
    crop: tuple[float, float, float]
    blendshapes: dict[str, float] | None = None
    rotate: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: arrays by the guide's keys, and what only our own files have."""

    path: Path
    arrays: dict[str, NDArray[np.float32]]
    screen: tuple[int, int]  # width, height of the fitted picture
    shared: bool
    info: dict[str, Any] | None  # None: written by another program
    photos: tuple[PhotoRecord, ...]

    @property
    def photo_count(self) -> int:
        """Number of photos n."""
        return int(self.arrays["vRotation"].shape[0])

    @property
    def stage(self) -> int:
        """The last stage that is in the file, 1 to 3."""
        if self.info is not None:
            return int(self.info["stage"])
        return 3 if "vEnhancedDiffuse" in self.arrays else 2


def save_checkpoint(
    path: Path, state: FaceState, photos: tuple[PhotoRecord, ...], *, config: dict[str, Any], engine: str
) -> None:
    """Write a checkpoint atomically: after a crash there is the old file or the new one, never half of one.

    `config`: option name -> plain value. K of every photo is in pixels of the original photo. Raises
    OutputError.
    """
    content: dict[str, Any] = {key: _array(getattr(state, name)) for key, (name, _) in _STATE_KEYS.items()}
    content["screenWidth"] = int(state.width)
    content["screenHeight"] = int(state.height)
    content["sharedIdentity"] = bool(state.shared)
    for key, name in _TEXTURE_KEYS.items():
        value = getattr(state, name)
        if value is not None:
            content[key] = _array(value)
    extra = {name: _array(getattr(state, name)) for name in _EXTRA_FIELDS if getattr(state, name) is not None}
    content["nextgenface"] = {
        "schema": SCHEMA,
        "version": __version__,
        "stage": int(state.stage),
        "seed": int(state.seed),
        "model_name": state.model_name,
        "model_hash": state.model_hash,
        "engine": engine,
        "config": dict(config),
        "photos": [asdict(photo) for photo in photos],
        "K": np.stack([photo_intrinsics(state, i, photo.crop) for i, photo in enumerate(photos)])
        if photos
        else np.zeros((0, 3, 3)),
        **extra,
    }
    write_bytes(Path(path), pickle.dumps(content, protocol=4))


def photo_intrinsics(state: FaceState, index: int, crop: tuple[float, float, float]) -> NDArray[np.float64]:
    """K (3, 3) of a photo in pixels of the original photo, from the fitted picture's camera and crop."""
    x0, y0, scale = crop
    focal = float(state.focals[index].detach()) / scale
    cx, cy = (float(c) / scale for c in state.principal[index].detach())
    return np.array([[focal, 0.0, cx + x0], [0.0, focal, cy + y0], [0.0, 0.0, 1.0]])


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint of ours or of another program. Raises CheckpointError; never runs code."""
    path = Path(path)
    raw = read_plain_pickle(path)
    if not isinstance(raw, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds a {type(raw).__name__}, not the guide's keys."
        )
    missing = [key for key in (*_STATE_KEYS, "screenWidth", "screenHeight") if key not in raw]
    if missing:
        raise CheckpointError(f"{path} is not a complete checkpoint: {', '.join(missing)} missing.")
    arrays = {key: _checked(path, key, raw[key], dims) for key, (_, dims) in _STATE_KEYS.items()}
    for key in _TEXTURE_KEYS:
        if raw.get(key) is not None:
            arrays[key] = _checked(path, key, raw[key], 4)
    n = arrays["vRotation"].shape[0]
    for key in ("vExpCoeff", "vTranslation", "vFocals", "vShCoeffs"):
        if arrays[key].shape[0] != n:
            raise CheckpointError(f"{path}: {key} is for {arrays[key].shape[0]} photos, vRotation for {n}.")
    m = arrays["vShapeCoeff"].shape[0]
    if n == 0 or m not in (1, n) or arrays["vAlbedoCoeff"].shape[0] != m:
        raise CheckpointError(
            f"{path}: {m} shapes and {arrays['vAlbedoCoeff'].shape[0]} albedos for {n} photos."
        )
    tails = {
        "vRotation": (3,),
        "vTranslation": (3,),
        "vShCoeffs": (math.isqrt(arrays["vShCoeffs"].shape[1]) ** 2, 3),
    }
    for key, tail in tails.items():
        if arrays[key].shape[1:] != tail:
            raise CheckpointError(f"{path}: {key} has the shape {arrays[key].shape}.")
    present = [key for key in _TEXTURE_KEYS if key in arrays]
    if present and len(present) < len(_TEXTURE_KEYS):
        raise CheckpointError(f"{path}: of the three textures only {', '.join(present)} is there.")
    for key in present:
        shape = arrays[key].shape
        if shape[0] != m or shape[1] != shape[2] or shape[3] != (1 if key == "vEnhancedRoughness" else 3):
            raise CheckpointError(f"{path}: {key} has the shape {shape}.")
        if shape[1] != arrays[present[0]].shape[1]:
            raise CheckpointError(f"{path}: the textures differ in size.")
    try:
        screen = (int(raw["screenWidth"]), int(raw["screenHeight"]))
    except (TypeError, ValueError):
        screen = (0, 0)
    if min(screen) < 1:
        raise CheckpointError(f"{path}: the size of the fitted picture is not given.")
    info = raw.get("nextgenface")
    photos: tuple[PhotoRecord, ...] = ()
    if info is not None:
        photos = _check_info(path, info, n, m)
    return Checkpoint(path, arrays, screen, bool(raw.get("sharedIdentity", m < n)), info, photos)


def restore_state(
    checkpoint: Checkpoint,
    model: FaceModel,
    photos: tuple[PhotoRecord, ...],
    size: tuple[int, int],
    *,
    texture_resolution: int | None = None,
    shared: bool | None = None,
    seed: int | None = None,
    say: Callable[[str], None] | None = None,
) -> FaceState:
    """The state in a checkpoint, for these photos and this model, on the CPU.

    `photos`: the photos the fit goes on with, one per photo of the checkpoint; `size`: (width, height) of
    their fitted pictures. Where the crop is the one of the checkpoint every number comes back bit for bit;
    where it is another crop of the same photo, focal length and principal point are carried over in original
    pixels. `texture_resolution`, `shared`: what the settings ask for, checked when given. `seed` replaces the
    stored one. `say` is told how a checkpoint of another program was understood. Raises CheckpointError
    when the checkpoint belongs to another model, other photos or other
    settings.
    """
    path, info = checkpoint.path, checkpoint.info
    _check_model(checkpoint, model)
    if info is None:
        arrays, notes = adopt(path, checkpoint.arrays, model)
        checkpoint = replace(checkpoint, arrays=arrays)
        for note in notes:
            (say or log.warning)(note)
    a = checkpoint.arrays
    n = checkpoint.photo_count
    if len(photos) != n:
        raise CheckpointError(
            f"{path} was made from {n} photo(s), but {len(photos)} were given. Give the same photos in the "
            "same order."
        )
    if shared is not None and n > 1 and shared != checkpoint.shared:
        was, now = ("with", "without") if checkpoint.shared else ("without", "with")
        raise CheckpointError(
            f"{path} was made {was} sharedIdentity, this run is {now} it. Use the same setting."
        )
    if (
        texture_resolution is not None
        and "vEnhancedDiffuse" in a
        and a["vEnhancedDiffuse"].shape[1] != texture_resolution
    ):
        raise CheckpointError(
            f"{path} holds textures of {a['vEnhancedDiffuse'].shape[1]} pixels, but textureResolution is "
            f"{texture_resolution}. Set textureResolution = {a['vEnhancedDiffuse'].shape[1]}, or resume "
            "from stage 2."
        )
    focals, principal = _cameras(checkpoint, photos, size)
    fields = {
        name: torch.from_numpy(a[key].copy()) for key, (name, _) in _STATE_KEYS.items() if key != "vFocals"
    }
    for key, name in _TEXTURE_KEYS.items():
        if key in a:
            fields[name] = torch.from_numpy(a[key].copy())
    if info is None:
        fields["environment"] = lobes_from_foreign_sh(fields["sh"])
        fields["sh"] = lobes_to_sh(fields["environment"], SH_BANDS)
    else:
        for name in _EXTRA_FIELDS:
            if name != "principal" and info.get(name) is not None:
                fields[name] = torch.from_numpy(np.array(info[name], np.float32))
    return FaceState(
        **fields,
        focals=focals,
        principal=principal,
        width=size[0],
        height=size[1],
        model_name=model.name,
        model_hash=model.hash,
        shared=checkpoint.shared,
        stage=checkpoint.stage,
        seed=seed if seed is not None else int((info or {}).get("seed", 0)),
    )


def default_photos(checkpoint: Checkpoint) -> tuple[PhotoRecord, ...]:
    """The photos a checkpoint was made from, as far as it knows; else the fitted pictures."""
    if checkpoint.photos:
        return checkpoint.photos
    return tuple(
        PhotoRecord(f"photo_{i}", "", checkpoint.screen, (0.0, 0.0, 1.0))
        for i in range(checkpoint.photo_count)
    )


def _cameras(
    checkpoint: Checkpoint, photos: tuple[PhotoRecord, ...], size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal lengths (n,) and principal points (n, 2) in pixels of the fitted pictures of `photos`."""
    focals = checkpoint.arrays["vFocals"].copy()
    principal = np.zeros((len(photos), 2), np.float32)
    for i, photo in enumerate(photos):
        x0, y0, scale = photo.crop
        if checkpoint.info is None:
            # Another program fits the whole photo, scaled, with the principal point in its middle.
            ratio = photo.size[0] / checkpoint.screen[0]
            if abs(photo.size[1] / ratio - checkpoint.screen[1]) > 1.5:
                raise _other_photo(checkpoint, i, photo, f"{checkpoint.screen[0]} x {checkpoint.screen[1]}")
            focals[i] *= ratio * scale
            principal[i] = (photo.size[0] / 2 - x0) * scale, (photo.size[1] / 2 - y0) * scale
            continue
        made_from = checkpoint.photos[i]
        if made_from.size != photo.size:
            raise _other_photo(checkpoint, i, photo, f"{made_from.size[0]} x {made_from.size[1]}")
        if np.allclose(made_from.crop, photo.crop, rtol=0, atol=1e-6) and size == checkpoint.screen:
            principal[i] = checkpoint.info["principal"][i]
        else:
            k = checkpoint.info["K"][i]
            focals[i] = k[0, 0] * scale
            principal[i] = (k[0, 2] - x0) * scale, (k[1, 2] - y0) * scale
    return torch.from_numpy(focals), torch.from_numpy(principal)


def _other_photo(checkpoint: Checkpoint, index: int, photo: PhotoRecord, had: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path} was made from a photo of {had} pixels, but photo {index} ({photo.name}) has "
        f"{photo.size[0]} x {photo.size[1]}. Give the photo that the checkpoint was made from."
    )


def _check_model(checkpoint: Checkpoint, model: FaceModel) -> None:
    sizes = {
        "vShapeCoeff": model.shape_basis.shape[0],
        "vAlbedoCoeff": model.diffuse_basis.shape[0],
        "vExpCoeff": model.expression_basis.shape[0],
    }
    info = checkpoint.info
    if info is not None:
        advice = f"It was made with {info['model_name']}. Choose the same model and the same trimPca."
    else:
        advice = f"It needs {needed_model(checkpoint.arrays)}."
    for key, expected in sizes.items():
        have = checkpoint.arrays[key].shape[1]
        if have != expected:
            raise CheckpointError(
                f"{checkpoint.path} does not fit the face model {model.name}: {key} has {have} "
                "coefficients, the model "
                f"{expected}. {advice}"
            )
    if info is not None and info["model_hash"] != model.hash:
        advice = (
            "Choose the same model."
            if info["model_name"] != model.name
            else "That model has changed since: run it again."
        )
        raise CheckpointError(
            f"{checkpoint.path} was made with the face model {info['model_name']} "
            f"({info['model_hash'][:12]}), not with "
            f"{model.name} ({model.hash[:12]}). {advice}"
        )
    displacement = (info or {}).get("displacement")
    if displacement is not None and displacement.shape[1] != model.vertex_count:
        raise CheckpointError(
            f"{checkpoint.path} moves {displacement.shape[1]} vertices, the face model {model.name} has "
            f"{model.vertex_count}."
        )


def _check_info(path: Path, info: Any, n: int, m: int) -> tuple[PhotoRecord, ...]:
    """Check the part that only our files have; returns its photos."""
    if not isinstance(info, dict) or not isinstance(info.get("schema"), int):
        raise CheckpointError(f"{path}: the entry 'nextgenface' is damaged.")
    if info["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} was written by a newer version ({info.get('version')}) than this one ({__version__}). "
            "Update NextGenFace."
        )
    shapes = {"environment": (n, None, 3), "principal": (n, 2), "K": (n, 3, 3)}
    optional = {"gloss": (m,), "displacement": (m, None), "confidence": (m, None, None)}
    for name, shape in {**shapes, **optional}.items():
        value = info.get(name)
        if value is None and name in optional:
            continue
        if (
            not isinstance(value, np.ndarray)
            or value.dtype.kind != "f"
            or value.ndim != len(shape)
            or any(want is not None and want != got for want, got in zip(shape, value.shape, strict=True))
            or not np.isfinite(value).all()
        ):
            raise CheckpointError(f"{path}: the entry 'nextgenface' is damaged ({name}).")
    try:
        photos = tuple(
            PhotoRecord(
                str(p["name"]),
                str(p["source"]),
                (int(p["size"][0]), int(p["size"][1])),
                (float(p["crop"][0]), float(p["crop"][1]), float(p["crop"][2])),
                _scores(p.get("blendshapes")),
                int(p.get("rotate", 0)) % 360 // 90 * 90,
            )
            for p in info["photos"]
        )
        if len(photos) != n or any(min(p.size) < 1 or not p.crop[2] > 0 for p in photos):
            raise ValueError("photos")
        if not 0 <= int(info["stage"]) <= 3 or not isinstance(info["config"], dict):
            raise ValueError("stage")
        str(info["model_name"]), int(info["seed"])
        if not isinstance(info["model_hash"], str):
            raise ValueError("model_hash")
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as problem:
        raise CheckpointError(f"{path}: the entry 'nextgenface' is damaged ({problem}).") from problem
    return photos


def _scores(value: Any) -> dict[str, float] | None:
    """Blendshape scores of a photo; files of before they were kept have none."""
    scores = None if value is None else {str(name): float(score) for name, score in value.items()}
    if scores is not None and not all(math.isfinite(score) for score in scores.values()):
        raise ValueError("blendshapes")
    return scores


def _checked(path: Path, key: str, value: Any, dims: int) -> NDArray[np.float32]:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != dims:
        raise CheckpointError(f"{path} is not a checkpoint: {key} is not an array of {dims} dimension(s).")
    array = np.ascontiguousarray(value, np.float32)
    if not np.isfinite(array).all():
        raise CheckpointError(
            f"{path}: {key} contains values that are not numbers. Use the checkpoint of another stage."
        )
    return array


def _array(value: torch.Tensor) -> NDArray[np.float32]:
    return value.detach().to("cpu", torch.float32).contiguous().numpy().copy()
