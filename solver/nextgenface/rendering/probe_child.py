"""Render one tiny picture in this process, to learn whether a Mitsuba variant works at all.

`rendering.llvm` runs this file in a child process, because an LLVM that does not suit Dr.Jit aborts the
process that uses it; importing or setting the variant is no test. Run as a file, so that it depends on
nothing but Mitsuba: ``python probe_child.py VARIANT SIZE [PICTURE.png]``, with DRJIT_LIBLLVM_PATH set.
Prints one line of JSON: ``{"ok": true, "mean": …, "seconds": …}``.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

OWN_COPY_MARK = "nextgenface-llvm.json"
"""The file the set-up leaves beside an LLVM that it has unpacked."""


def preload_neighbours(library: Path) -> None:
    """Load the libraries that the set-up unpacked beside `library`, so that the loader finds them.

    An LLVM unpacked without root needs libedit, libz3, … of the same package archive, and nothing tells the
    dynamic loader to look in that folder. Libraries of the system are left to the system.
    """
    if not (library.parent / OWN_COPY_MARK).is_file():
        return
    neighbours = sorted(path for path in library.parent.glob("*.so*") if not path.is_symlink())
    waiting = [path for path in neighbours if "LLVM" not in path.name]
    progress = True
    while waiting and progress:  # they need one another, in an order that is not known here
        progress = False
        for path in list(waiting):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            waiting.remove(path)
            progress = True


def tiny_scene(mi: Any, size: int) -> Any:
    """A skin-coloured principled ball under a constant light, seen at size × size pixels."""
    return mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 3},
            "sensor": {
                "type": "perspective",
                "fov": 35.0,
                "to_world": mi.ScalarTransform4f().look_at([0, 0, 4], [0, 0, 0], [0, 1, 0]),
                "film": {
                    "type": "hdrfilm",
                    "width": size,
                    "height": size,
                    "pixel_format": "rgb",
                    "rfilter": {"type": "box"},
                },
                "sampler": {"type": "independent", "sample_count": 8},
            },
            "sky": {"type": "constant", "radiance": {"type": "rgb", "value": 0.4}},
            "lamp": {
                "type": "point",
                "position": [3.0, 3.0, 4.0],
                "intensity": {"type": "rgb", "value": [20.0, 19.0, 17.0]},
            },
            "ball": {
                "type": "sphere",
                "bsdf": {
                    "type": "principled",
                    "base_color": {"type": "rgb", "value": [0.6, 0.4, 0.3]},
                    "roughness": 0.4,
                    "specular": 0.5,
                },
            },
        }
    )


def main(arguments: list[str]) -> int:
    """Render, check that the numbers make sense, print the verdict."""
    variant, size = arguments[0], int(arguments[1])
    started = time.perf_counter()
    library = os.environ.get("DRJIT_LIBLLVM_PATH")
    if library and variant.startswith("llvm"):
        preload_neighbours(Path(library))
    import mitsuba as mi
    import numpy as np

    mi.set_variant(variant)
    picture = mi.render(tiny_scene(mi, size), seed=1)
    pixels = np.array(picture)
    mean = float(pixels.mean())
    # Ball and sky are known to lie well inside this range, whatever the noise.
    ok = bool(np.isfinite(pixels).all()) and 0.1 < mean < 2.0
    if ok and len(arguments) > 2:
        mi.util.write_bitmap(arguments[2], picture, write_async=False)
    print(json.dumps({"ok": ok, "mean": mean, "seconds": time.perf_counter() - started}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
