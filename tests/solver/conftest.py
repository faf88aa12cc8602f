"""Fixtures of the solver's tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: quicker for small tensors, and the same rounding on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def coarse_shadows() -> Iterator[None]:
    """Shadow maps of 48 texels: enough for photos of 128 pixels, and a tenth of the time."""
    from nextgenface.rendering import deferred

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deferred, "vertex_visibility", partial(deferred.vertex_visibility, resolution=48))
        yield
