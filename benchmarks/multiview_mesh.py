"""A mesh from ten views: from a visual hull, and from the face model.

{"hull": {"mean_mm", "p90_mm", "initial_mm", "back_p90_mm", "pieces", "defect", "heldout_psnr", "seconds",
"peak_mb"}, "face": {"mean_mm", "initial_mm", ...}, "heldout_psnr", "seconds", "peak_mb", "step_ms"}

Distances go from the true vertices that at least two learned views see (for the face: those of its frontal
skin) to the nearest point of the result; `initial_mm` is the same for the mesh it started from; back_p90_mm
from the result's vertices to the truth. PSNR in dB over sRGB code values inside the masks of the held-out
views; for the face, which is no more than a part of the object, where the result is drawn inside them.
step_ms: median time of a single-view step at 256 x 256 with about 20,000 faces. The numbers outside are those
of the hull.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nextgenface.cores import available_cores
from nextgenface.events import QuietListener
from nextgenface.geometry.ply import read_ply
from nextgenface.measure import measured
from nextgenface.multiview.datasets import read_views
from nextgenface.multiview.meshes import read_mesh
from nextgenface.multiview.method import Request
from nextgenface.multiview.neural_shading.initial import octahedral_sphere
from nextgenface.multiview.neural_shading.method import reconstruct
from nextgenface.multiview.neural_shading.optimise import NeuralMesh
from nextgenface.multiview.neural_shading.options import MeshOptions
from nextgenface.multiview.neural_shading.topology import components, defect
from nextgenface.rendering.raster import visible_faces
from nextgenface.views import ViewSet
from numpy.typing import NDArray
from scipy.spatial import cKDTree

NEAREST_FACES = 24  # whose exact distance is taken; the nearest point lies on one of them for even meshes
STEP_FACES, STEP_SIZE = 20_000, 256

Array = NDArray[np.float64]


def run(
    data: Path, out: Path, held_out: Sequence[str], options: dict[str, str], *, perturbed: bool
) -> dict[str, Any]:
    """Reconstruct twice, score, print; see above."""
    if perturbed:
        raise SystemExit("--perturbed is for the method texture.")
    views = read_views(data)
    learned, _ = views.split(held_out)
    truth = read_ply(data / "mesh.ply")
    assert truth.faces is not None
    vertices, faces = truth.vertices.astype(np.float64), truth.faces.astype(np.int64)
    seen = seen_by(vertices, faces, learned) >= 2
    skin = np.zeros(len(vertices), bool)
    skin[np.load(data / "face_vertices.npy")] = True
    scores: dict[str, Any] = {}
    for start, where in (("vh32", seen), ("face", seen & skin)):
        given = {**options, "initial_mesh": start}
        folder = out / start
        with measured() as cost:
            result = reconstruct(Request((data,), folder, None, tuple(held_out), given), QuietListener())
        scores["hull" if start == "vh32" else "face"] = {
            **judged(folder, vertices, faces, where),
            "heldout_psnr": round(json.loads(result.read_text())["metrics"]["heldout_psnr"], 2),
            "seconds": round(cost.seconds, 1),
            "peak_mb": round(cost.peak_mb),
        }
    hull = scores["hull"]
    scores |= {key: hull[key] for key in ("heldout_psnr", "seconds", "peak_mb")}
    scores["step_ms"] = step_ms(learned)
    return scores


def judged(
    folder: Path, vertices: Array, faces: NDArray[np.int64], where: NDArray[np.bool_]
) -> dict[str, Any]:
    """Distances of a result, and of the mesh it started from."""
    mesh = read_ply(folder / "mesh.ply")
    assert mesh.faces is not None
    result, result_faces = mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)
    start = read_mesh(folder / "meshes" / "mesh_000001.obj")
    there = distance(vertices[where], result, result_faces)
    back = distance(result, vertices, faces)
    return {
        "mean_mm": round(float(there.mean()), 3),
        "p90_mm": round(float(np.percentile(there, 90)), 3),
        "initial_mm": round(float(distance(vertices[where], start.vertices, start.faces).mean()), 3),
        "back_p90_mm": round(float(np.percentile(back, 90)), 3),
        "pieces": len(np.unique(components(len(result), result_faces))),
        "defect": defect(result, result_faces),
        "faces": len(result_faces),
    }


def seen_by(vertices: Array, faces: NDArray[np.int64], views: ViewSet) -> NDArray[np.int64]:
    """(V,) number of views in which a face of the vertex is seen."""
    count = np.zeros(len(vertices), np.int64)
    for view in views:
        screen, depth = view.camera.project(vertices)
        tensors = [torch.as_tensor(a, dtype=torch.float32) for a in (screen, depth)]
        owner = visible_faces(*tensors, torch.as_tensor(faces), view.camera.height, view.camera.width).numpy()
        visible = np.zeros(len(vertices), bool)
        visible[np.unique(faces[owner[owner >= 0]])] = True
        count += visible
    return count


def distance(points: Array, vertices: Array, faces: NDArray[np.int64]) -> Array:
    """(N,) distance of points to a triangle mesh: exact to the nearest few faces by their centres."""
    corner = vertices[faces]
    _, near = cKDTree(corner.mean(1)).query(points, k=min(NEAREST_FACES, len(faces)))
    best = np.full(len(points), np.inf)
    for k in range(near.shape[1]):
        best = np.minimum(best, _to_triangles(points, corner[near[:, k]]))
    return best


def _to_triangles(p: Array, corner: Array) -> Array:
    """(N,) distance of point i to triangle i: inside its prism the height, else the nearest side."""
    a, b, c = corner[:, 0], corner[:, 1], corner[:, 2]
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    inside = np.ones(len(p), bool)
    best = np.full(len(p), np.inf)
    for u, v in ((a, b), (b, c), (c, a)):
        side = v - u
        inside &= np.einsum("ij,ij->i", np.cross(side, p - u), normal) >= 0
        share = np.einsum("ij,ij->i", p - u, side) / np.maximum(np.einsum("ij,ij->i", side, side), 1e-12)
        nearest = u + np.clip(share, 0, 1)[:, None] * side
        best = np.minimum(best, np.linalg.norm(p - nearest, axis=1))
    return np.where(inside, np.abs(np.einsum("ij,ij->i", p - a, normal)), best)


def step_ms(views: ViewSet) -> float:
    """Median milliseconds of a step of the default options with one view of 256 x 256 and 20,000 faces."""
    torch.set_num_threads(available_cores())
    small, _ = views.scaled(STEP_SIZE / views[0].camera.width).normalised()
    sphere, faces = octahedral_sphere(round((STEP_FACES / 8) ** 0.5))
    mesh = NeuralMesh(0.7 * sphere, faces, small, MeshOptions(coarse_share=0.0), "cpu")
    times = []
    for i in range(14):
        begun = time.perf_counter()
        mesh.step(i)
        times.append(1000 * (time.perf_counter() - begun))
    return round(float(np.median(times[4:])), 1)
