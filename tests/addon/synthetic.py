"""A small results folder with known contents, written by hand from docs/architecture.md (no solver, no
image library).
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_TO_BLENDER = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """(h, w) or (h, w, 3) uint8, top row first."""
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def write_exr(path: Path, pixels: NDArray[np.float32]) -> None:
    """(h, w, 3) linear float32, top row first, as an uncompressed scan-line OpenEXR file."""
    height, width = pixels.shape[:2]

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    channels = (
        b"".join(name + b"\0" + struct.pack("<iBxxxii", 2, 0, 1, 1) for name in (b"B", b"G", b"R")) + b"\0"
    )
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<ii", 20000630, 2)
    header += attribute("channels", "chlist", channels) + attribute("compression", "compression", b"\0")
    header += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
    header += attribute("lineOrder", "lineOrder", b"\0") + attribute(
        "pixelAspectRatio", "float", struct.pack("<f", 1)
    )
    header += attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    line = 8 + width * 12
    first = len(header) + 8 * height
    offsets = b"".join(struct.pack("<Q", first + y * line) for y in range(height))
    planes = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 2, 1), dtype="<f4")  # per row: B, G, R
    lines = b"".join(struct.pack("<ii", y, width * 12) + planes[y].tobytes() for y in range(height))
    path.write_bytes(header + offsets + lines)


def rotation(rx: float, ry: float, rz: float) -> NDArray[np.float64]:
    """Rz·Ry·Rx, angles in radians."""
    cx, cy, cz = np.cos([rx, ry, rz])
    sx, sy, sz = np.sin([rx, ry, rz])
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return z @ y @ x


def blender_directions(width: int, height: int) -> NDArray[np.float64]:
    """Unit directions (h, w, 3) in Blender's world of the texels of an equirectangular map, top row first.

    The inverse of u = 0.5 − atan2(y, x)/2π, v_up = 0.5 + atan2(z, √(x²+y²))/π.
    """
    u = (np.arange(width) + 0.5) / width
    v_up = 1.0 - (np.arange(height) + 0.5) / height
    azimuth, elevation = np.meshgrid((0.5 - u) * 2 * np.pi, (v_up - 0.5) * np.pi)
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)


def light_of(directions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Radiance (…, 3) of the synthetic sky: a different smooth ramp along each world axis, all within 0.1
    .. 0.9.
    """
    return 0.5 + 0.4 * np.asarray(directions)


def face_grid(n: int = 21) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """The front of an ellipsoid with a nose: vertices (n², 3) mm, faces outward, uv."""
    s = np.linspace(-1.0, 1.0, n)
    a, b = np.meshgrid(s * 1.3, s * 1.2)
    nose = 22.0 * np.exp(-(a**2 + (b + 0.1) ** 2) / 0.04)
    vertices = np.stack(
        [75 * np.sin(a) * np.cos(b), 100 * np.sin(b), 60 * np.cos(a) * np.cos(b) + nose], axis=-1
    ).reshape(-1, 3)
    u, v = np.meshgrid((s + 1) / 2, (s + 1) / 2)
    i = np.arange(n * n).reshape(n, n)
    p, q, r, t = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    faces = np.concatenate([np.stack([p, q, r], -1), np.stack([p, r, t], -1)])
    return (
        vertices.astype(np.float32),
        faces.astype(np.int32),
        np.stack([u, v], -1).reshape(-1, 2).astype(np.float32),
    )


