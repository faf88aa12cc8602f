"""The results folder of docs/architecture.md: every file of a finished fit, `result.json` last.

Everything is made in a hidden folder inside the output and moved into place at the end, so that a run that is
killed leaves either the old result or none, never a mixture that looks complete.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__
from .checkpoint import PhotoRecord, photo_intrinsics
from .colour import srgb_to_linear
from .events import Listener
from .facemodel.model import FaceModel
from .files import TEMPORARY_MARK, output_error, prepare_output, write_text
from .final_pictures import FinalPhoto, draw_final
from .fitting.state import FaceState, StageReport
from .fitting.surface import shape_vertices, textures_of
from .geometry.normals import vertex_normals_array
from .geometry.obj_export import saveObj
from .geometry.rotations import euler_to_matrix
from .images import write_exr, write_png
from .lightmaps import blender_environment, sh_environment, tone_mapped
from .measure import measured
from .views import Camera, Crop

SCHEMA = 1
RESULT = "result.json"


@dataclass
class Output:
    """What is to be written besides the state, and how.

    `pictures`: sRGB copy (H, W, 3) 0..1 of each photo, None where there is none. `source`: folder with files
    that are only copied (`landmarks{i}.png`). `prefix` goes before every file name.
    """

    name: str
    config: dict[str, Any]
    config_sources: dict[str, str]
    device: str
    pictures: list[NDArray[np.float32] | None]
    source: Path
    samples: int
    reports: dict[str, StageReport] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    prefix: str = ""


def write_results(
    folder: Path,
    state: FaceState,
    model: FaceModel,
    photos: tuple[PhotoRecord, ...],
    output: Output,
    listener: Listener,
) -> Path:
    """Render the final pictures and write the complete results folder; returns the path of its `result.json`.

    Raises OutputError (folder cannot be written), Cancelled. An older result in the folder stays whole until
    the new one is complete.
    """
    folder = prepare_output(folder)
    listener.stage("render")
    with measured() as cost, _staging(folder, output.prefix) as staging:
        writer = _Writer(staging, state, model, photos, output)
        entries = []
        for i in range(state.photo_count):
            entries.append(writer.photo(i, listener))
        writer.geometry()
        drawn = writer.finals
    stage = {
        "seconds": round(cost.seconds, 3),
        "peak_mb": round(cost.peak_mb, 1),
        "steps": max(d.samples for d in drawn),
        "converged": all(d.noise <= d.noise_asked for d in drawn),
        "loss": _number(max(d.noise for d in drawn)),
    }
    stages = {name: stage_entry(report) for name, report in output.reports.items()}
    warnings = [
        *output.warnings,
        *(text for d in drawn for text in d.warnings if text not in output.warnings),
    ]
    content = {
        "schema": SCHEMA,
        "method": "face",
        "name": output.name,
        "version": __version__,
        "model": {"name": state.model_name, "hash": state.model_hash},
        "seed": int(state.seed),
        "stage": int(state.stage),
        "config": output.config,
        "config_sources": output.config_sources,
        "device": output.device,
        "variant": drawn[0].variant,
        "engine": str(output.config.get("engine", "deferred")),
        "units": "mm",
        "stages": {**stages, "render": stage},
        "metrics": {
            "psnr": [_number(d.psnr) for d in drawn],
            "coverage": [_number(d.coverage) for d in drawn],
        },
        "warnings": warnings,
        "geometry": writer.geometry_name(0),
        "shared_identity": bool(state.shared),
        "photos": entries,
    }
    path = folder / f"{output.prefix}{RESULT}"
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return path


def remove_result(folder: Path, prefix: str = "") -> None:
    """Make sure that what is in the folder is not taken for a finished result."""
    try:
        (folder / f"{prefix}{RESULT}").unlink(missing_ok=True)
    except OSError as problem:
        raise output_error(folder / f"{prefix}{RESULT}", problem) from problem


@contextmanager
def _staging(folder: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder whose files replace those in `folder` when the block ends well."""
    staging = folder / f"{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}"
    try:
        staging.mkdir()
        yield staging
        remove_result(folder, prefix)
        for path in sorted(staging.iterdir()):
            os.replace(path, folder / path.name)
    except OSError as problem:
        raise output_error(folder, problem) from problem
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class _Writer:
    """Writes the files of one result into a folder and collects their names."""

    def __init__(
        self,
        folder: Path,
        state: FaceState,
        model: FaceModel,
        photos: tuple[PhotoRecord, ...],
        output: Output,
    ) -> None:
        self.folder = folder
        self.state = state
        self.model = model
        self.photos = photos
        self.output = output
        self.finals: list[FinalPhoto] = []
        self._maps: dict[int, dict[str, str | None]] = {}  # files of the maps of an identity

    def name(self, base: str) -> str:
        """A file name with the prefix."""
        return f"{self.output.prefix}{base}"

    def geometry_name(self, identity: int) -> str:
        """The geometry file of an identity."""
        return self.name("geometry.npz" if identity == 0 else f"geometry_{identity}.npz")

    def photo(self, i: int, listener: Listener) -> dict[str, Any]:
        """All files of photo i; returns its entry in result.json."""
        record, state = self.photos[i], self.state
        identity = state.identity_of(i)
        camera, crop = shown_camera(state, i, record, self.output.pictures[i])
        textures = textures_of(self.model, state, identity, int(self.output.config["textureResolution"]))
        arrays = (textures[0].numpy(), textures[1].numpy(), textures[2].numpy())
        picture = self.output.pictures[i]
        final = draw_final(
            shape_vertices(self.model, state, i), self.model, arrays, camera, crop, state.environment[i],
            None if picture is None else srgb_to_linear(picture), self.output.samples, self.output.config,
            seed=int(state.seed) + i, listener=listener,
        )  # fmt: skip
        self.finals.append(final)
        files: dict[str, str | None] = {"photo": None, "landmarks": None}
        if picture is not None:
            files["photo"] = copy = self.name(f"photo_{i}.png")
            write_png(self.folder / copy, picture, srgb=False)
        landmarks = self.output.source / f"landmarks{i}.png"
        if landmarks.is_file():
            files["landmarks"] = self.name(landmarks.name)
            shutil.copyfile(landmarks, self.folder / self.name(landmarks.name))
        files |= self._pictures(i, final)
        files |= self._maps_of(identity, arrays)
        files |= self._light(i, camera)
        files |= self._mesh(i, identity, camera)
        entry = {
            "name": record.name,
            "source": record.source,
            "index": i,
            "identity": identity,
            "width": camera.width,
            "height": camera.height,
            "original_width": record.size[0],
            "original_height": record.size[1],
            "K": camera.K.tolist(),
            "R": camera.R.tolist(),
            "t": camera.t.tolist(),
            "expression_index": i if state.identity_count == 1 else 0,
            "files": files,
        }
        if record.blendshapes is not None:
            scores = {name: round(score, 5) for name, score in record.blendshapes.items()}
            entry["blendshapes"] = {name: score for name, score in scores.items() if not name.startswith("_")}
        if state.identity_count > 1:
            entry["geometry"] = self.geometry_name(identity)
        return entry

    def _pictures(self, i: int, final: FinalPhoto) -> dict[str, str | None]:
        strip, exr, png = (self.name(n) for n in (f"render_{i}.png", f"final_{i}.exr", f"final_{i}.png"))
        write_png(self.folder / strip, final.strip)
        rgba = np.concatenate([final.rgb, final.alpha[..., None]], -1)
        write_exr(self.folder / exr, rgba)
        # PNG keeps colour and coverage apart, EXR multiplies them.
        straight = rgba[..., :3] / np.maximum(rgba[..., 3:], 1e-4)
        write_png(self.folder / png, np.concatenate([straight * (rgba[..., 3:] > 0), rgba[..., 3:]], -1))
        return {"strip": strip, "final": exr, "final_png": png}

    def _maps_of(self, identity: int, arrays: tuple[NDArray[np.float32], ...]) -> dict[str, str | None]:
        if identity not in self._maps:
            names: dict[str, str | None] = {
                kind: self.name(f"{kind}Map_{identity}.png") for kind in ("diffuse", "specular", "roughness")
            }
            diffuse, specular, roughness = arrays
            write_png(self.folder / str(names["diffuse"]), diffuse)
            write_png(self.folder / str(names["specular"]), specular, srgb=False)
            # The guide: grey, stored as RGB.
            write_png(self.folder / str(names["roughness"]), np.repeat(roughness, 3, -1), srgb=False)
            names["confidence"] = None
            if self.state.confidence is not None:
                names["confidence"] = target = self.name(f"confidenceMap_{identity}.png")
                confidence = self.state.confidence[identity].detach().cpu().numpy()
                write_png(self.folder / target, confidence, srgb=False)
            self._maps[identity] = names
        return dict(self._maps[identity])

    def _light(self, i: int, camera: Camera) -> dict[str, str | None]:
        config = self.output.config
        exr, png = self.name(f"envMap_{i}.exr"), self.name(f"envMap_{i}.png")
        write_exr(self.folder / exr, blender_environment(self.state.environment[i], camera.R))
        small = sh_environment(
            self.state.sh[i],
            int(config["envMapRes"]),
            bands=int(config["bands"]),
            smooth=bool(config["smoothSh"]),
        )
        write_png(self.folder / png, tone_mapped(small))
        files: dict[str, str | None] = {"environment": exr, "environment_png": png}
        if config["saveExr"]:
            # The guide's own map as floats; envMap_i.exr is the light as it was solved, turned for Blender.
            files["environment_sh"] = self.name(f"envMapSh_{i}.exr")
            write_exr(self.folder / str(files["environment_sh"]), small)
        return files

    def _mesh(self, i: int, identity: int, camera: Camera) -> dict[str, str | None]:
        posed = shape_vertices(self.model, self.state, i).astype(np.float64) @ camera.R.T + camera.t
        normals = vertex_normals_array(posed, self.model.faces)
        mesh = self.name(f"mesh{i}.obj")
        diffuse = self._maps[identity]["diffuse"]
        saveObj(
            self.folder / mesh,
            self.name(f"material{i}.mtl"),
            posed,
            self.model.faces,
            normals,
            self.model.uv,
            str(diffuse),
        )
        return {"mesh": mesh}

    def geometry(self) -> None:
        """The geometry file of every identity; plain arrays, nothing pickled."""
        state, model = self.state, self.model
        for identity in range(state.identity_count):
            members = [i for i in range(state.photo_count) if state.identity_of(i) == identity]
            neutral = shape_vertices(model, state, members[0], neutral=True)
            offsets = np.stack([shape_vertices(model, state, i) - neutral for i in members])
            deltas = model.blendshape_deltas
            if deltas is None:
                deltas = np.zeros((0, *neutral.shape), np.float32)
            np.savez(
                self.folder / self.geometry_name(identity),
                neutral_vertices=neutral,
                faces=model.faces.astype(np.int32),
                uv=model.uv.astype(np.float32),
                expression_offsets=offsets.astype(np.float32),
                blendshape_names=np.array(list(model.blendshape_names), dtype=np.str_),
                blendshape_deltas=deltas.astype(np.float32),
            )


