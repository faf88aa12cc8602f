"""Mitsuba scenes of one face: mesh, skin, light and photo camera, all in model space (mm).

Nothing here chooses a Mitsuba variant; the caller sets one before the first call. The functions work in
`llvm_ad_rgb`, `cuda_ad_rgb` and `scalar_rgb`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nextgenface.errors import EnvironmentProblem
from nextgenface.geometry.normals import vertex_normals_array
from nextgenface.rendering.layering import base_factor

Array = NDArray[np.float32]

# Camera space (OpenCV: x right, y down, z forward) from the light frame (x right, y up, z to the viewer).
CAMERA_FROM_LIGHT = np.diag([1.0, -1.0, -1.0])


class PinholeCamera(Protocol):
    """What a camera has to offer: `views.Camera` fits, so does `SceneCamera`."""

    @property
    def K(self) -> NDArray[Any]: ...  # (3, 3) pixels
    @property
    def R(self) -> NDArray[Any]: ...  # (3, 3) model -> camera
    @property
    def t(self) -> NDArray[Any]: ...  # (3,) mm
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


@dataclass(frozen=True)
class SceneCamera:
    """An OpenCV pinhole camera: X_cam = R X + t, pixel = K X_cam / z, the top-left pixel at (.5, .5)."""

    K: NDArray[Any]
    R: NDArray[Any]
    t: NDArray[Any]
    width: int
    height: int

    def scaled(self, factor: float) -> SceneCamera:
        """The same view with `factor` times as many pixels along each side (rounded)."""
        width, height = (max(1, round(side * factor)) for side in (self.width, self.height))
        scale = np.diag([width / self.width, height / self.height, 1.0])
        # One factor for both focal lengths: rounding the sides must not squeeze the picture.
        scale[0, 0] = scale[1, 1] = factor
        return SceneCamera(scale @ self.K, self.R, self.t, width, height)


@dataclass(frozen=True)
class Geometry:
    """A mesh in model space: vertices (V, 3) mm, faces (F, 3), uv (V, 2) from bottom left, normals (V, 3)."""

    vertices: NDArray[Any]
    faces: NDArray[Any]
    uv: NDArray[Any]
    normals: NDArray[Any] | None = None


@dataclass(frozen=True)
class Textures:
    """Principled skin, top row first.

    diffuse (T, T, 3) linear Rec.709; specular (T, T, 1 or 3) level (0.5 = F0 0.04; channels are averaged);
    roughness (T, T, 1) with alpha = roughness^2.
    """

    diffuse: NDArray[Any]
    specular: NDArray[Any]
    roughness: NDArray[Any]


@dataclass(frozen=True)
class Environment:
    """Light from far away: radiance (h, w, 3) equirectangular and the rotation from its axes to model space.

    Row 0 is +y; direction of (u, v) = (sin pi v sin 2 pi u, cos pi v, -sin pi v cos 2 pi u), so that the
    centre column is +z. A map in the light frame of a photo with rotation R has
    `to_model = R.T @ CAMERA_FROM_LIGHT`.
    """

    radiance: NDArray[Any]
    to_model: NDArray[Any] = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True)
class Crop:
    """A rectangle of pixels: x0 <= x < x0 + width, y0 <= y < y0 + height."""

    x0: int
    y0: int
    width: int
    height: int


def mitsuba() -> Any:
    """The mitsuba module with a variant set; raises EnvironmentProblem when no variant was chosen."""
    import mitsuba as mi  # imported late: loading it takes a while and most commands never draw

    if not mi.variant():
        raise EnvironmentProblem(
            "No Mitsuba variant is active. Activate one first, see nextgenface.rendering.llvm, "
            "or run nextgenface-doctor to see which ones work here."
        )
    return mi


def build_mesh(geometry: Geometry, bsdf: dict[str, Any]) -> Any:
    """A Mitsuba mesh with the given material (a plugin dictionary)."""
    mi = mitsuba()
    vertices = np.ascontiguousarray(geometry.vertices, np.float32)
    faces = np.ascontiguousarray(geometry.faces, np.uint32)
    normals = geometry.normals
    if normals is None:
        normals = vertex_normals_array(vertices, faces.astype(np.int64))
    # Mitsuba's textures have their first row at v = 0; ours is the top row, at v = 1.
    uv = np.array(geometry.uv, np.float32)
    uv[:, 1] = 1.0 - uv[:, 1]
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(bsdf)
    mesh = mi.Mesh(
        "face", len(vertices), len(faces), properties, has_vertex_normals=True, has_vertex_texcoords=True
    )
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = vertices.ravel()
    parameters["vertex_normals"] = np.ascontiguousarray(normals, np.float32).ravel()
    parameters["vertex_texcoords"] = uv.ravel()
    parameters["faces"] = faces.ravel()
    parameters.update()
    return mesh


def bitmap_texture(texture: NDArray[Any]) -> dict[str, Any]:
    """A linear-data texture (h, w, 1 or 3), top row first, bilinear, clamped at the border."""
    mi = mitsuba()
    values = np.ascontiguousarray(texture, np.float32)
    if values.ndim == 2:
        values = values[..., None]
    return {"type": "bitmap", "bitmap": mi.Bitmap(values), "raw": True, "wrap_mode": "clamp"}


def skin_bsdf(textures: Textures, uv: NDArray[Any] | None = None) -> dict[str, Any]:
    """Principled skin as Blender means it, with a specular level per texel.

    The base colour is scaled to what Blender lets through the specular layer (`rendering.layering`).
    Mitsuba's `principled` takes one number for `specular`. Normal-incidence reflectance is linear in it
    (F0 = 0.08 level), so materials at a few levels, blended by textures, give every texel its exact F0.
    Away from normal incidence a blend of Fresnel curves lies a little under the curve of the blend, so a
    wide range gets its median as a third level: most of the skin is near it.
    uv (V, 2): where the mesh uses the maps; texels elsewhere then do not widen the range.
    """
    level = np.clip(_one_channel(textures.specular), 0.0, 1.0)
    roughness = np.clip(_one_channel(textures.roughness), 0.01, 1.0)
    base: dict[str, Any] = {
        "type": "principled",
        "base_color": bitmap_texture(_base_colour(textures.diffuse, level, roughness)),
        "roughness": bitmap_texture(roughness),
    }
    levels = _specular_levels(level if uv is None else _nearest_texels(level, uv))
    nested: dict[str, Any] = {**base, "specular": levels[0]}
    for low, high in zip(levels, levels[1:], strict=False):
        nested = {
            "type": "blendbsdf",
            "weight": bitmap_texture(np.clip((level - low) / (high - low), 0.0, 1.0)),
            "lower": nested,
            "upper": {**base, "specular": high},
        }
    return {"type": "twosided", "material": nested}


def _base_colour(diffuse: NDArray[Any], level: Array, roughness: Array) -> Array:
    """Base colour (T, T, 3) for Mitsuba; the maps may differ in size."""
    colour = np.clip(np.asarray(diffuse, np.float32), 0.0, 1.0)
    height, width = colour.shape[:2]
    factor = base_factor(_resized(level, height, width), _resized(roughness, height, width))
    return np.asarray(colour * factor, np.float32)


def _resized(texture: Array, height: int, width: int) -> Array:
    """The nearest texels of a map (h, w, C) for one of another size."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip((height, width), texture.shape[:2], strict=True)
    )
    return texture[np.ix_(rows, columns)]


