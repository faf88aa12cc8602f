"""What a person says about a photo: turned, which face, which lens; as it comes through job.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nextgenface.cli import faces as faces_command
from nextgenface.config import Config
from nextgenface.events import NullListener
from nextgenface.job import JobError, read_job
from nextgenface.photos import FRAME_DIAGONAL_MM, PhotoChoice, focal35_pixels, load_photo
from nextgenface.session import Session
from PIL import Image
from skimage import data
from tiny import tiny_model


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """96 x 64: red left half, a green top right corner, with alpha on the left."""
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, :48, 0] = 255
    pixels[:8, 88:, 1] = 255
    pixels[..., 3] = 255
    pixels[:, :10, 3] = 128
    path = tmp_path / "Foto ü.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_photo_is_turned_clockwise_with_its_alpha_and_codes(photo: Path, rotate: int) -> None:
    plain, turned = load_photo(photo), load_photo(photo, rotate=rotate)
    expected = Image.fromarray(plain.srgb8()).rotate(-rotate, expand=True)  # Pillow turns counterclockwise
    np.testing.assert_array_equal(turned.srgb8(), np.asarray(expected))
    assert turned.linear.shape[:2] == turned.srgb8().shape[:2] == np.asarray(turned.alpha).shape
    np.testing.assert_array_equal(turned.linear[..., 1] > 0.5, turned.srgb8()[..., 1] > 128)


def test_a_given_lens_beats_what_the_file_says(photo: Path) -> None:
    chosen = PhotoChoice(photo, rotate=90, focal35=50.0).load()
    assert chosen.focal_px == pytest.approx(50.0 * math.hypot(96, 64) / FRAME_DIAGONAL_MM)
    assert "50 mm" in chosen.focal_note
    assert PhotoChoice(photo).load().focal_px is None


def write_job(folder: Path, inputs: list[Any]) -> Path:
    (folder / "job.json").write_text(json.dumps({"schema": 1, "input": inputs}))
    return folder


def test_job_inputs_are_paths_or_objects(tmp_path: Path) -> None:
    write_job(tmp_path, ["a.png", {"path": "/b.jpg", "rotate": 270, "face": 2, "focal35": 85}])
    plain, chosen = read_job(tmp_path).input
    assert plain == PhotoChoice(tmp_path / "a.png")
    assert chosen == PhotoChoice(Path("/b.jpg"), 270, 2, 85.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotate": 90}, "neither"),
        (7, "neither"),
        ({"path": "a.png", "rotate": 45}, "'rotate'"),
        ({"path": "a.png", "rotate": True}, "'rotate'"),
        ({"path": "a.png", "face": -1}, "'face'"),
        ({"path": "a.png", "focal35": "wide"}, "'focal35'"),
    ],
)
def test_wrong_inputs_are_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        read_job(write_job(tmp_path, [wrong]))


def test_faces_are_found_numbered_and_drawn_in_turned_photos(tmp_path: Path) -> None:
    """The astronaut twice in one picture, the second smaller, all lying on its side."""
    portrait = Image.fromarray(data.astronaut())
    both = Image.new("RGB", (900, 512), (90, 90, 90))
    both.paste(portrait, (388, 0))
    both.paste(portrait.resize((380, 380)), (0, 60))
    both.rotate(90, expand=True).save(tmp_path / "zwei ü.png")  # counterclockwise
    (tmp_path / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "zwei ü.png") + ":90", str(tmp_path / "broken.png"), "--output", str(out)]
    assert faces_command.main(arguments) == 0
    found, broken = json.loads((out / "faces.json").read_text(encoding="utf-8"))
    assert (found["width"], found["height"]) == (900, 512)
    assert len(found["faces"]) == 2
    (large, small) = found["faces"]
    assert large[0] > 450 > small[2], "the largest comes first"
    picture = Image.open(out / found["picture"])
    assert max(picture.size) == 512 and picture.width > picture.height
    assert broken["faces"] == [] and "broken.png" in broken["problem"]


def test_the_chosen_face_of_a_turned_photo_is_opened_with_its_lens(tmp_path: Path) -> None:
    """Through the session, as a job does it: size, copy, crop and checkpoint record are those of the turned
    photo, and the second largest face is the one on the left.
    """
    portrait = Image.fromarray(data.astronaut())
    both = Image.new("RGB", (900, 512), (90, 90, 90))
    both.paste(portrait, (388, 0))
    both.paste(portrait.resize((380, 380)), (0, 60))
    both.rotate(180, expand=True).save(tmp_path / "zwei.png")
    config = Config()
    config.maxResolution = 128
    session = Session(tmp_path / "out", config, tiny_model(), "cpu", NullListener())
    session.open_photos([PhotoChoice(tmp_path / "zwei.png", rotate=180, face=2, focal35=50.0)], shared=False)
    (record,), (view,) = session.records, session.views
    assert record.rotate == 180 and record.size == (900, 512)
    x0, _, scale = record.crop
    assert x0 + 0.5 * config.maxResolution / scale < 388, "the crop lies around the smaller face"
    assert view.focal == pytest.approx(focal35_pixels(50.0, 900, 512) * scale, rel=1e-6)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "photo_0.png")), np.asarray(both))
