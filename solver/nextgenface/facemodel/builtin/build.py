"""Puts the built-in face model together: template, fine mesh, statistics, expressions, appearance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sparse_linalg
from numpy.typing import NDArray

from ...geometry.laplacian import vertex_areas
from ...geometry.subdivision import loop_subdivide
from ..model import FaceModel
from . import indices as ix
from .appearance import Complexion, diffuse_colour, random_complexion, roughness, specular_level
from .expressions import build_expressions, gaze_offsets, jaw_motion
from .eyeballs import IRIS_ANGLE, PUPIL_ANGLE, Eyeballs, build_eyeballs
from .identity import SHAPE_SCALES, Scale, field_modes, principal_axes
from .regions import face_masks, sigmoid
from .sculpt import lift_lids_off_eyes, sculpt
from .teeth import Teeth, build_teeth
from .template import FLIP, TEMPLATE_COUNT, ControlMesh, build_control_mesh, symmetrise

MODEL_NAME = "nextgenface-builtin"
BUILDER_VERSION = 1  # raise it when the model changes: cached files of other versions are built anew
SUBDIVISION_LEVELS = 2
SHAPE_COUNT, EXPRESSION_COUNT, ALBEDO_COUNT = 120, 64, 60
LOCAL_EXPRESSION_COUNT = 24
COMPLEXION_DRAWS = 400
# Prior of a blendshape weight (standard deviation; the rest have the default) and how strongly the two sides
# of a pair move together. Shapes that mirror into their opposite are entered once.
EXPRESSION_DEVIATION, SIDE_CORRELATION = 0.5, 0.7
DEVIATIONS = {
    "jawForward": 0.2, "jawLeft": 0.2, "mouthLeft": 0.3, "mouthClose": 0.2, "mouthFunnel": 0.4,
    "mouthPucker": 0.4, "cheekPuff": 0.3, "noseSneer": 0.4, "eyeWide": 0.3, "eyeBlink": 0.4,
    "mouthRollUpper": 0.3, "mouthRollLower": 0.3,
}  # fmt: skip
OPPOSITES = ("jawRight", "mouthRight")
GAZE_DEVIATION, VERGENCE_DEVIATION = 0.3, 0.06
GAZE = {"Up": (0.35, 0.0), "Down": (-0.42, 0.0), "Out": (0.0, -0.55), "In": (0.0, 0.55)}  # right eye, radians
PUBLIC_REGIONS = (
    "skin", "eyes", "iris", "mouth", "teeth", "lips", "brows", "lids", "nostrils", "border", "beard",
    "cheeks",
)  # fmt: skip
RESIDUAL_SCALES = (Scale(40.0, (0.5,)), Scale(14.0, (0.45,)), Scale(6.0, (0.3,)))


def _fit_control_points(matrix: sp.csr_matrix, points: NDArray) -> NDArray:
    """Control points whose subdivided surface passes (almost) through `points` (n, 3)."""
    count = len(points)
    top = matrix[:count]
    weights = sp.diags(np.r_[np.ones(TEMPLATE_COUNT), np.full(count - TEMPLATE_COUNT, 0.1)])
    damping = 0.03
    system = (top.T @ weights @ top + damping * sp.identity(count)).tocsc()
    return sparse_linalg.spsolve(system, top.T @ weights @ points + damping * points)


class _Assembly:
    """Skin vertices first (template numbers 0..467 kept), then the two eyeballs, then the teeth."""

    def __init__(self, template: Path) -> None:
        self.control: ControlMesh = build_control_mesh(template)
        control = self.control
        self.matrix, faces, mirror = loop_subdivide(control.faces, control.mirror, SUBDIVISION_LEVELS)
        self.skin_mirror = mirror
        count = len(mirror)
        numbers = np.arange(len(control.mirror))
        spread = {k: np.asarray(self.matrix @ np.isin(numbers, v)) for k, v in control.groups.items()}
        skin = symmetrise(self.matrix @ _fit_control_points(self.matrix, control.vertices), mirror, FLIP)
        skin, spread["nostrils"] = sculpt(skin, faces, spread, control.eye_centres)
        self.skin_points = symmetrise(skin, mirror, FLIP)
        self.skin_faces = faces
        self.eyes: Eyeballs = build_eyeballs(control.eye_centres[0])
        self.teeth: Teeth = build_teeth(0.5 * (self.skin_points[13] + self.skin_points[14]))
        parts: tuple[Eyeballs | Teeth, ...] = (self.eyes, self.teeth)
        starts = (count, count + len(self.eyes.vertices))
        self.points = np.concatenate([self.skin_points, *(p.vertices for p in parts)])
        self.faces = np.concatenate([faces, *(p.faces + s for p, s in zip(parts, starts, strict=True))])
        self.mirror = np.concatenate([mirror, *(p.mirror + s for p, s in zip(parts, starts, strict=True))])
        plane = np.concatenate([self.matrix @ control.uv, *(p.uv for p in parts)]) - [0.5, 0]
        self.uv = symmetrise(plane, self.mirror, np.array([-1.0, 1.0])) + [0.5, 0]
        self.points = symmetrise(self.points, self.mirror, FLIP)
        self.groups = {k: self.on_all(v) for k, v in spread.items()}
        self.groups["eyes"] = self.on_all(np.zeros(count), eyes=np.ones(len(self.eyes.vertices)))
        self.groups["teeth"] = self.on_all(np.zeros(count), teeth=np.ones(len(self.teeth.vertices)))
        self.groups["mouth"] = np.maximum(self.groups["mouth"], self.groups["teeth"])
        self.areas = vertex_areas(self.points, self.faces)

    @property
    def skin_count(self) -> int:
        return len(self.skin_mirror)

    def eye_rows(self, side: int) -> slice:
        """Vertices of the right (0) or left (1) eyeball."""
        half = len(self.eyes.angle) // 2
        start = self.skin_count + side * half
        return slice(start, start + half)

    def on_all(self, skin: NDArray, eyes: NDArray | None = None, teeth: NDArray | None = None) -> NDArray:
        """A field (…, V, …) of all vertices from one of the skin; zero on eyes and teeth unless given."""
        parts = [skin]
        for values, part in ((eyes, self.eyes), (teeth, self.teeth)):
            parts.append(np.zeros((len(part.vertices), *skin.shape[1:])) if values is None else values)
        return np.concatenate(parts)

    def carry_parts(self, skin_offsets: NDArray) -> NDArray:
        """Offsets (N, V, 3) of all vertices from the skin's; eyes and teeth ride rigidly on lids and lips."""
        right = np.array(ix.RIGHT_EYE)
        lips = np.array(ix.LIPS_INNER)
        half = len(self.eyes.angle) // 2
        parts = [skin_offsets]
        for loop, size in ((right, half), (self.skin_mirror[right], half), (lips, len(self.teeth.vertices))):
            mean = skin_offsets[:, loop].mean(1, keepdims=True)
            parts.append(np.repeat(mean, size, axis=1))
        return np.concatenate(parts, axis=1)


