"""The ray-traced engine: against the path tracer and finite differences; seeds, passes, memory, outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from nextgenface.errors import EnvironmentProblem
from nextgenface.rendering.deferred import Pose, vertex_normals
from nextgenface.rendering.light import fibonacci_sphere, lobes_to_map
from nextgenface.rendering.llvm import activate, select_variant
from nextgenface.rendering.mitsuba_scene import (
    CAMERA_FROM_LIGHT,
    Environment,
    Geometry,
    SceneCamera,
    Textures,
)
from nextgenface.rendering.pathtracer import render_final
from nextgenface.rendering.raytraced import Frame, RayTracer
from nextgenface.rendering.silhouette import mesh_edges
from scipy.spatial import ConvexHull

from tests.solver.small_face import example, lamp, small_model

mi = pytest.importorskip("mitsuba")
pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24


@pytest.fixture(autouse=True)
def _variant() -> Iterator[None]:
    previous = mi.variant()
    found = select_variant("cpu")
    if not found.differentiable:
        pytest.skip(f"no derivatives here: {found.reason}")
    activate(found)
    yield
    if previous:
        mi.set_variant(previous)


@lru_cache(maxsize=1)
def _ball(count: int = 900) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vertices of a sphere, outward faces, and uv (the front half fills the square)."""
    normals = fibonacci_sphere(count)
    faces = ConvexHull(normals.numpy()).simplices
    a, b, c = (normals.numpy()[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    uv = normals[:, :2] * 0.5 + 0.5
    return normals, torch.tensor(faces, dtype=torch.int64), uv


def _frame(*, whole: bool = False, maps: bool = True) -> Frame:
    """A ball of 80 mm half a metre away: `whole` with background around it, else only its middle."""
    directions, _, _ = _ball()
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(*((6, 6) if maps else (len(directions),)), 5, generator=generator)
    low, high = torch.tensor([0.2, 0.2, 0.2, 0.3, 0.35]), torch.tensor([0.6, 0.6, 0.6, 0.9, 0.7])
    focal = 60.0 if whole else 170.0
    pose = Pose(torch.eye(3), torch.zeros(3), torch.tensor(focal), torch.tensor([SIZE / 2.0, SIZE / 2.0]))
    vertices = directions * 80 + torch.tensor([0.0, 0.0, 500.0])
    return Frame(vertices, directions, low + values * (high - low), lamp((0.7, 0.4, 0.6)), pose)


def _tracer(bounces: int = 1) -> RayTracer:
    _, faces, uv = _ball()
    return RayTracer(faces, uv, bounces=bounces)


def _weights() -> torch.Tensor:
    """Weights (S, S, 3) of a loss that is linear in the picture."""
    return torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(5)) * 2


def _both_ways(draw: Callable[[torch.Tensor], torch.Tensor], step: float) -> tuple[float, float]:
    """Derivative of a weighted sum of the picture draw(x) at x = 0: by the engine, and by differences."""
    x = torch.zeros((), requires_grad=True)
    weights = _weights()
    (draw(x)[..., :3] * weights).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        sums = [float((draw(torch.tensor(s))[..., :3] * weights).sum()) for s in (step, -step)]
    return float(x.grad), (sums[0] - sums[1]) / (2 * step)


@pytest.mark.parametrize("channel", ["diffuse", "specular", "roughness"])
@pytest.mark.parametrize("maps", [True, False])
def test_gradients_of_the_skin(channel: str, maps: bool) -> None:
    frame, tracer = _frame(maps=maps), _tracer()
    pattern = torch.zeros_like(frame.skin)
    chosen = {"diffuse": slice(0, 3), "specular": slice(3, 4), "roughness": slice(4, 5)}[channel]
    generator = torch.Generator().manual_seed(9)
    pattern[..., chosen] = torch.rand(pattern[..., chosen].shape, generator=generator)

    def draw(x: torch.Tensor) -> torch.Tensor:
        skin = frame.skin + x * pattern
        return tracer.picture(replace(frame, skin=skin), (SIZE, SIZE), samples=1024, seed=1)

    ours, truth = _both_ways(draw, 0.01)
    assert abs(truth) > 0.1 and ours == pytest.approx(truth, rel=0.05)


def test_specular_and_roughness_have_gradients_of_their_own_texels() -> None:
    """What one half of the picture shows says nothing about the texels of the other half."""
    frame, tracer = _frame(), _tracer()
    skin = frame.skin.clone().requires_grad_()
    picture = tracer.picture(replace(frame, skin=skin), (SIZE, SIZE), samples=64, seed=0)
    picture[:, : SIZE // 2, :3].sum().backward()
    assert skin.grad is not None
    left, right = skin.grad[:, :2], skin.grad[:, 4:]
    assert all(float(left[..., k].abs().sum()) > 1e-3 for k in range(5))
    assert float(right.abs().sum()) == 0


def test_gradients_of_the_light() -> None:
    frame, tracer = _frame(), _tracer()
    pattern = torch.rand(frame.light.shape, generator=torch.Generator().manual_seed(1))

    def draw(x: torch.Tensor) -> torch.Tensor:
        lit = replace(frame, light=frame.light + x * pattern)
        return tracer.picture(lit, (SIZE, SIZE), samples=256, seed=1)

    ours, truth = _both_ways(draw, 0.05)
    assert abs(truth) > 1 and ours == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("motion", ["sideways", "bump"])
def test_gradients_of_the_surface_inside_the_outline(motion: str) -> None:
    frame, tracer = _frame(), _tracer()
    directions, faces, _ = _ball()

    def draw(x: torch.Tensor) -> torch.Tensor:
        if motion == "sideways":
            moved = frame.vertices + x * torch.tensor([1.0, 0.5, 0.0])
        else:
            near = torch.exp(-((directions - torch.tensor([0.1, 0.05, -1.0])) ** 2).sum(1) / 0.02)
            moved = frame.vertices + x * near[:, None] * directions
        shown = replace(frame, vertices=moved, normals=vertex_normals(moved, faces))
        return tracer.picture(shown, (SIZE, SIZE), samples=1024, seed=1)

    ours, truth = _both_ways(draw, 0.5)
    assert abs(truth) > 0.05 and ours == pytest.approx(truth, rel=0.05)


def test_gradients_of_a_moving_outline() -> None:
    """Against a visible background most of the derivative is the outline's."""
    frame, tracer = _frame(whole=True), _tracer()
    _, faces, _ = _ball()
    edges = mesh_edges(faces)
    background = torch.linspace(0, 2, SIZE)[None, :, None].expand(SIZE, SIZE, 3)
    everywhere = torch.ones(SIZE, SIZE, dtype=torch.bool)

    def draw(x: torch.Tensor, outlines: bool) -> torch.Tensor:
        moved = replace(frame, vertices=frame.vertices + x * torch.tensor([1.0, 0.0, 0.0]))
        picture = tracer.picture(
            moved, (SIZE, SIZE), samples=1024, seed=1, where=everywhere, edges=edges if outlines else None
        )
        return picture[..., :3] + (1 - picture[..., 3:]) * background

    ours, truth = _both_ways(lambda x: draw(x, True), 2.0)
    without, _ = _both_ways(lambda x: draw(x, False), 2.0)
    assert ours == pytest.approx(truth, rel=0.05)
    assert abs(without - truth) > 0.3 * abs(truth)
    with torch.no_grad():  # outlines change gradients, not pictures
        assert torch.equal(draw(torch.zeros(()), True), draw(torch.zeros(()), False))


def test_moving_shadows_have_no_gradient() -> None:
    """The stated bias: a plate that moves over another one darkens it, and the gradient does not say so."""
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    ground, roof = corners * 100 + torch.tensor([0.0, 0, 500]), corners * 20 + torch.tensor([-60.0, 0, 440])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    tracer = RayTracer(torch.cat([faces, faces + 4]))
    towards = torch.tensor([0.0, 0.0, -1.0]).expand(8, 3).contiguous()
    skin = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.5]).expand(8, 5).contiguous()
    pose = Pose(torch.eye(3), torch.zeros(3), torch.tensor(120.0), torch.tensor([SIZE / 2.0, SIZE / 2.0]))
    where = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    where[:, SIZE // 2 :] = True  # the shadow, not the plate that casts it

    def draw(x: torch.Tensor) -> torch.Tensor:
        vertices = torch.cat([ground, roof + x * torch.tensor([1.0, 0.0, 0.0])])
        frame = Frame(vertices, towards, skin, lamp((-0.9, 0.0, 0.6), 0.05, 8.0), pose)
        return tracer.picture(frame, (SIZE, SIZE), samples=256, seed=0, where=where)

    ours, truth = _both_ways(draw, 3.0)
    assert truth < -0.5 and abs(ours) < 0.02 * abs(truth)


@pytest.mark.parametrize("bounces", [1, 2])
def test_a_face_is_what_the_path_tracer_makes_of_it(bounces: int) -> None:
    model = small_model()
    truth = example(model, light=lamp((0.8, 0.3, 0.5), 0.2, 6.0))
    from nextgenface.fitting.whitened import whiten

    white = whiten(model, "cpu")
    vertices = truth.vertices(white)
    camera = truth.pose.camera_space(vertices)
    skin = torch.full((4, 4, 5), 0.5)
    size = 96
    pose = truth.pose.scaled(size / 128)
    uv = torch.tensor(model.uv)
    tracer = RayTracer(white.faces, uv, bounces=bounces)
    frame = Frame(camera, vertex_normals(camera, white.faces), skin, truth.environment, pose)
    ours = tracer.picture(frame, (size, size), samples=256, seed=0).numpy()
    half = np.full((4, 4, 1), 0.5)
    K = np.array([[float(pose.focal), 0, size / 2], [0, float(pose.focal), size / 2], [0, 0, 1]])
    light = Environment(lobes_to_map(truth.environment, 64).numpy(), CAMERA_FROM_LIGHT)
    theirs = render_final(
        Geometry(camera.numpy(), model.faces, model.uv),
        Textures(np.full((4, 4, 3), 0.5), half, half),
        SceneCamera(K, np.eye(3), np.zeros(3), size, size),
        light, max_samples=256, noise_level=0.0, max_depth=bounces + 1,
    )  # fmt: skip
    assert np.abs(ours[..., 3] - theirs.alpha).mean() < 2e-3
    inside = theirs.alpha > 0.99
    assert ours[inside][:, :3].sum() == pytest.approx(theirs.rgb[inside].sum(), rel=0.01)
    # The two differ in how they brighten rough skin at the rim; elsewhere they must agree.
    gap = np.abs(ours[inside][:, :3] - theirs.rgb[inside]).mean() / theirs.rgb[inside].mean()
    assert gap < 0.03


def test_light_from_skin_to_skin_needs_bounces() -> None:
    """Two plates that face each other at an angle light each other."""
    a = torch.tensor([[0.0, -50, 500], [0, 50, 500], [-60, 50, 440], [-60, -50, 440]])
    b = a * torch.tensor([-1.0, 1, 1])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7]])
    vertices = torch.cat([a, b])
    normals = vertex_normals(vertices, faces)
    assert ((normals * vertices).sum(1) < 0).all()  # towards the camera
    skin = torch.tensor([0.8, 0.8, 0.8, 0.0, 0.5]).expand(8, 5).contiguous()
    pose = Pose(torch.eye(3), torch.zeros(3), torch.tensor(120.0), torch.tensor([SIZE / 2.0, SIZE / 2.0]))
    frame = Frame(vertices, normals, skin, torch.ones_like(lamp((0.0, 0, 1))), pose)
    tracers = [RayTracer(faces, bounces=n) for n in (1, 2, 3)]
    drawn = [tracer.picture(frame, (SIZE, SIZE), samples=256, seed=0) for tracer in tracers]
    levels = [float(picture[12, 6:18, 0].mean()) for picture in drawn]
    assert levels[1] > 1.1 * levels[0] and levels[1] < levels[2] < 1.1 * levels[1]


