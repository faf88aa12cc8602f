"""The deferred engine against closed forms, brute-force integrals, finite differences and the path tracer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from nextgenface.fitting.whitened import whiten
from nextgenface.rendering import deferred
from nextgenface.rendering.deferred import Pose
from nextgenface.rendering.light import LOBE_COUNT, fibonacci_sphere, lobe_centres, lobes_to_map
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from tests.solver.small_face import lamp, small_model, trimmed_model

pytestmark = pytest.mark.usefixtures("one_thread")


def _pose(distance: float = 700.0, focal: float = 300.0, centre: float = 48.0, dtype=torch.float32) -> Pose:  # type: ignore[no-untyped-def]
    turn = torch.tensor(Rotation.from_euler("xyz", [178, 7, -4], degrees=True).as_matrix(), dtype=dtype)
    t = torch.tensor([3.0, -2.0, distance], dtype=dtype)
    return Pose(turn, t, torch.tensor(focal, dtype=dtype), torch.tensor([centre, centre], dtype=dtype))


def _ball(count: int = 1500, radius: float = 80.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices of a sphere and faces counter-clockwise seen from outside."""
    normals = fibonacci_sphere(count)
    faces = ConvexHull(normals.numpy()).simplices
    a, b, c = (normals.numpy()[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    return normals * radius, torch.tensor(faces, dtype=torch.int64)


@lru_cache(maxsize=1)
def _lit_ball() -> tuple[torch.Tensor, torch.Tensor, deferred.Transfer]:
    """Vertices, faces and traced visibility of a sphere."""
    vertices, faces = _ball()
    return vertices, faces, deferred.trace_transfer(vertices, faces, _pose())


def _draw(
    vertices: torch.Tensor, faces: torch.Tensor, transfer: deferred.Transfer, environment: torch.Tensor
) -> deferred.Drawing:
    """A mesh of albedo 0.5 and specular level 0, 96 pixels wide."""
    pose = _pose()
    camera = pose.camera_space(vertices)
    colour, rough = torch.full((len(vertices), 3), 0.5), torch.full((len(vertices),), 0.5)
    shading = deferred.shade_vertices(camera, faces, environment, colour, rough, transfer)
    return deferred.draw_vertices(
        camera, faces, pose.screen(camera), (96, 96), shading, colour, torch.zeros(len(vertices)), rough
    )


def test_white_surroundings_give_a_convex_body_irradiance_pi() -> None:
    vertices, faces, transfer = _lit_ball()
    seen = _white_light(0.5).diffuse[transfer.used]
    assert seen.median().item() == pytest.approx(1.0, abs=0.01)
    assert seen.min() > 0.97 and seen.max() < 1.04
    drawing = _draw(vertices, faces, transfer, torch.ones(LOBE_COUNT, 3))
    assert torch.allclose(drawing.radiance, 0.5 * drawing.diffuse_light + drawing.specular_light)


def _white_light(roughness: float) -> deferred.Shading:
    """A sphere of black base colour (so nothing bounces) in surroundings of radiance 1."""
    vertices, faces, transfer = _lit_ball()
    rough = torch.full((len(vertices),), roughness)
    camera, white = _pose().camera_space(vertices), torch.ones(LOBE_COUNT, 3)
    return deferred.shade_vertices(camera, faces, white, torch.zeros_like(vertices), rough, transfer)


@pytest.mark.parametrize("roughness", [0.25, 0.5, 0.8])
def test_white_surroundings_are_reflected_as_they_are(roughness: float) -> None:
    """The lobe is normalised over the hemisphere: also where it grazes the surface it averages to 1."""
    transfer = _lit_ball()[2]
    shading = _white_light(roughness)
    front = transfer.used[shading.cos_view[transfer.used] > 0.05]
    assert shading.cos_view[front].min() < 0.15
    assert (shading.glossy[front] - 1).abs().max() < 0.01
    hidden = torch.ones(len(shading.glossy), dtype=torch.bool)
    hidden[transfer.used] = False
    assert hidden.any() and (shading.glossy[hidden] == 0).all() and (shading.diffuse[hidden] == 0).all()


@pytest.mark.parametrize("roughness", [0.3, 0.6])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_the_base_gets_what_the_layer_above_does_not_reflect(level: float, roughness: float) -> None:
    """White skin in white surroundings is white, however it shines: no light is made, none lost."""
    shading = _white_light(roughness)
    count = len(shading.cos_view)
    rough = torch.full((count,), roughness)
    under, gloss = shading.layers(torch.full((count,), level), rough)
    front = _lit_ball()[2].used[shading.cos_view[_lit_ball()[2].used] > 0.05]
    assert ((under + gloss)[front] - 1).abs().max() < 0.02
    for cos_view in (0.9, 0.5, 0.25):
        at = int((shading.cos_view - cos_view).abs().argmin())
        share = _brute_force(level, roughness, float(shading.cos_view[at]))
        assert gloss[at, 0].item() == pytest.approx(share, rel=0.06, abs=2e-3)
        assert under[at, 0].item() == pytest.approx(1 - share, abs=0.02)


def test_light_from_the_right_lights_the_right_side_of_the_picture() -> None:
    """The light frame is the viewer's: +x right, +y up in the picture."""
    for axis, forwards in ((0, 1), (0, -1), (1, 1), (1, -1)):
        towards = torch.zeros(3)
        towards[axis] = forwards
        environment = torch.zeros(LOBE_COUNT, 3)
        environment[(lobe_centres() @ towards).argmax()] = 10.0
        drawing = _draw(*_lit_ball(), environment)
        picture = drawing.fragments.picture(drawing.radiance)[..., 0].numpy()
        along = np.arange(96) + 0.5 - 48
        x = along[None, :] if axis == 0 else -along[:, None]
        centre = (picture * x).sum() / picture.sum()
        assert centre * forwards > 8, (axis, forwards)  # the ball's picture has a radius of 34 pixels


def test_diffuse_light_of_a_lobe_is_its_clamped_cosine() -> None:
    """L(d) = a + b.d lights a convex body with irradiance/pi = a + 2/3 b.n."""
    vertices, faces, transfer = _lit_ball()
    b = torch.tensor([0.5, -0.3, 0.4])
    environment = (1.0 + lobe_centres() @ b)[:, None].expand(-1, 3).contiguous()
    pose = _pose()
    camera = pose.camera_space(vertices)
    shading = deferred.shade_vertices(
        camera, faces, environment, torch.zeros(len(vertices), 3), torch.full((len(vertices),), 0.5), transfer
    )
    in_light = (vertices / 80.0) @ pose.rotation.T * torch.tensor(deferred.CAMERA_TO_LIGHT)
    expected = 1.0 + 2 / 3 * in_light @ b
    gap = shading.diffuse[transfer.used, 0] - expected[transfer.used]
    assert gap.abs().median() < 0.01 and gap.abs().max() < 0.04


def test_what_faces_away_is_not_shaded_and_occlusion_darkens() -> None:
    face = whiten(small_model(), "cpu")
    pose = _pose()
    transfer = deferred.trace_transfer(face.neutral, face.faces, pose)
    camera = pose.camera_space(face.neutral)
    normals = deferred.vertex_normals(camera, face.faces)
    view = torch.nn.functional.normalize(-camera, dim=1)
    hidden = torch.ones(len(camera), dtype=torch.bool)
    hidden[transfer.used] = False
    assert ((normals * view).sum(1)[hidden] <= 0).all()
    free = deferred.trace_transfer(face.neutral, face.faces, pose, shadows=False)
    assert torch.allclose(free.openness, torch.ones(len(free.used)), atol=1e-5)
    assert transfer.openness.min() > 0 and transfer.openness.max() < 1.001
    noted = torch.zeros(len(camera))
    noted[transfer.used] = transfer.openness
    table = small_model().landmarks["mediapipe"]
    nose, wing = noted[table[4]], noted[table[[129, 358]]].mean()  # tip; where the nostrils meet the cheeks
    assert nose > 0.95 and wing < 0.9


def _brute_force(level: float, roughness: float, cos_view: float) -> float:
    """Integral over the hemisphere of the GGX lobe of the Principled model times the cosine."""
    theta = (np.arange(600) + 0.5) / 600 * np.pi / 2
    phi = (np.arange(600) + 0.5) / 600 * np.pi
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    light = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    view = np.array([np.sqrt(1 - cos_view**2), 0, cos_view])
    half = light + view
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    alpha = roughness**2
    d = alpha**2 / (np.pi * (half[..., 2] ** 2 * (alpha**2 - 1) + 1) ** 2)

    def g1(cos: np.ndarray | float) -> np.ndarray:
        return np.asarray(2 * cos / (cos + np.sqrt(alpha**2 + (1 - alpha**2) * cos**2)))

    f0 = deferred.F0_OF_LEVEL * level
    fresnel = f0 + (1 - f0) * (1 - half @ view) ** 5
    value = d * g1(light[..., 2]) * g1(cos_view) * fresnel / (4 * cos_view)  # times cos / cos
    return float((value * np.sin(theta)).sum() * (np.pi / 2 / 600) * (np.pi / 600) * 2)


@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.8])
def test_specular_reflectance_is_the_integral_of_the_lobe(roughness: float) -> None:
    for level in (0.0, 0.5, 1.0):
        for cos_view in (0.25, 0.5, 0.9):
            found = deferred.specular_reflectance(*(torch.tensor([x]) for x in (level, roughness, cos_view)))
            assert found.item() == pytest.approx(_brute_force(level, roughness, cos_view), rel=0.05, abs=1e-3)
    facing = deferred.specular_reflectance(torch.tensor([0.5]), torch.tensor([0.2]), torch.tensor([1.0]))
    assert facing.item() == pytest.approx(0.04, rel=0.03)


