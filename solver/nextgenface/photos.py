"""One photo: decoded to upright linear Rec.709, with what its EXIF says about the lens."""

from __future__ import annotations

import io
import logging
import math
import re
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from nextgenface import colour
from nextgenface.errors import PhotoError
from nextgenface.images import deep_pixels, read_exr

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".webp", ".exr", ".bmp"})
"""File names that are taken for photos in a folder."""

SMALLEST = 64
"""Pixels that the shorter side of a photo must have."""

FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    MemoryError,
)


@dataclass(frozen=True)
class Photo:
    """A decoded photo. `linear` is (H, W, 3) float32 linear Rec.709, EXIF-upright, top row first.

    `alpha` (H, W) float32 0..1 where the file has transparency; colours are not premultiplied.
    `focal_px`: focal length in pixels of this picture from EXIF, None if unknown; `focal_note` says
    where it comes from or why there is none. `lens`: what EXIF calls camera, lens and zoom, with the size of
    the picture; photos with the same one have the same angle of view. None where EXIF does not tell.
    """

    path: Path
    name: str
    linear: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    focal_px: float | None
    focal_note: str
    _codes: NDArray[np.uint8] | None = field(default=None, repr=False)
    lens: str | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.linear.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.linear.shape[0])

    def srgb8(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 sRGB: the picture as it is looked at (the file's own codes where it has 8 bits)."""
        return colour.encode_8bit(self.linear) if self._codes is None else self._codes


@dataclass(frozen=True)
class PhotoChoice:
    """A photo with what a person has said about it.

    `rotate`: degrees clockwise (0, 90, 180, 270), after EXIF. `face`: 1 = the largest, 2 = the second
    largest; 0: the option `face` decides. `focal35`: 35 mm equivalent focal length, which beats EXIF; 0: not
    known.
    """

    path: Path
    rotate: int = 0
    face: int = 0
    focal35: float = 0.0

    def load(self) -> Photo:
        """The decoded photo, turned, with its lens. Raises PhotoError."""
        photo = load_photo(self.path, rotate=self.rotate)
        if not self.focal35:
            return photo
        focal = focal35_pixels(self.focal35, photo.width, photo.height)
        return replace(photo, focal_px=focal, focal_note=f"given, {self.focal35:g} mm equivalent")


def list_photos(path: Path | str) -> list[Path]:
    """The photos a path stands for: itself, or the pictures in a folder in natural order (2 before 10).

    Other files, hidden files and subfolders are left out. Raises `PhotoError` when there is nothing.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.exists():
        raise PhotoError(f"{path} does not exist; give a photo or a folder of photos")
    try:
        inside = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise PhotoError(f"the folder {path} cannot be read: {error.strerror}") from error
    photos = [file for file in inside if file.suffix.lower() in SUFFIXES]
    if not photos:
        raise PhotoError(f"there are no photos in the folder {path} (PNG, JPEG, TIFF, WebP or EXR)")
    return sorted(photos, key=lambda file: _natural(file.name))


def load_photo(path: Path | str, *, rotate: int = 0) -> Photo:
    """Decode a photo to upright linear Rec.709, then turn it clockwise by `rotate` degrees.

    PNG, JPEG, TIFF, WebP, BMP with 8 or 16 bits, and EXR (taken as linear Rec.709). EXIF orientation is
    applied; embedded colour profiles are converted to sRGB; grey, palette, CMYK and transparent
    pictures are understood; float TIFFs are taken as linear. Raises `PhotoError` naming the file.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".exr":
        photo = _load_exr(path)
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PhotoError(f"the photo {path} cannot be read: {error.strerror or error}") from error
        try:
            photo = _decode(path, data)
        except UnidentifiedImageError as error:
            raise PhotoError(
                f"{path} is not a picture that can be read; save it as PNG, JPEG, TIFF, WebP or EXR"
            ) from error
        except _DAMAGED as error:
            raise PhotoError(
                f"the photo {path} is damaged or incomplete ({error}); export it again"
            ) from error
    if min(photo.width, photo.height) < SMALLEST:
        raise PhotoError(
            f"the photo {path} is too small ({photo.width} x {photo.height} pixels); "
            f"it needs at least {SMALLEST} x {SMALLEST}, better 512 x 512"
        )
    return turned(photo, rotate) if rotate else photo


def turned(photo: Photo, rotate: int) -> Photo:
    """The photo turned clockwise by 0, 90, 180 or 270 degrees; its lens stays the same in pixels."""
    quarters = -(rotate // 90)  # numpy turns the other way

    def turn(pixels: NDArray[Any] | None) -> Any:
        return None if pixels is None else np.ascontiguousarray(np.rot90(pixels, quarters))

    return replace(photo, linear=turn(photo.linear), alpha=turn(photo.alpha), _codes=turn(photo._codes))


def focal35_pixels(focal35: float, width: int, height: int) -> float:
    """Focal length in pixels of a picture of that size from its 35 mm equivalent (see `focal_from_exif`)."""
    return focal35 * math.hypot(width, height) / FRAME_DIAGONAL_MM


def _decode(path: Path, data: bytes) -> Photo:
    with Image.open(io.BytesIO(data)) as picture:
        exif = picture.getexif()
        orientation = int(exif.get(ExifTags.Base.Orientation, 1) or 1)
        details = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
        picture.load()
        deep = deep_pixels(data, picture)
        profile = picture.info.get("icc_profile")
        if deep is not None and profile and not _is_srgb(profile):
            log.warning("%s: a 16-bit picture with a colour profile of its own is reduced to 8 bits", path)
            deep = None
        if deep is not None:
            # OpenCV has already turned a TIFF upright.
            linear, alpha = _from_deep(deep if picture.format == "TIFF" else _upright(deep, orientation))
            codes = None
        else:
            codes, alpha = _from_8bit(ImageOps.exif_transpose(picture), profile, path)
            linear = colour.decode_table(256)[codes]
    focal, note = focal_from_exif(details, linear.shape[1], linear.shape[0])
    lens = lens_from_exif(details, linear.shape[1], linear.shape[0])
    return Photo(path, path.stem, linear, alpha, focal, note, codes, lens)


def _from_8bit(
    picture: Image.Image, profile: bytes | None, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """(H, W, 3) sRGB codes and (H, W) alpha or None of a decoded picture."""
    alpha = None
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A"), dtype=np.float32) / 255.0
        # A file that merely has an alpha channel, all opaque, has no transparency.
        alpha = None if alpha.min() >= 1.0 else alpha
        picture = picture.convert("RGB")
    elif picture.mode in ("1", "P"):
        picture = picture.convert("RGB")
    elif picture.mode.startswith("I") or picture.mode == "F":
        # 16-bit grey that OpenCV was not asked for (other formats than PNG and TIFF).
        values = np.asarray(picture, dtype=np.float32)
        picture = Image.fromarray(
            (values / (65535.0 if values.max() > 255 else 255.0) * 255.0 + 0.5).astype(np.uint8)
        )
    if profile and not _is_srgb(profile):
        picture = _to_srgb(picture, profile, path)
    return np.array(picture.convert("RGB")), alpha


def _from_deep(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Linear colours and alpha of 16-bit or float pixels (H, W[, C])."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    alpha = None
    if pixels.shape[2] in (2, 4):
        alpha = np.clip(pixels[..., -1], 0.0, 1.0)
        alpha = None if alpha.min() >= 1.0 else alpha
        pixels = pixels[..., :-1]
    is_float = pixels.max(initial=0.0) > 1.0
    linear = np.maximum(np.nan_to_num(pixels), 0.0) if is_float else colour.srgb_to_linear(pixels)
    return np.ascontiguousarray(np.broadcast_to(linear, (*linear.shape[:2], 3))), alpha


def _load_exr(path: Path) -> Photo:
    pixels = read_exr(path)
    alpha = None
    if pixels.shape[2] == 4:
        alpha = np.clip(pixels[..., 3], 0.0, 1.0)
        # EXR colours are premultiplied by convention.
        pixels = pixels[..., :3] / np.where(alpha > 1e-4, alpha, 1.0)[..., None]
        alpha = None if alpha.min() >= 1.0 else alpha
    linear = np.broadcast_to(np.maximum(np.nan_to_num(pixels), 0.0), (*pixels.shape[:2], 3))
    return Photo(path, path.stem, np.ascontiguousarray(linear), alpha, None, "an EXR has no EXIF")


def focal_from_exif(tags: dict[int, Any], width: int, height: int) -> tuple[float | None, str]:
    """Focal length in pixels of an upright picture of that size, and where it comes from.

    `FocalLengthIn35mmFilm` compares angles of view across the *diagonal* (CIPA DCG-001), and the
    diagonal of a 36 x 24 mm frame is 43.27 mm, so f = f35 * diagonal in pixels / 43.27 whatever the aspect
    ratio of the sensor. Without that tag, focal length and focal-plane resolution do. When the size that the
    camera recorded has another aspect ratio, the photo was cropped and EXIF says nothing about what is left.
    """
    recorded = (_number(tags, ExifTags.Base.ExifImageWidth), _number(tags, ExifTags.Base.ExifImageHeight))
    long_side, short_side = max(width, height), min(width, height)
    if recorded[0] and recorded[1]:
        aspect = max(recorded) / min(recorded)
        if abs(aspect * short_side / long_side - 1.0) > 0.02:
            return None, "EXIF describes a picture of another shape: the photo was cropped"
    film = _number(tags, ExifTags.Base.FocalLengthIn35mmFilm)
    if film:
        return focal35_pixels(film, width, height), f"EXIF, {film:g} mm equivalent"
    length = _number(tags, ExifTags.Base.FocalLength)
    density = _number(tags, ExifTags.Base.FocalPlaneXResolution)
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0}.get(int(_number(tags, ExifTags.Base.FocalPlaneResolutionUnit) or 2))
    if length and density and unit_mm and recorded[0] and recorded[1]:
        focal = length * density / unit_mm * (long_side / max(recorded))
        # Some cameras write the resolution of another image size; what comes out must be a lens that exists.
        if 0.4 * long_side < focal < 30 * long_side:
            return focal, f"EXIF, {length:g} mm and the resolution of the sensor"
    return None, "EXIF does not tell the angle of view"


def lens_from_exif(tags: dict[int, Any], width: int, height: int) -> str | None:
    """A name for camera, lens, zoom and size of the picture: equal names mean equal angles of view."""
    length = _number(tags, ExifTags.Base.FocalLength)
    camera = [str(tags.get(tag) or "").strip(" \0") for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
    if not length or not any(camera):
        return None
    lens = str(tags.get(ExifTags.Base.LensModel) or "").strip(" \0")
    size = f"{max(width, height)} x {min(width, height)}"
    return ", ".join([*camera, lens, f"{length:g} mm", size])


def _number(tags: dict[int, Any], tag: int) -> float:
    try:
        value = float(tags.get(tag, 0) or 0)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _is_srgb(profile: bytes) -> bool:
    """Whether a colour profile calls itself sRGB, so that converting would only cost precision."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(opened)
    except (ImageCms.PyCMSError, OSError):
        return False
    return "srgb" in name.lower() and "linear" not in name.lower()


def _to_srgb(picture: Image.Image, profile: bytes, path: Path) -> Image.Image:
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            picture,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        log.warning("%s: the colour profile cannot be used (%s); taking the colours as sRGB", path, error)
        return picture
    assert converted is not None  # only the in-place form returns None
    return converted


def _upright(pixels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Pixels turned and mirrored as EXIF orientation 1..8 says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts 2 before 10 and does not care for case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts]
