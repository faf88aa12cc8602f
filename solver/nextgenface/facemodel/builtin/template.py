"""The control mesh of the built-in face: the 468-point template with mouth, lids, mouth bag and border.

The template is a closed disc. Eyes and mouth are cut out, the mouth is closed, the lids get a rim that
reaches behind the surface of the eyeball, the lips lead into a bag, and rings are added around the oval
that follow the skull, the cheeks towards the ears and the underside of the jaw. Everything is built on the
subject's right half and mirrored, so the mesh is mirror-exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...geometry.laplacian import SmoothField
from . import indices as ix

FLIP = np.array([-1.0, 1.0, 1.0])
TEMPLATE_COUNT = 468
EYE_RADIUS = 12.0  # mm, an adult eye
BORDER_RINGS = 4
SKULL_CENTRE, SKULL_AXES = np.array([0.0, 30.0, -30.0]), np.array([78.0, 92.0, 95.0])  # mm


@dataclass
class ControlMesh:
    """vertices (n, 3) mm, uv (n, 2) with v up, faces (f, 3), mirror (n,), vertex groups, eye centres."""

    vertices: NDArray
    uv: NDArray
    faces: NDArray
    mirror: NDArray
    groups: dict[str, NDArray]
    eye_centres: NDArray  # (2, 3): subject's right, subject's left


def load_template(path: Path) -> tuple[NDArray, NDArray, NDArray]:
    """vertices (468, 3) mm, uv (468, 2) with v up, faces (898, 3) of the canonical face.

    Raises ModelError when the file is missing or is not the template.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            vertices, uv, faces = (
                data["V"].astype(float),
                data["uv"].astype(float),
                data["F"].astype(np.int64),
            )
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"The face template {path} cannot be read ({error}). Reinstall NextGenFace."
        ) from error
    if vertices.shape != (TEMPLATE_COUNT, 3) or faces.max() >= TEMPLATE_COUNT:
        raise ModelError(f"{path} is not the 468-vertex face template. Reinstall NextGenFace.")
    return vertices, np.stack([uv[:, 0], 1 - uv[:, 1]], 1), faces


def mirror_table(vertices: NDArray, tolerance: float = 1e-3) -> NDArray:
    """Index of the vertex at the mirrored place, (n,)."""
    distance = np.linalg.norm(vertices[:, None] - (vertices * FLIP)[None], axis=2)
    mirror = distance.argmin(0)
    if distance.min(0).max() > tolerance or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise ModelError("The face template is not mirror-symmetric. Reinstall NextGenFace.")
    return mirror


def symmetrise(values: NDArray, mirror: NDArray, flip: NDArray | float) -> NDArray:
    """Average of a per-vertex field with its mirror image; exact to the last bit afterwards."""
    result = 0.5 * (values + values[mirror] * flip)
    right = np.arange(len(mirror)) <= mirror
    result[mirror[right]] = result[right] * flip
    on_plane = mirror == np.arange(len(mirror))
    if np.ndim(flip):
        result[np.ix_(on_plane, np.asarray(flip) < 0)] = 0.0
    return result


class _Builder:
    """Grows the template: rings of new vertices and the triangles between them, both sides at once."""

    def __init__(self, vertices: NDArray, uv: NDArray, faces: NDArray, mirror: NDArray) -> None:
        self.vertices, self.uv, self.mirror = list(vertices), list(uv), list(mirror)
        self.faces = [tuple(f) for f in faces]

    def ring(self, positions: NDArray, uv: NDArray, mirror_local: NDArray | None) -> NDArray:
        """Adds vertices; mirror_local (L,) pairs them within the ring, None adds a mirrored ring too."""
        start, count = len(self.vertices), len(positions)
        ids = start + np.arange(count)
        self.vertices += list(positions)
        self.uv += list(uv)
        if mirror_local is not None:
            self.mirror += list(start + mirror_local)
            return ids
        self.mirror += list(ids + count)
        self.vertices += list(positions * FLIP)
        self.uv += list(np.array([1.0, 0.0]) + uv * np.array([-1.0, 1.0]))
        self.mirror += list(ids)
        return ids

    def triangle(self, corners: tuple[int, int, int]) -> None:
        """Adds a triangle and its mirror image."""
        self.faces.append(corners)
        a, b, c = (self.mirror[k] for k in corners)
        if {a, b, c} != set(corners):
            self.faces.append((c, b, a))

    def bridge(self, inner: NDArray, outer: NDArray, flipped: bool, right_only: bool) -> None:
        """Two triangles per side between two rings; for loops across the mid-plane only the right half."""
        for i in range(len(inner)):
            j = (i + 1) % len(inner)
            if right_only and max(self.vertices[inner[i]][0], self.vertices[inner[j]][0]) > 1e-9:
                continue
            a, b, c, d = int(inner[i]), int(inner[j]), int(outer[j]), int(outer[i])
            for corners in ((a, b, c), (a, c, d)):
                self.triangle(corners[::-1] if flipped else corners)

    def runs_with_faces(self, loop: NDArray) -> bool:
        """True if some face uses the directed edge loop[0] -> loop[1], so that new ones must oppose it."""
        first, second = int(loop[0]), int(loop[1])
        return any((first, second) in zip(f, f[1:] + f[:1], strict=True) for f in self.faces)


