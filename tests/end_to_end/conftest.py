"""One complete small run that many tests look at."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.small import save_photo, small_config
from tests.solver.coarse import coarse_shadow_maps


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its photo, and what it printed."""

    folder: Path
    photo: Path
    printed: str


@pytest.fixture(autouse=True, scope="module")
def _coarse_shadows() -> Iterator[None]:
    """In this process; the commands that tests start in their own have the real ones."""
    with coarse_shadow_maps():
        yield


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real portrait in a folder with spaces and letters outside ASCII."""
    return save_photo(tmp_path_factory.mktemp("photos") / "mit Leerzeichen é" / "Grüße 1.png")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> Run:
    """All three stages by the API, with everything written that can be."""
    from nextgenface import Optimizer
    from nextgenface.events import QuietListener

    folder = tmp_path_factory.mktemp("run") / "ausgabe ü"
    config = small_config(verbose=True, debugFrequency=2, saveIntermediateStage=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), coarse_shadow_maps():
        Optimizer(folder, config, listener=QuietListener()).run(photo)
    return Run(folder, photo, printed.getvalue())