def _specular_levels(values: Array) -> list[float]:
    """The levels that get a material of their own: one, two or three, ascending."""
    low, middle, high = float(values.min()), float(np.median(values)), float(values.max())
    if high - low < 1e-3:
        return [middle]
    if high - low > 0.25 and middle - low > 0.02 and high - middle > 0.02:
        return [low, middle, high]
    return [low, high]


def _one_channel(texture: NDArray[Any]) -> Array:
    """(T, T, 1) float32 from (T, T) or (T, T, C), channels averaged."""
    values = np.asarray(texture, np.float32)
    return values[..., None] if values.ndim == 2 else values.mean(-1, keepdims=True)


def _nearest_texels(texture: Array, uv: NDArray[Any]) -> Array:
    """The texels (V, C) nearest to uv (V, 2), origin bottom left."""
    height, width = texture.shape[:2]
    columns = np.clip((np.asarray(uv)[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip(((1.0 - np.asarray(uv)[:, 1]) * height).astype(int), 0, height - 1)
    return texture[rows, columns]


def matte_bsdf(reflectance: NDArray[Any] | float) -> dict[str, Any]:
    """A two-sided Lambertian surface: one number or a texture (h, w, 3)."""
    value: dict[str, Any]
    if isinstance(reflectance, (int, float)):
        value = {"type": "rgb", "value": [float(reflectance)] * 3}
    else:
        value = bitmap_texture(reflectance)
    return {"type": "twosided", "material": {"type": "diffuse", "reflectance": value}}


def environment_emitter(environment: Environment) -> dict[str, Any]:
    """The `envmap` plugin for an equirectangular map in its own axes."""
    mi = mitsuba()
    to_world = np.eye(4)
    to_world[:3, :3] = environment.to_model
    radiance = np.maximum(np.ascontiguousarray(environment.radiance, np.float32), 0.0)
    return {"type": "envmap", "bitmap": mi.Bitmap(radiance), "to_world": mi.ScalarTransform4f(to_world)}


def build_sensor(
    camera: PinholeCamera, crop: Crop | None = None, samples: int = 16, near: float = 1.0, far: float = 1e5
) -> Any:
    """A Mitsuba sensor that sees what the OpenCV camera sees, optionally only the pixels of `crop`.

    samples: per pixel and pass, stratified together (correlated multi-jittering has a quarter of the noise
    of independent samples here); near, far: clip distances in mm. Box reconstruction filter, so a pixel is
    the mean over its square and alpha is coverage. Raises ValueError for cameras Mitsuba cannot represent
    (skew, unequal focal lengths).
    """
    mi = mitsuba()
    K = np.asarray(camera.K, np.float64)
    if abs(K[0, 1]) > 1e-6 * K[0, 0] or abs(K[0, 0] / K[1, 1] - 1.0) > 1e-3:
        raise ValueError(f"The camera needs square pixels without skew, not K = {K.tolist()}")
    width, height = int(camera.width), int(camera.height)
    crop = crop or Crop(0, 0, width, height)
    # Mitsuba's camera looks along +z with x to the left and y up; OpenCV has x right and y down.
    camera_from_model = np.eye(4)
    camera_from_model[:3, :3] = camera.R
    camera_from_model[:3, 3] = np.asarray(camera.t).reshape(3)
    to_world = np.linalg.inv(camera_from_model) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    return mi.load_dict(
        {
            "type": "perspective",
            "to_world": mi.ScalarTransform4f(to_world),
            "fov": float(np.degrees(2.0 * np.arctan(0.5 * width / K[0, 0]))),
            "fov_axis": "x",
            # Mitsuba moves the film, OpenCV the picture: opposite signs.
            "principal_point_offset_x": float(0.5 - K[0, 2] / width),
            "principal_point_offset_y": float(0.5 - K[1, 2] / height),
            "near_clip": near,
            "far_clip": far,
            "film": {
                "type": "hdrfilm", "width": width, "height": height,
                "crop_offset_x": crop.x0, "crop_offset_y": crop.y0,
                "crop_width": crop.width, "crop_height": crop.height,
                "pixel_format": "rgba", "component_format": "float32", "rfilter": {"type": "box"},
            },
            "sampler": {"type": "multijitter", "sample_count": samples},
        }
    )  # fmt: skip


def build_scene(mesh: Any, environment: Environment | None) -> Any:
    """A Mitsuba scene of one mesh and, when given, its light. Sensor and integrator go to the render call."""
    mi = mitsuba()
    scene: dict[str, Any] = {"type": "scene", "face": mesh}
    if environment is not None:
        scene["light"] = environment_emitter(environment)
    return mi.load_dict(scene)


def project(camera: PinholeCamera, vertices: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel positions (V, 2) and depths (V,) mm of model-space vertices (V, 3)."""
    in_camera = np.asarray(vertices, np.float64) @ np.asarray(camera.R, np.float64).T
    in_camera = in_camera + np.asarray(camera.t, np.float64).reshape(3)
    depth = in_camera[:, 2]
    homogeneous = in_camera @ np.asarray(camera.K, np.float64).T
    return homogeneous[:, :2] / np.where(depth > 0, depth, np.nan)[:, None], depth


def face_crop(camera: PinholeCamera, vertices: NDArray[Any], margin: int = 1) -> Crop | None:
    """The pixels that can see the mesh, or None when no pixel can.

    A mesh that reaches behind the camera has no bounded picture and gets all pixels.
    """
    pixels, depth = project(camera, vertices)
    width, height = int(camera.width), int(camera.height)
    if (depth <= 0).all():
        return None
    if (depth <= 0).any():
        return Crop(0, 0, width, height)
    low = np.maximum(np.floor(pixels.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(pixels.max(0)).astype(int) + margin, [width, height])
    if (high <= low).any():
        return None
    return Crop(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
