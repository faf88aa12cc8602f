"""Remeshing under fire: random good and damaged meshes; nothing may hang, crash or hand on a bad mesh.

    python benchmarks/remesh_fuzz.py [--count 500] [--seconds 20] [--seed 0]

Prints one JSON object: how many were remeshed and refused (by reason), the longest time, and `accepted_bad`,
which must be 0: accepted results are checked once more, by gpytoolbox and by distances to the input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

import numpy as np
from gpytoolbox import non_manifold_edges
from nextgenface.multiview.neural_shading.initial import octahedral_sphere
from nextgenface.multiview.neural_shading.remesh import Remesher, RemeshError
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]


def random_mesh(rng: np.random.Generator) -> Mesh:
    """A sphere of random size and noise, damaged in none to three of the ways that happen."""
    vertices, faces = octahedral_sphere(int(rng.integers(2, 14)))
    vertices = vertices * rng.uniform(0.1, 10) * rng.uniform(0.3, 1.5, 3)
    edge = np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1).mean()
    vertices = vertices + rng.normal(size=vertices.shape) * edge * rng.choice([0, 0.05, 0.3, 1.0])
    for _ in range(rng.integers(0, 4)):
        vertices, faces = DAMAGE[rng.integers(len(DAMAGE))](rng, vertices, faces)
    return vertices, faces


def _merge(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    a, b = rng.integers(len(v), size=2)
    return v, np.where(f == a, b, f)


def _flatten(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    v = v.copy()
    row = f[rng.integers(len(f))]
    v[row[1]] = v[row[0]]
    return v, f


def _sliver(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    v = v.copy()
    row = f[rng.integers(len(f))]
    v[row[2]] = (v[row[0]] + v[row[1]]) / 2
    return v, f


def _not_a_number(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    v = v.copy()
    v[rng.integers(len(v)), rng.integers(3)] = rng.choice([np.nan, np.inf, -np.inf, 1e200])
    return v, f


def _double(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    return v, np.concatenate([f, f[rng.integers(len(f), size=2)]])


def _fin(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    row = f[rng.integers(len(f))]
    return np.concatenate([v, v[row[:1]] * 1.5]), np.concatenate([f, [[row[0], row[1], len(v)]]])


def _flip(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    f = f.copy()
    k = rng.integers(len(f))
    f[k] = f[k, ::-1]
    return v, f


def _hole(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    return v, np.delete(f, rng.integers(len(f), size=int(rng.integers(1, 4))), 0)


def _spike(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    v = v.copy()
    v[rng.integers(len(v))] *= rng.uniform(3, 30)
    return v, f


def _bad_index(rng: np.random.Generator, v: NDArray, f: NDArray) -> Mesh:
    f = f.copy()
    f[rng.integers(len(f)), 0] = len(v) + int(rng.integers(5))
    return v, f


DAMAGE = [_merge, _flatten, _sliver, _not_a_number, _double, _fin, _flip, _hole, _spike, _bad_index]


def is_bad(before: Mesh, after: Mesh) -> bool:
    """Whether an accepted result is not the input's surface as a clean mesh."""
    vertices, faces = after
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        return True
    if len(non_manifold_edges(faces.astype(np.int32))):
        return True
    corner = vertices[faces]
    if np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).min() <= 0:
        return True
    size = np.ptp(before[0], axis=0).max()
    return bool(cKDTree(vertices).query(before[0])[0].mean() > 0.2 * size)


def main() -> int:
    """Entry point; exit code 1 when a bad mesh was accepted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500, help="number of meshes (500)")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of one remeshing (20)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    refused: Counter[str] = Counter()
    longest, accepted, bad = 0.0, 0, 0
    with Remesher(options.seconds) as remesher:
        for _ in range(options.count):
            vertices, faces = random_mesh(rng)
            finite = np.where(np.isfinite(vertices), vertices, 0.0)
            inside = faces[(faces < len(vertices)).all(1)]
            sides = np.linalg.norm(finite[inside[:, 0]] - finite[inside[:, 1]], axis=1)
            edge = float(np.median(sides)) * float(rng.choice([0.3, 0.5, 1.0, 2.0]))
            begun = time.monotonic()
            try:
                result = remesher.remesh(vertices, faces, edge, max_faces=40000)
                accepted += 1
                bad += is_bad((vertices, faces), result)
            except RemeshError as problem:
                refused[str(problem).split(":")[0].split("(")[0].strip(" .")[:60]] += 1
            longest = max(longest, time.monotonic() - begun)
    print(
        json.dumps(
            {
                "count": options.count,
                "accepted": accepted,
                "accepted_bad": bad,
                "refused": dict(refused.most_common()),
                "longest_seconds": round(longest, 2),
            },
            indent=1,
        )
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
