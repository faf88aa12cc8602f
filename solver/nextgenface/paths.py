"""Where things are: shipped assets, the user's data folder, libraries unpacked by the set-up.

Nothing here creates, reads or writes a file, except `cache_dir`, which makes its folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from nextgenface.errors import EnvironmentProblem

PACKAGE_FOLDER = Path(__file__).resolve().parent

STARTED_BY = "NEXTGENFACE_STARTED_BY"
"""Environment variable that the Blender extension sets to "blender", so that advice fits where one is."""


def asset_folders() -> list[Path]:
    """Folders that may hold the shipped assets, in the order they are looked at.

    A wheel carries them inside the package; a checkout and the Blender extension keep them
    beside `solver/`, so that both sides of the project can read the same files.
    """
    return [PACKAGE_FOLDER / "assets", PACKAGE_FOLDER.parents[1] / "assets"]


def asset(name: str) -> Path:
    """Path of a shipped file, for example ``asset("default.ini")``.

    Raises EnvironmentProblem when it is not there, which means a damaged installation.
    """
    for folder in asset_folders():
        candidate = folder / name
        if candidate.exists():
            return candidate
    looked = ", ".join(str(folder) for folder in asset_folders())
    raise EnvironmentProblem(
        f"The file '{name}' that belongs to NextGenFace is missing (looked in {looked}). "
        "Install NextGenFace again."
    )


def project_root() -> Path | None:
    """The checkout this package runs from, or None for a wheel or the Blender extension."""
    root = PACKAGE_FOLDER.parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def user_data_dir() -> Path:
    """The user's folder for built models, downloads and caches (not created here).

    ``NEXTGENFACE_HOME`` wins; else the platform's place for application data.
    """
    chosen = os.environ.get("NEXTGENFACE_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "NextGenFace"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "NextGenFace"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "nextgenface"


def cache_dir() -> Path:
    """The user's folder for things that can be computed again; created when missing.

    Raises EnvironmentProblem when it cannot be created.
    """
    folder = user_data_dir() / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"The folder '{folder}' cannot be created ({error.strerror}). "
            "Set NEXTGENFACE_HOME to a folder that you may write to."
        ) from error
    return folder


def llvm_candidates() -> list[Path]:
    """Folders in which an LLVM library may lie, best first; they need not exist.

    The set-up's own copy comes first, because its version is known to work.
    """
    folders: list[Path] = []
    root = project_root()
    if root is not None:
        folders.append(root / ".venv" / "llvm")
    # A solver environment at .venv/solver keeps the library beside it, wherever the package came from.
    folders.append(Path(sys.prefix).parent / "llvm")
    folders.append(user_data_dir() / "llvm")
    folders += usual_llvm_folders(sys.platform, os.environ)
    return folders


def usual_llvm_folders(platform: str, environment: Mapping[str, str], root: Path = Path("/")) -> list[Path]:
    """Where installers and package managers put LLVM's library, newest version first; they need not exist.

    `platform` as in sys.platform. Windows: LLVM's own installer, Visual Studio, Chocolatey, Scoop. macOS:
    Homebrew on both kinds of machines, MacPorts. All: the active conda environment. `root` holds the absolute
    folders of macOS and Linux.
    """

    def numbered(folder: Path, pattern: str) -> list[Path]:
        def version(path: Path) -> tuple[int, ...]:
            return tuple(int(part) for part in re.findall(r"\d+", str(path.relative_to(folder))))

        return sorted(folder.glob(pattern), key=version, reverse=True)

    folders: list[Path] = []
    conda = environment.get("CONDA_PREFIX")
    if platform == "win32":
        for variable in ("ProgramFiles", "ProgramW6432", "ProgramFiles(x86)"):
            if environment.get(variable):
                programs = Path(environment[variable])
                folders.append(programs / "LLVM" / "bin")
                folders += numbered(programs / "Microsoft Visual Studio", "*/*/VC/Tools/Llvm/x64/bin")
        folders.append(Path(environment.get("ChocolateyToolsLocation", "C:/tools")) / "llvm" / "bin")
        scoop = environment.get("SCOOP") or Path(environment.get("USERPROFILE", "C:/")) / "scoop"
        folders.append(Path(scoop) / "apps" / "llvm" / "current" / "bin")
        if conda:
            folders.append(Path(conda) / "Library" / "bin")
        return folders
    if platform == "darwin":
        for brew in (root / "opt/homebrew/opt", root / "usr/local/opt"):
            folders.append(brew / "llvm/lib")
            folders += numbered(brew, "llvm@*/lib")
        folders += numbered(root / "opt/local/libexec", "llvm-*/lib")
    else:
        folders += numbered(root / "usr/lib", "llvm-*/lib")
        folders += [root / "usr/lib/x86_64-linux-gnu", root / "usr/lib/aarch64-linux-gnu"]
        folders += [root / "usr/lib64", root / "usr/lib", root / "usr/local/lib"]
    if conda:
        folders.append(Path(conda) / "lib")
    return folders
