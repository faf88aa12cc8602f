"""Where things are: shipped assets, the user's data folder, libraries unpacked by the set-up.

Nothing here creates, reads or writes a file, except `cache_dir`, which makes its folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nextgenface.errors import EnvironmentProblem

PACKAGE_FOLDER = Path(__file__).resolve().parent


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
    if sys.platform == "darwin":
        folders += [Path("/opt/homebrew/opt/llvm/lib"), Path("/usr/local/opt/llvm/lib")]
        folders += sorted(Path("/opt/homebrew/opt").glob("llvm@*/lib"), reverse=True)
    elif sys.platform == "win32":
        folders.append(Path(os.environ.get("ProgramFiles", "C:\\Program Files")) / "LLVM" / "bin")
    else:
        folders += sorted(Path("/usr/lib").glob("llvm-*/lib"), reverse=True)
        folders += [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu")]
        folders += [Path("/usr/lib64"), Path("/usr/lib"), Path("/usr/local/lib")]
    prefix = os.environ.get("CONDA_PREFIX")
    if prefix:
        folders.append(Path(prefix) / "lib")
    return folders