def _masks(a: _Assembly) -> dict[str, NDArray]:
    masks = face_masks(a.points, a.points[:TEMPLATE_COUNT], a.groups)
    far = np.pi  # no part of an eye
    angle = a.on_all(np.full(a.skin_count, far), a.eyes.angle, np.full(len(a.teeth.gum), far))
    masks["iris"] = sigmoid((IRIS_ANGLE - angle) / 0.012)
    masks["pupil"] = sigmoid((PUPIL_ANGLE - angle) / 0.012)
    masks["limbus"] = np.exp(-(((angle - IRIS_ANGLE) / 0.06) ** 2))
    masks["iris_inner"] = sigmoid((0.62 * IRIS_ANGLE - angle) / 0.04)
    masks["gum"] = a.on_all(np.zeros(a.skin_count), teeth=a.teeth.gum)
    masks["tooth_gap"] = a.on_all(np.zeros(a.skin_count), teeth=a.teeth.gap)
    # The white of the eye darkens towards the lids (their shadow and the curvature of the ball).
    height = np.zeros(len(angle))
    for side, centre in enumerate(a.control.eye_centres):
        rows = a.eye_rows(side)
        height[rows] = np.abs(a.points[rows, 1] - centre[1]) / 5.0
    masks["eye_shade"] = np.clip(height**2 + np.clip((angle - 0.75) / 0.5, 0, 1), 0, 1) * masks["eyes"]
    return masks


