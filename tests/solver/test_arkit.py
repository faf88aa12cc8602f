"""The built-in model's shapes as ARKit's, the way the add-on makes shape keys of them."""

from __future__ import annotations

import numpy as np
import pytest
from nextgenface.config import Config
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import load_model

from nextgenface_addon.scene.arkit import ARKIT_NAMES, arkit_shapes


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_model(Config())


def moved(model: FaceModel, shape: str, region: str) -> tuple[int, int]:
    """How many vertices of a region a shape moves by more than half a millimetre, and how many there are."""
    names, deltas = arkit_shapes(model.blendshape_names, model.blendshape_deltas)
    there = model.regions[region] > 0.5
    distance = np.linalg.norm(deltas[names.index(shape)][there], axis=1)
    return int((distance > 0.5).sum()), int(there.sum())


def test_the_model_has_all_of_arkits_shapes_but_the_tongue(model: FaceModel) -> None:
    names, deltas = arkit_shapes(model.blendshape_names, model.blendshape_deltas)
    assert names == tuple(name for name in ARKIT_NAMES if name != "tongueOut")
    assert np.abs(deltas).max(axis=(1, 2)).min() > 1.0, "every shape moves something by a millimetre"


@pytest.mark.parametrize(
    ("shape", "region"),
    [("eyeLookInLeft", "eyes"), ("eyeLookUpRight", "eyes"), ("jawOpen", "teeth"), ("jawLeft", "teeth")],
)
def test_one_eye_turns_and_the_lower_teeth_follow_the_jaw(model: FaceModel, shape: str, region: str) -> None:
    moving, there = moved(model, shape, region)
    assert 0.4 * there < moving < 0.6 * there


def test_the_inside_of_the_mouth_opens_and_eyeballs_stay_when_a_lid_closes(model: FaceModel) -> None:
    moving, there = moved(model, "jawOpen", "mouth")
    assert moving > 0.6 * there
    assert moved(model, "eyeBlinkLeft", "eyes")[0] == 0


@pytest.mark.parametrize("shape", ["eyeBlinkLeft", "mouthSmileLeft", "browDownLeft"])
def test_left_is_the_subjects_left(model: FaceModel, shape: str) -> None:
    names, deltas = arkit_shapes(model.blendshape_names, model.blendshape_deltas)
    weight = np.linalg.norm(deltas[names.index(shape)], axis=1)
    assert (weight * model.shape_mean[:, 0]).sum() > 0