def _local_mirror(loop: NDArray, mirror: NDArray) -> NDArray:
    position = {int(v): i for i, v in enumerate(loop)}
    return np.array([position[int(mirror[v])] for v in loop])


def _cut(faces: NDArray, loops: list[NDArray]) -> NDArray:
    inside = np.zeros(len(faces), bool)
    for loop in loops:
        inside |= np.isin(faces, loop).all(1)
    return faces[~inside]


def _open_eyes(vertices: NDArray, faces: NDArray, mirror: NDArray) -> NDArray:
    """The template looks with half-closed eyes (6.7 mm); open them to about 9.5 mm, lids carried smoothly."""
    loop = np.array(ix.RIGHT_EYE)
    middle = vertices[loop].mean(0)
    half_width = np.ptp(vertices[loop, 0]) / 2
    known = np.linalg.norm((vertices - middle) * FLIP, axis=1) > 22
    known &= np.linalg.norm(vertices - middle * FLIP, axis=1) > 22
    values = np.zeros_like(vertices)
    for sign in (1, -1):
        row = loop[1:8] if sign > 0 else loop[9:16]
        profile = np.sqrt(np.clip(1 - ((vertices[row, 0] - middle[0]) / half_width) ** 2, 0, 1))
        values[row, 1] = (1.75 if sign > 0 else -0.85) * profile
        values[mirror[row]] = values[row] * FLIP
        known[row] = known[mirror[row]] = True
    corners = loop[[0, 8]]
    known[corners] = known[mirror[corners]] = True
    return vertices + SmoothField(vertices, faces).solve(known, values)


def _close_mouth(vertices: NDArray, faces: NDArray, mirror: NDArray) -> NDArray:
    """Brings the two inner lip contours together, 0.1 mm apart; lips and skin follow smoothly."""
    gap = 0.12
    known = np.linalg.norm(vertices - vertices[13], axis=1) > 36
    values = np.zeros_like(vertices)
    known[[61, 291, 78, 308, 2, 98, 327, 18, 200]] = True
    for upper, lower in zip(ix.UPPER_LIP_ROWS[3], ix.LOWER_LIP_ROWS[3], strict=True):
        seam = 0.45 * vertices[upper] + 0.55 * vertices[lower]
        for vertex, offset in ((upper, gap / 2), (lower, -gap / 2)):
            values[vertex] = seam + [0, offset, -0.6] - vertices[vertex]
            values[mirror[vertex]] = values[vertex] * FLIP
            known[[vertex, mirror[vertex]]] = True
    return vertices + SmoothField(vertices, faces).solve(known, values)


def _open_mouth_in_uv(uv: NDArray, vertices: NDArray, faces: NDArray, mirror: NDArray) -> NDArray:
    """Makes room for the mouth bag in the texture: the lip line becomes an almond."""
    known = np.linalg.norm(vertices - vertices[13], axis=1) > 40
    known[[61, 291, 78, 308, 2, 98, 327, 18]] = True
    values = np.zeros((len(uv), 3))
    for rows, sign in ((ix.UPPER_LIP_ROWS, 1), (ix.LOWER_LIP_ROWS, -1)):
        row = np.array(rows[3])
        profile = np.cos(np.pi / 2 * np.arange(5) / 5.2)
        values[row, 1] = sign * 0.017 * profile
        values[mirror[row], 1] = values[row, 1]
        known[row] = known[mirror[row]] = True
    flat = np.c_[uv * 150, np.zeros(len(uv))]  # the solve is done in the texture plane, in about mm
    return uv + SmoothField(flat, faces).solve(known, values)[:, :2]