def _shape(a: _Assembly) -> tuple[NDArray, NDArray]:
    weights = vertex_areas(a.skin_points, a.skin_faces)
    skin = {k: v[: a.skin_count] for k, v in a.groups.items()}
    weights = weights * (1 - 0.85 * np.clip(skin["border"], 0, 1)) * (1 - 0.9 * np.clip(skin["mouth"], 0, 1))
    modes, _ = field_modes(a.skin_points, a.skin_mirror, weights, SHAPE_SCALES, (-1.0, 1.0, 1.0), SHAPE_COUNT)
    return principal_axes(a.carry_parts(modes), a.mirror, FLIP, SHAPE_COUNT)


def _blendshapes(a: _Assembly) -> dict[str, NDArray]:
    shapes: dict[str, NDArray] = {}
    lower = np.zeros(len(a.teeth.vertices))
    lower[len(lower) // 2 :] = 1
    skin_weight = np.clip(1 - 2.5 * a.groups["lid_rim"][: a.skin_count], 0, 1)
    for name, offsets in build_expressions(a.control).items():
        fine = a.matrix @ offsets
        if name.startswith(("eye", "cheekSquint")):
            moved = lift_lids_off_eyes(a.skin_points + fine, a.control.eye_centres, skin_weight)
            touched = np.linalg.norm(fine, axis=1) > 1e-3
            fine = np.where(touched[:, None], moved - a.skin_points, 0)
        teeth = jaw_motion(name, a.teeth.vertices, lower, a.points) if name.startswith("jaw") else None
        shapes[name] = a.on_all(fine, teeth=teeth)
    for name, (pitch, yaw) in GAZE.items():
        for side, suffix in ((0, "_R"), (1, "_L")):
            offsets = np.zeros_like(a.points)
            rows = a.eye_rows(side)
            turn = yaw if side == 0 else -yaw
            offsets[rows] = gaze_offsets(a.points[rows], a.control.eye_centres[side], pitch, turn)
            shapes[f"eyeLook{name}{suffix}"] = offsets
    for name in list(shapes):
        twin = name[:-2] + ("_L" if name.endswith("_R") else "_R")
        if name.endswith("_R"):
            shapes[twin] = shapes[name][a.mirror] * FLIP
        elif not name.endswith("_L") and not name.endswith(("Left", "Right")):
            shapes[name] = symmetrise(shapes[name], a.mirror, FLIP)
    return dict(sorted(shapes.items()))


def _expression(a: _Assembly, shapes: dict[str, NDArray]) -> tuple[NDArray, NDArray]:
    """Basis from the blendshapes plus free local motion around mouth and eyes."""
    together, apart = np.sqrt((1 + SIDE_CORRELATION) / 2), np.sqrt((1 - SIDE_CORRELATION) / 2)
    vectors = []
    for name, offsets in shapes.items():
        if name.startswith("eyeLook") or name.endswith("_L") or name in OPPOSITES:
            continue
        deviation = DEVIATIONS.get(name.removesuffix("_R"), EXPRESSION_DEVIATION)
        if name.endswith("_R"):
            left = shapes[name[:-2] + "_L"]
            vectors += [deviation * together * (offsets + left), deviation * apart * (offsets - left)]
        else:
            vectors.append(deviation * offsets)
    # Both eyes look the same way, nearly.
    vectors.append(GAZE_DEVIATION * (shapes["eyeLookUp_R"] + shapes["eyeLookUp_L"]))
    vectors.append(GAZE_DEVIATION * (shapes["eyeLookIn_R"] + shapes["eyeLookOut_L"]))
    vectors.append(VERGENCE_DEVIATION * (shapes["eyeLookIn_R"] + shapes["eyeLookIn_L"]))
    landmarks = a.points[:TEMPLATE_COUNT]
    eye = landmarks[list(ix.RIGHT_EYE)]
    both_eyes = np.concatenate([eye, eye * FLIP])

    def activity(points: NDArray) -> NDArray:
        mouth = np.exp(-0.5 * (np.linalg.norm(points - landmarks[13], axis=1) / 24) ** 2)
        nearest = np.linalg.norm(points[:, None] - both_eyes[None], axis=2).min(1)
        return mouth + 0.6 * np.exp(-0.5 * (nearest / 9) ** 2)

    scales = (Scale(16.0, (1.3, 1.6, 1.2)), Scale(8.0, (0.5, 0.7, 0.5)))
    weights = vertex_areas(a.skin_points, a.skin_faces)
    local, _ = field_modes(
        a.skin_points, a.skin_mirror, weights, scales, (-1.0, 1.0, 1.0), LOCAL_EXPRESSION_COUNT,
        samples=500, correlation=0.5, amplitude=activity,
    )  # fmt: skip
    vectors += [a.on_all(mode) for mode in local]
    return principal_axes(np.array(vectors), a.mirror, FLIP, EXPRESSION_COUNT)


def _albedo(a: _Assembly, masks: dict[str, NDArray], seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Mean (V, 3), basis and variance of the diffuse colour from random complexions around the mean face."""
    rng = np.random.default_rng(seed)
    modes, _ = field_modes(
        a.points, a.mirror, a.areas, RESIDUAL_SCALES, (1.0,), 45, samples=500, correlation=0.6
    )
    modes = modes[:, :, 0]
    mean = diffuse_colour(masks, Complexion())
    draws = []
    for _ in range(COMPLEXION_DRAWS):
        residual = (rng.normal(size=(2, len(modes))) @ modes).T
        draws.append(diffuse_colour(masks, random_complexion(rng), residual).astype(np.float32))
    scatter = np.array(draws, dtype=np.float32)
    centre = scatter.mean(0)
    # The mean is the average face of the draws in overall colour, with the crisp features of one clean face.
    skin = masks["skin"] * a.areas
    gain = (centre * skin[:, None]).sum(0) / (mean * skin[:, None]).sum(0)
    mean = np.where((masks["eyes"] + masks["teeth"])[:, None] > 0.5, mean, mean * gain)
    mean = symmetrise(mean, a.mirror, 1.0)
    scatter -= centre
    # Random faces have no preferred side: every draw counts together with its mirror image.
    basis, variance = principal_axes(
        np.asarray(scatter, dtype=np.float64) / np.sqrt(COMPLEXION_DRAWS), a.mirror, np.ones(3), ALBEDO_COUNT
    )
    return mean, basis, variance


def read_landmark_table(path: Path) -> NDArray[np.int64]:
    """Template vertex per landmark from a two-column text file (landmark number, vertex, -1 = none)."""
    rows = np.loadtxt(path, dtype=np.int64, comments="#", ndmin=2)
    table = np.full(int(rows[:, 0].max()) + 1, -1, dtype=np.int64)
    table[rows[:, 0]] = rows[:, 1]
    return table


def build_model(assets: Path, seed: int = 0) -> FaceModel:
    """Builds the model from `assets` (canonical_face.npz, landmarks/ibug68.txt). Takes some ten seconds.

    The result has no hash yet; it gets one when it is written to a file.
    """
    a = _Assembly(assets / "canonical_face.npz")
    masks = _masks(a)
    shape_basis, shape_variance = _shape(a)
    shapes = _blendshapes(a)
    expression_basis, expression_variance = _expression(a, shapes)
    diffuse_mean, diffuse_basis, diffuse_variance = _albedo(a, masks, seed)
    level = symmetrise(specular_level(masks)[:, None], a.mirror, 1.0)
    regions = {
        k: symmetrise(masks[k][:, None], a.mirror, 1.0)[:, 0].astype(np.float32) for k in PUBLIC_REGIONS
    }

    def single(values: NDArray) -> NDArray[np.float32]:
        return np.ascontiguousarray(values, dtype=np.float32)

    return FaceModel(
        name=MODEL_NAME,
        hash="",
        shape_mean=single(a.points),
        shape_basis=single(shape_basis),
        shape_variance=single(shape_variance),
        expression_mean=np.zeros_like(a.points, dtype=np.float32),
        expression_basis=single(expression_basis),
        expression_variance=single(expression_variance),
        diffuse_mean=single(np.clip(diffuse_mean, 0, 1)),
        diffuse_basis=single(diffuse_basis),
        diffuse_variance=single(diffuse_variance),
        specular_mean=single(np.repeat(level, 3, axis=1)),
        specular_basis=np.zeros((len(diffuse_variance), len(a.points), 3), np.float32),
        roughness_mean=single(symmetrise(roughness(masks)[:, None], a.mirror, 1.0)[:, 0]),
        faces=a.faces.astype(np.int64),
        uv=single(a.uv),
        mirror=a.mirror.astype(np.int64),
        landmarks={
            "mediapipe": np.arange(TEMPLATE_COUNT, dtype=np.int64),
            "ibug68": read_landmark_table(assets / "landmarks" / "ibug68.txt"),
        },
        regions=regions,
        blendshape_names=tuple(shapes),
        blendshape_deltas=single(np.array(list(shapes.values()))),
    )
