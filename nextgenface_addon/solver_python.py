"""Finds the Python that runs the solver. No bpy in here.

The solver needs PyTorch and Mitsuba, which never enter Blender's own process; it has an environment of its
own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .problems import AddonProblem

ENVIRONMENT_VARIABLE = "NEXTGENFACE_PYTHON"


class SolverPythonError(AddonProblem):
    """No usable Python for the solver; the message says what was looked at and what to do."""


def package_root() -> Path:
    """The repository, or the folder of the installed extension."""
    return Path(__file__).resolve().parent.parent


def solver_folder() -> Path | None:
    """`<root>/solver` when the solver's source lies beside the add-on, to be put on PYTHONPATH."""
    folder = package_root() / "solver"
    return (
        folder
        if (folder / "nextgenface" / "__init__.py").is_file() or (folder / "nextgenface").is_dir()
        else None
    )


def environment_python(environment: Path) -> Path:
    """The interpreter of a virtual environment, whether or not it exists."""
    if sys.platform == "win32":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def find_solver_python(
    argument: str | None = None, preference: str | None = None, own: Path | None = None
) -> Path:
    """The solver's Python: argument, NEXTGENFACE_PYTHON, the add-on's preference, the environment that the
    preferences installed (`own`), `<root>/.venv/solver`.

    What somebody named explicitly is used or refused; only what nobody named is searched for.
    The path is made absolute but symbolic links are kept: a virtual environment is recognised by its own
    `python`.
    """
    named = (
        ("--solver-python", argument),
        (ENVIRONMENT_VARIABLE, os.environ.get(ENVIRONMENT_VARIABLE)),
        ("the solver Python in the add-on's preferences", preference),
    )
    for source, value in named:
        if not value:
            continue
        path = Path(value).expanduser().absolute()
        if path.is_dir():  # people also name the environment's folder
            path = environment_python(path)
        if not path.is_file():
            raise SolverPythonError(
                f"{source} names {path}, which does not exist. Correct it or leave it empty."
            )
        return path
    path = environment_python(package_root() / ".venv" / "solver")
    for candidate in (own, path):
        if candidate is not None and candidate.is_file():
            return candidate
    raise SolverPythonError(
        "The solver's environment is not installed. Press Install in the add-on's preferences, or choose an "
        f"existing environment there (in a clone of the repository, 'make setup' makes {path})."
    )
