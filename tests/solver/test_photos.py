"""Photos of every kind become the same upright linear picture, and bad files are named."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nextgenface import colour, images
from nextgenface.errors import PhotoError
from nextgenface.photos import focal_from_exif, list_photos, load_photo
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

HEIGHT, WIDTH = 72, 96


@pytest.fixture(scope="module")
def codes() -> NDArray[np.uint8]:
    """A smooth, colourful picture without any symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + x * 1.8, 30 + y * 2.5, 200 - x - y * 0.5], axis=-1).astype(np.uint8)


def linear_of(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return colour.srgb_to_linear(codes / np.float32(255))


@pytest.mark.parametrize(
    "suffix,options,tolerance",
    [
        (".png", {}, 0.0),
        (".tif", {}, 0.0),
        (".bmp", {}, 0.0),
        (".webp", {"lossless": True}, 0.0),
        (".jpg", {"quality": 98, "subsampling": 0}, 0.02),
    ],
)
def test_formats(
    tmp_path: Path, codes: NDArray[np.uint8], suffix: str, options: dict[str, Any], tolerance: float
) -> None:
    path = tmp_path / f"ein Bild ☺ né{suffix}"
    Image.fromarray(codes).save(path, **options)
    photo = load_photo(path)
    assert (photo.width, photo.height, photo.name) == (WIDTH, HEIGHT, path.stem)
    assert photo.linear.dtype == np.float32 and photo.alpha is None and photo.focal_px is None
    np.testing.assert_allclose(photo.linear, linear_of(codes), atol=tolerance + 1e-6)
    if not tolerance:
        assert (photo.srgb8() == codes).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", "16.png", "16.tif"])
def test_orientation(tmp_path: Path, codes: NDArray[np.uint8], orientation: int, suffix: str) -> None:
    # The picture as a camera held that way stores it: the inverse of what EXIF asks the viewer to do.
    stored = {
        1: codes,
        2: codes[:, ::-1],
        3: codes[::-1, ::-1],
        4: codes[::-1],
        5: codes.swapaxes(0, 1),
        6: np.rot90(codes, 1),
        7: codes.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(codes, -1),
    }[orientation]
    path = tmp_path / f"photo{suffix}"
    save_with_exif(path, np.ascontiguousarray(stored), orientation)
    photo = load_photo(path)
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(photo.srgb8().astype(int), codes, atol=6 if suffix == ".jpg" else 0)


def save_with_exif(path: Path, codes: NDArray[np.uint8], orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if not path.stem.endswith("16"):
        quality: dict[str, Any] = {"quality": 98} if path.suffix == ".jpg" else {}
        Image.fromarray(codes).save(path, exif=exif, **quality)
        return
    deep = codes.astype(np.uint16) * np.uint16(257)
    if path.suffix == ".png":
        write_png16(path, deep, exif.tobytes())
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])


