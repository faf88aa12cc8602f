"""Stage 1: head pose, expression, weak identity and focal length from landmarks.

A Levenberg-Marquardt fit on the rows of the bases that landmarks need. All unknowns are whitened here
(z-scores, small rotation vectors, log focal), so the priors are unit Gaussians. Points on sharp features
lead: lids, lips and brows have to sit where they are seen. The points between them, which a network
interpolates, are strongly correlated, so together they count as a few dozen; without that, identity is
pulled further from the truth than the mean face is (measured).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Config
from ..events import Listener
from ..facemodel.model import FaceModel
from ..geometry.rotations import euler_to_matrix, matrix_to_euler, small_rotation
from ..views import FaceView
from .loop import run_steps
from .marks import Marks, seen_marks
from .state import FaceState, StageReport

Array = NDArray[np.float64]

LANDMARK_SIGMA = 0.03  # of the inter-ocular distance
DEPTH_SIGMA = 0.06  # the detector's relative depth, same unit: a weak cue
EXPRESSION_SD = 0.6  # expressions of portraits are milder than the model's range
CONTOUR_IBUG = frozenset(range(17))  # jaw points of the 68-point scheme: they lie on the seen contour
_YAW_STARTS = (0.0, 0.6, -0.6)


@dataclass
class _Rows:
    """The part of the model that the landmarks of one photo see (float64)."""

    mean: Array  # (L, 3)
    shape: Array  # (L, 3, K) per z-score
    expression: Array  # (L, 3, E) per z-score


@dataclass
class _Unknowns:
    rotation: Array  # (3, 3)
    translation: Array  # (3,)
    log_focal: float
    shape: Array  # (K,) z-scores
    expression: Array  # (E,) z-scores

    def moved(self, delta: Array, focal_free: bool) -> _Unknowns:
        turn = small_rotation(torch.as_tensor(delta[:3])).numpy()
        k = len(self.shape)
        return _Unknowns(
            turn @ self.rotation,
            self.translation + delta[3:6],
            self.log_focal + (float(delta[6]) if focal_free else 0.0),
            self.shape + delta[7 : 7 + k],
            self.expression + delta[7 + k :],
        )


def _rows(model: FaceModel, vertices: NDArray[np.int64]) -> _Rows:
    mean = (model.shape_mean + model.expression_mean)[vertices].astype(np.float64)
    shape = model.shape_basis[:, vertices].astype(np.float64) * np.sqrt(model.shape_variance)[:, None, None]
    expression = model.expression_basis[:, vertices].astype(np.float64)
    expression = expression * np.sqrt(model.expression_variance)[:, None, None]
    return _Rows(mean, np.moveaxis(shape, 0, -1), np.moveaxis(expression, 0, -1))


def _skew(v: Array) -> Array:
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2] = -v[:, 2], v[:, 1]
    out[:, 1, 0], out[:, 1, 2] = v[:, 2], -v[:, 0]
    out[:, 2, 0], out[:, 2, 1] = -v[:, 1], v[:, 0]
    return out


class _Problem:
    """Residuals and Jacobian of one photo's landmarks."""

    def __init__(self, rows: _Rows, view: FaceView, principal: Array, marks: Marks) -> None:
        self.rows = rows
        self.target = marks.points
        self.depth = marks.depth
        self.deep = 0 if marks.depth is None else len(marks.depth)
        self.principal = principal
        size = float(np.linalg.norm(np.ptp(self.target, axis=0)))
        self.scale = max(size * 0.36, 1.0)  # the eyes' distance is about 0.36 of a face box's diagonal
        self.weight = np.sqrt(marks.weights)
        self.focal_prior = float(np.log(view.focal))
        self.focal_sigma = float(view.focal_prior_sigma)

    def residual(self, u: _Unknowns) -> Array:
        camera = self.camera(u)
        return self._residual(u, camera)

    def _points(self, u: _Unknowns) -> Array:
        return self.rows.mean + self.rows.shape @ u.shape + self.rows.expression @ u.expression

    def camera(self, u: _Unknowns) -> Array:
        return self._points(u) @ u.rotation.T + u.translation

    def _residual(self, u: _Unknowns, camera: Array) -> Array:
        focal = math.exp(u.log_focal)
        screen = focal * camera[:, :2] / camera[:, 2:] + self.principal
        parts = [((screen - self.target) / (LANDMARK_SIGMA * self.scale) * self.weight[:, None]).ravel()]
        if self.depth is not None:
            # relative depth in pixels at the face's distance, both about their mean
            z = camera[: self.deep, 2]
            predicted = z * focal / z.mean()
            gap = (predicted - predicted.mean()) - (self.depth - self.depth.mean())
            parts.append(gap / (DEPTH_SIGMA * self.scale) * self.weight[: self.deep])
        return np.concatenate(parts)

    def robust(self, residual: Array) -> Array:
        """Square-root weights of a Geman-McClure loss: points 3 sigma off hardly count."""
        count = len(self.target)
        pairs = residual[: 2 * count].reshape(count, 2)
        squared = (pairs**2).sum(1) / np.maximum(self.weight, 1e-6) ** 2
        w = 1.0 / (1.0 + squared / 9.0) ** 2
        out = [np.repeat(w, 2)]
        if self.depth is not None:
            squared = residual[2 * count :] ** 2 / np.maximum(self.weight[: self.deep], 1e-6) ** 2
            out.append(1.0 / (1.0 + squared / 9.0) ** 2)
        return np.concatenate(out)

    def robust_loss(self, residual: Array) -> float:
        """The Geman-McClure loss whose weights `robust` gives: at most 9 per point and unit of weight."""
        weight = np.maximum(self.weight, 1e-6) ** 2
        squared = (residual[: 2 * len(self.target)].reshape(-1, 2) ** 2).sum(1) / weight
        total = (weight * 9 * squared / (9 + squared)).sum()
        if self.depth is not None:
            weight = weight[: self.deep]
            squared = residual[2 * len(self.target) :] ** 2 / weight
            total += (weight * 9 * squared / (9 + squared)).sum()
        return float(total)

    def jacobian(self, u: _Unknowns) -> Array:
        camera = self.camera(u)
        focal = math.exp(u.log_focal)
        count = len(camera)
        turned = -_skew(camera - u.translation)
        basis = np.concatenate([self.rows.shape, self.rows.expression], 2)
        moved = np.concatenate(
            [
                turned,
                np.tile(np.eye(3), (count, 1, 1)),
                np.zeros((count, 3, 1)),
                np.einsum("ij,ljk->lik", u.rotation, basis),
            ],
            2,
        )
        z = camera[:, 2]
        by_x = np.zeros((count, 2, 3))
        by_x[:, 0, 0] = by_x[:, 1, 1] = focal / z
        by_x[:, :, 2] = -focal * camera[:, :2] / z[:, None] ** 2
        jac = by_x @ moved
        jac[:, :, 6] += focal * camera[:, :2] / z[:, None]
        jac *= (self.weight / (LANDMARK_SIGMA * self.scale))[:, None, None]
        parts = [jac.reshape(2 * count, -1)]
        if self.depth is not None:
            z = z[: self.deep]
            mean = z.mean()
            zj = moved[: self.deep, 2]
            dj = focal * (zj / mean - z[:, None] * zj.mean(0) / mean**2)
            dj[:, 6] += focal * z / mean
            dj = dj - dj.mean(0)
            parts.append(dj * (self.weight[: self.deep] / (DEPTH_SIGMA * self.scale))[:, None])
        return np.concatenate(parts)


