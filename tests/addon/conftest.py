"""What the add-on's tests share. Tests that need Blender use the `bpy` fixture and are skipped without the
module.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `synthetic`


@pytest.fixture
def bpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Blender's module with its factory startup scene (cube, light, camera)."""
    module = pytest.importorskip("bpy")
    module.ops.wm.read_factory_settings(use_empty=False)
    yield module
    module.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture
def solver(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH whose `nextgenface.job` is the fake solver."""
    package = tmp_path / "sölver" / "nextgenface"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    shutil.copy(Path(__file__).parent / "fake_solver.py", package / "job.py")
    return package.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder that is not there yet, under a path that is not plain ASCII."""
    return tmp_path / "日本 out" / "Müller"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one, with the add-on's own files in it as well."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NEXTGENFACE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEXTGENFACE_PYTHON", raising=False)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A synthetic results folder with one photo, under a path that is not plain ASCII."""
    from synthetic import Folder

    return Folder().write(tmp_path / "Größe 1" / "Müller")
