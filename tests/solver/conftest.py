"""Fixtures of the solver's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.solver.coarse import coarse_shadow_maps


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: quicker for small tensors, and the same rounding on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def coarse_shadows() -> Iterator[None]:
    """See `coarse_shadow_maps`."""
    with coarse_shadow_maps():
        yield
