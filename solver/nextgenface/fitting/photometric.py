"""Stage 2: light, skin, shape, expression and pose from the photo, in the model's coefficient space.

Light is solved for in closed form (`lightsolve`) whenever the rest has moved; everything else steps with
Adam on whitened coefficients, coarse to fine. Reflectance leads, geometry joins once the light is sane.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as tf

from ..config import Config
from ..events import Listener
from ..facemodel.model import FaceModel
from ..geometry.rotations import euler_to_matrix, matrix_to_euler, small_rotation
from ..rendering.deferred import (
    CAMERA_TO_LIGHT,
    Drawing,
    Pose,
    bounce_gain,
    diffuse_factors,
    draw_vertices,
    glossy_factors,
    shade_vertices,
    specular_reflectance,
    trace_transfer,
    vertex_normals,
)
from ..rendering.light import lobes_to_sh
from ..rendering.raster import Fragments, rasterize
from ..views import FaceView
from .lightsolve import LinearPicture, solve_light
from .loop import Outcome, run_steps
from .photodata import PhotoData, distance_outside, neighbourhood, spread_rows
from .pose import DEPTH_SIGMA, EXPRESSION_SD, LANDMARK_SIGMA, landmark_vertices, landmark_weights
from .reflectance import ReflectanceSamples, SkinColour, ToneCurve, solve_gloss, solve_rest, solve_tone
from .state import FaceState, StageReport
from .targets import Target, encode, encode_slope, target_at
from .traced import traced_photos
from .whitened import WhitenedModel, whiten

PHOTO_SIGMA = 0.06  # of the code value: model error, not sensor noise
EFFECTIVE_PIXELS = 1e4  # independent pixels a full face is worth
REFLECTANCE_PIXELS = 1500.0  # the same for skin colour: shading errors are broad and would turn into skin
ROBUST_SCALE = 0.15  # code-value difference at which a pixel counts half
GLOSS_RANGE = (0.5, 2.0)
AGREEMENT_SCALE = (
    0.09  # root-mean-square code-value difference of a neighbourhood at which it counts a quarter
)
AGREEMENT_REACH = 0.012  # of the picture's height
BORDER_SIGMA = 0.04  # of the inter-ocular distance: how far the face may reach beyond the person's outline
BORDER_POINTS = 300.0  # independent points the outline is worth
LIGHT_EVERY = 12
LIGHT_SAMPLES = 4000
LEVELS = ((0.0, 0.25), (0.35, 0.5), (0.75, 1.0))  # (share of the planned steps, resolution) - coarse to fine
PLANNED_SHARE = 0.45  # of iterStep2: the schedule below; the rest is reserve for slow photos
GEOMETRY_FROM = 0.06  # share of the planned steps after which geometry joins
RATES = {"shape": 0.05, "expression": 0.05, "turn": 0.002, "shift": 0.4}
DEFAULT_WEIGHT = 0.001  # the guide's weights are relative to their defaults


class PhotometricProblem:
    """Joint fit of the photos of one identity (or one photo); parameters are leaf tensors stepped by Adam."""

    def __init__(
        self, model: FaceModel, views: list[FaceView], state: FaceState, photos: list[int], config: Config
    ) -> None:
        device = state.shape.device
        self.model = model
        self.views = views
        self.white: WhitenedModel = whiten(model, device)
        self.config = config
        w = self.white
        identity = state.identity_of(photos[0])
        self.z_shape = (state.shape[identity] / w.shape_sd).clone().requires_grad_()
        self.tones = ToneCurve(w)
        start = state.albedo[identity] / w.diffuse_sd
        self.skin_colour = SkinColour(torch.zeros(3, device=device), start.clone())
        self.z_albedo = start.clone()
        self.gloss = torch.ones((), device=device) if state.gloss is None else state.gloss[identity].clone()
        self.z_expression = (state.expression[photos] / w.expression_sd).clone().requires_grad_()
        self.turn = torch.zeros(len(photos), 3, device=device, requires_grad=True)
        self.shift = torch.zeros(len(photos), 3, device=device, requires_grad=True)
        self.relief: list[Tensor] = []  # per photo, (V, 3) mm
        self.photos = [self._photo(views[i], state, i) for i in photos]
        self.rays = traced_photos(model, config, device) if config.engine == "raytraced" else None

    def _photo(self, view: FaceView, state: FaceState, i: int) -> PhotoData:
        device = state.shape.device
        height = state.height
        home = landmark_vertices(self.model, view.landmarks)
        kept = (home >= 0) & (view.landmarks.weights > 0)
        marks = view.landmarks.points[kept]
        tensor = lambda a: torch.as_tensor(a, dtype=torch.float32, device=device)  # noqa: E731
        weight = landmark_weights(view.landmarks)[kept]
        depth = view.landmarks.depth
        return PhotoData(
            i,
            view,
            euler_to_matrix(state.rotation[i]),
            state.translation[i].clone(),
            state.focals[i].clone(),
            state.principal[i].clone(),
            state.environment[i].clone(),
            [target_at(view, max(48, round(height * share)), device) for _, share in LEVELS],
            tensor(marks),
            None if depth is None else tensor(depth[kept]),
            tensor(weight),
            torch.as_tensor(home[kept], device=device),
            max(float(((marks.max(0) - marks.min(0)) ** 2).sum() ** 0.5) * 0.36, 1.0),
            distance_outside(view, device),
        )

    # ---- parts of the picture -------------------------------------------------------------------------

    def pose(self, k: int, target: Target | None = None) -> Pose:
        """Camera of photo k, scaled to a target's resolution."""
        p = self.photos[k]
        pose = Pose(
            small_rotation(self.turn[k]) @ p.rotation, p.translation + self.shift[k], p.focal, p.principal
        )
        return pose if target is None else pose.scaled(target.scale)

    def level(self) -> Tensor:
        """Specular level (V,): the model's, times how glossy this person is."""
        level = (self.white.level(self.z_albedo) * self.gloss).clamp(max=1.0)
        return level * 0 if self.config.leaveOut == "specular" else level

    def vertices(self, k: int) -> Tensor:
        """Model-space vertices (V, 3) of photo k, with the relief of stage 3 where there is one."""
        return self.white.vertices(
            self.z_shape, self.z_expression[k], self.relief[k] if self.relief else None
        )

    def draw(self, k: int, target: Target, *, light: Tensor | None = None) -> Drawing:
        """The model's picture of photo k at a target's resolution."""
        p, w = self.photos[k], self.white
        assert p.transfer is not None
        pose = self.pose(k, target)
        camera = pose.camera_space(self.vertices(k))
        colour, level = w.colour(self.z_albedo), self.level()
        environment = p.environment if light is None else light
        shading = shade_vertices(camera, w.faces, environment, colour, w.roughness, p.transfer)
        return draw_vertices(
            camera,
            w.faces,
            pose.screen(camera),
            (target.height, target.width),
            shading,
            colour,
            level,
            w.roughness,
        )

    def seen(self, k: int, target: Target) -> tuple[Fragments, Tensor]:
        """Covered pixels of photo k and their radiance (N, 3), by the engine that the options ask for."""
        if self.rays is None:
            drawing = self.draw(k, target)
            return drawing.fragments, drawing.radiance
        w, pose = self.white, self.pose(k, target)
        camera = pose.camera_space(self.vertices(k))
        at = camera.detach()
        fragments = rasterize(pose.screen(at), at[:, 2], w.faces, target.height, target.width)
        skin = torch.cat([w.colour(self.z_albedo), self.level()[:, None], w.roughness[:, None]], 1)
        return fragments, self.rays.radiance(camera, pose, self.photos[k].environment, skin, fragments)

    def pixel_weights(self, k: int, target: Target, fragments: Fragments, residual: Tensor) -> Tensor:
        """(N,) weights: where skin is seen, unclipped, and not far off (hair, glasses, hands, highlights).

        Skin that hair often covers (forehead, temples) counts only where its neighbourhood agrees with the
        fit, or strands of hair would be fitted as dark skin.
        """
        values = fragments.interpolate(torch.stack([self.white.skin, self.white.core], 1)).detach()
        squared = (residual.detach() ** 2).mean(1)
        robust = 1 / (1 + squared / ROBUST_SCALE**2) ** 2
        usable = values[:, 0] * target.valid[fragments.pixel]
        around = neighbourhood(fragments, squared, usable, AGREEMENT_REACH * target.height)
        agreement = 1 / (1 + around / AGREEMENT_SCALE**2) ** 2
        return usable * robust * (values[:, 1] + (1 - values[:, 1]) * agreement)

    # ---- losses ---------------------------------------------------------------------------------------

    def photo_loss(self, k: int, target: Target) -> Tensor:
        """Half the effective squared code-value error of photo k, in sigmas."""
        fragments, radiance = self.seen(k, target)
        residual = encode(radiance) - target.encoded[fragments.pixel]
        weight = self.pixel_weights(k, target, fragments, residual)
        mean = (weight[:, None] * residual**2).sum() / (3 * weight.sum()).clamp(min=1.0)
        return 0.5 * EFFECTIVE_PIXELS * mean / PHOTO_SIGMA**2 / 3.0

    def landmark_loss(self, k: int) -> Tensor:
        """Half the robust squared landmark error of photo k, in sigmas (stage 1's own residuals)."""
        p, w = self.photos[k], self.white
        pose = self.pose(k)
        rows = (p.mark_vertices[:, None] * 3 + torch.arange(3, device=p.marks.device)).view(-1)
        flat = self.z_shape @ w.shape[:, rows] + self.z_expression[k] @ w.expression[:, rows]
        camera = pose.camera_space(w.neutral[p.mark_vertices] + flat.view(-1, 3))
        squared = ((pose.screen(camera) - p.marks) ** 2).sum(1) / (LANDMARK_SIGMA * p.mark_scale) ** 2
        loss = (p.mark_weight * 9 * squared / (9 + squared)).sum()
        if p.mark_depth is not None:
            z = camera[:, 2] * p.focal / camera[:, 2].mean()
            gap = (z - z.mean()) - (p.mark_depth - p.mark_depth.mean())
            squared = gap**2 / (DEPTH_SIGMA * p.mark_scale) ** 2
            loss = loss + (p.mark_weight * 9 * squared / (9 + squared)).sum()
        return 0.5 * loss

    def outline_loss(self, k: int) -> Tensor:
        """Penalty on vertices of photo k outside the person: half the squared distance, in sigmas."""
        p, w = self.photos[k], self.white
        if p.outside is None:
            return torch.zeros(()).to(w.neutral)
        pose = self.pose(k)
        screen = pose.screen(pose.camera_space(w.vertices(self.z_shape, self.z_expression[k])))
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
            total = (
                total
                + self.photo_loss(k, p.targets[level])
                + weight * self.landmark_loss(k)
                + self.outline_loss(k)
            )
        return total

    # ---- what is held fixed between updates -----------------------------------------------------------

    @torch.no_grad()
    def trace(self) -> None:
        """Trace the visibility of the current geometry for every photo."""
        for k, p in enumerate(self.photos):
            p.transfer = trace_transfer(
                self.vertices(k),
                self.white.faces,
                self.pose(k),
                shadows=self.config.leaveOut != "visibility",
                highlights=self.config.leaveOut != "specular",
            )

    @torch.no_grad()
    def solve_lights(self, level: int, *, rounds: int = 1) -> None:
        """Solve every photo's light, then skin colour and light intensity, for the current geometry."""
        for _ in range(rounds):
            for k, p in enumerate(self.photos):
                p.environment = self.solve_light(k, p.targets[level])
            self._solve_reflectance(level)

    def _solve_reflectance(self, level: int) -> None:
        prior = self.config.weightAlbedoReg / DEFAULT_WEIGHT
        samples = [self._reflectance_samples(k, p.targets[level]) for k, p in enumerate(self.photos)]
        self.skin_colour, gains = solve_tone(samples, self.skin_colour, self.tones, prior)
        self.z_albedo = self.skin_colour.z(self.tones)
        for p, gain in zip(self.photos, gains, strict=True):
            p.environment = p.environment * gain.exp()
        samples = [self._reflectance_samples(k, p.targets[level]) for k, p in enumerate(self.photos)]
        self.gloss = (self.gloss * solve_gloss(samples, float(self.gloss.log()))).clamp(*GLOSS_RANGE)
        self.skin_colour = solve_rest(samples, self.skin_colour, self.tones, prior)
        self.z_albedo = self.skin_colour.z(self.tones)

    def _reflectance_samples(self, k: int, target: Target) -> ReflectanceSamples:
        w = self.white
        drawing = self.draw(k, target)
        pick = spread_rows(len(drawing.fragments.pixel), LIGHT_SAMPLES)
        part = drawing.fragments.subset(pick)
        encoded = target.encoded[part.pixel]
        weight = self.pixel_weights(k, target, part, encode(drawing.radiance[pick]) - encoded)
        strength = REFLECTANCE_PIXELS / (3 * weight.sum().clamp(min=1.0)) / PHOTO_SIGMA**2
        count = len(self.z_albedo)
        corner_basis = w.diffuse.view(count, -1, 3)[:, part.corners.view(-1)].view(count, -1, 3, 3)
        return ReflectanceSamples(
            base=part.interpolate(w.colour(self.z_albedo)),
            mean=part.interpolate(w.diffuse_mean),
            basis=torch.einsum("np,anpc->nca", part.weights, corner_basis),
            diffuse=drawing.diffuse_light[pick],
            specular=drawing.specular_light[pick],
            encoded=encoded,
            weight=weight * strength,
            bare=weight * strength * part.interpolate(w.bare[:, None])[:, 0],
            log_level=self._log_level(self.photos[k]),
        )

    def _log_level(self, p: PhotoData) -> Tensor:
        """Log of irradiance/pi per channel (3,) on a surface that faces the camera."""
        assert p.transfer is not None
        radiance = p.transfer.lobes @ p.environment
        facing = p.transfer.directions[:, 2].clamp(min=0)
        return ((facing[:, None] * radiance).sum(0) / facing.sum()).clamp(min=1e-4).log()

    @torch.no_grad()
    def solve_light(self, k: int, target: Target) -> Tensor:
        """Radiances (D, 3) that explain photo k at a target's resolution, everything else as it is."""
        p, w = self.photos[k], self.white
        assert p.transfer is not None
        pose = self.pose(k, target)
        camera = pose.camera_space(self.vertices(k))
        fragments = rasterize(pose.screen(camera), camera[:, 2], w.faces, target.height, target.width)
        diffuse, glossy = self.light_factors(k, camera)
        colour = fragments.interpolate(w.colour(self.z_albedo))
        pick = spread_rows(len(fragments.pixel), LIGHT_SAMPLES)
        part = fragments.subset(pick)
        a = part.interpolate(diffuse)
        b = part.interpolate(glossy)
        base, photo = colour[pick], target.linear[part.pixel]
        e = p.environment
        for _ in range(2):  # re-weighted: outliers of the last solution count less
            radiance = base * (a @ e) + b @ e
            weight = self.pixel_weights(k, target, part, encode(radiance) - target.encoded[part.pixel])
            rows = weight[:, None].sqrt() * encode_slope(photo)
            nonnegative = self.config.leaveOut != "nonnegative"
            e = solve_light(LinearPicture(base, a, b, photo, rows), e, nonnegative=nonnegative)
        return e

    def light_factors(self, k: int, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Vertex transfers to the lobes of photo k: diffuse and specular, each (V, D)."""
        p, w = self.photos[k], self.white
        t = p.transfer
        assert t is not None
        in_light = camera * torch.tensor(CAMERA_TO_LIGHT).to(camera)
        normals = vertex_normals(in_light, w.faces)[t.used]
        view = torch.nn.functional.normalize(-in_light[t.used], dim=1)
        cos_view = (normals * view).sum(1).clamp(min=0.03)
        colour = w.colour(self.z_albedo)[t.used]
        bounce = 1 + bounce_gain(colour, t).mean(1, keepdim=True)
        gloss = specular_reflectance(self.level()[t.used], w.roughness[t.used], cos_view)
        diffuse = diffuse_factors(normals, t) @ t.lobes * bounce * (1 - gloss[:, None])
        glossy = glossy_factors(normals, view, w.roughness[t.used], t) @ t.lobes * gloss[:, None]
        zeros = torch.zeros(len(camera), diffuse.shape[1]).to(camera)
        return zeros.index_copy(0, t.used, diffuse), zeros.index_copy(0, t.used, glossy)

    @torch.no_grad()
    def preview(self) -> NDArray[np.uint8]:
        """uint8 sRGB (n, H, W, 3) of all photos of the fit: the model over its photos, others as they are."""
        pictures = [(view.image.clip(0, 1)) for view in self.views]
        flat = [encode(torch.as_tensor(picture, dtype=torch.float32)).reshape(-1, 3) for picture in pictures]
        for k, p in enumerate(self.photos):
            drawing = self.draw(k, p.targets[-1])
            flat[p.index][drawing.fragments.pixel.cpu()] = encode(drawing.radiance).clamp(0, 1).cpu()
        height, width = self.views[0].image.shape[:2]
        return np.stack([(f.view(height, width, 3) * 255).round().byte().numpy() for f in flat])

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
            for k in ("shape", "albedo", "expression", "rotation", "translation", "environment")
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
            new["environment"][p.index] = p.environment
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
    for members in groups(state):
        problem = PhotometricProblem(model, views, state, members, config)
        outcome = _fit_group(problem, config, listener, cap, config.iterStep2 * len(groups(state)))
        problem.restore(outcome.best)
        state = problem.write_to(state)
        losses += outcome.losses
        steps, cap = steps + len(outcome.losses), cap + config.iterStep2
        converged &= outcome.converged
    return replace(state, stage=2), StageReport(
        "photometric", steps, cap, converged, time.monotonic() - begun, losses
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
