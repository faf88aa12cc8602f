"""FAN: 68 iBUG landmarks by heat maps, with the package face-alignment, which is imported only when chosen.

Its weights come from the package's own cache (it fetches them by itself) or from files. The
network's input is a square of 200 * (w + h) / 195 pixels around a face box of w x h, a little above its
centre, brought to 256; its output is one 64 x 64 heat map per landmark (Bulat & Tzimiropoulos,
"How far are we from solving the 2D & 3D face alignment problem?", ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nextgenface.errors import ConfigError, EnvironmentProblem
from nextgenface.landmarks.tables import GUIDE62_IN_IBUG68, IBUG68_MIRROR
from nextgenface.landmarks.types import Landmarks

if TYPE_CHECKING:
    import torch

INPUT = 256
REFERENCE = 195.0
RISE = 0.12

FindBoxes = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


class FanDetector:
    """Detector with a heat-map network. `from_files` makes one with the real network.

    `network`: (1, 3, 256, 256) float RGB 0..1 -> (1, 68, 64, 64) heat maps, or a list of such, of which the
    last counts. `find_boxes`: (H, W, 3) uint8 RGB -> (n, 4 or 5) boxes x0, y0, x1, y1 in pixels.
    """

    def __init__(self, network: torch.nn.Module, find_boxes: FindBoxes, device: str = "cpu") -> None:
        self._network = network.to(device).eval()
        self._find_boxes = find_boxes
        self._device = device

    @classmethod
    def from_files(cls, weights: str = "", device: str = "cpu") -> FanDetector:
        """The network of the package face-alignment.

        `weights`: empty for the package's cache; a file with the weights of 2DFAN-4 (a state dictionary
        or TorchScript); or a folder that holds `2DFAN4*` and, for the boxes, `s3fd*`. Raises
        `EnvironmentProblem` when the package or its weights are missing, `ConfigError` when a named
        file is.
        """
        landmark_file, box_file = _weight_files(weights)
        package = _package()
        try:
            finder = package.detection.sfd.FaceDetector(
                device=device, path_to_detector=None if box_file is None else str(box_file), verbose=False
            )
            if landmark_file is None:
                whole = package.FaceAlignment(
                    package.LandmarksType.TWO_D,
                    device=device,
                    flip_input=False,
                    compile=False,
                    face_detector="sfd",
                )
                network = whole.face_alignment_net
            else:
                network = load_network(landmark_file, device)
        except OSError as error:
            raise EnvironmentProblem(
                f"the weights of fan cannot be fetched or read ({error}); fetch 2DFAN4 and s3fd from "
                "https://www.adrianbulat.com/downloads/python-fan/ and name their folder with the option "
                "fanWeights, or use lamdmarksDetectorType = mediapipe"
            ) from error

        def find_boxes(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
            return np.array(finder.detect_from_image(picture.copy()), dtype=np.float64).reshape(-1, 5)

        return cls(network, find_boxes, device)

    def detect(self, srgb8: NDArray[np.uint8]) -> list[Landmarks]:
        """Faces in an upright (H, W, 3) 8-bit sRGB picture, largest first; the guide's 62 iBUG points."""
        faces = [self._landmarks(srgb8, box) for box in self._find_boxes(srgb8)]
        return sorted(faces, key=lambda face: -face.size)

    def close(self) -> None:
        """Nothing to free."""

    def _landmarks(self, picture: NDArray[np.uint8], box: NDArray[np.float64]) -> Landmarks:
        import torch

        x0, y0, x1, y1 = (float(value) for value in box[:4])
        side = 200.0 * (x1 - x0 + y1 - y0) / REFERENCE
        corner = np.array(((x0 + x1 - side) / 2, (y0 + y1 - side) / 2 - RISE * (y1 - y0)))
        cut = _cut(picture, corner, side)
        both = np.stack([cut, cut[:, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32) / 255.0
        with torch.no_grad():
            maps = [self._heat_maps(torch.from_numpy(one[None].copy())) for one in both]
        # The mirrored picture's maps, mirrored back, take away the network's preference for one side.
        heat = (maps[0] + maps[1][IBUG68_MIRROR][:, :, ::-1]) / 2
        points, peaks = decode_heat_maps(heat)
        return Landmarks(
            scheme="ibug68",
            indices=GUIDE62_IN_IBUG68.copy(),
            points=(points * (side / heat.shape[-1]) + corner)[GUIDE62_IN_IBUG68],
            depth=None,
            weights=np.clip(peaks, 0.0, 1.0)[GUIDE62_IN_IBUG68],
        )

    def _heat_maps(self, batch: torch.Tensor) -> NDArray[np.float64]:
        result = self._network(batch.to(self._device))
        last: Any = result[-1] if isinstance(result, list | tuple) else result
        maps = last[0].double().cpu().numpy()
        if maps.ndim != 3 or len(maps) != 68:
            raise ConfigError(
                f"fanWeights hold a network with output {maps.shape}, not 68 heat maps; use 2DFAN-4"
            )
        return np.asarray(maps)


def decode_heat_maps(heat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Peaks of (L, h, w) heat maps: (L, 2) places in map pixels (0.5 = centre of the first) and (L,) heights.

    The maps are close to Gaussian bumps, whose logarithm is a parabola: the place is the top of the parabola
    through the highest cell and its neighbours, in x and in y.
    """
    count, height, width = heat.shape
    best = heat.reshape(count, -1).argmax(axis=1)
    row, column = best // width, best % width
    each = np.arange(count)
    log_heat = np.log(np.maximum(np.pad(heat, ((0, 0), (1, 1), (1, 1)), mode="reflect"), 1e-6))
    centre = log_heat[each, row + 1, column + 1]

    def top(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        curvature = 2.0 * centre - before - after
        offset = 0.5 * (after - before) / np.where(curvature > 1e-9, curvature, 1.0)
        return np.where(curvature > 1e-9, np.clip(offset, -0.5, 0.5), 0.0)

    dx = top(log_heat[each, row + 1, column], log_heat[each, row + 1, column + 2])
    dy = top(log_heat[each, row, column + 1], log_heat[each, row + 2, column + 1])
    places = np.stack([column + 0.5 + dx, row + 0.5 + dy], axis=1)
    return places, heat[each, row, column]


def load_network(file: Path, device: str) -> torch.nn.Module:
    """The landmark network from a file: TorchScript, or a state dictionary for face-alignment's 2DFAN-4."""
    import torch

    try:
        scripted: torch.nn.Module = torch.jit.load(str(file), map_location=device)
        return scripted
    except RuntimeError:
        pass  # not TorchScript: a state dictionary
    try:
        state = torch.load(file, map_location=device, weights_only=True)
        network: torch.nn.Module = _package().models.FAN(4)
        network.load_state_dict(state)
    except Exception as error:
        raise ConfigError(f"fanWeights: {file} does not hold the weights of 2DFAN-4 ({error})") from error
    return network


def _cut(picture: NDArray[np.uint8], corner: NDArray[np.float64], side: float) -> NDArray[np.uint8]:
    """(256, 256, 3) of a square of the picture, black beyond its border."""
    margin = int(np.ceil(side)) + 2
    x, y = (int(np.floor(value)) for value in corner)
    height, width = picture.shape[:2]
    area = np.zeros((margin, margin, 3), np.uint8)
    x0, x1 = np.clip((x, x + margin), 0, width)
    y0, y1 = np.clip((y, y + margin), 0, height)
    area[y0 - y : y1 - y, x0 - x : x1 - x] = picture[y0:y1, x0:x1]
    left, top = corner[0] - x, corner[1] - y
    return np.asarray(
        Image.fromarray(area).resize(
            (INPUT, INPUT), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
    )


def _weight_files(weights: str) -> tuple[Path | None, Path | None]:
    """(landmark network, face boxes) files that the option names; None = the package's own."""
    if not weights:
        return None, None
    path = Path(weights).expanduser()
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise ConfigError(f"fanWeights names {path}, which does not exist")
    landmark_files, box_files = sorted(path.glob("2DFAN4*")), sorted(path.glob("s3fd*"))
    if not landmark_files:
        raise ConfigError(f"fanWeights: there is no 2DFAN4* file in the folder {path}")
    return landmark_files[0], box_files[0] if box_files else None


def _package() -> Any:
    try:
        import face_alignment
        import face_alignment.detection.sfd
    except ImportError as error:
        raise EnvironmentProblem(
            "the landmark detector fan needs the package face-alignment, which is missing; "
            "run: pip install nextgenface[fan], or use lamdmarksDetectorType = mediapipe"
        ) from error
    return face_alignment
