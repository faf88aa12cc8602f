"""The person's outline: a picture of a person, one of nobody, and a mediapipe that cannot tell."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from nextgenface.personmask import person_mask

mediapipe = pytest.importorskip("mediapipe")

with_segmentation = pytest.mark.skipif(
    not hasattr(mediapipe, "solutions"), reason="mediapipe 1.x, on Python 3.13, has no networks inside"
)


@with_segmentation
def test_the_astronaut_is_in_the_middle_and_the_background_at_the_corner() -> None:
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()
    mask = person_mask(photo)
    assert mask is not None and mask.shape == photo.shape[:2] and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    assert mask[100:140, 210:240].min() > 0.9  # the face
    assert mask[300:340, 200:260].min() > 0.9  # the suit
    assert mask[:60, :60].max() < 0.1 and mask[:30, -60:].max() < 0.1
    # it follows the picture
    mirrored = person_mask(photo[:, ::-1])
    assert mirrored is not None
    assert ((mirrored[:, ::-1] > 0.5) == (mask > 0.5)).mean() > 0.97


@with_segmentation
def test_nobody_is_seen_in_an_empty_picture() -> None:
    mask = person_mask(np.full((128, 128, 3), 128, np.uint8))
    assert mask is not None and (mask > 0.5).mean() < 0.05


def test_a_mediapipe_without_segmentation_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if hasattr(mediapipe, "solutions"):
        monkeypatch.delattr(mediapipe.solutions, "selfie_segmentation")
    with caplog.at_level(logging.INFO, logger="nextgenface"):
        assert person_mask(np.zeros((64, 64, 3), np.uint8)) is None
    assert "segmentation" in caplog.text
