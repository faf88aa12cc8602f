"""Checks of the machine and the installation: what is there, what is wrong, what to do.

Every check stands by itself, imports what it needs and turns every failure into a line of the table, because
the table matters most where something is broken.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from nextgenface.errors import EnvironmentProblem, NextGenFaceError
from nextgenface.paths import STARTED_BY, cache_dir, user_data_dir

Status = Literal["ok", "warning", "failed"]

PEAK_MEMORY_GB = 3.0
"""What a solve may need at most."""
FREE_DISK_GB = 1.0

TESTED_VERSIONS = {"torch": "2.13.", "mitsuba": "3.9.", "drjit": "1.5."}
"""Versions that this release was tested with; others may work."""


def set_up_again(*, anew: bool = False) -> str:
    """How this environment is made again, in one sentence; `anew`: also when it is up to date."""
    if os.environ.get(STARTED_BY) == "blender":
        return "Press Repair in the add-on's preferences."
    return "Remove .venv/solver and run `make setup`." if anew else "Run `make setup` again."


@dataclass(frozen=True)
class Check:
    """One line of the table: its name, what was found, what is wrong and what to do about it."""

    name: str
    status: Status
    found: str
    wrong: str = ""
    action: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def run_checks(*, picture: Path | None = None) -> list[Check]:
    """Run all checks, in the order of the table. With `picture`, also render one PNG there with Mitsuba."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", check_python),
        ("Packages", check_packages),
        ("PyTorch", check_torch),
        ("Device", check_device),
        ("Mitsuba variant", check_variant),
        ("LLVM", check_llvm),
        ("Memory", check_memory),
        ("Disk", check_disk),
        ("Landmark detector", check_landmarks),
        ("Face model", check_face_model),
    ]
    if picture is not None:
        checks.append(("Picture", lambda: check_picture(picture)))
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """One check; whatever it raises becomes its line."""
    try:
        return check()
    except NextGenFaceError as error:
        return Check(name, "failed", "", str(error))
    except ImportError as error:
        return Check(name, "failed", "", f"cannot be imported: {error}", set_up_again())
    except Exception as error:
        return Check(name, "failed", "", f"{type(error).__name__}: {error}", "Please report this line.")


def check_python() -> Check:
    """The interpreter's version and place."""
    found = f"{platform.python_version()} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "failed", found, "it has to be 3.11, 3.12 or 3.13", set_up_again())


def check_packages() -> Check:
    """Versions of what the solver stands on."""
    versions: list[str] = []
    missing: list[str] = []
    untested: list[str] = []
    for name in (
        "nextgenface",
        "torch",
        "mitsuba",
        "drjit",
        "mediapipe",
        "numpy",
        "scipy",
        "h5py",
        "OpenEXR",
    ):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name != "nextgenface":  # runs from its folder inside the Blender extension
                missing.append(name)
            continue
        versions.append(f"{name} {version}")
        if not version.startswith(TESTED_VERSIONS.get(name, "")):
            untested.append(f"{name} {version}")
    found = ", ".join(versions)
    if missing:
        return Check("Packages", "failed", found, "missing: " + ", ".join(missing), set_up_again())
    if untested:
        action = f"If something fails: {set_up_again()} That installs the tested versions."
        return Check("Packages", "warning", found, "not tested with " + ", ".join(untested), action)
    return Check("Packages", "ok", found)


def check_torch() -> Check:
    """PyTorch computes a gradient."""
    import torch

    x = torch.ones(4, requires_grad=True)
    (x * x).sum().backward()
    gradient = x.grad
    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    found = f"{torch.__version__}, {build}, {torch.get_num_threads()} threads"
    if gradient is None or not torch.allclose(gradient, torch.full((4,), 2.0)):
        return Check("PyTorch", "failed", found, "a gradient came out wrong", set_up_again())
    return Check("PyTorch", "ok", found)


