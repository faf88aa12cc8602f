"""Pictures for people, as uint8 arrays: the seven-panel strip, landmark overlay, loss curves, previews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colour import encode_8bit
from .files import output_error
from .images import write_png

Picture = NDArray[np.uint8]

PANELS = ("input", "overlay", "reconstruction", "illumination", "diffuse", "specular", "roughness")
"""Order of the panels in `render_{i}.png`, left to right."""

_DATA_PANELS = ("specular", "roughness")
_BRIGHT = 0.8  # linear; leaves highlights a little room below white


def strip(
    photo: NDArray[Any],
    overlay: NDArray[Any],
    reconstruction: NDArray[Any],
    illumination: NDArray[Any],
    diffuse: NDArray[Any],
    specular: NDArray[Any],
    roughness: NDArray[Any],
) -> Picture:
    """The panels side by side, (H, 7 W, 3) uint8.

    Each panel: (H, W), (H, W, 1) or (H, W, 3) float, all of one height and width. Light and colour (the
    first five) are linear Rec.709 and get the sRGB curve; specular level and roughness are data and are
    shown linearly, so that 0.5 is code 128. Raises ValueError when sizes differ.
    """
    panels = (photo, overlay, reconstruction, illumination, diffuse, specular, roughness)
    shown = [_panel(values, name in _DATA_PANELS) for name, values in zip(PANELS, panels, strict=True)]
    for name, panel in zip(PANELS, shown, strict=True):
        if panel.shape != shown[0].shape:
            raise ValueError(f"the panel '{name}' is {panel.shape}, the input panel {shown[0].shape}")
    return np.concatenate(shown, axis=1)


def over(foreground: NDArray[Any], alpha: NDArray[Any], background: NDArray[Any]) -> NDArray[np.float32]:
    """A premultiplied linear picture (H, W, 3) with coverage (H, W) over a linear background (H, W, 3)."""
    mixed = foreground + (1.0 - np.asarray(alpha)[..., None]) * background
    return np.asarray(mixed, np.float32)


def exposed(picture: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.float32]:
    """A linear picture (H, W, 3) scaled so that the brightest 1 % of what it shows lies above 0.8.

    alpha (H, W): coverage; what is covered by less than half does not count. A picture without light stays.
    """
    inside = np.asarray(picture)[np.asarray(alpha) > 0.5]
    bright = float(np.percentile(inside.max(-1), 99)) if len(inside) else 0.0
    return np.asarray(picture * (_BRIGHT / bright if bright > 0 else 1.0), np.float32)


def preview(photo: NDArray[Any], rgb: NDArray[Any], alpha: NDArray[Any]) -> Picture:
    """Photo and reconstruction over the photo, side by side: (H, 2 W, 3) uint8.

    photo (H, W, 3) linear; rgb (H, W, 3) linear premultiplied; alpha (H, W) coverage.
    """
    return np.concatenate([_panel(photo), _panel(over(rgb, alpha, photo))], axis=1)


def debug_frame(
    target: NDArray[Any], image: NDArray[Any], maps: Sequence[tuple[NDArray[Any], bool]] = ()
) -> Picture:
    """Photo, picture and their difference (grey where they agree), then maps, side by side, uint8.

    target and image (H, W, 3) linear; maps: square textures of any size, shrunk or repeated to height H, and
    whether they are data rather than colour.
    """
    photo, picture = _panel(target), _panel(image)
    difference = 128 + (picture.astype(np.int16) - photo.astype(np.int16)) // 2
    panels = [photo, picture, difference.astype(np.uint8)]
    height = len(photo)
    for texture, data in maps:
        texel = (np.arange(height) + 0.5) * len(texture) / height
        panels.append(_panel(texture[np.ix_(texel.astype(int), texel.astype(int))], data))
    return np.concatenate(panels, axis=1)


def draw_landmarks(
    picture: NDArray[Any],
    points: NDArray[Any],
    weights: NDArray[Any] | None = None,
    colour: tuple[int, int, int] = (60, 255, 90),
) -> Picture:
    """Antialiased dots with a dark rim on a picture.

    picture (H, W, 3): uint8 sRGB, or floats, taken as linear; points (L, 2) in its pixels, (0.5, 0.5) the
    centre of the top-left one; weights (L,): dots of untrusted points (0) are drawn grey. Points outside
    the picture are left out. The dots grow with the picture.
    """
    canvas = (picture if picture.dtype == np.uint8 else _panel(picture)).astype(np.float32)
    height, width = canvas.shape[:2]
    radius = max(1.2, 0.0028 * max(height, width))
    trusted = np.ones(len(points), bool) if weights is None else np.asarray(weights) > 0
    for (x, y), good in zip(np.asarray(points, np.float64), trusted, strict=True):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        reach = radius + 2.0
        x0, x1 = max(0, int(x - reach)), min(width, int(np.ceil(x + reach)))
        y0, y1 = max(0, int(y - reach)), min(height, int(np.ceil(y + reach)))
        if x0 >= x1 or y0 >= y1:
            continue
        rows, columns = np.mgrid[y0:y1, x0:x1] + 0.5
        distance = np.hypot(columns - x, rows - y)
        patch = canvas[y0:y1, x0:x1]
        rim = 0.6 * np.clip(radius + 1.5 - distance, 0, 1)[..., None]
        patch *= 1 - rim
        dot = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
        patch += dot * (np.array(colour if good else (150, 150, 150), np.float32) - patch)
    return np.asarray(canvas + 0.5, np.uint8)


def loss_curve(losses: Sequence[float], title: str = "", size: tuple[int, int] = (800, 500)) -> Picture:
    """A plot of one loss per step, (height, width, 3) uint8; logarithmic when the loss spans decades."""
    # The object interface with its own canvas: no window system, no state shared with the user's own plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = np.asarray(losses, np.float64)
    axes.plot(
        np.arange(1, len(values) + 1),
        values,
        color="#1f6fb4",
        linewidth=1.5,
        marker="o" if len(values) < 3 else None,
    )
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(True, alpha=0.3)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def save_loss_curve(path: Path, losses: Sequence[float], title: str = "") -> None:
    """Write `loss_curve` as a PNG; the folder is made. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise output_error(path.parent, problem) from problem
    write_png(path, loss_curve(losses, title))


def _panel(values: NDArray[Any], data: bool = False) -> Picture:
    """(H, W), (H, W, 1) or (H, W, 3) floats as an 8-bit picture."""
    floats = np.asarray(values, np.float32)
    floats = floats[..., None] if floats.ndim == 2 else floats
    if floats.ndim != 3 or floats.shape[2] not in (1, 3):
        raise ValueError(f"a panel must have shape (H, W), (H, W, 1) or (H, W, 3), not {np.shape(values)}")
    codes = (
        (np.clip(np.nan_to_num(floats), 0, 1) * 255 + 0.5).astype(np.uint8) if data else encode_8bit(floats)
    )
    return np.repeat(codes, 3, axis=2) if codes.shape[2] == 1 else codes
