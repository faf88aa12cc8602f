"""ARKit's names and weights. Needs no bpy."""

from __future__ import annotations

import numpy as np
import pytest

from nextgenface_addon.scene.arkit import (
    ARKIT_NAMES,
    arkit_name,
    arkit_shapes,
    detector_weights,
    fitted_weights,
)


def test_there_are_52_names() -> None:
    assert len(set(ARKIT_NAMES)) == 52


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eyeBlink_L", "eyeBlinkLeft"),
        ("EyeBlinkRight", "eyeBlinkRight"),
        ("jawOpen", "jawOpen"),
        ("jawLeft", "jawLeft"),
        ("browInnerUp_R", "browInnerUp"),
        ("cheekPuff_L", "cheekPuff"),
        ("_neutral", None),
        ("HeadYaw", None),
        ("jaw_L", "jawLeft"),
        ("jawOpen_L", "jawOpen"),
        ("nose_L", None),
        ("", None),
    ],
)
def test_names_are_understood(name: str, expected: str | None) -> None:
    assert arkit_name(name) == expected


def test_shapes_are_renamed_ordered_and_halves_are_added() -> None:
    deltas = np.arange(4 * 2 * 3, dtype=np.float32).reshape(4, 2, 3)
    names, shapes = arkit_shapes(["jawOpen", "wobble", "browInnerUp_L", "browInnerUp_R"], deltas)
    assert names == ("browInnerUp", "jawOpen", "wobble")
    np.testing.assert_array_equal(shapes, [deltas[2] + deltas[3], deltas[0], deltas[1]])


def test_a_models_own_shapes_give_all_of_arkit_but_the_tongue() -> None:
    names = [name.replace("Left", "_L").replace("Right", "_R") for name in ARKIT_NAMES[:-1]]
    assert arkit_shapes(names, np.zeros((len(names), 1, 3), np.float32))[0] == ARKIT_NAMES[:-1]


def test_detector_scores_are_kept_between_0_and_1_for_shapes_that_are_there() -> None:
    scores = {"jawOpen": 1.2, "eyeBlinkLeft": -0.1, "tongueOut": 0.5, "_neutral": 1.0}
    assert detector_weights(scores, ["eyeBlinkLeft", "jawOpen", "mouthLeft"]) == {
        "eyeBlinkLeft": 0.0, "jawOpen": 1.0,
    }  # fmt: skip


def test_fitted_weights_find_what_an_expression_was_made_of() -> None:
    rng = np.random.default_rng(0)
    deltas = rng.normal(size=(12, 200, 3)).astype(np.float32)
    truth = np.clip(rng.uniform(-0.5, 1.0, 12), 0, 1)
    names = [str(i) for i in range(12)]
    found = fitted_weights(np.tensordot(truth, deltas, 1), names, deltas)
    np.testing.assert_allclose(list(found.values()), truth, atol=0.01)


def test_fitted_weights_stay_within_bounds_and_are_the_best_there() -> None:
    delta = np.ones((1, 4, 3), np.float32)
    assert fitted_weights(3 * delta[0], ["a"], delta)["a"] == 1.0
    assert fitted_weights(-delta[0], ["a"], delta)["a"] == 0.0
    assert fitted_weights(delta[0], [], np.zeros((0, 4, 3), np.float32)) == {}
    assert fitted_weights(delta[0], ["nothing"], 0 * delta)["nothing"] == 0.0
