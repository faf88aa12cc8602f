"""Where the mesh starts: a visual hull, a sphere, a mesh file or the face model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import Config
from ...errors import ConfigError, NextGenFaceError
from ...views import Bounds, ViewSet
from ..datasets import DataSetError, check
from ..meshes import read_mesh
from .consistency import check_sides
from .face_start import FaceStart, fit_face, fitted_before
from .hull import HullError, estimate_bounds, visual_hull
from .topology import Faces, Vertices, compact, defect

SMALLEST_GRID = 8
LARGEST_GRID = 256
FACE_MARGIN = 0.15
"""Of the face's longest side: the box around a face start, when no other is known."""


@dataclass(frozen=True)
class Start:
    """The first mesh in the space of the views, the box that is normalised, and what is to be said.

    `face` is set when the mesh is the face model, whose topology is then kept.
    """

    vertices: Vertices
    faces: Faces
    bounds: Bounds
    notes: tuple[str, ...] = ()
    face: FaceStart | None = None


def initial_mesh(kind: str, views: ViewSet, config: Config, fitted: Path | None = None) -> Start:
    """The start that `kind` names (see `MeshOptions.initial_mesh`). Raises NextGenFaceError.

    `fitted`: results folder of the face fit that the views come from, if they do.
    """
    notes: list[str] = []
    if kind == "face":
        face = fit_face(views, config) if fitted is None else fitted_before(fitted)
        vertices = face.vertices
        bounds = views.bounds or Bounds.around(vertices, FACE_MARGIN)
        notes.append(f"started from the face model, found in {', '.join(face.seen_in)}")
        _check_cameras(views, vertices, notes)
        return Start(vertices, face.faces, bounds, tuple(notes), face)
    generated = re.fullmatch(r"(vh|sphere)(\d+)", kind)
    if generated is None:
        return _from_file(Path(kind), views)
    size = int(generated.group(2))
    low = SMALLEST_GRID if generated.group(1) == "vh" else 2
    if not low <= size <= LARGEST_GRID:
        raise ConfigError(f"initial_mesh {kind!r}: the number can be {low} to {LARGEST_GRID}.")
    bounds = views.bounds or estimate_bounds(views)
    if views.bounds is None:
        notes.append(f"no box was given; it was estimated as {_text(bounds)}")
    # Corners of a box lie outside the object; its core does not.
    _check_cameras(views, bounds.centre + 0.25 * (bounds.corners - bounds.centre), notes)
    notes += check_sides(views, bounds.centre)
    if generated.group(1) == "sphere":
        vertices, faces = octahedral_sphere(size)
        return Start(vertices * bounds.size.max() / 2 + bounds.centre, faces, bounds, tuple(notes))
    try:
        hull = visual_hull(ViewSet(views.views, bounds), size)
    except HullError as problem:
        raise _box_to_blame(views) or problem from None
    return Start(hull.vertices, hull.faces, bounds, (*notes, *hull.warnings))


def octahedral_sphere(subdivisions: int) -> tuple[Vertices, Faces]:
    """A unit sphere of 8 n^2 outward faces: an octahedron's sides cut n times, pushed out."""
    n = subdivisions
    corners = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], dtype=float)
    points: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    i, j = np.array([(i, j) for i in range(n + 1) for j in range(n + 1 - i)]).T
    number = np.full((n + 1, n + 1), -1)
    number[i, j] = np.arange(len(i))
    up = [(a, b) for a in range(n) for b in range(n - a)]
    down = [(a, b) for a in range(n - 1) for b in range(n - 1 - a)]
    for x in (0, 1):
        for y in (2, 3):
            for z in (4, 5):
                base = sum(len(p) for p in points)
                points.append(
                    ((n - i - j)[:, None] * corners[x] + i[:, None] * corners[y] + j[:, None] * corners[z])
                    / n
                )
                side = [(number[a, b], number[a + 1, b], number[a, b + 1]) for a, b in up]
                side += [(number[a + 1, b], number[a + 1, b + 1], number[a, b + 1]) for a, b in down]
                triangles = np.array(side) + base
                flip = (x == 1) ^ (y == 3) ^ (z == 5)
                faces.append(triangles[:, ::-1] if flip else triangles)
    everything = np.concatenate(points)
    same, inverse = np.unique(np.round(everything * n).astype(int), axis=0, return_inverse=True)
    unit = same / np.linalg.norm(same, axis=1, keepdims=True)
    return unit, inverse.reshape(-1)[np.concatenate(faces)].astype(np.int64)


def _from_file(path: Path, views: ViewSet) -> Start:
    mesh = read_mesh(path)
    vertices, faces = compact(mesh.vertices, mesh.faces)
    flaw = defect(vertices, faces)
    if flaw is not None:
        raise NextGenFaceError(
            f"{path} cannot be the initial mesh: {flaw}. In Blender, Mesh > Clean Up > Merge by Distance and "
            "Mesh > Normals > Recalculate Outside mend most meshes."
        )
    notes: list[str] = []
    _check_cameras(views, vertices, notes)
    return Start(vertices, faces, views.bounds or Bounds.around(vertices), tuple(notes))


def _check_cameras(views: ViewSet, points: Vertices, notes: list[str]) -> None:
    try:
        blind = check(views, points)
    except DataSetError as problem:
        raise _box_to_blame(views) or problem from None
    if 2 * len(blind) > len(views):
        raise _box_to_blame(views) or NextGenFaceError(
            f"{len(blind)} of {len(views)} views see next to nothing of the object. Cameras and initial mesh "
            "(or box) must be in one space."
        )
    if blind:
        notes.append(f"{', '.join(blind)} see(s) next to nothing of the object: check these cameras")


def _box_to_blame(views: ViewSet) -> HullError | None:
    """What to say when the masks meet outside the box that was given."""
    if views.bounds is None:
        return None
    try:
        where = estimate_bounds(ViewSet(views.views))
    except HullError:
        return None
    low, high = np.maximum(where.low, views.bounds.low), np.minimum(where.high, views.bounds.high)
    if (low < high).all():
        return None
    return HullError(
        f"The box, {_text(views.bounds)}, misses the object: the masks meet in {_text(where)}. Correct "
        "the box, or leave it out (bbox.txt, --input_bbox) and it is estimated."
    )


def _text(bounds: Bounds) -> str:
    low, high = (", ".join(f"{x:.1f}" for x in v) for v in (bounds.low, bounds.high))
    return f"({low}) to ({high})"
