"""What `speed.py` measures: the picture that is fitted, our step, and the timing of both ways."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nextgenface.config import Config
from nextgenface.cores import available_cores
from nextgenface.facemodel.model import FaceModel
from nextgenface.facemodel.registry import load_model
from nextgenface.fitting import photometric
from nextgenface.fitting.morphable import MorphableModel
from nextgenface.fitting.state import FaceState, initial_state
from nextgenface.landmarks.types import Landmarks
from nextgenface.photos import Photo
from nextgenface.rendering.light import frontal_environment, lobes_to_map
from nextgenface.rendering.llvm import Variant
from nextgenface.rendering.mitsuba_scene import (
    CAMERA_FROM_LIGHT,
    Environment,
    Geometry,
    SceneCamera,
    Textures,
    project,
)
from nextgenface.rendering.pathtracer import FinalPicture, render_final
from nextgenface.views import FaceView, face_view
from numpy.typing import NDArray
from reference_way import ReferenceStep
from scipy.spatial.transform import Rotation
from traced_step import TracedStep

log = logging.getLogger("speed")
SEED = 7


@dataclass(frozen=True)
class Case:
    """What both ways fit: a picture with its camera, and the state they start from."""

    model: FaceModel
    morphable: MorphableModel
    config: Config
    view: FaceView
    state: FaceState
    camera: SceneCamera  # of the fitted picture
    final: FinalPicture
    final_seconds: float


def make_case(size: int) -> Case:
    """Draw the head and set up its fit; deterministic."""
    config = Config()
    config.maxResolution = size
    config.device = "cpu"
    model = load_model(config)
    morphable = MorphableModel(model, int(config.textureResolution), "cpu")
    shape, albedo, level = morphable.sample(1, seed=SEED)
    vertices = shape[0].numpy()
    maps = [
        morphable.generateTextureFromAlbedo(values)[0].numpy()
        for values in (
            albedo,
            level,
            torch.from_numpy(model.roughness_mean)[None, :, None],
        )
    ]
    rotation = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_euler("yx", [15, -5], degrees=True).as_matrix()
    translation = np.array([0.0, 0.0, 700.0])
    # A portrait in which the crop around the face has about its own resolution.
    K = np.array([[2.4 * size, 0, size / 2], [0, 2.4 * size, size / 2], [0, 0, 1.0]])
    camera = SceneCamera(K, rotation, translation, size, size)
    light = Environment(lobes_to_map(frontal_environment(), 64).numpy(), rotation.T @ CAMERA_FROM_LIGHT)
    begun = time.perf_counter()
    final = render_final(Geometry(vertices, model.faces, model.uv), Textures(*maps), camera, light, seed=SEED)
    seconds = time.perf_counter() - begun

    view = view_of(model, vertices, camera, final.rgb, config)
    state = initial_state(model, [view], shared=False, seed=SEED, device="cpu")
    angles = Rotation.from_matrix(rotation).as_euler("xyz")  # R = Rz Ry Rx
    state = replace(
        state,
        rotation=torch.tensor(angles, dtype=torch.float32)[None],
        translation=torch.tensor(translation, dtype=torch.float32)[None],
    )
    fitted = SceneCamera(view.K(), rotation, translation, size, size)
    return Case(model, morphable, config, view, state, fitted, final, seconds)


def view_of(
    model: FaceModel, vertices: NDArray[Any], camera: SceneCamera, picture: NDArray[Any], config: Config
) -> FaceView:
    """The view that a perfect detector gives of a drawn head (V, 3), the lens known."""
    home = model.landmarks["mediapipe"]
    kept = np.nonzero(home >= 0)[0]
    points, depth = project(camera, vertices[home[kept]])
    focal = float(camera.K[0, 0])
    landmarks = Landmarks("mediapipe", kept, points, depth * focal / depth.mean(), np.ones(len(kept)))
    photo = Photo(Path("head.png"), "head", np.clip(picture, 0, 1), None, focal, "known")
    return face_view(photo, landmarks, config, camera.width)


class StageStep:
    """The step of stage 2 at full resolution, and what happens between steps."""

    def __init__(self, case: Case, engine: str = "deferred") -> None:
        config = Config()
        config.maxResolution, config.device, config.engine = case.config.maxResolution, "cpu", engine
        self.problem = photometric.PhotometricProblem(case.model, [case.view], case.state, [0], config)
        self.level = len(photometric.LEVELS) - 1
        self.cap = int(case.config.iterStep2)
        groups = [
            {"params": [p], "lr": 0.1 * photometric.RATES[n]} for n, p in self.problem.parameters().items()
        ]
        self.optimiser = torch.optim.Adam(groups)
        self.problem.trace()
        self.problem.solve_lights(self.level)

    def step(self) -> float:
        """One step; returns the loss before it."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.problem.loss(self.level)
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def solve_light(self) -> None:
        """What happens every LIGHT_EVERY steps."""
        self.problem.solve_lights(self.level)

    def trace(self) -> None:
        """What happens once per resolution level."""
        self.problem.trace()

    def per_step(self, step_ms: float, light_ms: float, trace_ms: float) -> float:
        """Milliseconds of a step with its share of the rest."""
        share = len(photometric.LEVELS) / max(self.cap, 1)
        return step_ms + light_ms / photometric.LIGHT_EVERY + trace_ms * share


