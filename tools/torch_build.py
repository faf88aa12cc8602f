"""Which build of PyTorch to install: on Linux without an NVIDIA device, the small one for the CPU.

pip's normal package for Linux brings several gigabytes of CUDA libraries. Where a device is present, or where
pip already resolves to a CPU build (other systems, or a wheel in a folder pip knows), nothing is added;
otherwise PyTorch's own, documented index of CPU builds is asked for too.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def has_nvidia_device() -> bool:
    """Whether an NVIDIA driver with a device is present."""
    if Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists():
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def resolved_version(python: Path, requirement: str, options: list[str]) -> str | None:
    """The version pip would install, without installing it, for example "2.13.0+cpu"; None when it cannot."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    command += ["--disable-pip-version-check", "--no-input", "--report", "-", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return str(json.loads(done.stdout)["install"][0]["metadata"]["version"])
    except (ValueError, KeyError, IndexError):
        return None


def pip_options(python: Path, requirement: str) -> tuple[list[str], str]:
    """Options for `pip install torch==…` with this interpreter, and one sentence saying what was chosen."""
    if platform.system() != "Linux":
        return [], "the build for this system"
    if has_nvidia_device():
        return [], "the build for CUDA, because an NVIDIA device is present"
    version = resolved_version(python, requirement, [])
    if version is not None and version.endswith("+cpu"):
        return [], "the build for the CPU"
    # A machine without access to that index should learn it in seconds, not after pip's five retries.
    quick = ["--retries", "1", "--timeout", "10"]
    version = resolved_version(python, requirement, [*quick, "--extra-index-url", CPU_INDEX])
    if version is not None and version.endswith("+cpu"):
        return ["--extra-index-url", CPU_INDEX], "the build for the CPU, from PyTorch's own index"
    return (
        [],
        "the normal build with CUDA (6 GB on disk), because PyTorch's index of CPU builds cannot be reached",
    )
