"""Shadow maps that are coarse enough for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest


@contextmanager
def coarse_shadow_maps() -> Iterator[None]:
    """Shadow maps of 48 texels: enough for photos of 128 pixels, and a tenth of the time."""
    from nextgenface.rendering import deferred

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deferred, "vertex_visibility", partial(deferred.vertex_visibility, resolution=48))
        yield
