"""The guide's `Pipeline`: a scene's parameters by the guide's names, and differentiable drawing of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as tf

from ..config import Config
from ..facemodel.model import FaceModel
from ..facemodel.registry import load_model
from ..geometry.normals import vertex_normals
from ..landmarks import Landmarks
from ..rendering.deferred import Pose, Transfer, shade_vertices, specular_reflectance, trace_transfer
from ..rendering.light import LOBE_COUNT, frontal_environment, lobes_to_sh, sh_to_lobes
from ..rendering.raster import rasterize
from ..rendering.renderer import Renderer
from ..rendering.sh import equirect_directions, sh_basis
from .morphable import MorphableModel
from .perspective import PerspectiveCamera
from .state import SH_BANDS, FaceState
from .traced import join_maps, traced_photos

SHADOW_REUSE_MM = 0.5
"""Shadows are traced again once a vertex has moved further than this since they were traced."""


class SphericalHarmonics:
    """The guide's `sh`: SH coefficients to a square environment map."""

    def __init__(self, envMapRes: int, device: str) -> None:
        self.envMapRes = int(envMapRes)
        self.device = device

    def toEnvMap(self, shCoeffs: Tensor) -> Tensor:
        """Radiance maps (n, envMapRes, envMapRes, 3) >= 0, light frame, of coefficients (n, B^2, 3)."""
        directions = equirect_directions(self.envMapRes, self.envMapRes).reshape(-1, 3)
        basis = sh_basis(directions, math.isqrt(shCoeffs.shape[1])).to(shCoeffs)
        maps = torch.einsum("pk,nkc->npc", basis, shCoeffs).clamp(min=0)
        return maps.reshape(len(shCoeffs), self.envMapRes, self.envMapRes, 3)


def _parameter(name: str, text: str) -> property:
    """A property of `Pipeline` that is a tensor of its state."""

    def read(self: Pipeline) -> Tensor:
        return getattr(self.state, name)

    def write(self: Pipeline, value: Tensor) -> None:
        self.set_parameter(name, value)

    return property(read, write, doc=text)


