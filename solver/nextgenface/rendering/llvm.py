"""Which Mitsuba variant runs on this machine: CUDA, else LLVM, else scalar.

Dr.Jit compiles its kernels with the LLVM library that it finds. Versions 15 and 16 are accepted and then
abort the whole process at the first render ("Cannot select: … fminimum"), so a library counts only after it
has rendered a tiny picture in a child process. What has been proven is remembered per library, Dr.Jit and
Mitsuba version, so that a run does not pay for the proof each time.

Dr.Jit binds its LLVM when it is first imported, for good. So `activate` comes before any ``import mitsuba``;
where somebody imported it earlier and it took an LLVM that aborts, the scalar variant is used instead.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from nextgenface.errors import EnvironmentProblem, OutputError
from nextgenface.files import write_text
from nextgenface.paths import STARTED_BY, cache_dir, llvm_candidates
from nextgenface.rendering.probe_child import preload_neighbours

Device = Literal["auto", "cpu", "cuda"]

OLDEST_USABLE = 17
"""LLVM 14 is refused by Dr.Jit 1.5; 15 and 16 abort at the first render."""

ENVIRONMENT_VARIABLE = "DRJIT_LIBLLVM_PATH"
PROBE_SIZE = 16
PROBE_SECONDS = 120.0

HOW_TO_GET_LLVM = {
    "linux": "Run `make setup` (it unpacks libllvm19 without root), or: sudo apt install libllvm19",
    "darwin": "Run: brew install llvm (https://brew.sh), or: sudo port install llvm-19",
    "win32": "Install LLVM 17 or newer: winget install LLVM.LLVM, or the LLVM-…-win64.exe from "
    "https://github.com/llvm/llvm-project/releases; elsewhere than usual, name its LLVM-C.dll in "
    "DRJIT_LIBLLVM_PATH",
}


@dataclass(frozen=True)
class ProbeResult:
    """What one trial render said."""

    ok: bool
    message: str
    seconds: float = 0.0
    remembered: bool = False


@dataclass(frozen=True)
class Variant:
    """The Mitsuba variant to use, and why."""

    name: str
    reason: str
    llvm_path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def differentiable(self) -> bool:
        """Whether Mitsuba can compute gradients; the deferred engine does not need it."""
        return "_ad_" in self.name


def llvm_version(library: Path) -> int | None:
    """Major version from the library's name, its target's name or its folder; None when they do not tell."""
    for path in (library, library.resolve()):
        in_name = re.search(r"LLVM(?:-|\.so\.)(\d+)", path.name)
        in_folder = re.search(r"llvm[-@](\d+)", str(path.parent))
        for match in (in_name, in_folder):
            if match and int(match.group(1)) > 1:  # libLLVM.so.1 is an alias inside /usr/lib/llvm-N
                return int(match.group(1))
    return None


def find_llvm() -> list[Path]:
    """LLVM libraries that may work, the most promising first.

    The library named by DRJIT_LIBLLVM_PATH comes first, then what `paths.llvm_candidates` lists, newest
    version first within a folder. Versions known to abort are left out, unless they were named explicitly.
    """
    found: list[Path] = []
    seen: set[Path] = set()

    def add(path: Path) -> None:
        real = path.resolve()
        if path.is_file() and real not in seen:
            seen.add(real)
            found.append(path)

    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        add(Path(named))
    for folder in llvm_candidates():
        matches = [path for pattern in _library_names() for path in folder.glob(pattern)]
        for path in sorted(matches, key=lambda p: (llvm_version(p) or 0, -len(p.name)), reverse=True):
            version = llvm_version(path)
            if version is None or version >= OLDEST_USABLE:
                add(path)
    return found


def probe_llvm(path: Path, *, timeout: float = PROBE_SECONDS) -> ProbeResult:
    """Render a tiny picture with this LLVM in a child process; never raises, never aborts the caller."""
    return probe_variant("llvm_ad_rgb", path, timeout=timeout)


def probe_variant(
    variant: str,
    llvm_path: Path | None = None,
    *,
    timeout: float = PROBE_SECONDS,
    size: int = PROBE_SIZE,
    picture: Path | None = None,
) -> ProbeResult:
    """Render a tiny picture with a Mitsuba variant in a child process.

    `size` in pixels; the picture is written as PNG to `picture` when given. A success is remembered in the
    user's cache folder and then returned without rendering; failures are tried anew each time.
    """
    key = _cache_key(variant, llvm_path)
    if picture is None and key in _read_cache():
        return ProbeResult(True, "rendered correctly (remembered)", remembered=True)
    child = Path(__file__).with_name("probe_child.py")
    command = [sys.executable, "-B", "-P", str(child), variant, str(size)]
    if picture is not None:
        command.append(str(picture.absolute()))
    with tempfile.TemporaryDirectory(prefix="nextgenface-probe-") as home:
        # Dr.Jit keeps compiled kernels in the home folder; in an empty one LLVM has to compile.
        environment = os.environ | {"HOME": home, "LOCALAPPDATA": home}
        if llvm_path is not None:
            environment[ENVIRONMENT_VARIABLE] = str(llvm_path)
        result = _run_child(command, environment, timeout)
    if result.ok:
        _remember(key)
    return result


def select_variant(device: Device = "auto") -> Variant:
    """Choose the Mitsuba variant for a device, proving each candidate by a trial render.

    ``auto``: CUDA where it works, else LLVM, else scalar. ``cuda``: the same with a warning when CUDA does
    not work (the guide's documented behaviour). ``cpu``: LLVM, else scalar. What was not used as asked stands
    in `warnings`. Raises EnvironmentProblem when not even scalar renders, or for an unknown device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise EnvironmentProblem(f"device = '{device}' is not known. Use auto, cpu or cuda.")
    warnings: list[str] = []
    if device != "cpu":
        problem = _cuda_problem()
        if problem is None:
            probe = probe_variant("cuda_ad_rgb")
            if probe.ok:
                return Variant("cuda_ad_rgb", "a CUDA device is present and renders")
            problem = f"Mitsuba cannot render on it: {probe.message}"
            warnings.append(f"The CUDA device is not used for ray tracing. {problem}")
        elif device == "cuda":
            warnings.append(f"device = cuda was asked for, but {problem} The CPU is used instead.")
    candidates = find_llvm()
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named and not Path(named).is_file():
        warnings.append(f"{ENVIRONMENT_VARIABLE} names {named}, which does not exist; it is not used.")
    bound = _bound_problem()
    if bound is not None:
        candidates = []
        warnings.append(bound)
    for path in candidates:
        probe = probe_llvm(path)
        if probe.ok:
            name = f"LLVM {llvm_version(path) or path.name}"
            return Variant("llvm_ad_rgb", f"{name} renders", path, tuple(warnings))
        warnings.append(f"The LLVM library {path} is not used: {probe.message}")
    probe = probe_variant("scalar_rgb")
    if not probe.ok:
        raise EnvironmentProblem(f"Mitsuba cannot render at all: {probe.message} Run nextgenface-doctor.")
    if bound is not None:
        return Variant("scalar_rgb", "Mitsuba was imported with an unusable LLVM", None, tuple(warnings))
    missing = "no LLVM library that works was found"
    warnings.append(f"Ray tracing uses Mitsuba's slow scalar variant: {missing}. {how_to_get_llvm()}")
    return Variant("scalar_rgb", missing, None, tuple(warnings))


def activate(variant: Variant, threads: int = 0) -> Any:
    """Make `variant` the current one in this process and return the `mitsuba` module.

    `threads`: CPU threads of its kernels from now on, in the whole process; 0 leaves them as they are.
    Called where rendering starts, never at import. Raises EnvironmentProblem when Mitsuba refuses.
    """
    if variant.llvm_path is not None:
        bound = _bound_problem()
        if bound is not None:  # going on would abort the process
            raise EnvironmentProblem(bound)
        os.environ[ENVIRONMENT_VARIABLE] = str(variant.llvm_path)
        preload_neighbours(variant.llvm_path)
    try:
        import mitsuba as mi

        if mi.variant() != variant.name:
            mi.set_variant(variant.name)
        if threads:
            import drjit as dr

            dr.set_thread_count(threads)
    except ImportError as error:
        raise EnvironmentProblem(
            f"Mitsuba's variant {variant.name} cannot be used: {error}. Run nextgenface-doctor."
        ) from error
    return mi


def how_to_get_llvm() -> str:
    """One sentence for people without an LLVM that works."""
    if sys.platform == "linux" and os.environ.get(STARTED_BY) == "blender":
        return "Press Repair in the add-on's preferences, or: sudo apt install libllvm19"
    return HOW_TO_GET_LLVM.get(sys.platform, HOW_TO_GET_LLVM["linux"])


def _library_names() -> list[str]:
    if sys.platform == "win32":
        return ["LLVM-C.dll"]
    if sys.platform == "darwin":
        return ["libLLVM*.dylib", "lib/libLLVM*.dylib"]
    return ["libLLVM.so*", "libLLVM-[0-9]*.so*", "lib/libLLVM.so*", "lib/libLLVM-[0-9]*.so*"]


def _cuda_problem() -> str | None:
    """None when PyTorch sees a CUDA device, else a sentence saying why not."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed."
    if torch.version.cuda is None:
        return "this PyTorch is a CPU build."
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device."
    return None


def _bound_problem() -> str | None:
    """What is wrong with the LLVM that this process is already bound to; None when nothing is, or not yet."""
    drjit = sys.modules.get("drjit")
    if drjit is None:
        return None
    if not drjit.has_backend(drjit.JitBackend.LLVM):
        taken = "without any LLVM"
    else:
        version = drjit.detail.llvm_version()  # (major, minor, patch)
        if version[0] >= OLDEST_USABLE:
            return None
        taken = f"with LLVM {'.'.join(map(str, version))}, which aborts"
    return (
        "Ray tracing uses Mitsuba's slow scalar variant: Mitsuba was imported in this process before the "
        f"right LLVM was chosen, {taken}. Import mitsuba later, or set {ENVIRONMENT_VARIABLE} before."
    )


def _run_child(command: list[str], environment: Mapping[str, str], timeout: float) -> ProbeResult:
    """Run the probe and turn every way it can end into one sentence."""
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(False, f"the trial render did not finish within {timeout:.0f} s.")
    except OSError as error:
        return ProbeResult(False, f"the trial render could not be started ({error}).")
    if done.returncode == 0:
        try:
            verdict = json.loads(done.stdout.strip().splitlines()[-1])
            return ProbeResult(bool(verdict["ok"]), "rendered correctly", float(verdict["seconds"]))
        except (ValueError, IndexError, KeyError):
            return ProbeResult(False, "the trial render gave no verdict.")
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = str(-done.returncode)
        detail = next((line for line in done.stderr.splitlines() if "LLVM ERROR" in line), "").strip()
        return ProbeResult(False, f"it aborts the process ({name}{': ' + detail if detail else ''}).")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return ProbeResult(False, last[:300])


def _cache_key(variant: str, llvm_path: Path | None) -> str:
    """Everything that can change the answer."""
    parts = [variant, sys.prefix]
    for package in ("drjit", "mitsuba"):
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{package} missing")
    if llvm_path is not None:
        real = llvm_path.resolve()
        try:
            status = real.stat()
            parts.append(f"{real} {status.st_size} {status.st_mtime_ns}")
        except OSError:
            parts.append(f"{real} missing")
    if variant.startswith("cuda"):
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no device"
        parts.append(f"{torch.version.cuda} {device}")
    return " | ".join(parts)


def _cache_file() -> Path:
    return cache_dir() / "working-variants.json"


def _read_cache() -> list[str]:
    """The remembered successes; a damaged or unreadable cache is as good as an empty one."""
    try:
        content = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, EnvironmentProblem):
        return []
    return [entry for entry in content if isinstance(entry, str)] if isinstance(content, list) else []


def _remember(key: str) -> None:
    """Add a success to the cache; where nothing can be written, the next run simply probes again."""
    entries = [*(entry for entry in _read_cache()[-31:] if entry != key), key]
    try:
        write_text(_cache_file(), json.dumps(entries, indent=1) + "\n")
    except (EnvironmentProblem, OutputError):
        return