def test_seeds() -> None:
    frame, tracer = _frame(), _tracer()
    draw = lambda seed, samples=8: tracer.picture(frame, (SIZE, SIZE), samples=samples, seed=seed)  # noqa: E731
    one, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(one, again) and not torch.equal(one, other)
    many = torch.stack([draw(seed) for seed in range(40)])
    truth = draw(100, 1024)
    # the mean of noisy pictures is the picture
    spread = many.std(0)[..., :3].mean() / len(many) ** 0.5
    assert (many.mean(0) - truth)[..., :3].abs().mean() < 1.2 * spread + 1e-3


def test_steps_compile_nothing_anew() -> None:
    import drjit as dr

    frame, tracer = _frame(), _tracer()

    def step(seed: int) -> None:
        vertices = (frame.vertices + 0.1 * seed).requires_grad_()
        light = (frame.light * (1 + 0.1 * seed)).requires_grad_()
        pose = frame.pose.scaled(1 + 0.01 * seed)
        shown = replace(frame, vertices=vertices, light=light, pose=pose)
        tracer.picture(shown, (SIZE, SIZE), samples=4, seed=seed).sum().backward()

    step(0)
    step(1)
    with dr.scoped_set_flag(dr.JitFlag.KernelHistory, True):
        dr.kernel_history_clear()
        step(2)
        history = dr.kernel_history([dr.KernelType.JIT])
    assert history and all(entry["cache_hit"] for entry in history)


