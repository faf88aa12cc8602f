"""Shape, expressions, poses and lenses of one person's photos together: Gauss-Newton on matched points.

Beside the matches (`matching`) stand the landmarks, the outline of the person where the face meets the
background, and the priors. Every photo's own unknowns are eliminated first (Schur complement), so the cost
grows linearly with the photos.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.rotations import small_rotation
from .contours import Contour, find_contour
from .matching import Matches
from .photoset import DEFAULT_WEIGHT, PhotoSet
from .pose import EXPRESSION_SD, LANDMARK_SIGMA

FOCAL_SIGMA = 0.35  # of the log focal length of an unknown lens: several views tell it, so lenses may differ
CONTOUR_SIGMA = 0.04  # of the inter-ocular distance: the outline of the person is known to a few pixels
CONTOUR_WEIGHT = 0.5  # neighbouring points of an outline are not independent
_ROUNDS = 12
_ROBUST = 9.0  # squared residual in sigmas at which an observation counts a quarter
_CAMERA = 7  # own unknowns before the expression: rotation 3, translation 3, log focal length


@dataclass(frozen=True)
class _Points:
    """Surface points with their bases: neutral (M, 3), shape (M, 3, K), expression (M, 3, E)."""

    neutral: Tensor
    shape: Tensor
    expression: Tensor


@dataclass(frozen=True)
class _Rows:
    """Whitened residuals (M, C), weights (M,), Jacobian (M, C, K + own) or None, and their robust cost."""

    residual: Tensor
    weight: Tensor
    jacobian: Tensor | None
    cost: float


@dataclass(frozen=True)
class _Geometry:
    """Everything that an adjustment moves, to go back to."""

    shape: Tensor
    expression: Tensor
    turn: Tensor
    shift: Tensor
    rotations: list[Tensor]
    focals: list[Tensor]


class Bundle:
    """The joint adjustment of a set of photos; `lenses` (n,) numbers photos that share an unknown lens."""

    def __init__(self, problem: PhotoSet) -> None:
        self.problem = problem
        self.shape_count = len(problem.z_shape)
        self.own_count = _CAMERA + problem.z_expression.shape[1]
        self.prior = problem.config.weightShapeReg / DEFAULT_WEIGHT
        self.expression_prior = problem.config.weightExpressionReg / DEFAULT_WEIGHT / EXPRESSION_SD**2
        self.lenses = shared_lenses(problem)
        self.lens_count = max(self.lenses) + 1
        self._share_focals()

    @torch.no_grad()
    def adjust(self, matches: list[Matches]) -> None:
        """Move the geometry to where matches, landmarks, outlines and priors agree best."""
        p = self.problem
        count = range(len(p.photos))
        observed = [self._observed(k, matches[k]) for k in count]
        damping, current = 1e-4, sum(self._cost(k, observed[k]) for k in count) + self._shape_cost()
        for _ in range(_ROUNDS):
            before = self._geometry()
            self._move(observed, damping)
            value = sum(self._cost(k, observed[k]) for k in count) + self._shape_cost()
            if value >= current:
                self._restore(before)
                damping = max(damping * 10, 1e-4)
                if damping > 10:
                    break
                continue
            done = current - value < 1e-4 * current
            current, damping = value, max(damping * 0.2, 1e-7)
            if done:
                break

    # ---- observations ---------------------------------------------------------------------------------

    def _observed(self, k: int, matches: Matches) -> tuple[Matches, _Points, _Points, Contour, _Points]:
        p = self.problem
        photo = p.photos[k]
        contour = find_contour(p, k)
        corner = torch.tensor([1.0, 0.0, 0.0]).to(photo.marks)
        single = lambda v: self._points(v[:, None].expand(-1, 3), corner.expand(len(v), 3))  # noqa: E731
        dense = self._points(matches.corners, matches.weights)
        return matches, dense, single(photo.mark_vertices), contour, single(contour.vertices)

    def _points(self, corners: Tensor, weights: Tensor) -> _Points:
        w = self.problem.white
        flat = (corners[:, :, None] * 3 + torch.arange(3, device=corners.device)).reshape(-1)

        def at(basis: Tensor) -> Tensor:
            rows = basis[:, flat].view(len(basis), len(corners), 3, 3)
            return torch.einsum("mc,kmcx->mxk", weights, rows)

        return _Points((w.neutral[corners] * weights[..., None]).sum(1), at(w.shape), at(w.expression))

    def _project(self, k: int, points: _Points, derive: bool) -> tuple[Tensor, Tensor | None]:
        """Pixels (M, 2) of points in photo k, and their Jacobian (M, 2, K + own)."""
        p, shapes = self.problem, self.shape_count
        pose = p.pose(k)
        turned = (
            points.neutral + points.shape @ p.z_shape + points.expression @ p.z_expression[k]
        ) @ pose.rotation.T
        camera = turned + pose.translation
        x, y, z = camera.unbind(1)
        screen = pose.screen(camera)
        if not derive:
            return screen, None
        moved = torch.zeros(len(x), 3, shapes + self.own_count).to(x)
        moved[:, :, :shapes] = torch.einsum("ij,mjk->mik", pose.rotation, points.shape)
        moved[:, 0, shapes + 1], moved[:, 0, shapes + 2] = turned[:, 2], -turned[:, 1]
        moved[:, 1, shapes], moved[:, 1, shapes + 2] = -turned[:, 2], turned[:, 0]
        moved[:, 2, shapes], moved[:, 2, shapes + 1] = turned[:, 1], -turned[:, 0]
        moved[:, :, shapes + 3 : shapes + 6] = torch.eye(3).to(x)
        moved[:, :, shapes + _CAMERA :] = torch.einsum("ij,mjk->mik", pose.rotation, points.expression)
        projection = torch.zeros(len(x), 2, 3).to(x)
        projection[:, 0, 0] = projection[:, 1, 1] = pose.focal / z
        projection[:, 0, 2], projection[:, 1, 2] = -pose.focal * x / z**2, -pose.focal * y / z**2
        jacobian = projection @ moved
        jacobian[:, :, shapes + 6] = screen - pose.principal
        return screen, jacobian

    def _rows(
        self, k: int, observed: tuple[Matches, _Points, _Points, Contour, _Points], derive: bool
    ) -> list[_Rows]:
        matches, dense, single, contour, rim = observed
        photo = self.problem.photos[k]
        out = []
        screen, jacobian = self._project(k, dense, derive)
        root = None if jacobian is None else matches.root @ jacobian
        out.append(_robust(matches.whitened(screen), torch.ones_like(screen[:, 0]), root))
        screen, jacobian = self._project(k, single, derive)
        sigma = LANDMARK_SIGMA * photo.mark_scale
        out.append(_robust((screen - photo.marks) / sigma, photo.mark_weight, _over(jacobian, sigma)))
        screen, jacobian = self._project(k, rim, derive)
        distance, slope = contour.distance(screen)
        sigma = CONTOUR_SIGMA * photo.mark_scale
        across = None if jacobian is None else slope[:, None] @ jacobian
        weight = torch.full_like(distance, CONTOUR_WEIGHT)
        out.append(_robust(distance[:, None] / sigma, weight, _over(across, sigma)))
        return out

    # ---- costs ----------------------------------------------------------------------------------------

    def _shape_cost(self) -> float:
        return self.prior * float((self.problem.z_shape**2).sum())

    def _cost(self, k: int, observed: tuple[Matches, _Points, _Points, Contour, _Points]) -> float:
        p = self.problem
        total = sum(rows.cost for rows in self._rows(k, observed, False))
        total += self.expression_prior * float((p.z_expression[k] ** 2).sum())
        if p.photos[k].view.focal_prior_sigma > 0:
            total += (self._log_focal(k) / FOCAL_SIGMA) ** 2
        return total

    def _log_focal(self, k: int) -> float:
        """Log of a focal length over the one that was assumed at the start."""
        photo = self.problem.photos[k]
        return math.log(float(photo.focal) / float(photo.view.focal))

    # ---- one step -------------------------------------------------------------------------------------

    def _move(
        self, observed: list[tuple[Matches, _Points, _Points, Contour, _Points]], damping: float
    ) -> None:
        p, shapes = self.problem, self.shape_count
        common = shapes + self.lens_count
        device = p.z_shape.device
        hessian = torch.eye(common, dtype=torch.float64, device=device) * 1e-9
        right = torch.zeros(common, dtype=torch.float64, device=device)
        hessian[:shapes, :shapes] += torch.eye(shapes, device=device) * self.prior
        right[:shapes] -= self.prior * p.z_shape.detach().double()
        solved = []
        for k, photo in enumerate(p.photos):
            own_hessian, cross, own_right, shared_hessian, shared_right = self._normal(
                k, observed[k], damping
            )
            factor = torch.linalg.cholesky(own_hessian)
            gain = torch.cholesky_solve(cross.T, factor)
            start = torch.cholesky_solve(own_right[:, None], factor)[:, 0]
            solved.append((gain, start))
            if photo.trust > 0:
                hessian += shared_hessian - cross @ gain
                right += shared_right - cross @ start
        step = torch.linalg.solve(hessian, right)
        p.z_shape += step[:shapes].to(p.z_shape)
        for k, (gain, start) in enumerate(solved):
            self._turn(k, (start - gain @ step).to(p.z_shape), step[shapes:])

    def _normal(
        self, k: int, observed: tuple[Matches, _Points, _Points, Contour, _Points], damping: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Normal equations of photo k: own Hessian, (common, own) cross part, own right, common's two."""
        p, shapes, lens = self.problem, self.shape_count, self.lenses[k]
        size = shapes + self.own_count
        hessian = torch.zeros(size, size, dtype=torch.float64, device=p.z_shape.device)
        right = torch.zeros(size, dtype=torch.float64, device=p.z_shape.device)
        for rows in self._rows(k, observed, True):
            assert rows.jacobian is not None
            root = rows.weight.sqrt()[:, None]
            flat = (rows.jacobian * root[..., None]).reshape(-1, size)
            hessian += (flat.T @ flat).double()
            right -= (flat.T @ (rows.residual * root).reshape(-1)).double()
        expression = slice(shapes + _CAMERA, size)
        hessian[expression, expression] += self.expression_prior * torch.eye(size - shapes - _CAMERA).to(
            hessian
        )
        right[expression] -= self.expression_prior * p.z_expression[k].detach().double()
        focal = shapes + 6
        if p.photos[k].view.focal_prior_sigma > 0:
            hessian[focal, focal] += 1 / FOCAL_SIGMA**2
            right[focal] -= self._log_focal(k) / FOCAL_SIGMA**2
        hessian += damping * torch.diag(hessian.diagonal())
        # Columns of what photos share: the shape, and the lens where it is shared.
        spread = torch.zeros(size, shapes + self.lens_count).to(hessian)
        spread[:shapes, :shapes] = torch.eye(shapes)
        if lens >= 0:
            spread[focal, shapes + lens] = 1.0
        shared_hessian, shared_right = spread.T @ hessian @ spread, spread.T @ right
        cross, own, own_right = (
            (spread.T @ hessian)[:, shapes:],
            hessian[shapes:, shapes:].clone(),
            right[shapes:].clone(),
        )
        if lens >= 0 or p.photos[k].view.focal_prior_sigma <= 0:
            cross = cross.clone()
            own[6], own[:, 6], own_right[6], cross[:, 6] = 0, 0, 0, 0
            own[6, 6] = 1.0
        own += 1e-9 * own.diagonal().mean() * torch.eye(len(own)).to(own)
        return own, cross, own_right, shared_hessian, shared_right

    def _turn(self, k: int, own: Tensor, lenses: Tensor) -> None:
        p = self.problem
        photo = p.photos[k]
        photo.rotation = small_rotation(own[:3]) @ small_rotation(p.turn[k]) @ photo.rotation
        p.turn[k] = 0.0
        p.shift[k] += own[3:6]
        lens = self.lenses[k]
        change = own[6] if lens < 0 else lenses[lens].to(own)
        photo.focal = photo.focal * change.clamp(-0.5, 0.5).exp()
        p.z_expression[k] += own[_CAMERA:]

    def _share_focals(self) -> None:
        """Give the photos of a shared lens one angle of view to start from: the mean of what they have."""
        for lens in range(self.lens_count):
            members = [k for k, number in enumerate(self.lenses) if number == lens]
            mean = sum(self._log_focal(k) for k in members) / len(members)
            for k in members:
                photo = self.problem.photos[k]
                photo.focal = torch.full_like(photo.focal, photo.view.focal * math.exp(mean))

    def _geometry(self) -> _Geometry:
        p = self.problem
        shape, expression, turn, shift = (
            value.detach().clone() for value in (p.z_shape, p.z_expression, p.turn, p.shift)
        )
        rotations, focals = [q.rotation for q in p.photos], [q.focal for q in p.photos]
        return _Geometry(shape, expression, turn, shift, rotations, focals)

    def _restore(self, before: _Geometry) -> None:
        p = self.problem
        p.z_shape.copy_(before.shape)
        p.z_expression.copy_(before.expression)
        p.turn.copy_(before.turn)
        p.shift.copy_(before.shift)
        for photo, rotation, focal in zip(p.photos, before.rotations, before.focals, strict=True):
            photo.rotation, photo.focal = rotation, focal


def shared_lenses(problem: PhotoSet) -> list[int]:
    """Number of the lens that each photo shares with others, -1 where it is known or the photo's own."""
    names = [p.view.lens if p.view.focal_prior_sigma > 0 else None for p in problem.photos]
    several = sorted({name for name in names if name is not None and names.count(name) > 1})
    return [several.index(name) if name in several else -1 for name in names]


def _over(jacobian: Tensor | None, sigma: float) -> Tensor | None:
    return None if jacobian is None else jacobian / sigma


def _robust(residual: Tensor, weight: Tensor, jacobian: Tensor | None) -> _Rows:
    """Geman-McClure: squares of residuals (M, C) count up to `_ROBUST`."""
    squared = (residual**2).sum(1)
    cost = float((weight * _ROBUST * squared / (_ROBUST + squared)).sum())
    return _Rows(residual, weight / (1 + squared / _ROBUST) ** 2, jacobian, cost)
