"""UV maps as files: what `nextgenface-uv` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...errors import Cancelled
from ...events import Listener
from ...files import write_text
from ...views import View, ViewSet
from ..datasets import Frame, check, neural_texgen, read_views
from ..datasets.neural_texgen import UvView
from .options import TextureOptions
from .sources import read_layout
from .uvmaps import Surface, uv_view

STAGE = "uv maps"


def write_uv_maps(
    mesh: Path, views: Path, output: Path, listener: Listener, *, scale: float, format: str, frame: Frame
) -> int:
    """Write `uvs/`, `images/` and `names.txt` (number and name of every view); returns how many.

    The maps have `scale` times the cameras' resolution; the photos are written as they are. Raises
    DataSetError, MeshError, Cancelled.
    """
    found = read_layout(mesh, frame, replace(TextureOptions(), unwrap="never"), listener)
    data = read_views(views, format=format, frame=frame)
    for name in check(data, found.vertices):
        listener.warning(f"{name} does not see the mesh; its map is empty")
    surface = Surface.of(found).turned_outward(data.cameras)
    listener.stage(STAGE)
    numbers = neural_texgen.write(output, _maps(surface, data, scale, listener))
    write_text(output / "names.txt", "".join(f"{number} {name}\n" for name, number in numbers.items()))
    return len(numbers)


def _maps(surface: Surface, views: ViewSet, scale: float, listener: Listener) -> Iterator[UvView]:
    for number, view in enumerate(views):
        if listener.cancelled():
            raise Cancelled(f"Stopped after {number} of {len(views)} UV maps.")
        yield replace(uv_view(surface, _enlarged(view, scale)), image=view.image)
        listener.progress(STAGE, number + 1, len(views), float("nan"))


def _enlarged(view: View, scale: float) -> View:
    """The view with a camera of `scale` times the resolution. The picture is not looked at, only the mask."""
    camera = view.camera.scaled(scale)
    size = (camera.height, camera.width)
    mask = view.mask
    if mask is not None:
        mask = interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest")[0, 0].numpy()
    return View(view.name, np.zeros((*size, 3), np.float32), camera, mask)
