"""Path-traced pictures: camera, texture and light orientation, skin reflectance, passes and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from nextgenface.errors import Cancelled, EnvironmentProblem
from nextgenface.rendering import mitsuba_scene, pathtracer
from nextgenface.rendering.llvm import activate, select_variant
from nextgenface.rendering.mitsuba_scene import (
    CAMERA_FROM_LIGHT,
    Crop,
    Environment,
    Geometry,
    SceneCamera,
    Textures,
)
from scipy.spatial.transform import Rotation

mi = pytest.importorskip("mitsuba")

FRONTAL = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(params=["scalar_rgb", "llvm_ad_rgb"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    previous = mi.variant()
    if request.param == "scalar_rgb":
        mi.set_variant("scalar_rgb")
    else:
        found = select_variant("cpu")
        if found.name != request.param:
            pytest.skip(f"LLVM does not render here: {found.reason}")
        activate(found)
    yield request.param
    if previous:
        mi.set_variant(previous)


def _sphere(radius: float = 80.0, rings: int = 48) -> Geometry:
    """A latitude-longitude sphere with u around and v from bottom (0) to top (1)."""
    u, v = np.meshgrid(np.linspace(0, 1, 2 * rings + 1), np.linspace(0, 1, rings + 1))
    theta, phi = np.pi * (1 - v), 2 * np.pi * u
    normals = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1).reshape(
        -1, 3
    )
    columns = 2 * rings + 1
    first = (np.arange(rings)[:, None] * columns + np.arange(2 * rings)).ravel()
    faces = np.concatenate(
        [
            np.stack([first, first + 1, first + columns + 1], 1),
            np.stack([first, first + columns + 1, first + columns], 1),
        ]
    )
    return Geometry(radius * normals, faces, np.stack([u, v], -1).reshape(-1, 2), normals)


def _quad(size: float = 60.0) -> Geometry:
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * size
    return Geometry(
        corners, np.array([[0, 1, 2], [0, 2, 3]]), np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    )


def _camera(
    size: int = 64, focal: float = 160.0, cx: float | None = None, cy: float | None = None
) -> SceneCamera:
    K = np.array(
        [[focal, 0, size / 2 if cx is None else cx], [0, focal, size / 2 if cy is None else cy], [0, 0, 1.0]]
    )
    return SceneCamera(K, FRONTAL, np.array([0.0, 0.0, 500.0]), size, size)


def _skin(diffuse: float = 0.4, specular: float = 0.0, roughness: float = 0.6) -> Textures:
    return Textures(np.full((2, 2, 3), diffuse), np.full((2, 2, 1), specular), np.full((2, 2, 1), roughness))


def _uniform(value: float = 1.0) -> Environment:
    return Environment(np.full((8, 16, 3), value, np.float32))


def test_projected_vertices_land_where_the_camera_says(variant: str) -> None:
    """Small triangles at known points, an off-centre principal point, a turned head, a cropped film."""
    camera = SceneCamera(
        np.array([[250.0, 0, 71.3], [0, 250.0, 50.6], [0, 0, 1]]),
        FRONTAL @ Rotation.from_euler("xyz", [10, 25, -15], degrees=True).as_matrix(),
        np.array([12.0, -7.0, 520.0]), 160, 120,
    )  # fmt: skip
    for point in np.array([[60.0, 40, 20], [-45, 30, -10], [5, -50, 30], [-70, -20, 0]]):
        # A triangle that faces the camera; its centroid projects (nearly) to the centroid of its pixels.
        offsets = np.array([[-6.0, 5, 0], [6, 5, 0], [0, -6, 0]])
        geometry = Geometry(point + offsets @ camera.R, np.array([[0, 1, 2]]), np.zeros((3, 2)))
        _, coverage = pathtracer.render_map(geometry, np.ones((2, 2, 1)), camera, samples=64)
        rows, columns = np.indices(coverage.shape) + 0.5
        found = np.array([(columns * coverage).sum(), (rows * coverage).sum()]) / coverage.sum()
        expected = mitsuba_scene.project(camera, geometry.vertices)[0].mean(0)
        assert np.abs(found - expected).max() < 0.1


def test_first_texture_row_is_up(variant: str) -> None:
    texture = np.zeros((8, 8, 3))
    texture[:4, :, 0] = 1.0  # the upper half is red
    texture[:, :4, 1] = 1.0  # the left half is green
    picture, coverage = pathtracer.render_map(_quad(), texture, _camera())
    seen = np.argwhere(coverage > 0.99)
    (top, left), (bottom, right) = seen.min(0), seen.max(0)
    assert picture[top + 2, left + 2].tolist() == pytest.approx([1, 1, 0], abs=1e-3)
    assert picture[top + 2, right - 2].tolist() == pytest.approx([1, 0, 0], abs=1e-3)
    assert picture[bottom - 2, left + 2].tolist() == pytest.approx([0, 1, 0], abs=1e-3)
    assert picture[bottom - 2, right - 2].tolist() == pytest.approx([0, 0, 0], abs=1e-3)


def test_texels_are_sampled_at_their_centres(variant: str) -> None:
    """A ramp over texel centres comes back as that ramp over uv, without a half-texel shift."""
    width = 16
    texture = np.repeat(((np.arange(width) + 0.5) / width)[None, :, None], 2, axis=0)
    picture, coverage = pathtracer.render_map(_quad(), texture, _camera(), samples=64)
    columns = np.arange(64) + 0.5
    u = ((columns - 32) / 160 * 500 / 60 + 1) / 2
    inside = (u > 0.1) & (u < 0.9)
    assert np.abs(picture[32, :, 0][inside] - u[inside]).max() < 5e-3


@pytest.mark.parametrize("turned", [False, True])
def test_diffuse_sphere_matches_the_analytic_irradiance(variant: str, turned: bool) -> None:
    """Light L(d) = a + b.d gives a convex body of that albedo the radiance albedo (a + 2/3 b.n)."""
    height, width = 64, 128
    v, u = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    sin_v = np.sin(np.pi * v)[:, None]
    directions = np.stack(
        [
            sin_v * np.sin(2 * np.pi * u),
            np.repeat(np.cos(np.pi * v)[:, None], width, 1),
            -sin_v * np.cos(2 * np.pi * u),
        ],
        -1,
    )
    colours = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.0], [-0.3, 0.1, 0.6]])  # one direction b per channel
    light = 1.0 + directions @ colours.T
    rotation = FRONTAL.T @ CAMERA_FROM_LIGHT
    if turned:
        rotation = Rotation.from_euler("yxz", [70, -30, 20], degrees=True).as_matrix()
    geometry, camera = _sphere(), _camera()
    picture = pathtracer._render_lit(
        geometry, mitsuba_scene.matte_bsdf(0.5), camera, Environment(light, rotation), max_samples=128,
        noise_level=0.01, seed=1, max_depth=4, memory_mb=1024, progress=None, cancelled=None,
    )  # fmt: skip
    _, normals, coverage = pathtracer.render_geometry(geometry, camera)
    inside = coverage > 0.999
    in_light = normals[inside] @ camera.R @ rotation  # camera -> model -> light
    expected = 0.5 * (1.0 + 2.0 / 3.0 * in_light @ colours.T)
    assert np.abs(picture.rgb[inside] - expected).mean() < 0.01
    assert picture.noise < 0.02


def test_alpha_is_coverage_and_colours_are_premultiplied(variant: str) -> None:
    camera = _camera()
    picture = pathtracer.render_illumination(_sphere(), camera, _uniform(), max_samples=128)
    radius = 160 * 80 / np.sqrt(500**2 - 80**2)
    assert picture.alpha.sum() == pytest.approx(np.pi * radius**2, rel=3e-3)
    assert picture.alpha[0, 0] == 0 and picture.rgb[0, 0].max() == 0  # the environment is not seen
    assert picture.alpha[32, 32] == 1
    edge = (picture.alpha > 0.2) & (picture.alpha < 0.8)
    assert edge.any()
    ratio = picture.rgb[edge].mean(-1) / picture.alpha[edge]
    assert ratio.mean() == pytest.approx(0.5, rel=0.02)  # clay under uniform light of radiance 1


def _reflected(textures: Textures) -> float:
    """Radiance of a quad seen straight on under uniform light."""
    picture = pathtracer.render_final(
        _quad(), textures, _camera(16, 80), _uniform(), max_samples=512, noise_level=0.001, max_depth=2
    )
    return float(picture.rgb[6:10, 6:10].mean())


def test_specular_level_per_texel_has_the_exact_normal_reflectance() -> None:
    """Towards a smooth surface seen straight on, F0 = 0.08 level whatever the two blended ends are."""
    previous = mi.variant()
    mi.set_variant("scalar_rgb")
    try:
        for level in (0.25, 0.5, 0.9):
            specular = np.full((4, 4, 1), level)
            specular[0, 0], specular[0, 1] = 0.0, 1.0  # a wide range forces the blend
            blended = Textures(np.zeros((2, 2, 3)), specular, np.full((2, 2, 1), 0.05))
            assert _reflected(blended) == pytest.approx(0.08 * level, rel=0.03)
            plain = Textures(np.zeros((2, 2, 3)), np.full((2, 2, 1), level), np.full((2, 2, 1), 0.05))
            assert _reflected(plain) == pytest.approx(0.08 * level, rel=0.03)
    finally:
        if previous:
            mi.set_variant(previous)


def test_blended_levels_stay_close_to_one_material_at_all_angles(variant: str) -> None:
    """A sphere shows every angle: a map between 0.2 and 0.6 with most texels at 0.4, against 0.4 alone."""
    specular = np.full((64, 64, 1), 0.4)
    specular[0, :2], specular[0, 2:4] = 0.2, 0.6
    assert mitsuba_scene._specular_levels(specular.astype(np.float32)) == pytest.approx([0.2, 0.4, 0.6])
    diffuse, roughness = np.full((2, 2, 3), 0.3), np.full((2, 2, 1), 0.4)
    one, two = (
        pathtracer.render_final(
            _sphere(),
            Textures(diffuse, s, roughness),
            _camera(32, 80),
            _uniform(),
            max_samples=256,
            noise_level=0.0,
        )
        for s in (np.full((2, 2, 1), 0.4), specular)
    )
    rows, columns = np.indices(one.alpha.shape) + 0.5
    ring = np.hypot(rows - 16, columns - 16).astype(int)
    for radius in range(
        ring[one.alpha > 0.99].max() + 1
    ):  # means over rings of equal angle beat the noise down
        here = (ring == radius) & (one.alpha > 0.99)
        assert two.rgb[here].mean() == pytest.approx(one.rgb[here].mean(), rel=0.03), radius


def test_texels_the_mesh_does_not_use_do_not_widen_the_range() -> None:
    specular = np.full((32, 32, 1), 0.5, np.float32)
    specular[:, 16:] = 0.0  # the right half of the map is empty
    uv = np.array([[0.1, 0.1], [0.4, 0.9]])
    assert mitsuba_scene._specular_levels(mitsuba_scene._nearest_texels(specular, uv)) == [0.5]


def test_both_sides_of_the_surface_are_lit(variant: str) -> None:
    quad = _quad()
    behind = Geometry(quad.vertices, quad.faces[:, ::-1], quad.uv)
    front, back = (
        pathtracer.render_final(g, _skin(), _camera(16, 40), _uniform(), max_samples=32)
        for g in (quad, behind)
    )
    assert back.rgb[8, 8] == pytest.approx(front.rgb[8, 8], rel=0.05)
    assert front.rgb[8, 8, 0] > 0.2


def test_depth_is_camera_z(variant: str) -> None:
    geometry, camera = _quad(), _camera(32, 40)
    tilted = Geometry(
        geometry.vertices @ Rotation.from_euler("y", 30, degrees=True).as_matrix().T,
        geometry.faces,
        geometry.uv,
    )
    depth, normals, coverage = pathtracer.render_geometry(tilted, camera, samples=64)
    assert coverage[16, 16] == 1
    assert depth[16, 16] == pytest.approx(500, abs=5)
    # model x to the right; the quad's normal (sin 30, 0, cos 30) becomes (sin 30, 0, -cos 30) in camera axes
    assert normals[16, 16] == pytest.approx([0.5, 0, -np.sqrt(0.75)], abs=1e-3)
    assert depth[0, 0] == 0 and not normals[0, 0].any()


def test_seed_decides_the_noise(variant: str) -> None:
    camera, light = _camera(24, 60), _uniform()
    light.radiance[2:4, 3:6] = 20.0
    first, again, other = (
        pathtracer.render_final(_sphere(), _skin(), camera, light, max_samples=8, seed=s) for s in (3, 3, 4)
    )
    assert np.array_equal(first.rgb, again.rgb)
    assert not np.array_equal(first.rgb, other.rgb)


def test_stops_at_the_noise_level_or_at_the_cap() -> None:
    with _scalar():
        light = _uniform()
        light.radiance[2:4, 3:6] = 20.0
        seen: list[tuple[int, float]] = []
        loose = pathtracer.render_final(
            _sphere(), _skin(), _camera(24, 60), light, max_samples=4096, noise_level=0.05,
            progress=lambda samples, total, noise: seen.append((samples, noise)),
        )  # fmt: skip
        assert loose.samples_used < 4096 and loose.noise <= 0.05 and not loose.warnings
        assert seen[-1] == (loose.samples_used, loose.noise)
        capped = pathtracer.render_final(
            _sphere(), _skin(), _camera(24, 60), light, max_samples=10, noise_level=1e-6
        )
        assert capped.samples_used <= 10 and "rtSamples" in capped.warnings[0]
        single = pathtracer.render_final(_sphere(), _skin(), _camera(24, 60), light, max_samples=1)
        assert single.samples_used == 1 and single.noise == np.inf


def test_noise_estimate_agrees_with_the_spread_over_seeds() -> None:
    with _scalar():
        light = _uniform()
        light.radiance[2:4, 3:6] = 20.0
        runs = [
            pathtracer.render_final(
                _sphere(), _skin(), _camera(32, 80), light, max_samples=32, noise_level=0, seed=s
            )
            for s in range(8)
        ]
        inside = runs[0].alpha > 0.999
        luminance = np.stack([r.rgb for r in runs])[:, inside] @ [0.2126, 0.7152, 0.0722]
        spread = np.sqrt(luminance.var(0, ddof=1).mean()) / luminance.mean()
        assert np.mean([r.noise for r in runs]) == pytest.approx(spread, rel=0.3)


def test_tiles_give_the_whole_picture(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pathtracer._tiles(Crop(3, 5, 10, 7), 25) == [
        Crop(3, 5, 10, 2),
        Crop(3, 7, 10, 2),
        Crop(3, 9, 10, 2),
        Crop(3, 11, 10, 1),
    ]
    whole = pathtracer.render_illumination(_sphere(), _camera(), _uniform(), max_samples=32)
    monkeypatch.setattr(pathtracer, "_SMALLEST_WAVEFRONT", 2**12)
    tiled = pathtracer.render_illumination(_sphere(), _camera(), _uniform(), max_samples=32, memory_mb=0.25)
    inside = whole.alpha > 0.99
    assert (tiled.rgb - whole.rgb)[inside].mean(0) == pytest.approx(np.zeros(3), abs=2e-3)
    assert np.abs(whole.rgb - tiled.rgb)[inside].max() < 0.15  # noise, but no missing or shifted band
    assert np.abs(whole.alpha - tiled.alpha).max() < 0.3


def test_out_of_memory_gives_smaller_passes_then_a_smaller_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with _scalar():
        real = pathtracer._render_pass
        sizes: list[int] = []

        def limited(scene: Any, sensor: Any, integrator: Any, samples: int, seed: int) -> Any:
            crop = np.array(sensor.film().crop_size())
            sizes.append(int(crop.prod()) * samples)
            if crop.prod() > 500:
                raise RuntimeError("jit_malloc(): out of memory! Could not allocate 1234 bytes.")
            return real(scene, sensor, integrator, samples, seed)

        monkeypatch.setattr(pathtracer, "_render_pass", limited)
        picture = pathtracer.render_illumination(_sphere(), _camera(), _uniform(), max_samples=32)
        assert sizes[0] > sizes[-1]
        assert picture.rgb.shape == (64, 64, 3) and picture.alpha.shape == (64, 64)
        assert picture.scale < 1 and any("enlarged" in text for text in picture.warnings)
        assert picture.rgb[32, 32] == pytest.approx([0.5] * 3, rel=0.05)
        assert picture.alpha.sum() == pytest.approx(np.pi * 26**2, rel=0.05)

        def never(*_: Any) -> Any:
            raise MemoryError

        monkeypatch.setattr(pathtracer, "_render_pass", never)
        with pytest.raises(EnvironmentProblem, match="maxResolution"):
            pathtracer.render_illumination(_sphere(), _camera(), _uniform(), max_samples=32)

        def broken(*_: Any) -> Any:
            raise RuntimeError("something else")

        monkeypatch.setattr(pathtracer, "_render_pass", broken)
        with pytest.raises(RuntimeError, match="something else"):
            pathtracer.render_illumination(_sphere(), _camera(), _uniform(), max_samples=32)


def test_cancel_and_face_outside_the_picture() -> None:
    with _scalar():
        with pytest.raises(Cancelled):
            pathtracer.render_illumination(_sphere(), _camera(), _uniform(), cancelled=lambda: True)
        away = SceneCamera(_camera().K, FRONTAL, np.array([5000.0, 0, 500]), 64, 64)
        empty = pathtracer.render_illumination(_sphere(), away, _uniform())
        assert not empty.alpha.any() and "outside" in empty.warnings[0]


def test_cameras_mitsuba_cannot_show_are_refused() -> None:
    with _scalar(), pytest.raises(ValueError, match="square pixels"):
        camera = SceneCamera(
            np.array([[100.0, 0, 8], [0, 120, 8], [0, 0, 1]]), FRONTAL, np.array([0, 0, 500.0]), 16, 16
        )
        pathtracer.render_map(_quad(), np.ones((2, 2, 1)), camera)


class _scalar:
    """Run a block in the scalar variant and put the old one back."""

    def __enter__(self) -> None:
        self.previous = mi.variant()
        mi.set_variant("scalar_rgb")

    def __exit__(self, *_: object) -> None:
        if self.previous:
            mi.set_variant(self.previous)
