"""The process that remeshes: `python -m nextgenface.multiview.neural_shading.remesh_child`.

It reads requests from standard input and answers on standard output, each a length (8 bytes) and an npz; it
ends with its input. A process of its own can be stopped, which the library's call cannot.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from typing import IO

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct("<q")


def send(stream: IO[bytes], **arrays: NDArray) -> None:
    """Write one message."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, NDArray] | None:
    """Read one message; None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    data = stream.read(size)
    if len(data) < size:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def main() -> int:
    """Serve requests until the input ends."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import gpytoolbox

    while (request := receive(sys.stdin.buffer)) is not None:
        try:
            vertices, faces = gpytoolbox.remesh_botsch(
                request["vertices"],
                request["faces"].astype(np.int32),
                i=int(request["rounds"]),
                h=float(request["edge"]),
                project=True,
            )
            send(answers, vertices=np.asarray(vertices, np.float64), faces=np.asarray(faces, np.int64))
        except Exception as problem:  # whatever the library raises is the caller's to report
            send(answers, error=np.array(f"{type(problem).__name__}: {problem}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
