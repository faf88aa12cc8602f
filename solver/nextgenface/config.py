"""All options of a reconstruction: names, types, ranges, defaults, and where each value came from."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from pathlib import Path
from typing import Any, Literal

from nextgenface.cores import available_cores
from nextgenface.errors import ConfigError, EnvironmentProblem
from nextgenface.options import Option
from nextgenface.paths import asset

log = logging.getLogger(__name__)

Source = Literal["default", "file", "user", "api"]

SHIPPED = ("default.ini", "shadows.ini")
"""Configuration files that come with the package; their values count as defaults."""

ALIASES = {"landmarksDetectorType": "lamdmarksDetectorType", "tracker": "lamdmarksDetectorType"}
"""Other spellings that are read: the corrected one, and the key older configuration files use."""


class Config:
    """Options of a reconstruction, with the guide's names as attributes.

    A new `Config` holds the values of the shipped `default.ini`. Values change through
    `fillFromDicFile` (a file), `set` (a key and text, for `--set key=value`) or plain assignment;
    `source` tells which one it was, because a value the user chose beats what the photo's EXIF says
    and a shipped default does not. Assigning an unknown name or a wrong type raises `ConfigError`.
    """

    device = Option(
        "cpu",
        "Where to compute: cpu, cuda, or auto (cuda when there is one, else cpu). When cuda is asked for "
        "and there is none, the CPU is used and the log says so.",
        choices=("auto", "cpu", "cuda"),
    )
    seed = Option(0, "Seed of everything random; the same seed gives the same result.", low=0, high=2**31 - 1)
    threads = Option(
        0, "CPU threads; 0 takes the cores this process may really use (at most 8).", low=0, high=1024
    )
    engine = Option(
        "deferred",
        "How pictures are drawn while fitting: deferred (fast, free of noise), raytraced (Mitsuba), or "
        "hybrid (deferred, with a ray-traced finish).",
        choices=("deferred", "raytraced", "hybrid"),
    )
    leaveOut = Option(
        "",
        "For comparisons: a part of the deferred engine to do without - visibility (cast shadows and light "
        "from skin to skin), specular, or nonnegative (light may become negative).",
        choices=("", "visibility", "specular", "nonnegative"),
    )

    lamdmarksDetectorType = Option(
        "mediapipe",
        "Landmark detector: mediapipe or fan (needs the extra nextgenface[fan]). "
        "landmarksDetectorType and tracker are read as well.",
        choices=("mediapipe", "fan"),
    )
    landmarker = Option(
        "",
        "Path of a face_landmarker.task; empty: NEXTGENFACE_LANDMARKER, then the user data folder, "
        "then the detector inside the mediapipe package.",
    )
    fanWeights = Option(
        "", "Weights for fan: a file, or a folder with 2DFAN4* and s3fd*; empty: face-alignment's own cache."
    )
    face = Option(
        0, "Which face of a photo: 0 or 1 the largest, 2 the second largest, and so on.", low=0, high=100
    )

    model = Option("builtin", "Face model: builtin, or the name or path of another one.")
    path = Option(
        "./data/baselMorphableModel",
        "Folder of the Basel Face Model; unless set, NEXTGENFACE_DATA_DIR, ./data/baselMorphableModel and "
        "./baselMorphableModel are tried.",
    )
    textureResolution = Option(512, "Side of the texture maps in texels.", low=32, high=8192)
    trimPca = Option(False, "Use fewer components of the face model: faster, less expressive.")

    bands = Option(9, "Spherical-harmonics bands of the light (9 bands = 81 coefficients).", low=1, high=9)
    envMapRes = Option(64, "Side of the additional envMap_i.png in pixels.", low=4, high=4096)
    smoothSh = Option(True, "Smooth the light before it is written to envMap_i.png.")
    saveExr = Option(
        False, "Also write the guide's picture of the light as a 32-bit EXR (envMap_i.exr is always written)."
    )

    maxResolution = Option(
        512, "Side of the square picture of the face that is fitted, in pixels.", low=64, high=4096
    )
    camFocalLength = Option(
        3000.0,
        "Focal length in pixels of the fitted picture. Unless set by the user, the photo's EXIF or a "
        "50 mm equivalent is used instead.",
        low=1.0,
        high=1e7,
    )
    optimizeFocalLength = Option(True, "Let stage 1 estimate the focal length where EXIF does not tell it.")

    iterStep1 = Option(2000, "Most steps of stage 1 (pose); it stops when it has converged.", low=0)
    iterStep2 = Option(400, "Most steps of stage 2 (shape, albedo, light).", low=0)
    iterStep3 = Option(500, "Most steps of stage 3 (textures).", low=0)
    weightLandmarksLossStep2 = Option(0.001, "Weight of the landmarks in stage 2.", low=0)
    weightLandmarksLossStep3 = Option(0.001, "Weight of the landmarks in stage 3.", low=0)
    weightShapeReg = Option(0.001, "Pull of the shape towards the mean face.", low=0)
    weightExpressionReg = Option(0.001, "Pull of the expression towards neutral.", low=0)
    weightAlbedoReg = Option(0.001, "Pull of the statistical albedo towards the mean.", low=0)
    outlierPhotos = Option(
        "report",
        "What happens to photos that do not fit the others of a shared identity: report, or leaveOut "
        "(no say in shape and maps).",
        choices=("report", "leaveOut"),
    )

    weightDiffuseSymmetryReg = Option(300.0, "Left-right symmetry of the diffuse map.", low=0)
    weightDiffuseConsistencyReg = Option(100.0, "Closeness of the diffuse map to stage 2.", low=0)
    weightDiffuseSmoothnessReg = Option(0.001, "Smoothness of the diffuse map.", low=0)
    weightSpecularSymmetryReg = Option(200.0, "Left-right symmetry of the specular map.", low=0)
    weightSpecularConsistencyReg = Option(2.0, "Closeness of the specular map to stage 2.", low=0)
    weightSpecularSmoothnessReg = Option(0.001, "Smoothness of the specular map.", low=0)
    weightRoughnessSymmetryReg = Option(200.0, "Left-right symmetry of the roughness map.", low=0)
    weightRoughnessConsistencyReg = Option(0.0, "Closeness of the roughness map to stage 2.", low=0)
    weightRoughnessSmoothnessReg = Option(0.002, "Smoothness of the roughness map.", low=0)

    debugFrequency = Option(30, "Write a debug picture every N steps; 0 writes none.", low=0)
    saveIntermediateStage = Option(False, "Write complete results after stage 1 and stage 2, too.")
    verbose = Option(False, "Print the loss at every step.")

    rtSamples = Option(10000, "Most samples per pixel of the final pictures.", low=1)
    noiseLevel = Option(
        0.01, "Relative noise at which the path tracer stops before rtSamples is reached.", low=1e-5, high=1.0
    )
    rtTrainingSamples = Option(8, "Samples per pixel while fitting with rays.", low=1)
    rtOutlineEvery = Option(
        1,
        "With engine = raytraced every how many pictures of Pipeline.render have gradients of the face's "
        "outlines; 0: none.",
        low=0,
    )
    rtBounces = Option(
        1, "Reflections of light that rays follow while fitting: 1 is direct light only.", low=1, high=16
    )

    def __init__(self) -> None:
        self._values: dict[str, Any] = {name: option.default for name, option in options().items()}
        self._sources: dict[str, Source] = {}
        self._warnings: list[str] = []

    def __setattr__(self, name: str, value: object) -> None:
        name = ALIASES.get(name, name)
        if not name.startswith("_") and not isinstance(getattr(type(self), name, None), Option):
            raise ConfigError(f"there is no option {name!r}{_suggestion(name)}")
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ALIASES:
            return getattr(self, ALIASES[name])
        raise AttributeError(f"Config has no option {name!r}{_suggestion(name)}")

    def fillFromDicFile(self, path: str | os.PathLike[str]) -> None:
        """Read options from an ini file; later lines win, options it does not name keep their values.

        A line is `key = value`; values may stand in quotes; `#` starts a comment; section headings
        are allowed and mean nothing. Unknown keys are warned about and skipped. A shipped file
        (`default.ini`, `shadows.ini`) that is asked for by a relative path which does not exist is
        taken from the package, and the log says so. Raises `ConfigError` naming file and line for a
        value of the wrong type or out of range; then nothing has changed.
        """
        file = self._locate(Path(path))
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {file}: {_reason(error)}") from error
        source: Source = "default" if _is_shipped(file) else "file"
        found: dict[str, Any] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            entry = _split_line(line)
            if entry is None:
                continue
            key, value = entry
            place = f"{file}:{number}"
            if value is None:
                self._warn(f"{place}: not a 'key = value' line, skipped: {line.strip()!r}")
                continue
            option = options().get(ALIASES.get(key, key))
            if option is None:
                self._warn(f"{place}: there is no option {key!r}, skipped{_suggestion(key)}")
                continue
            try:
                found[option.name] = option.parse(value)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
        for name, parsed in found.items():
            self._store(name, parsed, source)

    def set(self, key: str, value: str, source: Source = "user") -> None:
        """Set one option from text, as for `--set key=value`; `ConfigError` for a wrong key or value."""
        option = options().get(ALIASES.get(key, key))
        if option is None:
            raise ConfigError(f"there is no option {key!r}{_suggestion(key)}")
        self._store(option.name, option.parse(value.strip()), source)

    def source(self, key: str) -> Source:
        """Where the value of an option came from: default (also the shipped files), file, user or api."""
        name = ALIASES.get(key, key)
        if name not in options():
            raise ConfigError(f"there is no option {key!r}{_suggestion(key)}")
        return self._sources.get(name, "default")

    def sources(self) -> dict[str, Source]:
        """Source of every option by name."""
        return {name: self.source(name) for name in options()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was said while reading files (unknown keys, files taken from the package)."""
        return tuple(self._warnings)

    def toDict(self) -> dict[str, str | bool | int | float]:
        """All options and their values, plain Python types only (fit for JSON)."""
        return dict(self._values)

    def copy(self) -> Config:
        """An independent copy, sources included."""
        other = Config()
        other._values.update(self._values)
        other._sources.update(self._sources)
        other._warnings.extend(self._warnings)
        return other

    def print(self) -> None:
        """Write all options to standard output, one a line, with the source of those that were changed."""
        for name, value in self._values.items():
            source = self.source(name)
            note = "" if source == "default" else f"    # {source}"
            sys.stdout.write(f"{name} = {value}{note}\n")

    def validate(self) -> None:
        """Check every option against its range; `ConfigError` names the first that is wrong."""
        for name, option in options().items():
            option.check(self._values[name])

    def resolveDevice(self) -> Literal["cpu", "cuda"]:
        """The torch device to use; says so in the log when cuda was asked for and is not there."""
        if self.device == "cpu":
            return "cpu"
        try:
            import torch
        except ImportError as error:
            raise EnvironmentProblem("PyTorch is not installed; run: pip install nextgenface") from error
        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            self._warn("device = cuda, but PyTorch sees no CUDA device: computing on the CPU")
        return "cpu"

    def threadCount(self) -> int:
        """CPU threads to use: `threads`, or the cores this process may use (at most 8) when it is 0."""
        return self.threads or min(available_cores(), 8)

    def modelFolder(self) -> Path | None:
        """Folder of the Basel Face Model: `path` if the user set it (even when missing), else
        `NEXTGENFACE_DATA_DIR`, `./data/baselMorphableModel`, `./baselMorphableModel`, whichever exists;
        None when none does.
        """
        if self.source("path") != "default":
            return Path(self.path).expanduser()
        environment = os.environ.get("NEXTGENFACE_DATA_DIR")
        if environment:
            return Path(environment).expanduser()
        for candidate in (Path(self.path), Path("data/baselMorphableModel"), Path("baselMorphableModel")):
            if candidate.is_dir():
                return candidate
        return None

    def _store(self, name: str, value: Any, source: Source) -> None:
        self._values[name] = value
        self._sources[name] = source

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        log.warning("%s", text)

    def _locate(self, path: Path) -> Path:
        path = path.expanduser()
        if path.exists():
            if path.is_dir():
                raise ConfigError(f"the configuration {path} is a folder; give an .ini file")
            return path
        if not path.is_absolute() and path.name in SHIPPED:
            shipped = asset(path.name)
            self._warn(f"{path} does not exist here; using the one that comes with NextGenFace: {shipped}")
            return shipped
        raise ConfigError(
            f"the configuration {path} does not exist; give an .ini file, or one of {', '.join(SHIPPED)}"
        )


