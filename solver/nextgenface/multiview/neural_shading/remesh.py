"""Isotropic remeshing (Botsch and Kobbelt 2004, gpytoolbox) that cannot hang, crash or return a bad mesh."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ...errors import NextGenFaceError
from .remesh_child import receive, send
from .topology import Faces, Vertices, components, defect, edges_of, face_areas

ROUNDS = 10
SECONDS = 120.0
TRIANGLE = np.sqrt(3) / 4  # area of an equilateral triangle of side 1
TOO_MANY = 4.0  # times the expected number of faces
TOO_FAR = 0.05  # of the mesh's size beyond its box
CHILD = (sys.executable, "-m", "nextgenface.multiview.neural_shading.remesh_child")
LEAST_AREA, MOST_AREA = 0.6, 1.3  # of the area before


class RemeshError(NextGenFaceError):
    """The mesh was not remeshed; the message says why. The mesh from before is still good."""


class Remesher:
    """Remeshes in a child process, which is started when first needed and replaced when it had to be stopped.

    Use it in a `with` block, or `close` it.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Remesher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def remesh(
        self, vertices: Vertices, faces: Faces, edge: float, *, max_faces: int
    ) -> tuple[Vertices, Faces]:
        """The surface with triangles of side `edge` (same unit as vertices (V, 3)); `max_faces` is refused.

        Raises RemeshError when the mesh is unfit, the library fails, crashes or needs more than the time
        limit, or its result is no clean, connected surface where the old one was.
        """
        vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
        flaw = defect(vertices, faces)
        if flaw is not None:
            raise RemeshError(f"The mesh cannot be remeshed: {flaw}.")
        if not (np.isfinite(edge) and edge > 0):
            raise RemeshError(f"An edge length of {edge} is none.")
        expected = face_areas(vertices, faces).sum() / (TRIANGLE * edge**2)
        if expected > max_faces:
            raise RemeshError(
                f"Edges of {edge:.4g} would make about {expected:.0f} faces; the limit is {max_faces}."
            )
        answer = self._ask(vertices, faces, edge)
        flaw = _wrong(vertices, faces, *answer, max(TOO_MANY * expected, len(faces)))
        if flaw is not None:
            raise RemeshError(f"The remeshed surface is not usable: {flaw}.")
        return answer

    def _ask(self, vertices: Vertices, faces: Faces, edge: float) -> tuple[Vertices, Faces]:
        if self._child is None:
            self._child = subprocess.Popen(
                CHILD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        child = self._child
        replies: list[dict[str, NDArray] | None] = []

        def talk() -> None:
            assert child.stdin is not None and child.stdout is not None
            try:
                send(
                    child.stdin,
                    vertices=vertices,
                    faces=faces,
                    edge=np.array(edge),
                    rounds=np.array(ROUNDS),
                )
                replies.append(receive(child.stdout))
            except (OSError, ValueError):
                replies.append(None)

        talker = threading.Thread(target=talk, name="remeshing", daemon=True)
        talker.start()
        talker.join(self.seconds)
        if not replies:
            self.close()
            raise RemeshError(f"Remeshing took more than {self.seconds:.0f} s and was stopped.")
        reply = replies[0]
        if reply is None:
            code = child.poll()
            self.close()
            raise RemeshError(f"The remeshing process ended unexpectedly (exit code {code}).")
        if "error" in reply:
            raise RemeshError(f"The remeshing library refused the mesh: {reply['error']}.")
        return reply["vertices"], reply["faces"]


def _wrong(
    before: Vertices, faces_before: Faces, vertices: Vertices, faces: Faces, most_faces: float
) -> str | None:
    """What is wrong with a remeshed surface, None when nothing is."""
    flaw = defect(vertices, faces)
    if flaw is not None:
        return flaw
    if len(faces) > most_faces:
        return f"it has {len(faces)} faces where {most_faces:.0f} would be many"
    low, high = before.min(0), before.max(0)
    reach = TOO_FAR * float((high - low).max())
    if (vertices.min(0) < low - reach).any() or (vertices.max(0) > high + reach).any():
        return "it reaches beyond the old one"
    ratio = face_areas(vertices, faces).sum() / face_areas(before, faces_before).sum()
    if not LEAST_AREA <= ratio <= MOST_AREA:
        return f"its area is {ratio:.2f} times the old one's"
    if (edges_of(faces_before).count == 2).all() and not (edges_of(faces).count == 2).all():
        return "it has holes that the old one had not"
    pieces = len(np.unique(components(len(vertices), faces)))
    if pieces > len(np.unique(components(len(before), faces_before))):
        return "it has fallen to pieces"
    return None