def check_device() -> Check:
    """What `device = auto` will compute on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.version.cuda and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Check("Device", "ok", f"cuda: {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    found = f"cpu: {cores} cores"
    if torch.version.cuda is None and Path("/dev/nvidia0").exists():
        wrong = "an NVIDIA device is present, but this PyTorch is a CPU build"
        return Check("Device", "warning", found, wrong, f"To use it: {set_up_again(anew=True)}")
    return Check("Device", "ok", found)


def check_variant() -> Check:
    """Which Mitsuba variant renders."""
    from nextgenface.rendering.llvm import how_to_get_llvm, select_variant

    variant = select_variant("auto")
    found = f"{variant.name} ({variant.reason})"
    if variant.name == "scalar_rgb":
        wrong = "no LLVM that works, so ray tracing is slow and has no gradients"
        return Check("Mitsuba variant", "warning", found, wrong, how_to_get_llvm())
    if variant.warnings:
        return Check("Mitsuba variant", "warning", found, " ".join(variant.warnings), "")
    return Check("Mitsuba variant", "ok", found)


def check_llvm() -> Check:
    """The LLVM library that Mitsuba would use on the CPU, proven by a render."""
    from nextgenface.rendering.llvm import find_llvm, how_to_get_llvm, llvm_version, probe_llvm

    refused: list[str] = []
    for library in find_llvm():
        probe = probe_llvm(library)
        if probe.ok:
            how = "proven before" if probe.remembered else f"rendered in {probe.seconds:.1f} s"
            version = llvm_version(library)
            found = f"{version} at {library}, {how}" if version else f"{library}, {how}"
            wrong = "; ".join(refused)
            return Check("LLVM", "warning" if refused else "ok", found, wrong)
        refused.append(f"{library}: {probe.message}")
    wrong = "; ".join(refused) or "no library of version 17 or newer was found"
    return Check("LLVM", "warning", "none", wrong, how_to_get_llvm())


def check_memory() -> Check:
    """Memory that a solve could have now."""
    available, total = memory_gb()
    if available is None or total is None:
        return Check("Memory", "ok", "this system does not tell")
    found = f"{available:.1f} of {total:.1f} GB available"
    if available < PEAK_MEMORY_GB:
        action = "Close other programs, or use --set maxResolution=256 --set textureResolution=256."
        return Check("Memory", "warning", found, f"a solve may need up to {PEAK_MEMORY_GB:.0f} GB", action)
    return Check("Memory", "ok", found)


def memory_gb() -> tuple[float | None, float | None]:
    """Available and total memory in GB, bounded by the container's limit; (None, None) where unknown."""
    available = total = None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) / 1e6 for line in lines if line.endswith("kB")}
        available, total = values["MemAvailable"], values["MemTotal"]
    except (OSError, KeyError, ValueError):
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return None, None
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        available = total
    try:  # a container may allow less than the machine has
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")) / 1e9
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")) / 1e9
        total, available = min(total, limit), min(available, limit - used)
    except (OSError, ValueError):
        pass
    return available, total


def check_disk() -> Check:
    """Room and permission in the user's data folder."""
    folder = cache_dir()
    probe = folder / f".write-test-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be written to ({error.strerror}). Set NEXTGENFACE_HOME to a folder of yours."
        ) from error
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:.1f} GB free in {user_data_dir()}"
    if free < FREE_DISK_GB:
        return Check(
            "Disk", "warning", found, f"less than {FREE_DISK_GB:.0f} GB are free", "Free some space."
        )
    return Check("Disk", "ok", found)


def astronaut() -> Any:
    """The (512, 512, 3) 8-bit sRGB portrait in scikit-image's own package; public domain."""
    from skimage import data

    return data.astronaut()


def check_landmarks() -> Check:
    """The default detector finds the face in a known photo."""
    from nextgenface.config import Config
    from nextgenface.landmarks import create_detector

    started = time.perf_counter()
    detector = create_detector(Config())
    try:
        faces = detector.detect(astronaut())
    finally:
        detector.close()
    kind = type(detector).__name__
    if not faces:
        wrong = "it finds no face in a photo that shows one"
        return Check("Landmark detector", "failed", kind, wrong, set_up_again())
    x0, y0, x1, y1 = faces[0].box
    # Where the face is in that photo, pixels: a detector that works puts its box around this point.
    if not (x0 < 224 < x1 and y0 < 115 < y1):
        place = f"{x0:.0f}, {y0:.0f} to {x1:.0f}, {y1:.0f}"
        wrong = f"it finds the face of a known photo in the wrong place ({place})"
        return Check("Landmark detector", "failed", kind, wrong, set_up_again())
    seconds = time.perf_counter() - started
    points = len(faces[0].points)
    return Check(
        "Landmark detector", "ok", f"{kind} found {points} landmarks of a known face in {seconds:.1f} s"
    )


def check_face_model() -> Check:
    """The default face model loads (the built-in one is built the first time) and is sound."""
    from nextgenface.config import Config
    from nextgenface.facemodel.registry import check_model, load_model

    model = load_model(Config())
    found = (
        f"{model.name}, {model.vertex_count} vertices, {len(model.shape_basis)} shape, "
        f"{len(model.expression_basis)} expression, {len(model.diffuse_basis)} albedo components"
    )
    problems = check_model(model)
    if problems:
        return Check(
            "Face model", "failed", found, "; ".join(problems), "Run `nextgenface-models build --force`."
        )
    return Check("Face model", "ok", found)


def check_picture(picture: Path) -> Check:
    """Render one small picture with the variant that a run would use."""
    from nextgenface.rendering.llvm import probe_variant, select_variant

    variant = select_variant("auto")
    probe = probe_variant(variant.name, variant.llvm_path, size=128, picture=picture)
    if not probe.ok:
        return Check("Picture", "failed", variant.name, probe.message, set_up_again())
    return Check("Picture", "ok", f"{picture} by {variant.name} in {probe.seconds:.1f} s")
