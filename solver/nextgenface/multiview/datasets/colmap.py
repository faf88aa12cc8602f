"""COLMAP's models, text and binary: `cameras`, `images`, `points3D`, and the folder of pictures.

World-to-camera poses in OpenCV's axes with the first pixel's centre at 0.5, as here. The model lies in the
folder itself, in `sparse` or in `sparse/0`; the pictures in `images` beside or above it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...files import write_bytes, write_text
from ...views import Bounds, Camera, View, ViewSet
from .errors import DataSetError
from .lens import straightened
from .pictures import load_view, write_view

MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
"""Camera models by their number in binary files: name, number of parameters."""

ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")

READ = (*ONE_FOCAL, "PINHOLE", "OPENCV", "FULL_OPENCV")


@dataclass(frozen=True)
class Lens:
    """One entry of `cameras`."""

    model: str
    width: int
    height: int
    numbers: NDArray[np.float64]

    @property
    def K(self) -> NDArray[np.float64]:
        """(3, 3) intrinsics."""
        focal = self.numbers[[0, 0, 1, 2] if self.model in ONE_FOCAL else [0, 1, 2, 3]]
        return np.array(((focal[0], 0, focal[2]), (0, focal[1], focal[3]), (0, 0, 1.0)))

    @property
    def distortion(self) -> NDArray[np.float64]:
        """OpenCV's coefficients."""
        rest = self.numbers[3 if self.model in ONE_FOCAL else 4 :]
        return np.concatenate([rest, np.zeros(max(4 - len(rest), 0))])


Pose = tuple[str, int, NDArray[np.float64], NDArray[np.float64]]
"""Picture's name, number of its lens, quaternion (w, x, y, z), translation."""


def model_folder(folder: Path) -> Path | None:
    """Where the model lies; None when this is no COLMAP folder."""
    places = (folder / "sparse" / "0", folder / "sparse", folder / "colmap" / "sparse" / "0", folder)
    return next((p for p in places if any((p / f"images.{end}").is_file() for end in ("bin", "txt"))), None)


def read(folder: Path) -> ViewSet:
    """All registered pictures, straightened where the lens distorts. Raises DataSetError, PhotoError."""
    place = model_folder(folder)
    if place is None:
        raise DataSetError(f"{folder} holds no COLMAP model (images.bin or images.txt).")
    binary = (place / "images.bin").is_file()
    try:
        if binary:
            lenses = dict(_binary_lenses((place / "cameras.bin").read_bytes()))
            poses = list(_binary_poses((place / "images.bin").read_bytes()))
            points = _binary_points(place / "points3D.bin")
        else:
            lenses = dict(_text_lenses(_rows(place / "cameras.txt")))
            poses = list(_text_poses((place / "images.txt").read_text(encoding="utf-8").splitlines()))
            points = _text_points(place / "points3D.txt")
    except (OSError, ValueError, IndexError, struct.error) as problem:
        raise DataSetError(f"The COLMAP model in {place} cannot be read ({problem}).") from problem
    if not poses:
        raise DataSetError(f"The COLMAP model in {place} holds no pictures.")
    pictures = _pictures_folder(folder, place, poses[0][0])
    views = tuple(_view(place, pictures, pose, lenses) for pose in sorted(poses, key=lambda pose: pose[0]))
    return ViewSet(views, _bounds(points))