def eye_centre(vertices: NDArray) -> NDArray:
    """Centre (3,) of the right eyeball: the lids rest about a millimetre in front of its surface."""
    loop = vertices[list(ix.RIGHT_EYE)]
    upper, lower = vertices[159], vertices[145]
    x = 0.5 * (loop[0, 0] + loop[8, 0]) + 0.6
    y = 0.5 * (upper[1] + lower[1]) - 0.2
    half_gap = 0.5 * (upper[1] - lower[1])
    z = 0.5 * (upper[2] + lower[2]) - 1.3 - np.sqrt(EYE_RADIUS**2 - half_gap**2)
    return np.array([x, y, z])


def _lid_rims(builder: _Builder, centre: NDArray) -> NDArray:
    """Inner lid edge and a hidden ring inside the eyeball; returns their vertices (both sides)."""
    loop = np.array(ix.RIGHT_EYE)
    outer = np.array([builder.vertices[i] for i in loop])
    uv = np.array([builder.uv[i] for i in loop])
    uv_middle = uv.mean(0)
    flipped = builder.runs_with_faces(loop)
    towards = (centre + [0, 0, EYE_RADIUS]) - outer
    towards[:, 2] = 0
    rim = outer + 0.05 * towards + np.array([0, 0, -1.1])
    ray = rim - centre
    distance = np.linalg.norm(ray, axis=1, keepdims=True)
    # At the corners the lids lie beside the eyeball; there the rim simply leads inwards.
    rim = centre + ray / distance * np.clip(distance, EYE_RADIUS + 0.25, None)
    hidden = outer + 0.16 * towards
    ray = np.c_[hidden[:, :2], rim[:, 2] - 3] - centre
    hidden = centre + ray / np.linalg.norm(ray, axis=1, keepdims=True) * (EYE_RADIUS - 1.2)
    previous, added = loop, []
    for positions, shrink in ((rim, 0.9), (hidden, 0.72)):
        ring = builder.ring(positions, uv_middle + (uv - uv_middle) * shrink, None)
        builder.bridge(previous, ring, flipped, right_only=False)
        previous = ring
        added.append(ring)
    return np.concatenate([np.r_[r, np.array(builder.mirror)[r]] for r in added])


def _mouth_bag(builder: _Builder) -> NDArray:
    loop = np.array(ix.LIPS_INNER)
    lips = np.array([builder.vertices[i] for i in loop])
    uv = np.array([builder.uv[i] for i in loop])
    middle, uv_middle = lips.mean(0), uv.mean(0)
    upwards = np.array([0.0] + [1.0] * 9 + [0.0] + [-1.0] * 9)
    local = _local_mirror(loop, np.array(builder.mirror))
    flipped = builder.runs_with_faces(loop)
    previous, added = loop, []
    for narrow, back, spread, shrink in (
        (1.0, 2.2, 0.6, 0.8),
        (1.18, 4.5, 8.0, 0.6),
        (1.22, 28.0, 13.0, 0.36),
    ):
        positions = lips.copy()
        positions[:, 0] *= narrow
        positions[:, 1] += upwards * spread
        positions[:, 2] -= back
        ring = builder.ring(positions, uv_middle + (uv - uv_middle) * shrink, local)
        builder.bridge(previous, ring, flipped, right_only=True)
        previous = ring
        added.append(ring)
    end = builder.ring(
        (middle + [0, 0, -38])[None] * [0, 1, 1], (uv_middle * [0, 1] + [0.5, 0])[None], np.zeros(1, int)
    )
    for i in range(len(loop)):
        a, b = int(previous[i]), int(previous[(i + 1) % len(loop)])
        if max(builder.vertices[a][0], builder.vertices[b][0]) <= 1e-9:
            corners = (a, b, int(end[0]))
            builder.triangle(corners[::-1] if flipped else corners)
    return np.concatenate([*added, end])


