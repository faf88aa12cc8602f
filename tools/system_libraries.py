"""Names the system's shared libraries that Blender and the landmark detector need and this machine lacks.

They cannot come from the Python package registry; all that are missing are named as one install line.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

DEBIAN_PACKAGES = {
    # Mitsuba's Dr.Jit
    "libatomic.so.1": "libatomic1",
    # Blender as a module
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libgomp.so.1": "libgomp1",
    # Blender and the landmark detector's OpenCV
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}


def missing_packages() -> list[str]:
    """Debian packages of the libraries above that the loader does not find; empty where it finds all."""
    if not sys.platform.startswith("linux"):
        return []
    missing = set()
    for soname, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(soname)
        except OSError:
            missing.add(package)
    return sorted(missing)


def install_line(packages: list[str]) -> str:
    """The one line that installs them on Debian and Ubuntu."""
    return "sudo apt-get install -y --no-install-recommends " + " ".join(packages)


def install(packages: list[str]) -> bool:
    """Install them when this is root on a Debian machine; whether that worked."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "-q", "update"], env=environment)
    command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages]
    return subprocess.run(command, env=environment).returncode == 0
