"""Stage 1: known heads come back from their projected landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from nextgenface.errors import Cancelled, ModelError
from nextgenface.events import CancelWhen, NullListener
from nextgenface.fitting import marks, pose
from nextgenface.fitting.state import FaceState, StageReport, initial_state
from nextgenface.geometry.rotations import euler_to_matrix
from nextgenface.landmarks.tables import feature_points
from nextgenface.landmarks.types import Landmarks
from nextgenface.views import Crop, FaceView

from tests.solver.small_face import quick_config, trimmed_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 512


@dataclass(frozen=True)
class Head:
    """A head in front of a camera."""

    points: np.ndarray  # (V, 3) model space
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray
    focal: float
    expression: np.ndarray  # z-scores

    def project(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (V, 2) and camera space (V, 3)."""
        camera = self.points @ self.rotation.T + self.translation
        return self.focal * camera[:, :2] / camera[:, 2:] + SIZE / 2, camera


def _head(yaw: float = 0.0, *, seed: int = 0, identity: float = 1.0, focal: float = 1400.0) -> Head:
    rng = np.random.default_rng(seed)
    z_shape = rng.normal(size=len(trimmed_model().shape_variance)) * identity
    z_expression = rng.normal(size=len(trimmed_model().expression_variance)) * pose.EXPRESSION_SD
    points = trimmed_model().shape_mean + trimmed_model().expression_mean
    points = points + np.tensordot(
        z_shape * np.sqrt(trimmed_model().shape_variance), trimmed_model().shape_basis, 1
    )
    points = points + np.tensordot(
        z_expression * np.sqrt(trimmed_model().expression_variance), trimmed_model().expression_basis, 1
    )
    turn = euler_to_matrix(torch.tensor([math.pi + 0.1, yaw, -0.08], dtype=torch.float64)).numpy()
    return Head(points, turn, np.array([8.0, -5.0, 900.0]), focal, z_expression)


def _view(
    head: Head, *, scheme: str = "mediapipe", noise: float = 0.0, depth: bool = True, sigma: float = 0.0
) -> FaceView:
    """The detector's view of a head; `noise` in pixels, `sigma` of the lens."""
    rng = np.random.default_rng(5)
    table = trimmed_model().landmarks[scheme]
    index = np.nonzero(table >= 0)[0]
    pixel, camera = head.project()
    points = pixel[table[index]] + rng.normal(size=(len(index), 2)) * noise
    relative = camera[table[index], 2] * head.focal / camera[table[index], 2].mean() if depth else None
    marks = Landmarks(scheme, index, points, relative, np.ones(len(index)))
    blank = np.zeros((SIZE, SIZE, 3), np.float32)
    valid = np.ones((SIZE, SIZE), np.float32)
    focal = head.focal * (1.15 if sigma > 0 else 1.0)
    return FaceView("head", blank, valid, Crop(0, 0, 1, SIZE), SIZE, SIZE, focal, sigma, "test", marks)


def _fit(*views: FaceView, shared: bool = False, cap: int = 60) -> tuple[FaceState, StageReport]:
    start = initial_state(trimmed_model(), list(views), shared=shared, seed=0, device="cpu")
    return pose.fit_pose(trimmed_model(), list(views), start, quick_config(iterStep1=cap), NullListener())


def _turn_error(state: FaceState, head: Head, photo: int = 0) -> float:
    """Degrees between the rotations."""
    found = euler_to_matrix(state.rotation[photo].double()).numpy()
    return float(np.degrees(np.arccos(np.clip((np.trace(found @ head.rotation.T) - 1) / 2, -1, 1))))


def _reprojection(state: FaceState, view: FaceView, photo: int = 0) -> np.ndarray:
    """Distance of the fitted landmarks from those of a view, pixels (L,)."""
    i = state.identity_of(photo)
    points = trimmed_model().shape_mean + trimmed_model().expression_mean
    points = points + np.tensordot(state.shape[i].numpy(), trimmed_model().shape_basis, 1)
    points = points + np.tensordot(state.expression[photo].numpy(), trimmed_model().expression_basis, 1)
    camera = points @ euler_to_matrix(state.rotation[photo]).numpy().T + state.translation[photo].numpy()
    screen = float(state.focals[photo]) * camera[:, :2] / camera[:, 2:] + state.principal[photo].numpy()
    chosen = trimmed_model().landmarks[view.landmarks.scheme][view.landmarks.indices]
    return np.linalg.norm(screen[chosen] - view.landmarks.points, axis=1)