def test_highlights_lie_at_the_mirror_direction_and_narrow_with_gloss() -> None:
    vertices, faces = _ball(4000)
    pose = _pose()
    camera = pose.camera_space(vertices)
    transfer = deferred.trace_transfer(vertices, faces, pose, shadows=False)
    towards = lobe_centres()[(lobe_centres() @ torch.tensor([0.6, 0.4, 0.69])).argmax()]
    environment = torch.zeros(LOBE_COUNT, 3)
    environment[(lobe_centres() @ towards).argmax()] = 1.0
    black = torch.zeros(len(vertices), 3)
    in_light = camera * torch.tensor(deferred.CAMERA_TO_LIGHT)
    normals = deferred.vertex_normals(in_light, faces)
    half = torch.nn.functional.normalize(towards + torch.nn.functional.normalize(-in_light, dim=1), dim=1)
    peaks = []
    for roughness in (0.3, 0.7):
        rough = torch.full((len(vertices),), roughness)
        glossy = deferred.shade_vertices(camera, faces, environment, black, rough, transfer).glossy[:, 0]
        peak = int(glossy.argmax())
        assert torch.rad2deg(torch.acos((normals[peak] @ half[peak]).clamp(max=1))) < 6
        peaks.append(float(glossy.max() / glossy[transfer.used].mean()))
    assert peaks[0] > 1.5 * peaks[1]