def _smooth_step(x: NDArray) -> NDArray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _border(builder: _Builder) -> list[NDArray]:
    """Rings around the oval: each step turns further from the frontal plane towards the back (-z)."""
    loop = np.array(ix.FACE_OVAL)
    rim = np.array([builder.vertices[i] for i in loop])
    uv = np.array([builder.uv[i] for i in loop])
    flipped = builder.runs_with_faces(loop)
    local = _local_mirror(loop, np.array(builder.mirror))
    outwards = rim - [0, -5, 0]
    outwards[:, 2] = 0
    outwards = outwards / np.linalg.norm(outwards, axis=1, keepdims=True)
    top = _smooth_step((rim[:, 1] - 25) / 55)[:, None]
    chin = _smooth_step((-rim[:, 1] - 35) / 55)[:, None]
    side = np.clip(1 - top - chin, 0, 1)
    # Turning angle from outwards to backwards (radians) and step length (mm) of each ring; the top instead
    # follows a skull-like ellipsoid backwards.
    angles = {"side": (1.38, 1.5, 1.57, 1.6), "chin": (1.05, 1.4, 1.5, 1.45)}
    steps = {"side": (9, 10, 11, 12), "top": (10, 11, 10, 9), "chin": (8, 10, 12, 13)}
    position, previous, rings = rim.copy(), loop, []
    uv_middle = np.array([0.5, 0.5 * (uv[:, 1].min() + uv[:, 1].max())])
    for k in range(BORDER_RINGS):
        angle = (side * angles["side"][k] + chin * angles["chin"][k]) / np.maximum(side + chin, 1e-9)
        around = outwards * np.cos(angle) + np.array([0, 0, -1.0]) * np.sin(angle)
        normal = (position - SKULL_CENTRE) / SKULL_AXES**2
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        back = normal * normal[:, 2:] - [0, 0, 1.0]
        back /= np.maximum(np.linalg.norm(back, axis=1, keepdims=True), 1e-9)
        step = side * steps["side"][k] + top * steps["top"][k] + chin * steps["chin"][k]
        position = position + step * ((side + chin) * around + top * back)
        ring = builder.ring(position, uv_middle + (uv - uv_middle) * (1 + 0.045 * (k + 1)), local)
        builder.bridge(previous, ring, flipped, right_only=True)
        previous = ring
        rings.append(ring)
    return rings


def build_control_mesh(path: Path) -> ControlMesh:
    """The whole control mesh from the template file. Raises ModelError if the file is not the template."""
    vertices, uv, faces = load_template(path)
    mirror = mirror_table(vertices)
    uv = symmetrise(uv - [0.5, 0], mirror, np.array([-1.0, 1.0])) + [0.5, 0]
    vertices = symmetrise(vertices, mirror, FLIP)
    right_eye = np.array(ix.RIGHT_EYE)
    faces = _cut(faces, [right_eye, mirror[right_eye], np.array(ix.LIPS_INNER)])
    vertices = _open_eyes(vertices, faces, mirror)
    vertices = _close_mouth(vertices, faces, mirror)
    uv = _open_mouth_in_uv(uv, vertices, faces, mirror)
    vertices = symmetrise(vertices, mirror, FLIP)

    builder = _Builder(vertices, uv, faces, mirror)
    centre = eye_centre(vertices)
    groups = {"lid_rim": _lid_rims(builder, centre), "mouth": _mouth_bag(builder)}
    rings = _border(builder)
    groups["border"] = np.concatenate(rings)
    groups["border_outer"] = np.concatenate(rings[1:])
    table = np.array(builder.mirror)
    points = np.array(builder.vertices)
    # Between the face and the outermost ring the surface takes the smoothest course.
    known = np.ones(len(points), bool)
    known[np.concatenate(rings[:-1])] = False
    points = 0.35 * points + 0.65 * SmoothField(points, np.array(builder.faces)).solve(known, points)
    points = symmetrise(points, table, FLIP)
    plane = np.array(builder.uv) - [0.5, 0]
    plane = symmetrise(plane, table, np.array([-1.0, 1.0]))
    # Fill the texture: the full width, and the height but for two strips that hold the teeth.
    low, high = plane.min(0), plane.max(0)
    half = np.array([0.485 / max(-low[0], high[0]), 0.91 / (high[1] - low[1])])
    plane = np.c_[0.5 + plane[:, 0] * half[0], 0.045 + (plane[:, 1] - low[1]) * half[1]]
    return ControlMesh(
        points, plane, np.array(builder.faces), table, groups, np.array([centre, centre * FLIP])
    )
