"""The choice of the Mitsuba variant: which libraries are found, and that none is trusted without a render."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nextgenface import paths
from nextgenface.errors import EnvironmentProblem
from nextgenface.rendering import llvm

SOLVER = Path(__file__).resolve().parents[2] / "solver"


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user data folder, so that nothing is remembered from before."""
    home = tmp_path / "home"
    monkeypatch.setenv("NEXTGENFACE_HOME", str(home))
    return home


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1", 19),
        ("/usr/lib/x86_64-linux-gnu/libLLVM-15.so.1", 15),
        ("/usr/lib/llvm-18/lib/libLLVM.so.1", 18),
        ("/opt/homebrew/opt/llvm@20/lib/libLLVM.dylib", 20),
        ("/somewhere/libLLVM.so", None),
    ],
)
def test_version_is_read_from_the_name_or_the_folder(name: str, version: int | None) -> None:
    assert llvm.llvm_version(Path(name)) == version


def test_finds_the_newest_usable_library_and_leaves_out_those_that_abort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform != "linux":
        pytest.skip("the library names are Linux's")
    for name in ("libLLVM-15.so.1", "libLLVM.so.19.1", "libLLVM.so.22.1", "libLLVM-16.so.1"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "libLLVM-19.so").symlink_to("libLLVM.so.19.1")
    monkeypatch.delenv(llvm.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(llvm, "llvm_candidates", lambda: [tmp_path])
    assert [llvm.llvm_version(path) for path in llvm.find_llvm()] == [22, 19]
    # What somebody names is tried first, whatever its version.
    monkeypatch.setenv(llvm.ENVIRONMENT_VARIABLE, str(tmp_path / "libLLVM-15.so.1"))
    assert [llvm.llvm_version(path) for path in llvm.find_llvm()] == [15, 22, 19]


def test_a_library_that_is_none_fails_the_probe(own_home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "libLLVM.so.19.1"
    broken.write_bytes(b"not a library")
    result = llvm.probe_llvm(broken)
    assert not result.ok
    assert "LLVM" in result.message
    assert not (own_home / "cache" / "working-variants.json").exists()


def test_a_child_that_aborts_or_hangs_is_only_a_failed_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    abort = [sys.executable, "-c", "import os; os.abort()"]
    result = llvm._run_child(abort, os.environ, 30.0)
    assert not result.ok
    if sys.platform != "win32":
        assert "SIGABRT" in result.message
    hang = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert "did not finish" in llvm._run_child(hang, os.environ, 0.5).message


def test_probe_is_paid_once_and_again_for_another_library(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renders: list[str] = []

    def render(command: list[str], environment: dict[str, str], timeout: float) -> llvm.ProbeResult:
        renders.append(environment[llvm.ENVIRONMENT_VARIABLE])
        return llvm.ProbeResult(True, "rendered correctly", 0.1)

    monkeypatch.setattr(llvm, "_run_child", render)
    library = tmp_path / "libLLVM.so.19.1"
    library.write_bytes(b"one")
    assert not llvm.probe_llvm(library).remembered
    assert llvm.probe_llvm(library).remembered
    library.write_bytes(b"another")
    assert not llvm.probe_llvm(library).remembered
    assert len(renders) == 2
    (own_home / "cache" / "working-variants.json").write_text("{damaged")
    assert not llvm.probe_llvm(library).remembered


def test_the_real_thing_renders_and_activates(own_home: Path) -> None:
    """Runs Mitsuba: where LLVM is found it must be the LLVM variant, else scalar with a warning."""
    variant = llvm.select_variant("cpu")
    if variant.name == "scalar_rgb":
        assert any("scalar" in text for text in variant.warnings)
    else:
        assert variant.name == "llvm_ad_rgb"
        assert variant.llvm_path is not None
        assert variant.differentiable
        # The proof is remembered, together with the library it belongs to.
        remembered = json.loads((own_home / "cache" / "working-variants.json").read_text())
        assert any(str(variant.llvm_path.resolve()) in entry for entry in remembered)
    mi = llvm.activate(variant)
    assert mi.variant() == variant.name
    from nextgenface.rendering.probe_child import tiny_scene

    picture = mi.TensorXf(mi.render(tiny_scene(mi, 8), seed=0))
    assert picture.shape == (8, 8, 3)

    import drjit as dr

    before = dr.thread_count()
    try:
        llvm.activate(variant, threads=before + 1)
        assert dr.thread_count() == before + 1
        llvm.activate(variant)
        assert dr.thread_count() == before + 1, "0 leaves them as they are"
    finally:
        dr.set_thread_count(before)


def test_scalar_is_the_last_resort_and_says_so(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "find_llvm", list)
    monkeypatch.delenv(llvm.ENVIRONMENT_VARIABLE, raising=False)
    variant = llvm.select_variant("cpu")
    assert variant.name == "scalar_rgb"
    assert variant.llvm_path is None
    assert any("scalar" in text for text in variant.warnings)


@pytest.mark.parametrize(
    ("platform", "libraries"),
    [
        (
            "win32",
            [
                "Program Files/LLVM/bin/LLVM-C.dll",
                "Program Files/Microsoft Visual Studio/2022/Community/VC/Tools/Llvm/x64/bin/LLVM-C.dll",
                "tools/llvm/bin/LLVM-C.dll",
                "me/scoop/apps/llvm/current/bin/LLVM-C.dll",
                "conda/Library/bin/LLVM-C.dll",
            ],
        ),
        (
            "darwin",
            [
                "opt/homebrew/opt/llvm/lib/libLLVM.dylib",
                "opt/homebrew/opt/llvm@20/lib/libLLVM.dylib",
                "opt/homebrew/opt/llvm@19/lib/libLLVM.dylib",
                "usr/local/opt/llvm/lib/libLLVM.dylib",
                "opt/local/libexec/llvm-19/lib/libLLVM.dylib",
                "conda/lib/libLLVM.19.dylib",
            ],
        ),
        (
            "linux",
            [
                "usr/lib/llvm-20/lib/libLLVM.so.20.1",
                "usr/lib/llvm-9/lib/libLLVM-9.so.1",
                "usr/lib/x86_64-linux-gnu/libLLVM.so.19.1",
                "conda/lib/libLLVM.so.19.1",
            ],
        ),
    ],
)
def test_llvm_is_found_in_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, libraries: list[str]
) -> None:
    environment = {
        "ProgramFiles": str(tmp_path / "Program Files"),
        "ChocolateyToolsLocation": str(tmp_path / "tools"),
        "USERPROFILE": str(tmp_path / "me"),
        "CONDA_PREFIX": str(tmp_path / "conda"),
    }
    for library in libraries:
        (tmp_path / library).parent.mkdir(parents=True)
        (tmp_path / library).write_bytes(b"")
    folders = paths.usual_llvm_folders(platform, environment, tmp_path)
    monkeypatch.setattr(llvm.sys, "platform", platform)
    monkeypatch.setattr(llvm, "llvm_candidates", lambda: folders)
    monkeypatch.delenv(llvm.ENVIRONMENT_VARIABLE, raising=False)
    found = [path.relative_to(tmp_path).as_posix() for path in llvm.find_llvm()]
    too_old = [library for library in libraries if "llvm-9" in library]
    assert found == [library for library in libraries if library not in too_old]
    monkeypatch.setattr(llvm, "llvm_candidates", list)
    assert llvm.find_llvm() == [] and "nstall" in llvm.how_to_get_llvm()


def test_asking_for_cuda_without_a_device_says_what_is_used_instead(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm, "_cuda_problem", lambda: "PyTorch finds no CUDA device.")
    monkeypatch.setattr(llvm, "probe_variant", lambda *a, **k: llvm.ProbeResult(True, "rendered correctly"))
    assert any("cuda was asked for" in text for text in llvm.select_variant("cuda").warnings)
    assert not any("cuda" in text for text in llvm.select_variant("auto").warnings)
    with pytest.raises(EnvironmentProblem, match="auto, cpu or cuda"):
        llvm.select_variant("tpu")  # type: ignore[arg-type]


def test_asset_names_what_is_missing() -> None:
    assert paths.asset("canonical_face.npz").is_file()
    with pytest.raises(EnvironmentProblem, match=r"no-such-file\.ini"):
        paths.asset("no-such-file.ini")


def test_user_data_folder_follows_the_environment(own_home: Path) -> None:
    assert paths.user_data_dir() == own_home
    assert paths.cache_dir() == own_home / "cache"
    assert (own_home / "cache").is_dir()


def test_an_llvm_that_was_bound_too_early_is_not_rendered_with(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dr.Jit takes an LLVM when it is first imported; after that another path changes nothing."""
    from types import SimpleNamespace

    stand_in = SimpleNamespace(
        has_backend=lambda backend: True,
        JitBackend=SimpleNamespace(LLVM=2),
        detail=SimpleNamespace(llvm_version=lambda: (15, 0, 6)),
    )
    monkeypatch.setitem(sys.modules, "drjit", stand_in)
    variant = llvm.select_variant("cpu")
    assert variant.name == "scalar_rgb"
    assert any("LLVM 15.0.6" in text for text in variant.warnings)
    with pytest.raises(EnvironmentProblem, match=r"15\.0\.6"):
        llvm.activate(llvm.Variant("llvm_ad_rgb", "", Path("/x/libLLVM.so.19.1")))
    stand_in.detail.llvm_version = lambda: (19, 1, 7)
    assert llvm._bound_problem() is None
    stand_in.has_backend = lambda backend: False
    assert "without any LLVM" in str(llvm._bound_problem())


def test_mitsuba_imported_too_early_for_real(own_home: Path) -> None:
    """In a child process, because nothing can unbind what Dr.Jit has taken."""
    code = (
        "import mitsuba; from nextgenface.rendering.llvm import *; v = select_variant('cpu'); "
        "mi = activate(v); print(mi.variant()); print(*v.warnings)"
    )
    environment = os.environ | {llvm.ENVIRONMENT_VARIABLE: "/nowhere/libLLVM.so", "PYTHONPATH": str(SOLVER)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scalar_rgb")
    assert "imported in this process before" in done.stdout
