"""Stage 3: relief, then per-texel diffuse, specular and roughness maps.

First the surface and the light may explain what the coefficients left over (`relief`); the rest is split
into skin and shading (`separation`) and the skin's part becomes the diffuse map. Texels no photo sees are
completed from the mirror side and the statistical texture. Last, all three maps take gradient steps on the
photo (`refinement`, `raytraced_finish`) under the guide's regularisers (symmetry, consistency with where
they started, smoothness), on valid texels only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as tf

from ..config import Config
from ..events import Listener
from ..facemodel.model import FaceModel
from ..rendering.deferred import Shading, shade_vertices, vertex_normals
from ..rendering.light import lobes_to_sh
from ..rendering.raster import Fragments, rasterize
from ..views import FaceView
from .loop import run_steps
from .matching import RESOLUTION, SCALES, Matches, find_matches, match_loss
from .photometric import PhotometricProblem, groups
from .photoset import EFFECTIVE_PIXELS
from .raytraced_finish import finish
from .refinement import refine
from .relief import Relief, lid_clearance
from .skinmap import skin_map
from .state import FaceState, StageReport
from .targets import Target, encode
from .texels import Texels
from .traced import traced_photos

RELIEF_SHARE = 0.16  # of iterStep3
RELIEF_RATE = 0.15  # mm per step, before smoothing
RELIEF_WEIGHT = 0.02  # prior against the mean squared code-value error in photo sigmas
MATCH_WEIGHT = 2 / EFFECTIVE_PIXELS  # of matches between photos, beside the mean squared error of pixels
COARSE = 8  # gloss is refined on a grid this much coarser: one photo shows highlights, not pores
SYMMETRY_SCALE = 10.0  # per squared difference between a texel's change and its mirror image's
GLOSS_SHARE = 0.5  # of the specular consistency: what roughness has beside its own, which is 0 by default
CONSISTENCY_SCALE = 2e-4  # squared change at which a consistency weight of 1 costs 0.5
LEVEL_RANGE, ROUGHNESS_RANGE = (0.0, 1.0), (0.15, 0.9)
FINISH_STEPS = 40  # with rays, at the end of engine = hybrid


def fit_textures(
    model: FaceModel, views: list[FaceView], state: FaceState, config: Config, listener: Listener
) -> tuple[FaceState, StageReport]:
    """Fit relief and per-texel maps; `config.iterStep3` caps the steps per identity. New state, stage = 3."""
    begun = time.monotonic()
    losses: list[float] = []
    converged = True
    maps: list[tuple[Tensor, ...]] = []
    displacements, environments = [], state.environment.clone()
    cap = 0
    for members in groups(state):
        problem = TextureProblem(model, views, state, members, config)
        relief_cap = round(RELIEF_SHARE * config.iterStep3)
        total = config.iterStep3 * len(groups(state))
        losses += problem.fit_relief(relief_cap, listener, cap, total)
        displacements.append(problem.offsets.detach())
        problem.separate()
        start, left = cap + relief_cap, config.iterStep3 - relief_cap
        rays = problem.rays
        traced = 0 if rays is None else left if config.engine == "raytraced" else min(FINISH_STEPS, left)
        if traced < left:
            outcome, done = refine(problem, left - traced, listener, start, total)
            losses += outcome
            converged &= done
        if rays is not None:
            outcome, done = finish(problem, rays, traced, listener, start + left - traced, total)
            losses += outcome
            converged &= done or config.engine == "hybrid"
        for photo in problem.photometric.photos:
            environments[photo.index] = photo.environment
        maps.append(problem.maps())
        cap += config.iterStep3
    diffuse, specular, roughness, confidence = (torch.stack(m) for m in zip(*maps, strict=True))
    new = replace(
        state,
        diffuse=diffuse,
        specular=specular,
        roughness=roughness,
        confidence=confidence,
        displacement=torch.stack(displacements),
        environment=environments,
        sh=lobes_to_sh(environments, math.isqrt(state.sh.shape[1])),
        stage=3,
    )
    return new, StageReport("textures", len(losses), cap, converged, time.monotonic() - begun, losses)


class TextureProblem:
    """Stage 3 of one identity."""

    def __init__(
        self, model: FaceModel, views: list[FaceView], state: FaceState, members: list[int], config: Config
    ) -> None:
        self.config = config
        self.photometric = PhotometricProblem(model, views, state, members, config)
        self.white = self.photometric.white
        self.rays = self.photometric.rays or traced_photos(model, config, state.shape.device)
        self.texels = Texels(model, config.textureResolution, state.shape.device)
        with torch.no_grad():
            w = self.white
            neutral = w.vertices(self.photometric.z_shape, torch.zeros_like(self.photometric.z_expression[0]))
            self.neutral = neutral
        count = len(self.white.neutral)
        self.relief = Relief(self.white.faces, count, self.white.skin * (1 - self.white.firm))
        self.clearance = self._clearance()
        self.offsets = self.clearance
        self.uv = torch.as_tensor(model.uv, dtype=torch.float32, device=state.shape.device)

    @torch.no_grad()
    def _clearance(self) -> Tensor:
        """Offsets (V,) mm that lift lids off the eyeballs, the most that any photo's expression needs."""
        p, w = self.photometric, self.white
        offsets = torch.zeros(len(w.neutral)).to(w.neutral)
        for k in range(len(p.photos)):
            vertices = w.vertices(p.z_shape, p.z_expression[k])
            offsets = torch.maximum(offsets, lid_clearance(vertices, w.eyes, w.skin))
        return offsets

    # ---- relief ---------------------------------------------------------------------------------------

    def vertices(self, k: int, offsets: Tensor) -> Tensor:
        """Model-space vertices of photo k with relief: moved along the normals of the smooth mesh."""
        p = self.photometric
        base = self.white.vertices(p.z_shape, p.z_expression[k])
        return base + offsets[:, None] * vertex_normals(base, self.white.faces)

    def fit_relief(
        self, cap: int, listener: Listener, first: int = 0, total: int | None = None
    ) -> list[float]:
        """Let the surface and the light explain the photos; returns the losses."""
        p = self.photometric
        p.trace()
        for value in p.parameters().values():
            value.requires_grad_(False)
        optimiser = torch.optim.Adam([self.relief.raw], lr=RELIEF_RATE)
        level = len(p.photos[0].targets) - 1
        matches: list[Matches] = []
        if len(p.photos) > 1:
            matches = find_matches(p, Texels(p.model, RESOLUTION, self.relief.raw.device), SCALES[-1])

        def step(i: int) -> float:
            coarse = level - 1 if i < 0.6 * cap else level
            optimiser.param_groups[0]["lr"] = RELIEF_RATE * (1 - 0.9 * i / max(cap, 1))
            optimiser.zero_grad(set_to_none=True)
            with torch.enable_grad():
                offsets = self.clearance + self.relief.displacement()
                loss = RELIEF_WEIGHT * self.relief.prior()
                for k, photo in enumerate(p.photos):
                    if photo.trust > 0:
                        loss = loss + self._photo_error(k, photo.targets[coarse], offsets)
                for k, found in enumerate(matches):
                    pose = p.pose(k)
                    screen = pose.screen(pose.camera_space(found.on(self.vertices(k, offsets))))
                    loss = loss + MATCH_WEIGHT * match_loss(found, screen)
                loss.backward()
            optimiser.step()
            if i % 20 == 19:
                self._adopt(self.clearance + self.relief.displacement().detach(), coarse)
            return float(loss.detach())

        outcome = run_steps(
            "textures", cap, step, lambda: self.relief.raw.detach().clone(), listener,
            settle=int(0.6 * cap) + 1, first=first, total=total,
            preview=self.preview(listener), preview_every=1,
        )  # fmt: skip
        with torch.no_grad():
            self.relief.raw.copy_(outcome.best)
        self._adopt(self.clearance + self.relief.displacement().detach(), level)
        return outcome.losses

    @torch.no_grad()
    def _adopt(self, offsets: Tensor, level: int) -> None:
        """Take a relief over and solve the light for it."""
        p = self.photometric
        self.offsets = offsets
        p.relief = [
            self.vertices(k, offsets) - self.white.vertices(p.z_shape, p.z_expression[k])
            for k in range(len(p.photos))
        ]
        for k, photo in enumerate(p.photos):
            photo.environment = p.solve_light(k, photo.targets[level])

    def _photo_error(self, k: int, target: Target, offsets: Tensor) -> Tensor:
        p, w = self.photometric, self.white
        photo = p.photos[k]
        assert photo.transfer is not None
        pose = p.pose(k, target)
        camera = pose.camera_space(self.vertices(k, offsets))
        colour, level = w.colour(p.z_albedo), p.level()
        fragments = rasterize(
            pose.screen(camera.detach()), camera[:, 2].detach(), w.faces, target.height, target.width
        )
        if p.rays is None:
            shading = shade_vertices(camera, w.faces, photo.environment, colour, w.roughness, photo.transfer)
            under, gloss = shading.layers(level, w.roughness)
            values = fragments.interpolate(under * colour + gloss)
        else:
            skin = torch.cat([colour, level[:, None], w.roughness[:, None]], 1)
            values = p.rays.radiance(camera, pose, photo.environment, skin, fragments)
        # grey: colour errors are not the surface's fault
        residual = encode(values) - target.encoded[fragments.pixel]
        weight = p.pixel_weights(k, target, fragments, residual)
        grey = residual.mean(1)
        return (weight * grey**2).sum() / weight.sum().clamp(min=1.0) / 0.06**2

    # ---- separation -----------------------------------------------------------------------------------

    def separate(self) -> None:
        """Split what is left into skin and shading; set the diffuse map and its confidence."""
        p, texels = self.photometric, self.texels
        found = skin_map(self)
        self.base, self.change, self.confidence = found.base, found.change, found.confidence
        with torch.no_grad():
            self.level = texels.gather(p.level()[:, None])
            self.roughness = texels.gather(self.white.roughness[:, None])

    def shading(self, k: int, target: Target) -> tuple[Shading, Tensor, Fragments]:
        """Light on the vertices of photo k with relief, their camera-space places, covered pixels."""
        p, w = self.photometric, self.white
        photo = p.photos[k]
        assert photo.transfer is not None
        pose = p.pose(k, target)
        camera = pose.camera_space(self.vertices(k, self.offsets))
        colour = w.colour(p.z_albedo)
        shading = shade_vertices(camera, w.faces, photo.environment, colour, w.roughness, photo.transfer)
        fragments = rasterize(pose.screen(camera), camera[:, 2], w.faces, target.height, target.width)
        return shading, camera, fragments

    # ---- maps ------------------------------------------------------------------------------------------

    def texture_grid(self, fragments: Fragments) -> Tensor:
        """Where a picture's pixels lie in the maps (N, 2), as `grid_sample` takes it."""
        uv = fragments.interpolate(self.uv)
        return torch.stack([uv[:, 0] * 2 - 1, (1 - uv[:, 1]) * 2 - 1], 1)

    def confidence_at(self, grid: Tensor) -> Tensor:
        """(N,) how far the texels at places of `texture_grid` are skin that photos show."""
        n = self.texels.resolution
        texture = self.confidence.view(1, 1, n, n)
        sampled = tf.grid_sample(texture, grid[None, :, None], align_corners=False, padding_mode="border")
        return sampled[0, 0, :, 0]

    def coarse(self) -> dict[str, Tensor]:
        """Zeros (1, C, T/8, T/8) for changes of all three maps on a coarse grid."""
        grid = max(4, self.texels.resolution // COARSE)
        channels = {"diffuse": 3, "specular": 1, "roughness": 1}
        return {name: torch.zeros(1, count, grid, grid).to(self.base) for name, count in channels.items()}

    def adopt(self, moved: dict[str, Tensor]) -> None:
        """Take changes of the maps over."""
        self.change = self.change + moved["diffuse"]
        self.level = (self.level + moved["specular"]).clamp(*LEVEL_RANGE)
        self.roughness = (self.roughness + moved["roughness"]).clamp(*ROUGHNESS_RANGE)

    def skin(self, moved: dict[str, Tensor]) -> Tensor:
        """Colour, level and roughness (T*T, 5) with changes of the maps."""
        diffuse = self.base * (self.change + moved["diffuse"]).exp()
        level = (self.level + moved["specular"]).clamp(*LEVEL_RANGE)
        return torch.cat([diffuse, level, (self.roughness + moved["roughness"]).clamp(*ROUGHNESS_RANGE)], 1)

    def preview(self, listener: Listener) -> Callable[[int], None]:
        """What shows a listener how far the fit is."""
        return lambda i: listener.preview("textures", i, self.photometric.preview)

    def moved(self, texture: dict[str, Tensor]) -> dict[str, Tensor]:
        """Changes of the maps (T*T, C), those on a coarse grid interpolated."""
        n = self.texels.resolution
        return {
            name: tf.interpolate(value, (n, n), mode="bilinear", align_corners=False)[0].flatten(1).T
            if value.dim() == 4
            else value
            for name, value in texture.items()
        }

    def regulariser(self, changes: dict[str, Tensor]) -> Tensor:
        """The guide's texture terms, as means over valid texels (units of base colour, level, roughness)."""
        c = self.config
        n = self.texels.resolution
        valid = self.texels.on_face
        weights = {
            "diffuse": (
                c.weightDiffuseSymmetryReg,
                c.weightDiffuseConsistencyReg,
                c.weightDiffuseSmoothnessReg,
            ),
            "specular": (
                c.weightSpecularSymmetryReg,
                c.weightSpecularConsistencyReg,
                c.weightSpecularSmoothnessReg,
            ),
            "roughness": (
                c.weightRoughnessSymmetryReg,
                c.weightRoughnessConsistencyReg + GLOSS_SHARE * c.weightSpecularConsistencyReg,
                c.weightRoughnessSmoothnessReg,
            ),
        }
        total = torch.zeros(()).to(self.base)
        for name, (symmetry, consistency, smoothness) in weights.items():
            moved = changes[name] * self.base if name == "diffuse" else changes[name]
            other = moved[self.texels.mirror]
            total = total + symmetry * ((moved - other)[valid] ** 2).mean() * SYMMETRY_SCALE
            total = total + consistency * (moved[valid] ** 2).mean() / (2 * CONSISTENCY_SCALE)
            grid = moved.view(n, n, -1)
            inside = valid.view(n, n, 1)
            dx = (grid[:, 1:] - grid[:, :-1]) * (inside[:, 1:] & inside[:, :-1])
            dy = (grid[1:] - grid[:-1]) * (inside[1:] & inside[:-1])
            total = total + smoothness * ((dx**2).sum() + (dy**2).sum())
        return total

    def maps(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Diffuse (T, T, 3), specular (T, T, 3), roughness (T, T, 1), confidence (T, T)."""
        n = self.texels.resolution
        diffuse = (self.base * self.change.exp()).clamp(0.0, 1.0)
        return (
            diffuse.view(n, n, 3),
            self.level.view(n, n, 1).expand(n, n, 3).contiguous(),
            self.roughness.view(n, n, 1),
            self.confidence.view(n, n),
        )
