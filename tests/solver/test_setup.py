"""The set-up scripts: locks that belong together, interpreters, stamps, and messages that help."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nextgenface import __version__, paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script of tools/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock; every line has to pin exactly one version."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line) for line in lines), name
    return {line.split("==")[0].lower(): line.split("==")[1] for line in lines}


def test_locks_hold_what_was_agreed() -> None:
    for version in ("311", "312"):
        lock = pins(f"solver-py{version}.txt")
        assert lock["torch"] == "2.13.0"
        assert lock["mitsuba"] == "3.9.1"
        assert lock["drjit"] == "1.5.0"
        assert lock["mediapipe"] == "0.10.21"
        assert lock["numpy"].startswith("1.26.")
    newest = pins("solver-py313.txt")
    assert newest["mediapipe"].startswith("1.2.")
    assert newest["numpy"].startswith("2.")
    assert pins("bpy-5.0-py311.txt")["bpy"] == "5.0.1"
    assert pins("bpy-4.2-py311.txt")["bpy"] == "4.2.23"


def test_every_dependency_of_the_project_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[A-Za-z0-9_-]+", text).group().lower() for text in project["dependencies"]}  # type: ignore[union-attr]
    for version in ("311", "312", "313"):
        assert names <= set(pins(f"solver-py{version}.txt")), version
    assert {re.match(r"\w+", text).group() for text in project["optional-dependencies"]["dev"]} <= set(  # type: ignore[union-attr]
        pins("dev.txt")
    )
    cluster = pins("cluster.txt")
    assert "distributed" in cluster and "distributed" in project["optional-dependencies"]["cluster"][0]
    for version in ("311", "312", "313"):
        assert not set(cluster) & set(pins(f"solver-py{version}.txt")), "each package is pinned once"


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text())
    assert project["version"] == manifest["version"] == __version__
    assert manifest["license"] == [f"SPDX:{project['license']}"]
    assert manifest["id"] == project["name"]


def test_every_command_of_the_project_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, target in project["scripts"].items():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_every_environment_has_its_locks(tool: Any) -> None:
    environments = tool("environments")
    for environment in environments.EVERY.values():
        for version in environment.pythons:
            assert all(lock.is_file() for lock in environment.locks(version))


def test_a_changed_lock_or_place_makes_an_environment_stale(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    environments = tool("environments")
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "bpy-5.0-py311.txt").write_text("bpy==5.0.1\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    blender = environments.EVERY["bpy-5.0"]
    assert not environments.is_current(blender)
    blender.python.parent.mkdir(parents=True)
    blender.python.write_text("")
    stamp = environments.stamp_of(blender, "3.11")
    (blender.folder / environments.STAMP).write_text(json.dumps(stamp))
    assert environments.is_current(blender)
    (requirements / "bpy-5.0-py311.txt").write_text("bpy==5.0.2\n")
    assert not environments.is_current(blender)
    (requirements / "bpy-5.0-py311.txt").write_text("bpy==5.0.1\n")
    assert environments.is_current(blender)
    monkeypatch.setattr(environments, "ROOT", tmp_path / "moved")
    assert not environments.is_current(blender)


def test_an_interpreter_that_does_not_run_is_passed_over(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreters = tool("interpreters")
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.11: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    real = Path(sys.executable)
    monkeypatch.setattr(interpreters, "candidates", lambda wanted: [shim, tmp_path / "nowhere", real])
    assert interpreters.find([version]) == (version, real)
    assert interpreters.find(["2.7"]) is None


def test_a_missing_python_is_named_with_what_to_install(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environments = tool("environments")
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    monkeypatch.setattr(environments.interpreters, "find", lambda versions: None)
    assert environments.main(["solver"]) == 1
    said = capsys.readouterr().out
    assert "3.11 or 3.12 or 3.13" in said
    assert "apt-get install python3.11-venv" in said


def test_a_failing_install_shows_what_pip_said(tool: Any, tmp_path: Path) -> None:
    environments = tool("environments")
    script = "import sys; print('noise'); print('ERROR: No matching distribution'); sys.exit(1)"
    with pytest.raises(environments.SetupError, match="No matching distribution") as caught:
        environments.run_logged([sys.executable, "-c", script], tmp_path / "x.log", "packages")
    assert "noise" not in str(caught.value)
    assert str(tmp_path / "x.log") in str(caught.value)


def test_the_cpu_build_of_torch_is_asked_for_only_where_it_is_needed(
    tool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_build = tool("torch_build")
    monkeypatch.setattr(torch_build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(torch_build, "has_nvidia_device", lambda: False)
    answers: dict[bool, str | None] = {False: "2.13.0", True: "2.13.0+cpu"}
    monkeypatch.setattr(
        torch_build, "resolved_version", lambda python, what, options: answers["--extra-index-url" in options]
    )
    python = Path(sys.executable)
    assert torch_build.pip_options(python, "torch==2.13.0")[0] == ["--extra-index-url", torch_build.CPU_INDEX]
    answers[True] = None  # that index cannot be reached
    options, choice = torch_build.pip_options(python, "torch==2.13.0")
    assert options == []
    assert "cannot be reached" in choice
    answers[False] = "2.13.0+cpu"  # pip finds a CPU build by itself
    assert torch_build.pip_options(python, "torch==2.13.0")[0] == []
    monkeypatch.setattr(torch_build, "has_nvidia_device", lambda: True)
    answers[False], answers[True] = "2.13.0", "2.13.0+cpu"
    assert torch_build.pip_options(python, "torch==2.13.0")[0] == []


def test_missing_system_libraries_become_one_line(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = tool("system_libraries")

    def load(name: str) -> None:
        if name in ("libXrender.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0"):
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(libraries.sys, "platform", "linux")
    monkeypatch.setattr(libraries.ctypes, "CDLL", load)
    packages = libraries.missing_packages()
    assert packages == ["libglib2.0-0", "libxrender1"]
    assert libraries.install_line(packages).endswith("libglib2.0-0 libxrender1")


def test_llvm_comes_with_the_libraries_it_needs(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the package archive; the names and the loop are ours."""
    llvm_library = tool("llvm_library")
    fetched: list[str] = []

    class Shelf:
        def __init__(self, work: Path) -> None: ...

        def use_own_lists(self) -> None:
            fetched.append("lists")

        def unpack(self, package: str, target: Path) -> None:
            if package == "libllvm19" and "lists" not in fetched:
                raise llvm_library.UnpackError("no such package")
            if package.startswith("libllvm") and package != "libllvm19":
                raise llvm_library.UnpackError("no such package")
            fetched.append(package)
            (target / f"{'libLLVM.so.19.1' if 'llvm' in package else package + '.so.2'}").write_bytes(
                b"x" * 9
            )

    needs = iter([["libicuuc.so.72", "libedit.so.2"], ["libbsd.so.0"], []])
    monkeypatch.setattr(llvm_library, "Archive", Shelf)
    monkeypatch.setattr(llvm_library, "missing_libraries", lambda library: next(needs))
    library = llvm_library.unpack_llvm(tmp_path / "llvm")
    assert library == tmp_path / "llvm" / "libLLVM.so.19.1"
    assert fetched == ["lists", "libllvm19", "libedit2", "libicu72", "libbsd0"]
    from nextgenface.rendering.probe_child import OWN_COPY_MARK

    assert (tmp_path / "llvm" / OWN_COPY_MARK).is_file()
    assert llvm_library.OWN_COPY_MARK == OWN_COPY_MARK
    assert list(tmp_path.iterdir()) == [tmp_path / "llvm"]