def test_gradients_match_finite_differences() -> None:
    """Radiance with respect to vertices, environment, colour and roughness, through shading and raster."""
    vertices, faces = _ball(120)
    vertices = vertices.double()
    pose = _pose(dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    transfer = deferred.trace_transfer(vertices, faces, pose, shadows=False)
    mixed = torch.randn(96 * 96, 3, generator=g).double()
    start = {
        "vertices": vertices,
        "environment": torch.rand(LOBE_COUNT, 3, generator=g).double(),
        "colour": (0.3 + 0.4 * torch.rand(len(vertices), 3, generator=g)).double(),
        "level": (0.3 + 0.4 * torch.rand(len(vertices), generator=g)).double(),
        "roughness": (0.42 + 0.04 * torch.rand(len(vertices), generator=g)).double(),
    }

    def draw(p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        camera = pose.camera_space(p["vertices"])
        # the bounce takes the colour as given
        shading = deferred.shade_vertices(
            camera, faces, p["environment"], start["colour"], p["roughness"], transfer
        )
        drawing = deferred.draw_vertices(
            camera, faces, pose.screen(camera), (96, 96), shading, p["colour"], p["level"], p["roughness"]
        )
        return (drawing.radiance * mixed[drawing.fragments.pixel]).sum(), drawing.fragments.face

    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    value, seen = draw(leaves)
    value.backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        strongest = leaf.grad.abs().flatten().topk(12).indices
        for flat in strongest[::3].tolist():
            index = np.unravel_index(flat, leaf.shape)
            slopes = []
            for sign in (1, -1):
                moved = {**start, name: start[name].clone()}
                moved[name][index] += sign * 1e-6
                new, faces_seen = draw(moved)
                assert torch.equal(faces_seen, seen)
                slopes.append(sign * new)
            slope = float(sum(slopes)) / 2e-6
            assert leaf.grad[index].item() == pytest.approx(slope, rel=2e-3, abs=1e-4), (name, index)


def test_given_normals_replace_those_of_the_mesh_and_have_gradients() -> None:
    vertices, faces = _ball(120)
    pose = _pose()
    camera = pose.camera_space(vertices)
    transfer = deferred.trace_transfer(vertices, faces, pose, shadows=False)
    colour, rough = torch.full((120, 3), 0.4), torch.full((120,), 0.5)
    own = deferred.vertex_normals(camera * torch.tensor(deferred.CAMERA_TO_LIGHT), faces)
    environment = lamp((0.6, 0.2, 0.7))
    same = deferred.shade_vertices(camera, faces, environment, colour, rough, transfer, own)
    plain = deferred.shade_vertices(camera, faces, environment, colour, rough, transfer)
    assert torch.equal(same.diffuse, plain.diffuse)
    towards = torch.nn.functional.normalize(torch.tensor([0.6, 0.2, 0.7]), dim=0).expand(120, 3)
    turned = towards.clone().requires_grad_()
    lit = deferred.shade_vertices(camera, faces, environment, colour, rough, transfer, turned).diffuse
    assert lit[transfer.used].min() > plain.diffuse[transfer.used].median()
    lit.sum().backward()
    assert turned.grad is not None and turned.grad[transfer.used].abs().sum() > 0


def test_pictures_of_the_mean_face_agree_with_the_path_tracer() -> None:
    """Clay with interreflections, and a coat of gloss on black, under a soft lamp at the side."""
    mi = pytest.importorskip("mitsuba")
    from nextgenface.rendering import pathtracer
    from nextgenface.rendering.llvm import activate, select_variant
    from nextgenface.rendering.mitsuba_scene import (
        CAMERA_FROM_LIGHT,
        Environment,
        Geometry,
        SceneCamera,
        Textures,
    )

    model = trimmed_model()
    face = whiten(model, "cpu")
    environment = lamp((0.8, 0.3, 0.5))
    pose = _pose()
    transfer = deferred.trace_transfer(face.neutral, face.faces, pose)
    drawing = _draw(face.neutral, face.faces, transfer, environment)
    skin = drawing.fragments.picture(drawing.fragments.interpolate(face.skin[:, None]))[..., 0].numpy() > 0.95
    vertex_camera = pose.camera_space(face.neutral)
    black, rough = torch.full_like(face.neutral, 1e-3), torch.full((len(face.neutral),), 0.5)
    grey = torch.full_like(face.neutral, 0.5)
    clay_light = deferred.shade_vertices(vertex_camera, face.faces, environment, grey, rough, transfer)
    matte = drawing.fragments.picture(0.5 * drawing.fragments.interpolate(clay_light.diffuse)).numpy()
    shading = deferred.shade_vertices(vertex_camera, face.faces, environment, black, rough, transfer)
    level = torch.full_like(rough, 0.5)
    coat = deferred.draw_vertices(
        vertex_camera, face.faces, pose.screen(vertex_camera), (96, 96), shading, black, level, rough
    )
    glossy = coat.fragments.picture(coat.radiance).numpy()
    k = np.array([[300.0, 0, 48], [0, 300, 48], [0, 0, 1]])
    camera = SceneCamera(k, pose.rotation.numpy(), pose.translation.numpy(), 96, 96)
    light = Environment(lobes_to_map(environment, 64).numpy(), pose.rotation.numpy().T @ CAMERA_FROM_LIGHT)
    geometry = Geometry(face.neutral.numpy(), model.faces, model.uv)
    maps = Textures(np.full((4, 4, 3), 1e-3), np.full((4, 4, 1), 0.5), np.full((4, 4, 1), 0.5))
    previous = mi.variant()
    activate(select_variant("cpu"))
    try:
        clay = pathtracer.render_illumination(geometry, camera, light, max_samples=96, noise_level=0.01)
        coated = pathtracer.render_final(
            geometry, maps, camera, light, max_samples=128, noise_level=0.02, max_depth=2
        )
    finally:
        if previous:
            mi.set_variant(previous)
    both = skin & (clay.alpha > 0.99)
    assert both.sum() > 1500
    ratio = matte[both].mean(-1) / clay.rgb[both].mean(-1)
    assert 0.98 < np.median(ratio) < 1.02
    low, high = np.quantile(ratio, [0.1, 0.9])
    assert low > 0.95 and high < 1.05
    # gloss is prefiltered with a symmetric lobe: the same places shine as much, also at grazing angles
    mine, theirs = glossy[both].mean(-1), coated.rgb[both].mean(-1)
    assert 0.97 < mine.mean() / theirs.mean() < 1.03
    assert np.corrcoef(mine, theirs)[0, 1] > 0.985
    assert np.abs(mine - theirs).mean() < 0.1 * theirs.mean()
    cosine = coat.fragments.picture(coat.fragments.interpolate(shading.cos_view[:, None])).numpy()[both][:, 0]
    for lowest, highest, most in ((0.0, 0.4, 0.08), (0.4, 0.7, 0.05), (0.7, 1.01, 0.03)):
        ring = (cosine >= lowest) & (cosine < highest)
        assert ring.sum() > 200
        assert abs(mine[ring].mean() / theirs[ring].mean() - 1) < most, (lowest, highest)
