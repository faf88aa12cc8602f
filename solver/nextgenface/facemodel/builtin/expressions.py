"""Named expression shapes (after ARKit's set) from smooth handle deformations of the control mesh.

Each shape moves a few template vertices ("handles"), holds others, and lets the surface between follow with
least bending. Only the subject's right side is described; the left is its mirror image. Suffixes _L and _R
mean the subject's left (x > 0) and right.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra

from ...geometry.laplacian import SmoothField
from . import indices as ix
from .template import EYE_RADIUS, FLIP, ControlMesh

Offset = tuple[float, float, float]
Handles = dict[int, Offset]

UPPER = [v for row in ix.UPPER_LIP_ROWS for v in row]
LOWER = [v for row in ix.LOWER_LIP_ROWS for v in row]
CORNER = list(ix.RIGHT_MOUTH_CORNER)
UPPER_EYE, LOWER_EYE = ix.RIGHT_EYE[1:8], ix.RIGHT_EYE[:8:-1]  # paired column by column
BROW_INNER, BROW_MIDDLE, BROW_OUTER = (55, 107, 65, 66), (52, 105), (46, 70, 53, 63)
NOSE_BRIDGE = (168, 6, 197, 195, 5)
JAW_ANGLE = np.deg2rad(15.0)
CHEEK = (205, 50, 187)


def _offset(values: NDArray) -> Offset:
    x, y, z = (float(v) for v in values)
    return x, y, z


def jaw_motion(name: str, points: NDArray, weight: NDArray, landmarks: NDArray) -> NDArray:
    """Offsets (N, 3) of points that follow the lower jaw by weight (N,); name: jawOpen, jawForward …

    Opening turns about an axis through the joints in front of the ears and slides a little forward.
    """
    slides = {"jawForward": (0.0, -0.3, 5.0), "jawLeft": (6.0, 0.0, -0.6), "jawRight": (-6.0, 0.0, -0.6)}
    if name != "jawOpen":
        return weight[:, None] * np.array(slides[name])
    joint = np.array([0.0, landmarks[234, 1] - 8, -20.0])
    angle = JAW_ANGLE * weight
    y, z = (points - joint)[:, 1:].T
    turned = np.stack(
        [0 * y, y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)], 1
    )
    return turned - np.stack([0 * y, y, z], 1) + weight[:, None] * [0, 0, 1.5]


class ExpressionSculptor:
    """Solves expression offsets (n, 3) on the control mesh."""

    def __init__(self, mesh: ControlMesh) -> None:
        self.mesh = mesh
        self.points = mesh.vertices
        self.count = len(mesh.vertices)
        apart = np.zeros(self.count, bool)
        apart[np.concatenate([mesh.groups["mouth"], mesh.groups["lid_rim"]])] = True
        self.skin = np.flatnonzero(~apart)
        local = np.full(self.count, -1)
        local[self.skin] = np.arange(len(self.skin))
        faces = local[mesh.faces]
        faces = faces[(faces >= 0).all(1)]
        self.field = SmoothField(self.points[self.skin], faces)
        sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        lengths = np.linalg.norm(np.subtract(*self.points[self.skin][sides.T]), axis=1)
        self.graph = sp.csr_matrix((lengths, sides.T), shape=(len(self.skin),) * 2)
        self.eyes = [*ix.RIGHT_EYE, *mesh.mirror[list(ix.RIGHT_EYE)]]
        outer = mesh.groups["border"][-len(ix.FACE_OVAL) :]
        self.rim = list(outer)
        self.still = [*self.eyes, 10, 151, 9, 234, 454, 127, 356, *self.rim]

    def both(self, vertices: Iterable[int]) -> list[int]:
        """The vertices and their mirror images."""
        vertices = list(vertices)
        return sorted({*vertices, *self.mesh.mirror[vertices]})

    def mirrored(self, handles: Handles) -> Handles:
        """Handles of the right side together with their mirror images."""
        result = dict(handles)
        for vertex, (x, y, z) in handles.items():
            result.setdefault(int(self.mesh.mirror[vertex]), (-x, y, z))
        return result

    def solve(self, handles: Handles, held: Iterable[int], reach: float | None = None) -> NDArray:
        """Offsets (n, 3) with the handles' values, zero at `held` and beyond `reach` mm of every handle."""
        known = np.zeros(self.count, bool)
        values = np.zeros((self.count, 3))
        if reach is not None:
            local = np.searchsorted(self.skin, list(handles))
            distance = dijkstra(self.graph, directed=False, indices=local, min_only=True)
            known[self.skin[distance > reach]] = True
        known[list(held)] = True
        for vertex, offset in handles.items():
            values[vertex] = offset
            known[vertex] = True
        result = np.zeros((self.count, 3))
        result[self.skin] = self.field.solve(known[self.skin], values[self.skin])
        return self.follow(result)

    def follow(self, offsets: NDArray) -> NDArray:
        """Mouth bag and lid rims go where their loop goes."""
        loop = np.array(ix.LIPS_INNER)
        bag = self.mesh.groups["mouth"]
        offsets[bag[:-1]] = np.tile(offsets[loop], ((len(bag) - 1) // len(loop), 1))
        offsets[bag[-1]] = offsets[loop].mean(0)
        right = np.array(ix.RIGHT_EYE)
        both = np.concatenate([right, self.mesh.mirror[right]])
        rims = self.mesh.groups["lid_rim"]
        offsets[rims] = np.tile(offsets[both], (len(rims) // len(both), 1))
        return offsets

    def mirror_image(self, offsets: NDArray) -> NDArray:
        """The same expression on the other side."""
        return offsets[self.mesh.mirror] * FLIP

    # -- jaw -------------------------------------------------------------------------------------------

    def jaw_weight(self) -> NDArray:
        """How far each vertex follows the lower jaw, (n,) in 0..1."""
        full = self.both(
            [152, 148, 176, 149, 175, 199, 200, 18, 83, 182, 106, 194, 204, 201, 208, 171, 140, 170, 211]
        )
        full += self.both(row for rows in ix.LOWER_LIP_ROWS for row in rows[:3])
        weights: dict[int, float] = dict.fromkeys(full, 1.0)
        partial = ((90, 0.92), (180, 0.97), (91, 0.88), (77, 0.66), (146, 0.66), (88, 0.88), (95, 0.66),
                   (96, 0.66),
                   (89, 0.88), (150, 0.95), (136, 0.8), (172, 0.55), (58, 0.25), (132, 0.08),
                   *((v, 0.36) for v in CORNER), (185, 0.2), (184, 0.2), (183, 0.2), (191, 0.2))  # fmt: skip
        for vertex, weight in partial:
            for v in self.both([vertex]):
                weights[v] = weight
        held = self.both([*self.still, 4, 1, 2, 98, 97, 36, 203, 123, 93])
        held += self.both(row for rows in ix.UPPER_LIP_ROWS for row in rows[:4])
        handles: Handles = dict.fromkeys(held, (0.0, 0.0, 0.0))
        handles |= {int(v): (0.0, w, 0.0) for v, w in weights.items()}
        under = self.mesh.groups["border"].reshape(-1, len(ix.FACE_OVAL))
        chin = [i for i, v in enumerate(ix.FACE_OVAL) if self.points[v, 1] < -85]
        handles |= {int(under[-1][i]): (0.0, 0.3, 0.0) for i in chin}
        return np.clip(self.solve(handles, [])[:, 1], 0, 1)

    def jaw(self, name: str, weight: NDArray) -> NDArray:
        """Offsets of the skin for a motion of the jaw."""
        return self.follow(jaw_motion(name, self.points, weight, self.points))

    # -- lids ------------------------------------------------------------------------------------------

    def lid(self, upper: float, lower: float) -> NDArray:
        """Moves the right lids by shares of the eye opening, upper towards lower and back, on the eyeball."""
        centre = self.mesh.eye_centres[0]
        handles: Handles = {ix.RIGHT_EYE[0]: (0, 0, 0), ix.RIGHT_EYE[8]: (0, 0, 0)}
        for up, down in zip(UPPER_EYE, LOWER_EYE, strict=True):
            for vertex, other, share in ((up, down, upper), (down, up, lower)):
                start = self.points[vertex]
                target = start + share * (self.points[other] - start) - centre
                distance = float(np.linalg.norm(target))
                level = max((1 - abs(share)) * float(np.linalg.norm(start - centre)), EYE_RADIUS + 1.0)
                if distance < level:
                    target *= level / distance
                handles[vertex] = _offset(target + centre - start)
        held = [*self.still, *NOSE_BRIDGE, *BROW_INNER, *BROW_MIDDLE, *BROW_OUTER]
        held += [int(v) for v in self.mesh.mirror[list(ix.RIGHT_EYE)]]
        return self.solve(handles, set(held) - set(handles), 24)


def build_expressions(mesh: ControlMesh) -> dict[str, NDArray]:
    """Offsets (n, 3) in mm at weight 1 of every expression that moves the skin, by name."""
    s = ExpressionSculptor(mesh)
    shapes: dict[str, NDArray] = {}

    def pair(name: str, right: NDArray) -> None:
        shapes[name + "_L"], shapes[name + "_R"] = s.mirror_image(right), right

    def symmetric(name: str, offsets: NDArray) -> None:
        shapes[name] = 0.5 * (offsets + s.mirror_image(offsets))

    def each(vertices: Iterable[int], offset: Offset) -> Handles:
        return dict.fromkeys(vertices, offset)

    face_held = [*s.still, *NOSE_BRIDGE, 4, 1]
    brow_held = [*s.still, 4, 6, 197]

    weight = s.jaw_weight()
    symmetric("jawOpen", s.jaw("jawOpen", weight))
    symmetric("jawForward", s.jaw("jawForward", weight))
    shapes["jawLeft"] = s.jaw("jawLeft", weight)
    shapes["jawRight"] = s.mirror_image(shapes["jawLeft"])

    inner, middle, outer = BROW_INNER, BROW_MIDDLE, BROW_OUTER
    pair("browInnerUp", s.solve(each(inner, (0.6, 6.0, 0.4)) | each(middle, (0.2, 2.2, 0.2)), brow_held, 45))
    pair("browOuterUp", s.solve(each([*outer, *middle], (0, 6.0, 0.3)), brow_held, 45))
    down = each(inner, (2.0, -4.5, 1.4)) | each(middle, (0.8, -3.8, 1.0)) | each(outer, (0, -2.0, 0.4))
    pair("browDown", s.solve(down, brow_held, 42))

    pair("eyeBlink", s.lid(0.88, 0.12))
    pair("eyeSquint", s.lid(0.15, 0.32))
    pair("eyeWide", s.lid(-0.26, -0.07))
    pair("cheekSquint", s.solve(each((117, 118, 101, 36), (0.3, 3.8, 1.2)), face_held, 42))
    puff: Handles = dict(zip(CHEEK, ((-4.0, 0.0, 7.0), (-3.0, 0.5, 5.5), (-4.0, -1.0, 5.0)), strict=True))
    pair("cheekPuff", s.solve(puff, [*face_held, *s.both(CORNER), 0, 17, 13, 14], 52))
    sneer_held = [*s.eyes, 10, 4, 1, 61, 291, 152, *s.rim]
    pair(
        "noseSneer",
        s.solve(
            each((48, 64, 98, 129, 49), (-0.6, 3.2, 0.4)) | each((203, 36), (0, 2.4, 0.6)), sneer_held, 36
        ),
    )

    corner_shapes: dict[str, tuple[Offset, Handles]] = {
        # The corner goes out and up; the cheek above bulges, the fold beside the nose is drawn in.
        "mouthSmile": ((-7.5, 8.0, -5.0), each((50, 101), (-0.8, 4.2, 2.6)) | each((205,), (-1.8, 5.2, 2.8))
                       | each((36,), (-0.8, 3.2, 1.6)) | each((206, 203), (-2.6, 3.4, -0.6))
                       | each((216, 207), (-6.0, 5.6, -0.8)) | each((185, 40), (-5.0, 4.2, -3.2))
                       | each((146, 91), (-4.6, 4.6, -3.0))),
        "mouthFrown": ((-1.5, -6.5, -1.5), {}),
        "mouthStretch": ((-8.0, -2.0, -4.5), {}),
        "mouthDimple": ((-4.0, 0.8, -4.5), {}),
    }  # fmt: skip
    for name, (offset, extra) in corner_shapes.items():
        pair(
            name,
            s.solve(
                each(CORNER, offset) | extra, [*face_held, 0, 17] if name == "mouthDimple" else face_held, 55
            ),
        )
    pinned = [*face_held, *s.both(CORNER)]
    profile = np.array([0.75, 1.0, 0.95, 0.7, 0.35])

    def rows(groups: Iterable[tuple[int, ...]], offset: Offset) -> Handles:
        return {v: _offset(p * np.array(offset)) for row in groups for v, p in zip(row, profile, strict=True)}

    up_held = [*face_held, *CORNER, *s.both(LOWER)]
    low_held = [*face_held, *CORNER, *s.both(UPPER)]
    left_corner = [int(v) for v in mesh.mirror[CORNER]]
    pair("mouthUpperUp", s.solve(rows(ix.UPPER_LIP_ROWS, (-0.4, 5.0, 0.8)), [*up_held, *left_corner], 42))
    pair(
        "mouthLowerDown", s.solve(rows(ix.LOWER_LIP_ROWS, (-0.4, -5.0, -0.4)), [*low_held, *left_corner], 42)
    )
    press = rows(ix.UPPER_LIP_ROWS[:2], (0, -1.0, -1.0)) | rows(ix.LOWER_LIP_ROWS[:2], (0, 1.2, -1.0))
    press |= rows((ix.UPPER_LIP_ROWS[3], ix.LOWER_LIP_ROWS[3]), (0, 0, -0.8)) | each(
        CORNER, (-0.8, 0.4, -1.2)
    )
    pair("mouthPress", s.solve(press, face_held, 40))

    points, centre = s.points, s.points[13]
    lips = s.both([*UPPER, *LOWER, *CORNER])
    narrow = {
        v: (-0.40 * points[v, 0], -0.10 * (points[v, 1] - centre[1]), 5.5 + 0.06 * abs(points[v, 0]))
        for v in lips
    }
    symmetric("mouthPucker", s.solve(narrow, face_held, 50))
    funnel: Handles = {}
    for v in lips:
        lift = 2.6 if v in s.both(UPPER) else (-3.4 if v in s.both(LOWER) else 0.0)
        edge = 1 - min(abs(points[v, 0]) / 26, 1) ** 2
        funnel[v] = (-0.24 * points[v, 0], lift * edge, 4.0 + 1.5 * edge)
    symmetric("mouthFunnel", s.solve(funnel, face_held, 50))
    roll_up = rows((ix.UPPER_LIP_ROWS[0],), (0, -2.6, -1.6)) | rows(ix.UPPER_LIP_ROWS[1:3], (0, -1.8, -2.6))
    roll_up |= rows((ix.UPPER_LIP_ROWS[3],), (0, -0.4, -3.2))
    symmetric("mouthRollUpper", s.solve(s.mirrored(roll_up), [*pinned, *s.both(LOWER)], 30))
    roll_low = rows((ix.LOWER_LIP_ROWS[0],), (0, 2.6, -1.6)) | rows(ix.LOWER_LIP_ROWS[1:3], (0, 1.8, -2.6))
    roll_low |= rows((ix.LOWER_LIP_ROWS[3],), (0, 0.4, -3.2))
    symmetric("mouthRollLower", s.solve(s.mirrored(roll_low), [*pinned, *s.both(UPPER)], 30))
    symmetric("mouthShrugUpper", s.solve(s.mirrored(rows(ix.UPPER_LIP_ROWS, (0, 2.4, 1.4))), pinned, 35))
    shrug = rows(ix.LOWER_LIP_ROWS, (0, 3.2, 1.8)) | each([18, 200, 199], (0, 2.5, 1.5))
    symmetric("mouthShrugLower", s.solve(s.mirrored(shrug), pinned, 40))
    aside = dict.fromkeys(lips, (7.0, 0.0, -0.4))
    aside = {v: (x, y, z - 0.10 * points[v, 0]) for v, (x, y, z) in aside.items()}
    shift = s.solve(aside, face_held, 48)
    shapes["mouthLeft"], shapes["mouthRight"] = shift, s.mirror_image(shift)
    # Closes the lips while the jaw is open (use with jawOpen): takes the lip part of the jaw's motion back.
    opening = shapes["jawOpen"]
    close: Handles = {}
    for upper, lower in zip(ix.UPPER_LIP_ROWS, ix.LOWER_LIP_ROWS, strict=True):
        for u, d in zip(upper, lower, strict=True):
            difference = opening[d] - opening[u]
            close[u], close[d] = _offset(0.42 * difference), _offset(-0.58 * difference)
    symmetric("mouthClose", s.solve(s.mirrored(close), pinned, 45))
    return shapes


def gaze_offsets(points: NDArray, centre: NDArray, pitch: float, yaw: float) -> NDArray:
    """Offsets (N, 3) of eyeball vertices turned about the centre; radians, up and towards +x positive."""
    local = points - centre
    cos_p, sin_p, cos_y, sin_y = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    tilt = np.array([[1, 0, 0], [0, cos_p, sin_p], [0, -sin_p, cos_p]])
    turn = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    return local @ (turn @ tilt).T - local