def measure(case: Case, variant: Variant, repeats: int, with_reference: bool) -> dict[str, Any]:
    """All numbers of the report."""
    deferred = StageStep(case)
    slow: dict[str, Callable[[], Any]] = {}
    note = None
    if with_reference and variant.differentiable:
        slow = _traced_steps(case)
        for step in slow.values():
            step()  # compiles its kernels
            step()
    elif with_reference:
        note = f"not measured: {variant.name} has no derivatives ({variant.reason})"
    deferred.step()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*slow, "step", "light", "trace")}
    for k in range(max(1, repeats)):
        for name, step in slow.items():
            times[name].append(_milliseconds(step))
        for _ in range(3):
            times["step"].append(_milliseconds(deferred.step))
        times["light"].append(_milliseconds(deferred.solve_light))
        times["trace"].append(_milliseconds(deferred.trace))
        log.info("round %d of %d", k + 1, repeats)
    median, cpu = (
        {name: statistics.median(pair[k] for pair in pairs) for name, pairs in times.items() if pairs}
        for k in (0, 1)
    )
    ours = deferred.per_step(median["step"], median["light"], median["trace"])
    theirs = median.get("reference")
    report: dict[str, Any] = {
        "deferred": {
            "ms": round(ours, 1),
            "reference_way_ms": None if theirs is None else round(theirs, 1),
            "ratio": None if theirs is None else round(theirs / ours, 1),
            "step_ms": round(median["step"], 1),
            "light_ms": round(median["light"], 1),
            "trace_ms": round(median["trace"], 1),
            "cpu_ms": {name: round(value, 1) for name, value in cpu.items()},
        },
        "raytraced": {
            name: {"ms": round(median[name], 1), "ratio": round(median["reference"] / median[name], 1)}
            for name in slow
            if name != "reference"
        },
        "final_picture": {
            "seconds": round(case.final_seconds, 1),
            "samples": case.final.samples_used,
            "noise": round(case.final.noise, 4),
        },
        "size": case.camera.width,
        "vertices": case.model.vertex_count,
        "triangles": len(case.model.faces),
        "variant": variant.name,
        "cores": available_cores(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    if note:
        report["deferred"]["note"] = note
    return report


def _traced_steps(case: Case) -> dict[str, Callable[[], Any]]:
    """Steps that trace rays: the reference's way, ours in the same step, and stage 2 with our rays."""
    same = (
        case.morphable,
        case.camera,
        torch.from_numpy(case.view.image),
        torch.from_numpy(case.view.valid),
        case.state.sh[0],
    )
    return {
        "reference": ReferenceStep(*same).step,
        "same_step": TracedStep(*same, outlines=False).step,
        "same_step_with_outlines": TracedStep(*same, outlines=True).step,
        "stage_2_step": StageStep(case, engine="raytraced").step,
    }


def _milliseconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor time of one call; the second hardly depends on what else the machine does."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
