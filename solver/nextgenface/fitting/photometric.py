"""Stage 2: light, skin, shape, expression and pose from the photo, in the model's coefficient space.

Light is solved for in closed form (`lightsolve`) whenever the rest has moved. With one photo everything else
steps with Adam on whitened coefficients, coarse to fine: reflectance leads, geometry joins once the light is
sane. With several photos of one person geometry comes from where they show the same skin (`several`).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..config import Config
from ..events import Listener
from ..facemodel.model import FaceModel
from ..geometry.rotations import matrix_to_euler
from ..rendering.light import lobes_to_sh
from ..views import FaceView
from .loop import Outcome, run_steps
from .photoset import DEFAULT_WEIGHT, EFFECTIVE_PIXELS, LEVELS, PHOTO_SIGMA, PhotoSet
from .pose import DEPTH_SIGMA, EXPRESSION_SD, LANDMARK_SIGMA
from .reflectance import SkinColour
from .several import fit_several
from .state import FaceState, StageReport
from .targets import Target, encode

BORDER_SIGMA = 0.04  # of the inter-ocular distance: how far the face may reach beyond the person's outline
BORDER_POINTS = 300.0  # independent points the outline is worth
LIGHT_EVERY = 12
PLANNED_SHARE = 0.45  # of iterStep2: the schedule below; the rest is reserve for slow photos
GEOMETRY_FROM = 0.06  # share of the planned steps after which geometry joins
RATES = {"shape": 0.05, "expression": 0.05, "turn": 0.002, "shift": 0.4}


class PhotometricProblem(PhotoSet):
    """Joint fit of the photos of one identity (or one photo); parameters are leaf tensors stepped by Adam."""

    # ---- losses ---------------------------------------------------------------------------------------

    def photo_loss(self, k: int, target: Target, vertices: Tensor) -> Tensor:
        """Half the effective squared code-value error of photo k, whose `vertices` are given, in sigmas."""
        fragments, radiance = self.seen(k, target, vertices)
        residual = encode(radiance) - target.encoded.index_select(0, fragments.pixel)
        weight = self.pixel_weights(k, target, fragments, residual)
        mean = (weight[:, None] * residual**2).sum() / (3 * weight.sum()).clamp(min=1.0)
        return 0.5 * EFFECTIVE_PIXELS * mean / PHOTO_SIGMA**2 / 3.0

    def landmark_loss(self, k: int, vertices: Tensor) -> Tensor:
        """Half the robust squared landmark error of photo k, in sigmas (stage 1's own residuals)."""
        p = self.photos[k]
        pose = self.pose(k)
        camera = pose.camera_space(vertices.index_select(0, p.mark_vertices))
        squared = ((pose.screen(camera) - p.marks) ** 2).sum(1) / (LANDMARK_SIGMA * p.mark_scale) ** 2
        loss = (p.mark_weight * 9 * squared / (9 + squared)).sum()
        if p.mark_depth is not None:
            z = camera[: len(p.mark_depth), 2]
            z = z * p.focal / z.mean()
            gap = (z - z.mean()) - (p.mark_depth - p.mark_depth.mean())
            squared = gap**2 / (DEPTH_SIGMA * p.mark_scale) ** 2
            loss = loss + (p.mark_weight[: len(z)] * 9 * squared / (9 + squared)).sum()
        return 0.5 * loss

    def outline_loss(self, k: int, vertices: Tensor) -> Tensor:
        """Penalty on vertices of photo k outside the person: half the squared distance, in sigmas."""
        p = self.photos[k]
        if p.outside is None:
            return torch.zeros(()).to(vertices)
        pose = self.pose(k)
        screen = pose.screen(pose.camera_space(vertices))
        size = torch.tensor([p.outside.shape[-1], p.outside.shape[-2]]).to(screen)
        grid = (screen / size * 2 - 1)[None, :, None]
        gap = tf.grid_sample(p.outside, grid, align_corners=False, padding_mode="border")[0, 0, :, 0]
        squared = (gap / (BORDER_SIGMA * p.mark_scale)) ** 2
        return 0.5 * BORDER_POINTS * squared.mean()

    def prior(self) -> Tensor:
        """Half the squared z-scores, weighted by the guide's weights relative to their defaults."""
        c = self.config
        shape = (self.z_shape**2).sum() * (c.weightShapeReg / DEFAULT_WEIGHT)
        expression = (
            (self.z_expression**2).sum() / EXPRESSION_SD**2 * (c.weightExpressionReg / DEFAULT_WEIGHT)
        )
        return 0.5 * (shape + expression)

    def loss(self, level: int) -> Tensor:
        """The whole objective at a resolution level, averaged over the photos."""
        total = self.prior()
        weight = self.config.weightLandmarksLossStep2 / DEFAULT_WEIGHT
        for k, p in enumerate(self.photos):
            vertices = self.vertices(k)
            total = (
                total
                + self.photo_loss(k, p.targets[level], vertices)
                + weight * self.landmark_loss(k, vertices)
                + self.outline_loss(k, vertices)
            )
        return total

    # ---- in and out -----------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Tensor]:
        """Leaf tensors by the names of `RATES`."""
        return {
            "shape": self.z_shape,
            "expression": self.z_expression,
            "turn": self.turn,
            "shift": self.shift,
        }

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of everything that moves."""
        out = {name: value.detach().clone() for name, value in self.parameters().items()}
        out["environment"] = torch.stack([p.environment for p in self.photos])
        out["gloss"] = self.gloss.clone()
        out["tone"], out["rest"] = self.skin_colour.tone.clone(), self.skin_colour.rest.clone()
        return out

    @torch.no_grad()
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Go back to a snapshot."""
        for name, value in self.parameters().items():
            value.copy_(snapshot[name])
        self.skin_colour = SkinColour(snapshot["tone"].clone(), snapshot["rest"].clone())
        self.gloss = snapshot["gloss"].clone()
        self.z_albedo = self.skin_colour.z(self.tones)
        for p, environment in zip(self.photos, snapshot["environment"], strict=True):
            p.environment = environment.clone()

    @torch.no_grad()
    def write_to(self, state: FaceState) -> FaceState:
        """A new state with this problem's photos and identity filled in."""
        w = self.white
        new = {
            k: getattr(state, k).clone()
            for k in ("shape", "albedo", "expression", "rotation", "translation", "focals", "environment")
        }
        identity = state.identity_of(self.photos[0].index)
        new["shape"][identity] = self.z_shape * w.shape_sd
        new["albedo"][identity] = self.z_albedo * w.diffuse_sd
        new["gloss"] = (
            torch.ones(state.identity_count).to(new["albedo"]) if state.gloss is None else state.gloss.clone()
        )
        new["gloss"][identity] = self.gloss
        for k, p in enumerate(self.photos):
            pose = self.pose(k)
            new["expression"][p.index] = self.z_expression[k] * w.expression_sd
            new["rotation"][p.index] = matrix_to_euler(pose.rotation)
            new["translation"][p.index] = pose.translation
            new["focals"][p.index] = p.focal
            new["environment"][p.index] = p.environment
        if len(self.photos) > 1:
            new["trust"] = torch.ones(state.photo_count).to(new["albedo"])
            for p in self.photos:
                new["trust"][p.index] = p.trust
        return replace(state, **new, sh=lobes_to_sh(new["environment"], math.isqrt(state.sh.shape[1])))


def groups(state: FaceState) -> list[list[int]]:
    """Photos that are solved together: all of a shared identity, else each alone."""
    everything = list(range(state.photo_count))
    return [everything] if state.identity_count == 1 else [[i] for i in everything]


def level_at(step: int, cap: int) -> int:
    """Index into `LEVELS` for a step."""
    return max(i for i, (share, _) in enumerate(LEVELS) if step >= share * cap)


def fit_photometric(
    model: FaceModel, views: list[FaceView], state: FaceState, config: Config, listener: Listener
) -> tuple[FaceState, StageReport]:
    """Fit light, reflectance coefficients, shape, expression and pose to the photos.

    `config.iterStep2` caps the steps per identity. Returns a new state with stage = 2.
    """
    begun = time.monotonic()
    losses: list[float] = []
    steps, cap, converged = 0, 0, True
    notes: list[str] = []
    for members in groups(state):
        problem = PhotometricProblem(model, views, state, members, config)
        total = config.iterStep2 * len(groups(state))
        outcome = fit_several(problem, listener, cap, total, notes) if len(members) > 1 else None
        if outcome is None:
            outcome = _fit_group(problem, config, listener, cap, total)
        problem.restore(outcome.best)
        state = problem.write_to(state)
        losses += outcome.losses
        steps, cap = steps + len(outcome.losses), cap + config.iterStep2
        converged &= outcome.converged
    return replace(state, stage=2), StageReport(
        "photometric", steps, cap, converged, time.monotonic() - begun, losses, notes
    )


def _fit_group(
    problem: PhotometricProblem, config: Config, listener: Listener, first: int, total: int
) -> Outcome[dict[str, Tensor]]:
    cap = config.iterStep2
    planned = max(1, round(PLANNED_SHARE * cap))
    parameters = problem.parameters()
    optimiser = torch.optim.Adam([{"params": [p], "lr": RATES[n], "name": n} for n, p in parameters.items()])
    problem.trace()
    problem.solve_lights(0, rounds=2)
    last_level = -1

    def step(i: int) -> float:
        nonlocal last_level
        level = level_at(i, planned)
        if level != last_level and i > 0:
            problem.trace()
        if i > 0 and (i % LIGHT_EVERY == 0 or level != last_level):
            problem.solve_lights(level)
        last_level = level
        cooling = 0.5 * (1 + math.cos(math.pi * min(i / planned, 1.0))) * 0.9 + 0.1
        geometry = 1.0 if i >= GEOMETRY_FROM * planned else 0.0
        for group in optimiser.param_groups:
            group["lr"] = RATES[group["name"]] * cooling * geometry
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = problem.loss(level)
            loss.backward()
        optimiser.step()
        return float(loss.detach()) / EFFECTIVE_PIXELS

    def preview(i: int) -> None:
        listener.preview("photometric", i, problem.preview)

    return run_steps(
        "photometric",
        cap,
        step,
        problem.snapshot,
        listener,
        restore=problem.restore,
        patience=15,
        tolerance=2e-3,
        settle=int(LEVELS[-1][0] * planned) + 1,
        preview=preview,
        preview_every=1,
        first=first,
        total=total,
    )
