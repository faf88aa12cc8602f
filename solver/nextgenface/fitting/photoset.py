"""The photos of one identity as the model draws them, and their light and skin colour in closed form.

What is held fixed between updates of the geometry - traced visibility, light, skin colour - is solved for
here; `photometric` adds the losses and steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as tf

from ..config import Config
from ..facemodel.model import FaceModel
from ..geometry.rotations import euler_to_matrix, small_rotation
from ..rendering.deferred import (
    CAMERA_TO_LIGHT,
    LOWEST_COSINE,
    Drawing,
    Pose,
    diffuse_factors,
    draw_vertices,
    glossy_factors,
    shade_vertices,
    specular_reflectance,
    trace_transfer,
    vertex_normals,
)
from ..rendering.raster import Fragments, mixed, rasterize
from ..rendering.sites import light_sites
from ..views import FaceView
from .lightsolve import LinearPicture, solve_light
from .marks import seen_marks
from .photodata import PhotoData, distance_outside, neighbourhood, spread_rows
from .reflectance import ReflectanceSamples, SkinColour, ToneCurve, solve_rest, solve_tone
from .scleras import ScleraCue, outside_irises, sclera_cue, unhidden
from .state import FaceState
from .targets import Target, encode, encode_slope, target_at
from .traced import traced_photos
from .whitened import WhitenedModel, whiten

PHOTO_SIGMA = 0.06  # of the code value: model error, not sensor noise
EFFECTIVE_PIXELS = 1e4  # independent pixels a full face is worth, for geometry
REFLECTANCE_PIXELS = (
    1500.0  # independent pixels for skin colour: shading errors are broad and would turn into skin
)
ROBUST_SCALE = 0.15  # code-value difference at which a pixel counts half
GLOSS_RANGE = (0.5, 2.0)
AGREEMENT_SCALE = (
    0.09  # root-mean-square code-value difference of a neighbourhood at which it counts a quarter
)
AGREEMENT_REACH = 0.012  # of the picture's height
LIGHT_SAMPLES = 4000
SCLERA_SHARE = 0.9  # of a pixel
LEVELS = ((0.0, 0.25), (0.35, 0.5), (0.75, 1.0))  # (share of the planned steps, resolution) - coarse to fine
DEFAULT_WEIGHT = 0.001  # the guide's weights are relative to their defaults
USEFUL_ENLARGEMENT = 1.5  # photos are compared with at most this many pixels per pixel of their own


class PhotoSet:
    """The photos of one identity (or one photo), posed and lit; shape and pose are leaf tensors."""

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
        self.sites = light_sites(w.neutral, w.faces)
        self._modes = (
            w.diffuse.view(len(w.diffuse), -1, 3).permute(1, 2, 0).flatten(1).contiguous()
        )  # (V, 3A)
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
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
        useful = min(1.0, USEFUL_ENLARGEMENT / view.crop.scale)
        marks = seen_marks(self.model, view.landmarks)
        tensor = lambda a: torch.as_tensor(a, dtype=torch.float32, device=device)  # noqa: E731
        return PhotoData(
            i,
            view,
            euler_to_matrix(state.rotation[i]),
            state.translation[i].clone(),
            state.focals[i].clone(),
            state.principal[i].clone(),
            state.environment[i].clone(),
            [target_at(view, max(48, round(height * share * useful)), device) for _, share in LEVELS],
            tensor(marks.points),
            None if marks.depth is None else tensor(marks.depth),
            tensor(marks.weights),
            torch.as_tensor(marks.vertices, device=device),
            max(float((np.ptp(marks.points, axis=0) ** 2).sum() ** 0.5) * 0.36, 1.0),
            distance_outside(view, device),
            trust=1.0 if state.trust is None else float(state.trust[i]),
        )

    # ---- parts of the picture -------------------------------------------------------------------------

    def pose(self, k: int, target: Target | None = None) -> Pose:
        """Camera of photo k, scaled to a target's resolution."""
        p = self.photos[k]
        pose = Pose(
            small_rotation(self.turn[k]) @ p.rotation, p.translation + self.shift[k], p.focal, p.principal
        )
        return pose if target is None else pose.scaled(target.scale)

    def colour(self) -> Tensor:
        """Base colour (V, 3) of the present albedo."""
        return self._reflectance()[1]

    def level(self) -> Tensor:
        """Specular level (V,): the model's, times how glossy this person is."""
        level = (self._reflectance()[2] * self.gloss).clamp(max=1.0)
        return level * 0 if self.config.leaveOut == "specular" else level

    def _reflectance(self) -> tuple[Tensor, Tensor, Tensor]:
        """Albedo coefficients, their colour and level; kept until the coefficients are others."""
        if self._kept is None or self._kept[0] is not self.z_albedo:
            z = self.z_albedo
            self._kept = (z, self.white.colour(z), self.white.level(z))
        return self._kept

    def vertices(self, k: int) -> Tensor:
        """Model-space vertices (V, 3) of photo k, with the relief of stage 3 where there is one."""
        return self.white.vertices(
            self.z_shape, self.z_expression[k], self.relief[k] if self.relief else None
        )

    def fragments(self, k: int, target: Target) -> Fragments:
        """What photo k shows at a target's resolution."""
        pose = self.pose(k, target)
        camera = pose.camera_space(self.vertices(k))
        return rasterize(pose.screen(camera), camera[:, 2], self.white.faces, target.height, target.width)

    def draw(
        self, k: int, target: Target, vertices: Tensor | None = None, fragments: Fragments | None = None
    ) -> Drawing:
        """The model's picture of photo k at a target's resolution.

        `vertices`, where they are known already; `fragments`: those of the picture that are wanted.
        """
        p, w = self.photos[k], self.white
        assert p.transfer is not None
        pose = self.pose(k, target)
        camera = pose.camera_space(self.vertices(k) if vertices is None else vertices)
        colour, level = self.colour(), self.level()
        screen, size = pose.screen(camera), (target.height, target.width)
        if fragments is None:
            fragments = rasterize(screen, camera[:, 2], w.faces, *size)
        shading = shade_vertices(
            camera, w.faces, p.environment, colour, w.roughness, p.transfer, needed=fragments.corners
        )
        return draw_vertices(camera, w.faces, screen, size, shading, colour, level, w.roughness, fragments)

    def seen(self, k: int, target: Target, vertices: Tensor) -> tuple[Fragments, Tensor]:
        """Covered pixels of photo k and their radiance (N, 3), by the engine that the options ask for.

        `vertices` (V, 3) are those of `vertices(k)`.
        """
        if self.rays is None:
            drawing = self.draw(k, target, vertices)
            return drawing.fragments, drawing.radiance
        w, pose = self.white, self.pose(k, target)
        camera = pose.camera_space(vertices)
        at = camera.detach()
        fragments = rasterize(pose.screen(at), at[:, 2], w.faces, target.height, target.width)
        skin = torch.cat([self.colour(), self.level()[:, None], w.roughness[:, None]], 1)
        return fragments, self.rays.radiance(camera, pose, self.photos[k].environment, skin, fragments)

    def pixel_weights(self, k: int, target: Target, fragments: Fragments, residual: Tensor) -> Tensor:
        """(N,) weights: where skin is seen, unclipped, and not far off (hair, glasses, hands, highlights).

        Skin that hair often covers (forehead, temples) counts only where its neighbourhood agrees with the
        fit and is free of strands, or hair would be fitted as dark skin and dented bone.
        """
        values = fragments.interpolate(torch.stack([self.white.skin, self.white.core], 1)).detach()
        squared = (residual.detach() ** 2).mean(1)
        robust = 1 / (1 + squared / ROBUST_SCALE**2) ** 2
        usable = values[:, 0] * target.valid[fragments.pixel]
        around = neighbourhood(fragments, squared, usable, AGREEMENT_REACH * target.height)
        agreement = target.smooth[fragments.pixel] / (1 + around / AGREEMENT_SCALE**2) ** 2
        return usable * robust * (values[:, 1] + (1 - values[:, 1]) * agreement)

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
                sites=self.sites,
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
        places = [self._places(k, p.targets[level]) for k, p in enumerate(self.photos)]
        samples = [self._reflectance_samples(k, *one) for k, one in enumerate(places)]
        told = [replace(one, sclera=self.whites(k)) for k, one in enumerate(samples)]
        self.skin_colour, log_gloss, gains = solve_tone(
            told, self.skin_colour, self.tones, prior, self.gloss.log()
        )
        self.gloss = log_gloss.exp().clamp(*GLOSS_RANGE)
        self.z_albedo = self.skin_colour.z(self.tones)
        for p, gain in zip(self.photos, gains, strict=True):
            p.environment = p.environment * gain.exp()
        samples = [self._reflectance_samples(k, *one) for k, one in enumerate(places)]
        self.skin_colour = solve_rest(samples, self.skin_colour, self.tones, prior)
        self.z_albedo = self.skin_colour.z(self.tones)

    def _places(self, k: int, target: Target) -> tuple[Target, Fragments, Tensor]:
        """Samples (P) of photo k at a target's resolution, with the albedo's modes there (P, 3, A)."""
        fragments = self.fragments(k, target)
        part = fragments.subset(spread_rows(len(fragments.pixel), LIGHT_SAMPLES))
        return target, part, part.interpolate(self._modes).view(len(part.pixel), 3, -1)

    def _reflectance_samples(
        self, k: int, target: Target, part: Fragments, basis: Tensor
    ) -> ReflectanceSamples:
        w = self.white
        drawing = self.draw(k, target, fragments=part)
        encoded = target.encoded.index_select(0, part.pixel)
        weight = self.pixel_weights(k, target, part, encode(drawing.radiance) - encoded)
        strength = (
            self.photos[k].trust * REFLECTANCE_PIXELS / (3 * weight.sum().clamp(min=1.0)) / PHOTO_SIGMA**2
        )
        return ReflectanceSamples(
            mean=part.interpolate(w.diffuse_mean),
            basis=basis,
            diffuse=drawing.diffuse_light,
            specular=drawing.specular_light,
            encoded=encoded,
            weight=weight * strength,
            bare=weight * strength * part.interpolate(w.bare[:, None])[:, 0],
            log_level=self._log_level(self.photos[k]),
        )

    def whites(self, k: int) -> ScleraCue | None:
        """What the whites of the eyes in photo k say about its light, at the full resolution."""
        p, w = self.photos[k], self.white
        target, pose = p.targets[-1], self.pose(k, p.targets[-1])
        camera = pose.camera_space(self.vertices(k))
        screen = pose.screen(camera)
        whole = rasterize(screen, camera[:, 2], w.faces, target.height, target.width)
        white = whole.interpolate(w.sclera[:, None])[:, 0] > SCLERA_SHARE
        irises = p.view.landmarks.irises
        if irises is not None:
            at = torch.as_tensor(irises, dtype=torch.float32, device=camera.device) * target.scale
            white &= outside_irises(whole.pixel, target.width, at)
        white &= unhidden(whole, screen, camera[:, 2])
        if not white.any():
            return None
        part = whole.subset(torch.nonzero(white)[:, 0])
        drawing = self.draw(k, target, fragments=part)
        left = part.interpolate(w.neutral[:, :1])[:, 0] > 0
        photo = target.linear.index_select(0, part.pixel)
        return sclera_cue(photo, drawing.diffuse_light, drawing.specular_light, left)

    def _log_level(self, p: PhotoData) -> Tensor:
        """Log of irradiance/pi per channel (3,) on a surface that faces the camera."""
        assert p.transfer is not None
        radiance = p.transfer.lobes @ p.environment
        facing = p.transfer.directions[:, 2].clamp(min=0)
        return ((facing[:, None] * radiance).sum(0) / facing.sum()).clamp(min=1e-4).log()

    @torch.no_grad()
    def solve_light(self, k: int, target: Target) -> Tensor:
        """Radiances (D, 3) that explain photo k at a target's resolution, everything else as it is."""
        fragments = self.fragments(k, target)
        part = fragments.subset(spread_rows(len(fragments.pixel), LIGHT_SAMPLES))
        factors = self.light_factors(k, self.pose(k, target).camera_space(self.vertices(k)), part)
        diffuse, indirect, glossy = factors
        base = part.interpolate(self.colour())
        photo, encoded = (values.index_select(0, part.pixel) for values in (target.linear, target.encoded))
        mean = base.mean(0)
        picture = LinearPicture(
            base, diffuse, glossy, photo, base, indirect, mean / mean.mean().clamp(min=1e-3)
        )
        e = self.photos[k].environment
        for _ in range(2):  # re-weighted: outliers of the last solution count less
            radiance = torch.stack([picture.of_channel(c) @ e[:, c] for c in range(3)], 1)
            weight = self.pixel_weights(k, target, part, encode(radiance) - encoded)
            rows = weight[:, None].sqrt() * encode_slope(photo)
            nonnegative = self.config.leaveOut != "nonnegative"
            e = solve_light(replace(picture, weight=rows), e, nonnegative=nonnegative)
        return e

    def light_factors(self, k: int, camera: Tensor, part: Fragments) -> tuple[Tensor, Tensor, Tensor]:
        """Transfers from the lobes of photo k to its samples, each (P, D): diffuse from the sky, diffuse by
        way of other skin (grey, as bright as the real one), specular."""
        p, w = self.photos[k], self.white
        assert p.transfer is not None
        t = p.transfer.at(part.corners, len(camera))
        in_light = camera * torch.tensor(CAMERA_TO_LIGHT).to(camera)
        normals = vertex_normals(in_light, w.faces)
        n = normals[t.used]
        view = tf.normalize(-in_light[t.used], dim=1)
        cos_view = (n * view).sum(1).clamp(min=LOWEST_COSINE)
        gloss = specular_reflectance(self.level()[t.used], w.roughness[t.used], cos_view)[:, None]
        diffuse = diffuse_factors(n, t.visible, t) @ t.lobes * (1 - gloss)
        indirect = torch.zeros_like(diffuse)
        if t.bounce is not None:
            patches = t.bounce.patches
            arriving = diffuse_factors(normals[patches], t.bounce.visible, t) @ t.lobes
            grey = self.colour()[patches].mean(1, keepdim=True).clamp(0, 1)
            indirect = t.bounce.gathered(arriving, grey) * (1 - gloss)
        glossy = glossy_factors(n, view, w.roughness[t.used], t) @ t.lobes * gloss
        corners, share = part.corners, part.weights
        if t.sites is not None:
            share = (share[..., None] * t.sites.share[corners]).flatten(1)
            corners = t.sites.of[corners].flatten(1)
        row = torch.zeros(len(camera), dtype=torch.long, device=camera.device)
        row[t.used] = torch.arange(len(t.used), device=camera.device)
        lit = torch.zeros(len(camera)).to(camera)
        lit[t.used] = 1.0
        corners, share = row[corners], share * lit[corners]
        return mixed(corners, share, diffuse), mixed(corners, share, indirect), mixed(corners, share, glossy)

    @torch.no_grad()
    def preview(self) -> NDArray[np.uint8]:
        """uint8 sRGB (n, H, W, 3) of all photos of the fit: the model over its photos, others as they are."""
        pictures = [(view.image.clip(0, 1)) for view in self.views]
        flat = [encode(torch.as_tensor(picture, dtype=torch.float32)).reshape(-1, 3) for picture in pictures]
        for k, p in enumerate(self.photos):
            height, width = p.view.image.shape[:2]
            drawing = self.draw(k, replace(p.targets[-1], height=height, width=width, scale=1.0))
            flat[p.index][drawing.fragments.pixel.cpu()] = encode(drawing.radiance).clamp(0, 1).cpu()
        height, width = self.views[0].image.shape[:2]
        return np.stack([(f.view(height, width, 3) * 255).round().byte().numpy() for f in flat])