@pytest.mark.parametrize("yaw", [0.0, math.radians(40), math.radians(-40)])
def test_exact_landmarks_give_pose_expression_and_distance(yaw: float) -> None:
    head = _head(yaw)
    view = _view(head)
    state, report = _fit(view)
    assert _turn_error(state, head) < 1.0
    assert np.abs(state.translation[0].numpy() - head.translation)[:2].max() < 2.0
    assert float(state.translation[0, 2]) == pytest.approx(head.translation[2], rel=0.03)
    assert float(state.focals[0]) == pytest.approx(head.focal)  # a known lens is kept
    assert _reprojection(state, view).mean() < 1.0
    found = state.expression[0].numpy() / np.sqrt(trimmed_model().expression_variance)
    assert np.corrcoef(found, head.expression)[0, 1] > 0.8
    assert state.stage == 1 and report.name == "pose" and report.converged
    assert report.steps == len(report.losses) <= report.cap == 60
    assert all(math.isfinite(loss) for loss in report.losses)


@pytest.mark.parametrize("yaw", [0.0, math.radians(40)])
def test_noise_hardly_moves_the_pose(yaw: float) -> None:
    head = _head(yaw)
    state, _ = _fit(_view(head, noise=2.0))
    assert _turn_error(state, head) < 2.5
    assert float(state.translation[0, 2]) == pytest.approx(head.translation[2], rel=0.06)


def test_a_few_wild_landmarks_do_not_count() -> None:
    head = _head(0.2)
    view = _view(head)
    points = view.landmarks.points.copy()
    wild = np.random.default_rng(1).choice(len(points), 30, replace=False)
    points[wild] += np.random.default_rng(2).normal(size=(30, 2)) * 80
    state, _ = _fit(replace(view, landmarks=replace(view.landmarks, points=points)))
    assert _turn_error(state, head) < 2.0
    assert np.median(_reprojection(state, view)) < 1.5
    # weight 0 means: do not use at all
    weights = np.ones(len(points))
    weights[wild] = 0.0
    points[wild] += 100
    state, _ = _fit(replace(view, landmarks=replace(view.landmarks, points=points, weights=weights)))
    assert _turn_error(state, head) < 1.0


def test_an_unknown_lens_moves_from_its_start_towards_the_truth() -> None:
    head = _head(0.5, identity=0.0, focal=700.0)
    head = replace(head, translation=np.array([8.0, -5.0, 450.0]))
    view = _view(head, sigma=0.35)
    state, _ = _fit(view)
    assert view.focal == pytest.approx(1.15 * 700)
    assert abs(math.log(float(state.focals[0]) / 700)) < 0.7 * math.log(1.15)
    size = float(state.focals[0] / state.translation[0, 2])  # what the picture fixes
    assert size == pytest.approx(700 / 450, rel=0.02)


def test_landmarks_of_the_mean_face_leave_identity_at_the_mean() -> None:
    head = _head(0.1, identity=0.0)
    state, _ = _fit(_view(head))
    z = state.shape[0].numpy() / np.sqrt(trimmed_model().shape_variance)
    assert np.abs(z).max() < 0.5


def test_jaw_points_of_68_slide_along_the_contour() -> None:
    """A turned head shows its contour, not the vertices that mark the jaw from the front."""
    head = _head(math.radians(35), identity=0.3)
    view = _view(head, scheme="ibug68", depth=False)
    pixel, camera = head.project()
    faces = trimmed_model().faces
    across = np.cross(camera[faces[:, 1]] - camera[faces[:, 0]], camera[faces[:, 2]] - camera[faces[:, 0]])
    facing = (across * camera[faces[:, 0]]).sum(1) < 0
    front, back = np.zeros(len(camera), bool), np.zeros(len(camera), bool)
    front[faces[facing]], back[faces[~facing]] = True, True
    rim = np.nonzero(front & back)[0]
    points = view.landmarks.points.copy()
    moved = []
    for k, here in enumerate(trimmed_model().landmarks["ibug68"][:17]):
        near = rim[
            np.linalg.norm(trimmed_model().shape_mean[rim] - trimmed_model().shape_mean[here], axis=1) < 30
        ]
        if not front[here] and len(near):  # the vertex is hidden: a detector marks the contour instead
            points[k] = pixel[near[np.linalg.norm(pixel[near] - points[k], axis=1).argmin()]]
            moved.append(k)
    assert len(moved) >= 3
    state, _ = _fit(replace(view, landmarks=replace(view.landmarks, points=points)))
    assert _turn_error(state, head) < 4.0
    assert np.linalg.norm(points - view.landmarks.points, axis=1)[moved].mean() > 4  # it had to slide
    inner = np.arange(len(points)) >= 17
    assert _reprojection(state, view)[inner].mean() < 3.0