def _slide_contour(
    model: FaceModel, u: _Unknowns, scheme: str, principal: Array, marks: Marks
) -> NDArray[np.int64]:
    """Vertices of the marks, the jaw points of the 68-point scheme where the model's seen contour is now."""
    vertices = marks.vertices
    if scheme != "ibug68":
        return vertices
    shape = np.tensordot(u.shape * np.sqrt(model.shape_variance), model.shape_basis, 1)
    expression = np.tensordot(u.expression * np.sqrt(model.expression_variance), model.expression_basis, 1)
    camera = (model.shape_mean + model.expression_mean + shape + expression) @ u.rotation.T + u.translation
    faces = model.faces
    across = np.cross(camera[faces[:, 1]] - camera[faces[:, 0]], camera[faces[:, 2]] - camera[faces[:, 0]])
    facing = (across * camera[faces[:, 0]]).sum(1) < 0
    front, back = np.zeros(len(camera), bool), np.zeros(len(camera), bool)
    front[faces[facing]] = True
    back[faces[~facing]] = True
    rim = np.nonzero(front & back)[0]
    if len(rim) == 0:
        return vertices
    screen = math.exp(u.log_focal) * camera[rim, :2] / camera[rim, 2:] + principal
    out = vertices.copy()
    for row, index in enumerate(marks.indices):
        if int(index) in CONTOUR_IBUG:
            gap = np.linalg.norm(screen - marks.points[row], axis=1)
            home = np.linalg.norm(model.shape_mean[rim] - model.shape_mean[vertices[row]], axis=1)
            gap = np.where(home < 35.0, gap, np.inf)  # a jaw point slides along the jaw, not across the face
            if np.isfinite(gap).any():
                out[row] = rim[int(gap.argmin())]
    return out


