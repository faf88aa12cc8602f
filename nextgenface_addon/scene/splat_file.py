"""Reads the PLY of a Gaussian-splat scene. No bpy in here.

The solver's own (docs/gaussians.md) and those of other programs: x right, y down, z forward; mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axes import METRES_PER_MM
from .results_folder import ResultsError

CONSTANT_BAND = 0.28209479177387814  # the first spherical harmonic
FILE_TO_BLENDER = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""The files' axes in Blender's world: `axes.MODEL_TO_BLENDER` after half a turn about x."""
_QUARTER_TURN = np.array([np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0])  # the same as a quaternion
_TYPES = {"float": "f4", "float32": "f4", "double": "f8", "float64": "f8", "uchar": "u1", "uint8": "u1",
          "char": "i1", "short": "i2", "ushort": "u2", "int": "i4", "int32": "i4", "uint": "u4"}  # fmt: skip
_NEEDED = ("x", "y", "z", "opacity", *(f"{name}_{i}" for name in ("f_dc", "scale") for i in range(3)))
_NEEDED += tuple(f"rot_{i}" for i in range(4))


@dataclass(frozen=True)
class SplatCloud:
    """N Gaussians in Blender's world: `positions` (N, 3) and standard deviations `scales` (N, 3) in metres,
    `rotations` (N, 4) unit quaternions w x y z, `colours` (N, 4) linear RGBA, `opacities` (N,) 0..1; `raw`:
    every property of the file by name, as it stands there.
    """

    positions: NDArray[np.float32]
    scales: NDArray[np.float32]
    rotations: NDArray[np.float32]
    colours: NDArray[np.float32]
    opacities: NDArray[np.float32]
    raw: dict[str, NDArray[np.float32]]


def read_splats(path: Path) -> SplatCloud:
    """Read and check a file. Raises ResultsError naming it."""
    raw = _properties(path)
    missing = [name for name in _NEEDED if name not in raw]
    if missing:
        raise ResultsError(f"{path} lacks {', '.join(missing)}: it is no Gaussian-splat scene.")

    def columns(name: str, count: int) -> NDArray[np.float64]:
        return np.stack([raw[f"{name}_{i}"] for i in range(count)], 1).astype(np.float64)

    positions = np.stack([raw["x"], raw["y"], raw["z"]], 1).astype(np.float64)
    rotations = columns("rot", 4)
    length = np.linalg.norm(rotations, axis=1, keepdims=True)
    rotations = np.where(length > 1e-9, rotations / np.maximum(length, 1e-9), (1.0, 0.0, 0.0, 0.0))
    scales = np.exp(np.minimum(columns("scale", 3), 20.0))
    colour = np.clip(columns("f_dc", 3) * CONSTANT_BAND + 0.5, 0.0, 1.0)
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    opacity = 1 / (1 + np.exp(-np.clip(raw["opacity"].astype(np.float64), -60, 60)))
    return SplatCloud(
        positions=(positions @ FILE_TO_BLENDER.T * METRES_PER_MM).astype(np.float32),
        scales=(scales * METRES_PER_MM).astype(np.float32),
        rotations=_turned(rotations).astype(np.float32),
        colours=np.concatenate([linear, np.ones((len(linear), 1))], 1).astype(np.float32),
        opacities=opacity.astype(np.float32),
        raw=raw,
    )


def _turned(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions (N, 4) from the file's axes to Blender's: the quarter turn about x after them."""
    (w, x, _, _), (a, b, c, d) = _QUARTER_TURN, q.T
    return np.stack([w * a - x * b, w * b + x * a, w * c - x * d, w * d + x * c], 1)


def _properties(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every property of a binary PLY's points."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error}). Run the reconstruction again.") from error
    head, mark, _ = data[:65536].partition(b"end_header\n")
    if not mark or not head.startswith(b"ply"):
        raise ResultsError(f"{path} is not a PLY file. Run the reconstruction again.")
    order, count, fields = "", 0, []
    try:
        for line in head.decode("ascii", "replace").replace("\r", "").split("\n"):
            words = line.split()
            if words[:1] == ["format"]:
                order = {"binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
            elif words[:1] == ["element"]:
                if count:
                    break
                count = int(words[2])
            elif words[:1] == ["property"]:
                fields.append((words[-1], order + _TYPES[words[1]]))
        rows: NDArray[Any] = np.frombuffer(data, np.dtype(fields), count, len(head) + len(mark))
    except (KeyError, ValueError, IndexError) as error:
        raise ResultsError(f"{path} is cut off or no binary PLY of points ({error}).") from error
    raw = {name: np.ascontiguousarray(rows[name], dtype=np.float32) for name, _ in fields}
    bad = [name for name, values in raw.items() if not np.isfinite(values).all()]
    if bad or count == 0:
        what = f"{bad[0]} holds values that are not finite" if bad else "it holds no points"
        raise ResultsError(f"{path}: {what}. Run the reconstruction again.")
    return raw