def options() -> dict[str, Option[Any]]:
    """All options by name, in the order of the documentation."""
    return {name: value for name, value in vars(Config).items() if isinstance(value, Option)}


def _is_shipped(file: Path) -> bool:
    """Whether the file is a shipped one or an unchanged copy of it."""
    for name in SHIPPED:
        shipped = asset(name)
        if shipped.exists() and (file.samefile(shipped) or file.read_bytes() == shipped.read_bytes()):
            return True
    return False


def _split_line(line: str) -> tuple[str, str | None] | None:
    """(key, value) of a line, value None if malformed; None for blanks, comments and section headings."""
    text = _without_comment(line).strip()
    if not text or text.startswith(";") or (text.startswith("[") and text.endswith("]")):
        return None
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        return text, None
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return key.strip().strip("\"'"), value


def _without_comment(line: str) -> str:
    """The line up to a `#` that does not stand in quotes."""
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and line[:position].rstrip().endswith("="):
            quote = character
        elif character == "#":
            return line[:position]
    return line


def _suggestion(name: str) -> str:
    """', did you mean ...?' with the nearest known option, or nothing."""
    known = {known.lower(): known for known in (*options(), *ALIASES)}
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {known[near[0]]!r}?" if near else ""


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file"
    return getattr(error, "strerror", None) or str(error)