def shown_camera(
    state: FaceState, index: int, record: PhotoRecord, picture: NDArray[np.float32] | None
) -> tuple[Camera, Crop]:
    """Camera of photo `index`, and the crop that was fitted, in pixels of its copy in the results."""
    width, height = record.size
    camera = Camera(
        photo_intrinsics(state, index, record.crop),
        euler_to_matrix(state.rotation[index].detach().cpu().double()).numpy(),
        state.translation[index].detach().cpu().double().numpy(),
        width,
        height,
    )
    x0, y0, scale = record.crop
    factor = 1.0
    if picture is not None and picture.shape[1] != width:
        factor = picture.shape[1] / width
        K = np.diag([factor, picture.shape[0] / height, 1.0]) @ camera.K
        camera = Camera(K, camera.R, camera.t, picture.shape[1], picture.shape[0])
    return camera, Crop(x0 * factor, y0 * factor, scale / factor, max(state.width, state.height))


def stage_entry(report: StageReport) -> dict[str, Any]:
    """A stage's entry in `result.json`."""
    return {
        "seconds": round(report.seconds, 3),
        "peak_mb": round(report.peak_mb, 1),
        "steps": report.steps,
        "cap": report.cap,
        "converged": report.converged,
        "loss": _number(report.loss),
        "notes": list(report.notes),
    }


def _number(value: float) -> float | None:
    """A number that JSON knows, else None."""
    return float(value) if np.isfinite(value) else None