def write_png16(path: Path, pixels: NDArray[np.uint16], exif: bytes = b"", profile: bytes = b"") -> None:
    """A 16-bit RGB PNG, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    if exif:
        content += chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if profile:
        content += chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))
    path.write_bytes(content + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def test_16_bits_are_kept(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint16)
    write_png16(tmp_path / "a.png", values)
    linear = load_photo(tmp_path / "a.png").linear
    np.testing.assert_allclose(linear, colour.srgb_to_linear(values / 65535.0), atol=1e-6)
    assert len(np.unique(linear)) > 10000
    grey = Image.fromarray(values[..., 0])
    grey.save(tmp_path / "g.png")
    np.testing.assert_allclose(load_photo(tmp_path / "g.png").linear[..., 1], linear[..., 0], atol=1e-6)


def test_exr_is_linear_and_premultiplied(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    linear = linear_of(codes) * 3
    images.write_exr(tmp_path / "a.exr", linear)
    np.testing.assert_allclose(load_photo(tmp_path / "a.exr").linear, linear)
    alpha = np.linspace(0.1, 1, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0)
    images.write_exr(tmp_path / "b.exr", np.dstack([linear * alpha[..., None], alpha]))
    photo = load_photo(tmp_path / "b.exr")
    np.testing.assert_allclose(photo.linear, linear, rtol=1e-5)
    assert photo.alpha is not None
    np.testing.assert_allclose(photo.alpha, alpha)
    assert photo.srgb8().max() == 255


def test_modes(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(codes)
    grey = picture.convert("L")
    grey.save(tmp_path / "L.png")
    expected = np.asarray(grey)[..., None].repeat(3, axis=2)
    assert (load_photo(tmp_path / "L.png").srgb8() == expected).all()

    palette = picture.quantize(32)
    palette.save(tmp_path / "P.png")
    assert (load_photo(tmp_path / "P.png").srgb8() == np.asarray(palette.convert("RGB"))).all()

    palette.save(tmp_path / "PT.png", transparency=0)
    alpha = load_photo(tmp_path / "PT.png").alpha
    assert alpha is not None
    assert ((alpha == 0) == (np.asarray(palette) == 0)).all()

    opaque = picture.copy()
    opaque.putalpha(255)
    opaque.save(tmp_path / "O.png")
    assert load_photo(tmp_path / "O.png").alpha is None

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:40] = 128
    picture.putalpha(Image.fromarray(mask))
    picture.save(tmp_path / "A.png")
    photo = load_photo(tmp_path / "A.png")
    assert photo.alpha is not None
    np.testing.assert_allclose(photo.alpha, mask / np.float32(255))
    assert (photo.srgb8() == codes).all()

    cmyk = Image.fromarray(codes).convert("CMYK")
    cmyk.save(tmp_path / "C.jpg", quality=98)
    assert np.abs(load_photo(tmp_path / "C.jpg").srgb8().astype(int) - codes).max() < 12


def exchanged_profile() -> bytes:
    """A profile whose red is sRGB's blue and whose blue is its red, so that a conversion shows."""
    profile = bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for old, new in ((b"rXYZ", b"????"), (b"bXYZ", b"rXYZ"), (b"????", b"bXYZ")):
        profile = profile.replace(old, new)
    return profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))