class _Solver:
    """Levenberg-Marquardt on one photo's landmarks; `u` is the present solution."""

    def __init__(self, problem: _Problem, start: _Unknowns) -> None:
        self.problem = problem
        self.u = start
        self._damping = 1e-2
        shape, expression = np.ones(len(start.shape)), np.full(len(start.expression), 1.0 / EXPRESSION_SD)
        self._prior = np.concatenate([np.zeros(7), shape, expression])
        self._focal_free = problem.focal_sigma > 0

    def cost(self, u: _Unknowns) -> float:
        """Robust landmark loss plus the priors."""
        p = self.problem
        z = np.concatenate([u.shape, u.expression / EXPRESSION_SD])
        total = p.robust_loss(p.residual(u)) + float((z**2).sum())
        if self._focal_free:
            total += ((u.log_focal - p.focal_prior) / p.focal_sigma) ** 2
        return total

    def step(self, *, rigid: bool) -> float:
        """One accepted step (or none, when nothing improves); returns the cost. `rigid`: the pose only."""
        u, p = self.u, self.problem
        residual, jacobian = p.residual(u), p.jacobian(u)
        weight = p.robust(residual)
        before = self.cost(u)
        hessian = jacobian.T @ (weight[:, None] * jacobian) + np.diag(self._prior**2)
        gradient = jacobian.T @ (weight * residual)
        gradient[7:] += self._prior[7:] ** 2 * np.concatenate([u.shape, u.expression])
        if self._focal_free:
            hessian[6, 6] += 1 / p.focal_sigma**2
            gradient[6] += (u.log_focal - p.focal_prior) / p.focal_sigma**2
        free = np.ones(len(gradient), bool)
        free[6] = self._focal_free
        if rigid:
            free[6:] = False
        block = hessian[np.ix_(free, free)]
        for _ in range(8):
            delta = np.zeros(len(gradient))
            damped = block + self._damping * np.diag(np.diag(block))
            delta[free] = -np.linalg.solve(damped, gradient[free])
            candidate = u.moved(delta, self._focal_free)
            in_front = bool((p.camera(candidate)[:, 2] > 1.0).all())
            if in_front and (after := self.cost(candidate)) < before:
                self._damping = max(self._damping * 0.3, 1e-7)
                self.u = candidate
                return after
            self._damping = min(self._damping * 4, 1e6)
        return before


def _rigid_start(problem: _Problem, start: _Unknowns) -> _Unknowns:
    """The best pose of the mean face from several first turns of the head."""

    def solved(yaw: float) -> tuple[float, _Unknowns]:
        turn = euler_to_matrix(torch.tensor([0.0, yaw, 0.0], dtype=torch.float64)).numpy()
        solver = _Solver(problem, replace(start, rotation=turn @ start.rotation))
        cost = math.inf
        for _ in range(15):
            cost = solver.step(rigid=True)
        return cost, solver.u

    return min((solved(yaw) for yaw in _YAW_STARTS), key=lambda found: found[0])[1]


def _solve_photo(
    model: FaceModel, view: FaceView, start: _Unknowns, principal: Array, cap: int, listener: Listener
) -> tuple[_Unknowns, list[float], bool]:
    marks, scheme = seen_marks(model, view.landmarks), view.landmarks.scheme
    problem = _Problem(_rows(model, marks.vertices), view, principal, marks)
    solver = _Solver(problem, _rigid_start(problem, start))

    def step(i: int) -> float:
        if i % 3 == 2 and scheme == "ibug68":
            slid = _slide_contour(model, solver.u, scheme, principal, marks)
            solver.problem = _Problem(_rows(model, slid), view, principal, marks)
        return solver.step(rigid=False) / max(2 * len(marks.points), 1)

    outcome = run_steps("pose", cap, step, lambda: solver.u, listener, patience=2, tolerance=1e-3, settle=1)
    return solver.u, outcome.losses, outcome.converged


def fit_pose(
    model: FaceModel, views: list[FaceView], state: FaceState, config: Config, listener: Listener
) -> tuple[FaceState, StageReport]:
    """Fit pose, expression, weak identity and (when asked) focal length of each photo to its landmarks.

    With a shared identity each photo's weak identity is averaged. `config.iterStep1` caps the steps per
    photo. Returns a new state with stage = 1.
    """
    begun = time.monotonic()
    sd_shape, sd_expression = np.sqrt(model.shape_variance), np.sqrt(model.expression_variance)
    rotation, translation, focals = state.rotation.clone(), state.translation.clone(), state.focals.clone()
    shapes, expressions = [], []
    losses: list[float] = []
    converged = True
    for i, view in enumerate(views):
        start = _Unknowns(
            euler_to_matrix(state.rotation[i].double().cpu()).numpy(),
            state.translation[i].double().cpu().numpy(),
            float(np.log(view.focal)),
            np.zeros(len(sd_shape)),
            np.zeros(len(sd_expression)),
        )
        principal = state.principal[i].double().cpu().numpy()
        u, history, done = _solve_photo(model, view, start, principal, config.iterStep1, listener)
        rotation[i] = matrix_to_euler(torch.as_tensor(u.rotation)).to(rotation)
        translation[i] = torch.as_tensor(u.translation).to(translation)
        focals[i] = float(math.exp(u.log_focal))
        shapes.append(u.shape * sd_shape)
        expressions.append(u.expression * sd_expression)
        losses += history
        converged &= done
    stacked = np.stack(shapes)
    if state.identity_count == 1 and len(views) > 1:
        stacked = stacked.mean(0, keepdims=True)
    new = replace(
        state,
        shape=torch.as_tensor(stacked).to(state.shape),
        expression=torch.as_tensor(np.stack(expressions)).to(state.expression),
        rotation=rotation,
        translation=translation,
        focals=focals,
        stage=1,
    )
    cap = config.iterStep1 * len(views)
    return new, StageReport("pose", len(losses), cap, converged, time.monotonic() - begun, losses)
