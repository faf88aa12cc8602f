"""Fits of synthetic photos of the small face; each is made once and looked at by many tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from nextgenface.colour import linear_to_srgb
from nextgenface.events import NullListener
from nextgenface.fitting.photometric import fit_photometric
from nextgenface.fitting.pose import fit_pose
from nextgenface.fitting.state import FaceState, StageReport, initial_state
from nextgenface.fitting.whitened import whiten
from nextgenface.rendering.deferred import Pose, draw_vertices, shade_vertices, trace_transfer
from nextgenface.rendering.light import lobe_centres
from nextgenface.views import FaceView

from tests.solver.small_face import SIZE, Truth, example, lamp, photograph, quick_config, small_model


@dataclass(frozen=True)
class Fit:
    """Photos, what they show, and the states after stages 1 and 2."""

    truths: list[Truth]
    views: list[FaceView]
    posed: FaceState
    lit: FaceState
    report: StageReport


def posed_state(views: list[FaceView], *, shared: bool = False) -> FaceState:
    """Stage 1 of views."""
    start = initial_state(small_model(), views, shared=shared, seed=0, device="cpu")
    return fit_pose(small_model(), views, start, quick_config(), NullListener())[0]


def _fit(truths: list[Truth], *, shared: bool, steps: int) -> Fit:
    views = [photograph(small_model(), truth) for truth in truths]
    posed = posed_state(views, shared=shared)
    lit, report = fit_photometric(small_model(), views, posed, quick_config(iterStep2=steps), NullListener())
    return Fit(truths, views, posed, lit, report)


@lru_cache(maxsize=1)
def single_fit() -> Fit:
    """One photo lit from the right, 40 steps."""
    return _fit([example(small_model())], shared=False, steps=40)


@lru_cache(maxsize=1)
def shared_fit() -> Fit:
    """Two photos of one person, turned to both sides, lit from the right and from the left, 20 steps."""
    right = example(small_model(), yaw=0.5)
    left = example(small_model(), yaw=-0.5, light=lamp((-0.8, 0.4, 0.6)))
    return _fit([right, left], shared=True, steps=20)


def vertices_of(state: FaceState, photo: int = 0, *, mean_identity: bool = False) -> torch.Tensor:
    """Model-space vertices (V, 3) of a photo."""
    w = whiten(small_model(), "cpu")
    z = state.shape[state.identity_of(photo)] / w.shape_sd * (0.0 if mean_identity else 1.0)
    return w.vertices(z, state.expression[photo] / w.expression_sd)


def psnr(state: FaceState, view: FaceView, photo: int = 0) -> float:
    """sRGB PSNR (dB) of the statistical face of a state against a photo, where both show the face."""
    w = whiten(small_model(), "cpu")
    pose = Pose.from_euler(
        state.rotation[photo], state.translation[photo], state.focals[photo], state.principal[photo]
    )
    vertices = vertices_of(state, photo)
    camera = pose.camera_space(vertices)
    z = state.albedo[state.identity_of(photo)] / w.diffuse_sd
    gloss = 1.0 if state.gloss is None else state.gloss[state.identity_of(photo)]
    colour, level = w.colour(z), (w.level(z) * gloss).clamp(max=1)
    transfer = trace_transfer(vertices, w.faces, pose)
    shading = shade_vertices(camera, w.faces, state.environment[photo], colour, w.roughness, transfer)
    drawing = draw_vertices(
        camera, w.faces, pose.screen(camera), (SIZE, SIZE), shading, colour, level, w.roughness
    )
    photo_values = torch.tensor(view.image).view(-1, 3)[drawing.fragments.pixel]
    shown = (photo_values - 0.1).abs().max(1).values > 1e-6  # not the background
    gap = linear_to_srgb(drawing.radiance) - linear_to_srgb(photo_values)
    return float(-10 * torch.log10((gap[shown] ** 2).mean()))


def light_angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """Degrees between the mean directions of two environments (D, 3)."""
    one, two = (
        torch.nn.functional.normalize((lobe_centres() * e.mean(1)[:, None]).sum(0), dim=0) for e in (a, b)
    )
    return float(np.degrees(np.arccos(float((one @ two).clamp(-1, 1)))))