def test_weights_follow_trust_and_share_between_interpolated_points() -> None:
    view = _view(_head())
    sharp = np.isin(view.landmarks.indices, feature_points("mediapipe"))
    weights = marks.landmark_weights(view.landmarks)
    assert (weights[sharp] == marks.FEATURE_WEIGHT).all()
    # the others are interpolated by the detector: many of them are worth no more than a few
    assert weights[~sharp].sum() == pytest.approx(marks.INDEPENDENT_POINTS)
    assert (weights[~sharp] == weights[~sharp][0]).all() and 0 < weights[~sharp][0] < 1
    doubted = view.landmarks.weights.copy()
    edge, cheek = int(np.nonzero(sharp)[0][3]), int(np.nonzero(~sharp)[0][3])
    doubted[edge], doubted[cheek] = 0.5, 0.0
    found = marks.landmark_weights(replace(view.landmarks, weights=doubted))
    assert found[edge] == 0.5 * marks.FEATURE_WEIGHT and found[cheek] == 0
    assert found[~sharp].sum() == pytest.approx(marks.INDEPENDENT_POINTS)  # what one loses the others share
    few = Landmarks("mediapipe", np.array([4, 33, 205]), np.zeros((3, 2)), None, np.ones(3))
    assert marks.landmark_weights(few).tolist() == [1.0, marks.FEATURE_WEIGHT, 1.0]


def test_photos_share_an_identity_or_do_not() -> None:
    heads = [_head(0.0), _head(0.5)]
    views = [_view(head) for head in heads]
    shared, _ = _fit(*views, shared=True)
    assert shared.shape.shape[0] == 1 and shared.rotation.shape == (2, 3)
    apart, _ = _fit(*views)
    assert apart.shape.shape[0] == 2
    for k, head in enumerate(heads):
        assert _turn_error(shared, head, k) < 2.0 and _turn_error(apart, head, k) < 1.0


def test_the_same_input_gives_the_same_result_and_leaves_the_start_alone() -> None:
    view = _view(_head(0.3), noise=1.0)
    start = initial_state(trimmed_model(), [view], shared=False, seed=0, device="cpu")
    kept = start.rotation.clone()
    runs = [
        pose.fit_pose(trimmed_model(), [view], start, quick_config(), NullListener())[0] for _ in range(2)
    ]
    for name in ("rotation", "translation", "shape", "expression", "focals"):
        assert torch.equal(getattr(runs[0], name), getattr(runs[1], name)), name
    assert torch.equal(start.rotation, kept) and start.stage == 0


def test_the_jacobian_is_that_of_the_residual() -> None:
    view = _view(_head(0.4))
    every = marks.seen_marks(trimmed_model(), view.landmarks)
    some = np.arange(0, 468, 7)
    assert every.depth is not None
    deep = some[:-3]  # irises, the last marks, come without depth
    few = marks.Marks(
        every.vertices[some], every.points[some], every.weights[some], every.indices[some], every.depth[deep]
    )
    rows = pose._rows(trimmed_model(), few.vertices)
    problem = pose._Problem(rows, view, np.array([250.0, 260.0]), few)
    rng = np.random.default_rng(0)
    k, e = len(trimmed_model().shape_variance), len(trimmed_model().expression_variance)
    u = pose._Unknowns(
        _head(0.3).rotation, np.array([3.0, 4, 800]), math.log(1300.0), rng.normal(size=k), rng.normal(size=e)
    )
    jacobian = problem.jacobian(u)
    assert jacobian.shape == (2 * len(some) + len(deep), 7 + k + e)
    for column in range(7 + k + e):
        step = np.zeros(7 + k + e)
        step[column] = 1e-5
        slope = (problem.residual(u.moved(step, True)) - problem.residual(u.moved(-step, True))) / 2e-5
        assert np.abs(jacobian[:, column] - slope).max() < 1e-4 * max(1.0, np.abs(slope).max()), column


def test_it_can_be_cancelled_and_names_a_missing_table() -> None:
    view = _view(_head())
    start = initial_state(trimmed_model(), [view], shared=False, seed=0, device="cpu")
    with pytest.raises(Cancelled):
        pose.fit_pose(trimmed_model(), [view], start, quick_config(), CancelWhen(lambda: True))
    with pytest.raises(ModelError, match="lamdmarksDetectorType"):
        marks.landmark_vertices(replace(trimmed_model(), landmarks={}), view.landmarks)


def test_the_start_lies_in_front_of_the_camera_at_the_size_of_the_face() -> None:
    head = _head(0.0, identity=0.0)
    view = _view(head)
    start = initial_state(trimmed_model(), [view], shared=True, seed=4, device="cpu")
    assert start.stage == 0 and start.seed == 4 and start.shared and start.sh.shape == (1, 81, 3)
    assert torch.allclose(
        euler_to_matrix(start.rotation[0]), torch.diag(torch.tensor([1.0, -1, -1])), atol=1e-6
    )
    assert float(start.translation[0, 2]) == pytest.approx(900, rel=0.3)
    small = replace(view, image=view.image[:256, :256])
    with pytest.raises(ValueError, match="size"):
        initial_state(trimmed_model(), [view, small], shared=True, seed=0, device="cpu")
