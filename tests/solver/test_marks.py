"""The points that the model's vertices have to meet, and the gaze they bring along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nextgenface.events import NullListener
from nextgenface.fitting import marks
from nextgenface.fitting.marks import iris_vertices, seen_marks
from nextgenface.fitting.pose import fit_pose
from nextgenface.fitting.state import initial_state
from nextgenface.landmarks.types import Landmarks
from nextgenface.views import Crop, FaceView

from tests.solver.small_face import quick_config, trimmed_model


def _landmarks(turn: float = 0.0) -> Landmarks:
    """The mean face from the front at two pixels a millimetre, irises `turn` mm to the picture's right."""
    model = trimmed_model()
    table = model.landmarks["mediapipe"]
    flat = (model.shape_mean + model.expression_mean)[:, :2] * [2, -2] + 256.0
    around = np.array([[0, 0], [11.8, 0], [0, -11.8], [-11.8, 0], [0, 11.8]])
    irises = np.concatenate([flat[v] + [2 * turn, 0] + around for v in iris_vertices(model)])
    return Landmarks("mediapipe", np.arange(len(table)), flat[table], None, np.ones(len(table)), None, irises)


def test_the_middles_of_the_irises_are_found() -> None:
    model = trimmed_model()
    right, left = iris_vertices(model)
    place = model.shape_mean
    assert place[right, 0] < -20 < 20 < place[left, 0]  # the subject's left is +x
    iris = np.nonzero(model.regions["iris"] > 0.5)[0]
    for middle in (right, left):
        near = iris[np.linalg.norm(place[iris] - place[middle], axis=1) < 10]
        assert np.abs(place[near].mean(0) - place[middle])[:2].max() < 0.5
    assert (iris_vertices(replace(model, regions={})) == -1).all()


def test_irises_join_the_landmarks() -> None:
    found = seen_marks(trimmed_model(), _landmarks(1.0))
    plain = seen_marks(trimmed_model(), replace(_landmarks(), irises=None))
    assert len(found.points) == len(plain.points) + 2
    assert found.indices[-2:].tolist() == [468, 473]
    assert found.vertices[-2:].tolist() == iris_vertices(trimmed_model()).tolist()
    assert found.weights[-2:] == pytest.approx([marks.IRIS_WEIGHT] * 2)


def test_irises_behind_lids_do_not_count() -> None:
    shut = _landmarks()
    points = shut.points.copy()
    points[159] = points[145]
    found = seen_marks(trimmed_model(), replace(shut, points=points))
    assert found.indices[-1] == 473 and 468 not in found.indices


def test_the_gaze_follows_the_irises() -> None:
    """Landmarks of a mean face that looks aside: the eyeballs turn and little else moves."""
    model = trimmed_model()
    found = {}
    for turn in (0.0, 3.0):
        landmarks = _landmarks(turn)
        blank = np.zeros((512, 512, 3), np.float32)
        view = FaceView(
            "head",
            blank,
            np.ones((512, 512), np.float32),
            Crop(0, 0, 1, 512),
            512,
            512,
            1400.0,
            0.0,
            "test",
            landmarks,
        )
        start = initial_state(model, [view], shared=False, seed=0, device="cpu")
        state, _ = fit_pose(model, [view], start, quick_config(), NullListener())
        z = state.expression[0].numpy()
        found[turn] = model.expression_mean + np.tensordot(z, model.expression_basis, 1)
    moved = found[3.0] - found[0.0]
    for middle in iris_vertices(model):
        assert 2.0 < moved[middle, 0] < 3.5
    skin = model.regions["skin"] > 0.5
    assert np.abs(moved[skin]).mean() < 0.15