@dataclass
class Photo:
    """One synthetic photo's camera."""

    name: str = "Müller 1"
    width: int = 96
    height: int = 128
    fx: float = 180.0
    fy: float = 180.0
    cx: float = 40.5
    cy: float = 77.25
    angles: tuple[float, float, float] = (0.15, -0.35, 0.1)
    t: tuple[float, float, float] = (12.0, -8.0, 420.0)
    scores: dict[str, float] | None = None  # of the detector, by ARKit name

    @property
    def K(self) -> NDArray[np.float64]:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    @property
    def R(self) -> NDArray[np.float64]:
        return rotation(*self.angles) @ np.diag([1.0, -1.0, -1.0])

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Model-space points (V, 3) mm to pixels (V, 2)."""
        camera = np.asarray(points, np.float64) @ self.R.T + np.asarray(self.t)
        return camera[:, :2] / camera[:, 2:] * [self.fx, self.fy] + [self.cx, self.cy]


@dataclass
class Folder:
    """What to write."""

    photos: list[Photo] = field(default_factory=lambda: [Photo()])
    shared: bool = True
    name: str = "Müller"
    grid: int = 21
    scale: float = 1.0
    specular: tuple[int, int, int] = (128, 128, 128)

    @property
    def neutral(self) -> NDArray[np.float32]:
        return face_grid(self.grid)[0] * np.float32(self.scale)

    def expression(self, index: int) -> NDArray[np.float32]:
        """Offsets (V, 3) mm: the lower half moves down, more for each photo, and a little to the side."""
        below = np.clip(-self.neutral[:, 1:2] / 100, 0, None)
        return (below * np.array([2.0, -10.0 * (index + 1), 3.0])).astype(np.float32)

    def write(self, path: Path, change: dict[str, Any] | None = None) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        neutral = self.neutral
        _, faces, uv = face_grid(self.grid)
        names = ["jawOpen", "eyeBlinkLeft"]
        deltas = np.zeros((2, len(neutral), 3), np.float32)
        deltas[0, neutral[:, 1] < 0, 1] = -8.0
        deltas[1, neutral[:, 0] > 20, 2] = -3.0
        identities = [0] * len(self.photos) if self.shared else list(range(len(self.photos)))
        for identity in sorted(set(identities)):
            own = [i for i, other in enumerate(identities) if other == identity]
            np.savez(
                path / ("geometry.npz" if identity == 0 else f"geometry_{identity}.npz"),
                neutral_vertices=neutral,
                faces=faces,
                uv=uv,
                expression_offsets=np.stack([self.expression(i) for i in own]),
                blendshape_names=np.array(names),
                blendshape_deltas=deltas,
            )
        entries = []
        for i, photo in enumerate(self.photos):
            size = 64
            ramp = np.linspace(60, 220, size).astype(np.uint8)
            diffuse = np.empty((size, size, 3), np.uint8)
            diffuse[..., 0], diffuse[..., 1], diffuse[..., 2] = ramp[None, :], ramp[:, None], 120
            write_png(path / f"diffuseMap_{i}.png", diffuse)
            write_png(path / f"specularMap_{i}.png", np.tile(np.uint8(self.specular), (size, size, 1)))
            write_png(path / f"roughnessMap_{i}.png", np.full((size, size), 110, np.uint8))
            write_png(path / f"photo_{i}.png", np.full((photo.height, photo.width, 3), 90, np.uint8))
            write_exr(path / f"envMap_{i}.exr", light_of(blender_directions(128, 64)).astype(np.float32))
            entry = {
                "name": photo.name, "source": f"/somewhere/{photo.name}.png",
                "index": i, "identity": identities[i],
                "width": photo.width, "height": photo.height, "expression_index": i if self.shared else 0,
                "K": photo.K.tolist(), "R": photo.R.tolist(), "t": list(photo.t),
                "files": {
                    "photo": f"photo_{i}.png", "diffuse": f"diffuseMap_{i}.png",
                    "specular": f"specularMap_{i}.png",
                    "roughness": f"roughnessMap_{i}.png", "environment": f"envMap_{i}.exr",
                },
            }  # fmt: skip
            if photo.scores is not None:
                entry["blendshapes"] = photo.scores
            if identities[i]:
                entry["geometry"] = f"geometry_{identities[i]}.npz"
            entries.append(entry)
        result = {
            "schema": 1, "method": "face", "name": self.name, "version": "0.1.0", "units": "mm",
            "warnings": [],
            "geometry": "geometry.npz", "shared_identity": self.shared, "photos": entries,
        }  # fmt: skip
        result.update(change or {})
        (path / "result.json").write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
        return path
