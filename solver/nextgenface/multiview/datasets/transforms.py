"""`transforms.json` of instant-ngp and nerfstudio: camera-to-world matrices in the axes of OpenGL (y up)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import write_text
from ...views import Camera, View, ViewSet
from .errors import DataSetError
from .lens import straightened
from .pictures import SUFFIXES, load_view, write_view

NAMES = ("transforms.json", "transforms_train.json")

_FLIP = np.diag((1.0, -1.0, -1.0))  # x right, y up, z backward <-> x right, y down, z forward


def find(path: Path) -> Path | None:
    """The JSON file that `path` is or holds; None when this is no such data set."""
    if path.is_file():
        return path if path.suffix == ".json" and path.name.startswith("transforms") else None
    return next((path / name for name in NAMES if (path / name).is_file()), None)


def read(path: Path) -> ViewSet:
    """All frames; pictures of lenses with distortion are straightened. Raises DataSetError, PhotoError."""
    file = find(path)
    if file is None:
        raise DataSetError(f"{path} holds no transforms.json.")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        frames = data["frames"]
        # nerfstudio does not order the frames; the names do
        ordered = sorted(frames, key=lambda frame: str(frame["file_path"]))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataSetError(f"{file} is not a list of frames ({problem}).") from problem
    if not ordered:
        raise DataSetError(f"{file} lists no frames.")
    return ViewSet(tuple(_view(file, data, frame) for frame in ordered))


def write(folder: Path, views: ViewSet) -> None:
    """Write `images/` and `transforms.json`. Raises OutputError."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for view in views:
        path = write_view(folder / "images", view)
        camera, matrix = view.camera, np.eye(4)
        matrix[:3, :3] = camera.R.T @ _FLIP
        matrix[:3, 3] = camera.centre
        (fx, _, cx), (_, fy, cy) = camera.K[:2]
        frames.append(
            {
                "file_path": f"images/{path.name}",
                "transform_matrix": matrix.tolist(),
                **{"w": camera.width, "h": camera.height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy},
            }
        )
    write_text(folder / "transforms.json", json.dumps({"frames": frames}, indent=1) + "\n")


def _view(file: Path, shared: dict[str, Any], frame: dict[str, Any]) -> View:
    def number(key: str) -> float | None:
        value = frame.get(key, shared.get(key))
        return None if value is None else float(value)

    def camera(width: int, height: int) -> Camera:
        # A file that gives a size is for pictures of that size; View compares.
        w, h = number("w") or width, number("h") or height
        fx, fy = number("fl_x"), number("fl_y")
        if fx is None and (angle := number("camera_angle_x")) is not None:
            fx = 0.5 * w / math.tan(0.5 * angle)
        if fy is None and (angle := number("camera_angle_y")) is not None:
            fy = 0.5 * h / math.tan(0.5 * angle)
        if fx is None:
            raise DataSetError(f"{file} gives no focal length (fl_x or camera_angle_x).")
        cx, cy = number("cx"), number("cy")
        K = np.array(((fx, 0, w / 2 if cx is None else cx), (0, fy or fx, h / 2 if cy is None else cy)))
        R = _FLIP @ turn[:3, :3].T
        return Camera(np.vstack([K, (0, 0, 1)]), R, -R @ turn[:3, 3], int(w), int(h))

    try:
        turn = _matrix(frame["transform_matrix"])
        picture = _picture(file.parent, str(frame["file_path"]))
        if shared.get("camera_model", "OPENCV") not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE"):
            raise DataSetError(f"{file}: the camera model {shared['camera_model']} is not read; undistort.")
        view = load_view(picture.stem, picture, camera)
        lens = np.array([number(key) or 0.0 for key in ("k1", "k2", "p1", "p2", "k3")])
    except (KeyError, TypeError, ValueError) as problem:
        raise DataSetError(f"{file}: a frame is incomplete ({problem!r}).") from problem
    return straightened(view, lens)


def _matrix(rows: Any) -> NDArray[np.float64]:
    matrix = np.asarray(rows, dtype=np.float64)
    turn = matrix[:3, :3]
    size = abs(np.linalg.det(turn)) ** (1 / 3)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.allclose(turn @ turn.T, size**2 * np.eye(3), atol=1e-3):
        raise ValueError("transform_matrix is no rotation and place")
    return np.concatenate([turn / size, matrix[:3, 3:]], 1)


def _picture(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    # instant-ngp's synthetic scenes leave the suffix out
    found = next((p for suffix in SUFFIXES if (p := folder / (name + suffix)).is_file()), None)
    if found is None:
        raise DataSetError(f"{folder / name} does not exist, but transforms.json names it.")
    return found