def test_scripts_run_on_an_old_python_and_show_their_help() -> None:
    """They start before any environment exists: no packages, and only what 3.8 understands."""
    import ast

    for script in sorted((ROOT / "tools").glob("*.py")):
        ast.parse(script.read_text("utf-8"), feature_version=(3, 8))
    script = str(ROOT / "tools" / "environments.py")
    done = subprocess.run([sys.executable, "-S", script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bpy-5.0" in done.stdout


def test_the_root_package_does_not_import_blender() -> None:
    code = "import importlib.util, sys; s = importlib.util.spec_from_file_location('ngf', sys.argv[1]); "
    code += "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); "
    code += "assert callable(m.register) and callable(m.unregister); assert 'bpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "__init__.py")], check=True)


def test_assets_are_found_in_the_layout_of_the_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zip keeps solver/nextgenface and assets side by side, like the checkout."""
    package = tmp_path / "nextgenface" / "solver" / "nextgenface"
    (tmp_path / "nextgenface" / "assets").mkdir(parents=True)
    (tmp_path / "nextgenface" / "assets" / "x.ini").write_text("")
    monkeypatch.setattr(paths, "PACKAGE_FOLDER", package)
    assert paths.asset("x.ini") == tmp_path / "nextgenface" / "assets" / "x.ini"
    assert paths.project_root() is None
