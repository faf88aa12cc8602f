"""Reading and writing pictures: 8- and 16-bit files and OpenEXR, whole or not at all.

Arrays are (H, W, C), top row first.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nextgenface import colour
from nextgenface.errors import PhotoError
from nextgenface.files import atomic_path, write_bytes

_CHANNELS = {1: "Y", 3: "RGB", 4: "RGBA"}


def read_image(path: Path | str) -> NDArray[np.float32]:
    """A picture's code values as (H, W, C) float32, C = 1, 3 or 4.

    8- and 16-bit files give 0..1 as stored (no transfer curve is applied: decode colour with
    `colour.srgb_to_linear`, take data as it is); EXR gives its linear values. Colour profiles are ignored
    and orientation may be; for photos see `photos.load_photo`. Raises `PhotoError`.
    """
    path = Path(path)
    if path.suffix.lower() == ".exr":
        return read_exr(path)
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            values = deep_pixels(data, picture)
            if values is None:
                mode = {"1": "L", "P": "RGBA", "LA": "RGBA", "PA": "RGBA"}.get(picture.mode, picture.mode)
                mode = mode if mode in ("L", "RGB", "RGBA") else "RGB"
                values = np.asarray(picture.convert(mode), dtype=np.float32) / 255.0
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise PhotoError(f"{path} cannot be read as a picture: {error}") from error
    return values if values.ndim == 3 else values[..., None]


def deep_pixels(data: bytes, picture: Image.Image) -> NDArray[np.float32] | None:
    """Pixels of a PNG or TIFF with more than 8 bits as float32 (H, W[, C]), RGB order; None for others.

    Integers are scaled to 0..1, floats are as stored. Pillow reduces colour pictures of this kind to 8 bits,
    so OpenCV decodes them: a TIFF comes upright, the orientation tag of a PNG is not applied.
    `picture` is the same file opened with Pillow.
    """
    if picture.format == "PNG":
        deep = len(data) > 24 and data[24] == 16
    elif picture.format == "TIFF":
        tags: Any = getattr(picture, "tag_v2", {})
        deep = max(np.atleast_1d(tags.get(258, 8))) > 8
    else:
        return None
    if not deep:
        return None
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("this kind of 16-bit file is not supported; save it as a 16-bit PNG")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    if np.issubdtype(pixels.dtype, np.integer):
        return np.asarray(pixels / np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)
    return np.asarray(pixels, dtype=np.float32)


def write_png(path: Path | str, values: NDArray[Any], srgb: bool = True, bits: int = 8) -> None:
    """Write a PNG through a temporary name, so that a reader never meets half of it.

    `values`: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) floats 0..1 (clipped), or uint8, which is written
    as it is. With `srgb`, floats are linear light and get the sRGB curve (never the alpha channel);
    without, they are data and are written linearly. `bits`: 8 or 16 (16 only for one channel).
    Raises `OutputError`.
    """
    pixels = np.asarray(values)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        raise ValueError(f"cannot write an array of shape {np.shape(values)} as PNG")
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.nan_to_num(pixels.astype(np.float32)), 0.0, 1.0)
        if srgb:
            alpha = pixels[..., 3:] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
            encoded = colour.linear_to_srgb(pixels if alpha is None else pixels[..., :3])
            pixels = encoded if alpha is None else np.concatenate([encoded, alpha], axis=-1)
        if bits == 16:
            if pixels.ndim != 2:
                raise ValueError("16-bit PNGs are written with one channel only")
            pixels = (pixels * 65535.0 + 0.5).astype(np.uint16)
        else:
            pixels = (pixels * 255.0 + 0.5).astype(np.uint8)
    encoded_file = io.BytesIO()
    Image.fromarray(pixels).save(encoded_file, format="PNG")
    write_bytes(Path(path), encoded_file.getvalue())


def write_exr(path: Path | str, values: NDArray[Any], half: bool = False) -> None:
    """Write linear values as OpenEXR (ZIP-compressed), through a temporary name.

    `values`: (H, W) or (H, W, C) with C = 1 (channel Y), 3 (R, G, B) or 4 (R, G, B, A, premultiplied as the
    format wants it). 32-bit floats, or 16-bit with `half`. Raises `OutputError`.
    """
    pixels = np.asarray(values)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS:
        raise ValueError(f"cannot write an array of shape {np.shape(values)} as EXR")
    if half:
        pixels = np.clip(pixels, -65504.0, 65504.0)
    stored = np.ascontiguousarray(pixels.astype(np.float16 if half else np.float32))
    channels = {
        name: np.ascontiguousarray(stored[..., number])
        for number, name in enumerate(_CHANNELS[pixels.shape[2]])
    }
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with atomic_path(Path(path)) as temporary:
        try:
            OpenEXR.File(header, channels).write(str(temporary))
        except RuntimeError as error:
            # The library reports a failed write (folder read-only, disk full) in its own class.
            raise OSError(str(error)) from error


def read_exr(path: Path | str) -> NDArray[np.float32]:
    """(H, W, C) float32 of an EXR: R, G, B, A where it has them (C = 3 or 4), else one channel (C = 1).

    Layer prefixes ("ViewLayer.Combined.R") are understood; the data window is what is returned.
    Raises `PhotoError`.
    """
    path = Path(path)
    if not path.is_file():
        raise PhotoError(f"{path} does not exist")
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            found = {name: channel.pixels for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, OSError) as error:
        raise PhotoError(f"{path} cannot be read as OpenEXR (damaged or another format): {error}") from error
    named: dict[str, NDArray[Any]] = {}
    for name, pixels in found.items():
        named.setdefault(name.rsplit(".", 1)[-1].upper(), pixels)
    if all(letter in named for letter in "RGB"):
        chosen = [named[letter] for letter in ("RGBA" if "A" in named else "RGB")]
    elif found:
        chosen = [named.get("Y", next(iter(found.values())))]
    else:
        raise PhotoError(f"{path} has no channels")
    if len({pixels.shape for pixels in chosen}) != 1:
        raise PhotoError(f"{path} stores its channels at different resolutions, which is not supported")
    return np.stack([pixels.astype(np.float32) for pixels in chosen], axis=-1)