def test_colour_profile_is_converted(
    tmp_path: Path, codes: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(codes).save(
        tmp_path / "a.jpg", icc_profile=exchanged_profile(), quality=99, subsampling=0
    )
    assert np.abs(load_photo(tmp_path / "a.jpg").srgb8().astype(int) - codes[..., ::-1]).max() < 6

    write_png16(tmp_path / "b.png", codes.astype(np.uint16) * np.uint16(257), profile=exchanged_profile())
    assert np.abs(load_photo(tmp_path / "b.png").srgb8().astype(int) - codes[..., ::-1]).max() <= 2
    assert "b.png: a 16-bit picture with a colour profile" in caplog.text

    lab = ImageCms.createProfile("LAB")
    in_lab = ImageCms.profileToProfile(
        Image.fromarray(codes), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert in_lab is not None
    in_lab.save(tmp_path / "lab.tif", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert np.abs(load_photo(tmp_path / "lab.tif").srgb8().astype(int) - codes).mean() < 3

    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(codes).save(tmp_path / "same.png", icc_profile=same)
    assert (load_photo(tmp_path / "same.png").srgb8() == codes).all()


def test_broken_colour_profile_is_said(
    tmp_path: Path, codes: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=b"nonsense" * 40)
    with caplog.at_level(logging.WARNING):
        photo = load_photo(tmp_path / "a.png")
    assert (photo.srgb8() == codes).all()
    assert "a.png: the colour profile cannot be used" in caplog.text


def save_focal(path: Path, tags: dict[int, Any], size: tuple[int, int]) -> Path:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(tags)
    Image.new("RGB", size).save(path, exif=exif)
    return path


def test_focal_length_from_exif(tmp_path: Path) -> None:
    film = ExifTags.Base.FocalLengthIn35mmFilm
    # 3:2: 50 mm on a 36 mm wide frame is 50/36 of the width.
    photo = load_photo(save_focal(tmp_path / "a.jpg", {film: 50}, (600, 400)))
    assert photo.focal_px == pytest.approx(600 * 50 / 36)
    assert "50 mm" in photo.focal_note
    # 4:3 at the same equivalent: the diagonal decides.
    photo = load_photo(save_focal(tmp_path / "b.jpg", {film: 26}, (400, 300)))
    assert photo.focal_px == pytest.approx(26 * 500 / math.hypot(36, 24))
    size: dict[int, Any] = {ExifTags.Base.ExifImageWidth: 4000, ExifTags.Base.ExifImageHeight: 3000}
    reduced = load_photo(save_focal(tmp_path / "c.jpg", {film: 26, **size}, (400, 300)))
    assert reduced.focal_px == photo.focal_px
    cropped = load_photo(save_focal(tmp_path / "d.jpg", {film: 26, **size}, (300, 300)))
    assert cropped.focal_px is None and "cropped" in cropped.focal_note
    assert load_photo(save_focal(tmp_path / "e.jpg", {film: 0}, (400, 300))).focal_px is None


def test_focal_length_from_the_sensor() -> None:
    tags: dict[int, Any] = {
        ExifTags.Base.FocalLength: 35.0,
        ExifTags.Base.FocalPlaneXResolution: 6000 / 23.5 * 25.4,
        ExifTags.Base.FocalPlaneResolutionUnit: 2,
        ExifTags.Base.ExifImageWidth: 6000,
        ExifTags.Base.ExifImageHeight: 4000,
    }
    focal, note = focal_from_exif(tags, 1500, 1000)
    assert focal == pytest.approx(1500 * 35 / 23.5) and "35 mm" in note
    focal, _ = focal_from_exif({**tags, ExifTags.Base.FocalPlaneXResolution: 1e9}, 1500, 1000)
    assert focal is None


def test_bad_files_are_named(tmp_path: Path, codes: NDArray[np.uint8]) -> None:
    (tmp_path / "text.png").write_text("I am no picture", encoding="utf-8")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.exr").write_text("no", encoding="utf-8")
    Image.new("RGB", (20, 20)).save(tmp_path / "tiny.png")
    for name, options in {"cut.jpg": {"quality": 95}, "cut.png": {}, "cut.tif": {}, "cut.webp": {}}.items():
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(
            buffer, format=Image.registered_extensions()[Path(name).suffix], **options
        )
        (tmp_path / name).write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    images.write_exr(tmp_path / "cut.exr", np.random.default_rng(0).uniform(size=(200, 200, 3)))
    (tmp_path / "cut.exr").write_bytes((tmp_path / "cut.exr").read_bytes()[:5000])
    write_png16(
        tmp_path / "cut16.png", np.random.default_rng(0).integers(0, 65535, (99, 99, 3)).astype(np.uint16)
    )
    (tmp_path / "cut16.png").write_bytes((tmp_path / "cut16.png").read_bytes()[:9000])
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 10
    for name in [*names, "missing.png", "missing.exr"]:
        with pytest.raises(PhotoError, match=name):
            load_photo(tmp_path / name)


def test_list_photos(tmp_path: Path) -> None:
    folder = tmp_path / "Фото 1"
    folder.mkdir()
    with pytest.raises(PhotoError, match="no photos"):
        list_photos(folder)
    for name in ("b10.png", "b2.JPG", "a.txt", "b1.exr", ".b0.png", "Thumbs.db"):
        (folder / name).touch()
    (folder / "c.png").mkdir()
    assert [file.name for file in list_photos(folder)] == ["b1.exr", "b2.JPG", "b10.png"]
    assert list_photos(folder / "a.txt") == [folder / "a.txt"]
    with pytest.raises(PhotoError, match="nowhere"):
        list_photos(tmp_path / "nowhere")


def test_twelve_megapixels(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), (188, 0, 0)).save(tmp_path / "big.jpg")
    photo = load_photo(tmp_path / "big.jpg")
    assert (photo.width, photo.height) == (4000, 3000)
    assert photo.linear[1500, 2000, 0] == pytest.approx(0.5, abs=0.01)