def write(folder: Path, views: ViewSet, *, binary: bool = True) -> None:
    """Write `images/` and `sparse/0` (no points). Raises OutputError."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    place = folder / "sparse" / "0"
    place.mkdir(parents=True, exist_ok=True)
    cameras, images = [struct.pack("<Q", len(views))], [struct.pack("<Q", len(views))]
    camera_rows, image_rows = (
        ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"],
        ["# ID QW QX QY QZ TX TY TZ CAMERA NAME"],
    )
    for number, view in enumerate(views, 1):
        name = write_view(folder / "images", view).name
        camera = view.camera
        lens = (camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2])
        x, y, z, w = Rotation.from_matrix(camera.R).as_quat()
        pose = (w, x, y, z, *camera.t)
        cameras.append(struct.pack("<iiQQ4d", number, 1, camera.width, camera.height, *lens))
        images.append(struct.pack("<i7di", number, *pose, number))
        images.append(name.encode() + b"\0" + struct.pack("<Q", 0))
        camera_rows.append(f"{number} PINHOLE {camera.width} {camera.height} {_words(lens)}")
        image_rows += [f"{number} {_words(pose)} {number} {name}", ""]
    if binary:
        for stem, parts in (("cameras", cameras), ("images", images), ("points3D", [struct.pack("<Q", 0)])):
            write_bytes(place / f"{stem}.bin", b"".join(parts))
    else:
        for stem, rows in (("cameras", camera_rows), ("images", image_rows), ("points3D", ["# none"])):
            write_text(place / f"{stem}.txt", "\n".join(rows) + "\n")


def _words(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.17g}" for number in numbers)


def _view(place: Path, pictures: Path, pose: Pose, lenses: dict[int, Lens]) -> View:
    name, number, (w, x, y, z), t = pose
    lens = lenses.get(number)
    if lens is None:
        raise DataSetError(f"{place}: picture {name} has the camera {number}, which is not listed.")
    if lens.model not in READ:
        raise DataSetError(
            f"{place}: the camera model {lens.model} is not read. Run COLMAP's image_undistorter and give "
            "its output."
        )
    R = Rotation.from_quat((x, y, z, w)).as_matrix()
    path = pictures / name
    # pictures of several folders may have the same file name
    view = load_view(
        "_".join(Path(name).with_suffix("").parts),
        path,
        lambda _w, _h: Camera(lens.K, R, t, lens.width, lens.height),
    )
    return straightened(view, lens.distortion)


def _pictures_folder(folder: Path, place: Path, name: str) -> Path:
    candidates = [folder / "images", folder, place / "images", place.parent / "images"]
    candidates += [place.parent.parent / "images", folder.parent / "images"]
    found = next((p for p in candidates if (p / name).is_file()), None)
    if found is None:
        raise DataSetError(f"The picture {name} of the COLMAP model was not found in {folder / 'images'}.")
    return found


def _bounds(points: NDArray[np.float64]) -> Bounds | None:
    """The box of the points without the outermost two percent on every side; stray points are common."""
    if len(points) < 50:
        return None
    low, high = np.percentile(points, (2, 98), axis=0)
    return Bounds.around(np.stack([low, high]), margin=0.1) if (low < high).all() else None


def _rows(path: Path) -> Iterator[list[str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split()


def _text_lenses(rows: Iterator[list[str]]) -> Iterator[tuple[int, Lens]]:
    for words in rows:
        yield int(words[0]), Lens(words[1], int(words[2]), int(words[3]), np.array(words[4:], np.float64))


def _text_poses(lines: list[str]) -> Iterator[Pose]:
    kept = [line for line in lines if not line.startswith("#")]
    while kept and not kept[0].strip():
        kept.pop(0)
    for line in kept[::2]:  # every second line lists points, and may be empty
        words = line.split(maxsplit=9)
        if len(words) == 10:
            yield words[9], int(words[8]), np.array(words[1:5], float), np.array(words[5:8], float)


def _text_points(path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        return np.zeros((0, 3))
    return np.array([words[1:4] for words in _rows(path)], dtype=np.float64).reshape(-1, 3)


def _binary_lenses(data: bytes) -> Iterator[tuple[int, Lens]]:
    offset = 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height = struct.unpack_from("<iiQQ", data, offset)
        name, count = MODELS[model]
        numbers = np.frombuffer(data, "<f8", count, offset + 24)
        offset += 24 + 8 * count
        yield number, Lens(name, width, height, numbers)


def _binary_poses(data: bytes) -> Iterator[Pose]:
    offset = 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        numbers = np.frombuffer(data, "<f8", 7, offset + 4)
        lens = struct.unpack_from("<i", data, offset + 60)[0]
        end = data.index(b"\0", offset + 64)
        name = data[offset + 64 : end].decode("utf-8")
        offset = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
        yield name, lens, numbers[:4], numbers[4:]


def _binary_points(path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        return np.zeros((0, 3))
    data, offset, points = path.read_bytes(), 8, []
    for _ in range(struct.unpack_from("<Q", data)[0]):
        points.append(struct.unpack_from("<3d", data, offset + 8))
        offset += 51 + 8 * struct.unpack_from("<Q", data, offset + 43)[0]
    return np.array(points, dtype=np.float64).reshape(-1, 3)