class Pipeline:
    """A face model, n posed and lit copies of it, and the engine that draws them.

    The parameters are tensors that may require gradients; `render` is differentiable with respect to all of
    them and to the vertices and textures it is given. With `engine = raytraced` in the options Mitsuba draws,
    otherwise the deferred engine, which needs no Mitsuba; `renderer` is the path tracer.
    """

    vShapeCoeff = _parameter("shape", "Shape coefficients (m, K), un-whitened.")
    vAlbedoCoeff = _parameter("albedo", "Albedo coefficients (m, A), un-whitened.")
    vExpCoeff = _parameter("expression", "Expression coefficients (n, E), un-whitened.")
    vRotation = _parameter("rotation", "Euler angles (n, 3) in radians, R = Rz Ry Rx.")
    vTranslation = _parameter("translation", "Translation (n, 3) in mm.")
    vFocals = _parameter("focals", "Focal lengths (n,) in pixels of the fitted picture.")
    vShCoeffs = _parameter("sh", "Light as SH radiance coefficients (n, 81, 3), light frame.")

    def __init__(self, config: Config, *, model: FaceModel | None = None) -> None:
        """Loads the face model that `config` names, unless one is given. Raises ModelError."""
        self.config = config
        self._state: FaceState
        self.device = config.resolveDevice()
        self.model = load_model(config) if model is None else model
        self.morphableModel = MorphableModel(self.model, config.textureResolution, self.device)
        self.renderer = Renderer(config.rtTrainingSamples, 1, self.device)
        self.renderer.screenWidth = self.renderer.screenHeight = config.maxResolution
        self.camera = PerspectiveCamera(self.device)
        self.sh = SphericalHarmonics(config.envMapRes, self.device)
        self.shBands = config.bands
        self.uvMap = self.morphableModel.uvMap
        self.faces32 = self.morphableModel.faces.to(torch.int32)
        self._fitted_sh: Tensor | None = None  # the SH coefficients that belong to state.environment
        self._shadows: dict[int, tuple[Tensor, Transfer]] = {}
        rays = config.engine == "raytraced"
        self._rays = traced_photos(self.model, config, torch.device(self.device)) if rays else None
        self.initSceneParameters(1)

    @property
    def state(self) -> FaceState:
        """All parameters as the stages use them, with the renderer's `screenWidth` and `screenHeight`."""
        width, height = int(self.renderer.screenWidth), int(self.renderer.screenHeight)
        if (width, height) != (self._state.width, self._state.height):
            # As in the guide's examples: another picture size means a camera with its centre in the middle.
            centre = torch.tensor([width / 2, height / 2]).to(self._state.principal)
            principal = centre.expand(self._state.photo_count, 2).clone()
            self._state = replace(self._state, width=width, height=height, principal=principal)
        return self._state

    @state.setter
    def state(self, state: FaceState) -> None:
        self._state = state.to(self.device)
        self.renderer.screenWidth, self.renderer.screenHeight = state.width, state.height
        self._fitted_sh = self._state.sh.detach().clone()
        self._shadows = {}

    @property
    def sharedIdentity(self) -> bool:
        """Whether all photos show one person."""
        return self._state.shared

    def set_parameter(self, name: str, value: Tensor) -> None:
        """Replace one tensor of the state; counts of photos and coefficients may not change silently."""
        value = torch.as_tensor(value, device=self.device)
        have = getattr(self.state, name)
        if value.shape[1:] != have.shape[1:] and name != "sh":
            raise ValueError(
                f"{name} must have the shape (n, {', '.join(map(str, have.shape[1:]))}), not "
                f"{tuple(value.shape)}"
            )
        if not value.is_floating_point():
            value = value.float()
        changes: dict[str, Any] = {name: value.to(torch.float32)}
        if name == "sh":
            # Light given as SH replaces the solved lobes.
            changes["environment"] = sh_to_lobes(changes["sh"].detach())
            self._fitted_sh = None
        self._state = replace(self._state, **changes)

    def initSceneParameters(self, n: int, sharedIdentity: bool = False) -> None:
        """n mean faces 500 mm in front of the camera, in soft light; one identity when shared."""
        count = 1 if sharedIdentity else n
        model, width, height = (
            self.morphableModel,
            int(self.renderer.screenWidth),
            int(self.renderer.screenHeight),
        )
        rotation, translation = torch.zeros(n, 3), torch.zeros(n, 3)
        rotation[:, 0] = math.pi
        translation[:, 2] = 500.0
        environment = frontal_environment().expand(n, LOBE_COUNT, 3).clone()
        self.state = FaceState(
            shape=torch.zeros(count, model.shapeBasisSize),
            albedo=torch.zeros(count, model.albedoBasisSize),
            expression=torch.zeros(n, model.expBasisSize),
            rotation=rotation,
            translation=translation,
            focals=torch.full((n,), float(self.config.camFocalLength)),
            principal=torch.tensor([[width / 2, height / 2]]).repeat(n, 1),
            sh=lobes_to_sh(environment, SH_BANDS),
            environment=environment,
            width=width,
            height=height,
            model_name=self.model.name,
            model_hash=self.model.hash,
            shared=sharedIdentity,
            seed=int(self.config.seed),
        )

    @property
    def vRoughness(self) -> Tensor:
        """Roughness textures (m, T, T, 1), top row first: those of stage 3, else the model's."""
        state = self._state
        if state.roughness is not None:
            return state.roughness
        statistical = self.morphableModel.generateTextureFromAlbedo(
            self.morphableModel.roughness[None, :, None]
        )
        return statistical.expand(state.identity_count, -1, -1, -1)

    def enableGrad(self, enabled: bool = True) -> None:
        """Make the seven parameters leaves that require gradients (or not)."""
        names = ("shape", "albedo", "expression", "rotation", "translation", "focals", "sh")
        fresh: dict[str, Any] = {
            name: getattr(self.state, name).detach().clone().requires_grad_(enabled) for name in names
        }
        self._state = replace(self._state, **fresh)

    def computeShape(self) -> Tensor:
        """Vertices (n, V, 3) in mm, model space, with the solved displacement where there is one."""
        state = self.state
        shape = state.shape.expand(state.photo_count, -1) if state.identity_count == 1 else state.shape
        vertices = self.morphableModel.computeShape(shape, state.expression)
        if state.displacement is not None:
            vertices = vertices + state.displacement[..., None] * vertex_normals(
                vertices, self.morphableModel.faces
            )
        return vertices

    def transformVertices(self, vertices: Tensor | None = None) -> Tensor:
        """Model space (n, V, 3), default `computeShape()`, to camera space (y down, z forward), mm."""
        vertices = self.computeShape() if vertices is None else vertices
        return self.camera.transformVertices(vertices, self.vTranslation, self.vRotation)

    def landmarkLoss(self, cameraVertices: Tensor, landmarks: Sequence[Landmarks]) -> Tensor:
        """Mean squared distance (fitted pixels) of projected landmark vertices and n photos' landmarks.

        `cameraVertices` (n, V, 3) in camera space. Differentiable, also with respect to `vFocals`.
        """
        from .marks import landmark_vertices

        state, losses = self.state, []
        for i, marks in enumerate(landmarks):
            vertices = landmark_vertices(self.model, marks)
            kept = np.nonzero((vertices >= 0) & (marks.weights > 0))[0]
            points = cameraVertices[i : i + 1, torch.from_numpy(vertices[kept]).to(cameraVertices.device)]
            screen = self.camera.project(points, state.focals[i : i + 1], state.principal[i : i + 1])[0]
            losses.append(((screen - torch.from_numpy(marks.points[kept]).to(screen)) ** 2).sum(1).mean())
        return torch.stack(losses).mean()

    def lights(self) -> Tensor:
        """Radiance (n, D, 3) of the light lobes: as solved, plus what has changed in `vShCoeffs`."""
        state = self.state
        if self._fitted_sh is None:
            return sh_to_lobes(state.sh)
        return (state.environment + _linear_lobes(state.sh - self._fitted_sh)).clamp(min=0)

    def render(
        self,
        cameraVerts: Tensor | None = None,
        diffuseTextures: Tensor | None = None,
        specularTextures: Tensor | None = None,
        roughnessTextures: Tensor | None = None,
        renderAlbedo: bool = False,
    ) -> Tensor:
        """Draw all photos: (n, H, W, 4) linear radiance and coverage.

        `cameraVerts` (n, V, 3) camera space mm, default the current shape and pose. Textures (m, T, T, 3 or
        1) top row first, any T; default those of stage 3, else the statistical albedo. `renderAlbedo`: the
        base colour without light. Differentiable with respect to all arguments and parameters.

        The deferred engine holds shadows fixed while the vertices move less than half a millimetre, and its
        silhouettes carry no gradient. The ray-traced one (`rtTrainingSamples`, `rtBounces`) has new noise in
        every picture, coverage with soft borders, the gradients of silhouettes (`rtOutlineEvery`) but not of
        moving shadows, and none of the focal length except through silhouettes.
        """
        camera = self.transformVertices() if cameraVerts is None else cameraVerts
        state, model = self.state, self.morphableModel
        if state.diffuse is not None:
            diffuseTextures = state.diffuse if diffuseTextures is None else diffuseTextures
            specularTextures = state.specular if specularTextures is None else specularTextures
            roughnessTextures = state.roughness if roughnessTextures is None else roughnessTextures
        colour = model.computeDiffuseAlbedo(state.albedo)
        level = model.computeSpecularAlbedo(state.albedo)
        if state.gloss is not None:
            level = (level.clamp(0, 1) * state.gloss[:, None, None]).clamp(max=1)
        lights = self.lights()
        pictures = []
        for i in range(state.photo_count):
            k = state.identity_of(i)
            pictures.append(
                self._draw(
                    camera[i],
                    i,
                    lights[i],
                    (colour[k], level[k]),
                    tuple(_pick(t, k) for t in (diffuseTextures, specularTextures, roughnessTextures)),
                    renderAlbedo,
                )
            )
        return torch.stack(pictures)

    def _draw(
        self,
        camera: Tensor,
        index: int,
        light: Tensor,
        statistical: tuple[Tensor, Tensor],
        textures: tuple[Tensor | None, ...],
        albedo_only: bool,
    ) -> Tensor:
        state, faces = self.state, self.morphableModel.faces
        size = int(state.height), int(state.width)
        identity = torch.eye(3, device=camera.device), torch.zeros(3, device=camera.device)
        pose = Pose(*identity, state.focals[index], state.principal[index])
        colour, level = statistical
        vertex_values = torch.cat([colour, level, self.morphableModel.roughness[:, None], self.uvMap], 1)
        fragments = rasterize(pose.screen(camera), camera[:, 2], faces, *size)
        values = fragments.interpolate(vertex_values)
        uv = values[:, 7:9]
        base = _lookup(textures[0], uv, values[:, 0:3])
        coverage = torch.ones_like(base[:, :1])
        if albedo_only:
            return fragments.picture(torch.cat([base, coverage], 1))
        if self._rays is not None:
            maps = [
                self._map(given, values)
                for given, values in zip(
                    textures, (colour, level, self.morphableModel.roughness[:, None]), strict=True
                )
            ]
            return self._rays.picture(camera, pose, light, join_maps(maps), size)
        gloss_level = _lookup(textures[1], uv, values[:, 3:6]).mean(1)
        roughness = _lookup(textures[2], uv, values[:, 6:7])[:, 0]
        at_vertices = self.morphableModel.roughness
        if textures[2] is not None:
            at_vertices = sample_texture(textures[2], self.uvMap)[:, 0]
        if textures[0] is not None:
            colour = sample_texture(textures[0], self.uvMap)
        shading = shade_vertices(
            camera, faces, light, colour, at_vertices, self._transfer(camera, pose, index)
        )
        lit = fragments.interpolate(
            torch.cat([shading.diffuse, shading.glossy, shading.cos_view[:, None]], 1)
        )
        reflected = specular_reflectance(gloss_level, roughness, lit[:, 6])[:, None]
        radiance = base * lit[:, :3] * (1 - reflected) + lit[:, 3:6] * reflected
        return fragments.picture(torch.cat([radiance, coverage], 1))

    def _map(self, given: Tensor | None, values: Tensor) -> Tensor:
        """A texture (T, T, C): the given one, else vertex values (V, C) baked."""
        return self.morphableModel.generateTextureFromAlbedo(values[None])[0] if given is None else given

    def _transfer(self, camera: Tensor, pose: Pose, index: int) -> Transfer:
        """Shadows of a photo's mesh, traced again only when it has moved."""
        seen = camera.detach()
        cached = self._shadows.get(index)
        if cached is not None and cached[0].shape == seen.shape:
            moved = float((cached[0] - seen).abs().max())
            if moved <= SHADOW_REUSE_MM:
                return cached[1]
        transfer = trace_transfer(seen, self.morphableModel.faces, pose)
        self._shadows[index] = (seen.clone(), transfer)
        return transfer


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Bilinear lookup of a texture (T, T, C), top row first, at uv (N, 2), origin bottom left -> (N, C).

    Texels are sampled at their centres; beyond the border the outermost texel is repeated.
    """
    grid = torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], 1)[None, None]
    found = tf.grid_sample(texture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def _lookup(texture: Tensor | None, uv: Tensor, otherwise: Tensor) -> Tensor:
    return otherwise if texture is None else sample_texture(texture, uv)


def _pick(textures: Tensor | None, identity: int) -> Tensor | None:
    """The texture of one identity; a single one serves all."""
    if textures is None:
        return None
    return textures[identity if len(textures) > 1 else 0]


def _linear_lobes(sh: Tensor) -> Tensor:
    """Lobe radiances (n, D, 3) of SH coefficients without the cut at zero, for differences."""
    from ..rendering.light import lobe_centres

    basis = sh_basis(lobe_centres(), math.isqrt(sh.shape[-2])).to(sh)
    return torch.einsum("dk,nkc->ndc", basis, sh)