def test_passes_do_not_change_the_picture() -> None:
    frame, whole = _frame(), _tracer()
    skin = frame.skin.clone().requires_grad_()
    small = RayTracer(_ball()[1], _ball()[2], wavefront=1000)
    pictures = [t.picture(replace(frame, skin=skin), (SIZE, SIZE), samples=8, seed=2) for t in (whole, small)]
    assert torch.allclose(*pictures, atol=1e-6)
    gradients = [torch.autograd.grad((p[..., :3] * _weights()).sum(), skin)[0] for p in pictures]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4)


def test_out_of_memory_takes_smaller_passes_then_half_the_resolution(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame, tracer = _frame(), _tracer()
    reference = tracer.picture(frame, (SIZE - 1, SIZE), samples=64, seed=0)
    real = RayTracer.radiance

    def scarce(self: RayTracer, shown: Frame, pixel: torch.Tensor, width: int, **rest: int) -> torch.Tensor:
        if self.wavefront > 2**20 or len(pixel) > 200:
            raise RuntimeError("jit_malloc(): out of memory! Could not allocate 99 bytes")
        return real(self, shown, pixel, width, **rest)

    monkeypatch.setattr(RayTracer, "radiance", scarce)
    picture = tracer.picture(frame, (SIZE - 1, SIZE), samples=64, seed=0)
    assert tracer.wavefront == 2**16 and tracer.scale == 0.5
    assert picture.shape == reference.shape
    assert torch.equal(picture[0::2, 0::2][:11], picture[1::2, 1::2])  # blocks of two by two
    assert (picture - reference).abs().mean() < 0.05 * reference.mean()
    assert "passes of" in caplog.text and "0.5 of the resolution" in caplog.text


def test_out_of_memory_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: RayTracer, *_: object, **__: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(RayTracer, "radiance", never)
    with pytest.raises(EnvironmentProblem, match="maxResolution"):
        _tracer().picture(_frame(), (SIZE, SIZE), samples=4, seed=0)


def test_wrong_shapes_are_refused() -> None:
    """Rays would read beyond the end of the arrays."""
    frame = _frame()
    for name, value in {
        "skin": torch.zeros(7, 5), "vertices": frame.vertices[:-1], "normals": frame.normals[:5],
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=name):
            _tracer().picture(replace(frame, **{name: value}), (SIZE, SIZE), samples=4, seed=0)
    with pytest.raises(ValueError, match="uv"):
        RayTracer(_ball()[1]).picture(frame, (SIZE, SIZE), samples=4, seed=0)


def test_a_variant_without_derivatives_is_refused() -> None:
    mi.set_variant("scalar_rgb")
    with pytest.raises(EnvironmentProblem, match="deferred"):
        _tracer()
