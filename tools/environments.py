"""Makes the project's virtual environments from their locks: `make setup`, `make setup-blenders`.

    python3 tools/environments.py                  the solver's, and one with Blender as a module
    python3 tools/environments.py --all-blenders   and every other Blender whose Python is on this machine
    python3 tools/environments.py solver bpy-4.5   just these

Each lies in .venv/<name> and is stamped with the hash of its lock, so a second run has nothing to do and
takes a second. Standard library only; runs with any Python 3.8 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import interpreters
import landmarker
import llvm_library
import system_libraries
import torch_build

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
STAMP = "nextgenface-stamp.json"
SMALLEST_FREE_GB = {"solver": 4.0, "bpy": 2.0}


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment: its name, the Pythons it can be made with, what has to import in it.

    It lies in `place`: a folder of the user's for the Blender extension, else the checkout's .venv.
    """

    name: str
    pythons: tuple
    imports: str
    is_solver: bool = False
    place: Path | None = None

    @property
    def home(self) -> Path:
        """The folder that it lies in, beside its log."""
        return self.place or VENVS

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def log(self) -> Path:
        """Everything that was said while it was made."""
        return self.home / (self.name + ".log")

    @property
    def python(self) -> Path:
        """The environment's own interpreter, there or not."""
        windows = os.name == "nt"
        return self.folder / ("Scripts" if windows else "bin") / ("python.exe" if windows else "python")

    def locks(self, version: str) -> list:
        """The lock files for one Python version."""
        own = REQUIREMENTS / (self.name + "-py" + version.replace(".", "") + ".txt")
        # The checkout is tested, too: its solver gets the test tools and Dask.
        checkout = self.is_solver and self.place is None
        return [own, *(REQUIREMENTS / name for name in ("dev.txt", "cluster.txt") if checkout)]


SOLVER = Environment("solver", ("3.11", "3.12", "3.13"), "torch, mitsuba, cv2, mediapipe", is_solver=True)
BLENDERS = (
    Environment("bpy-5.0", ("3.11",), "bpy"),
    Environment("bpy-5.2", ("3.13",), "bpy"),
    Environment("bpy-4.5", ("3.11",), "bpy"),
    Environment("bpy-4.2", ("3.11",), "bpy"),
)
"""In the order in which one is chosen for the demo."""

EVERY = {environment.name: environment for environment in (SOLVER, *BLENDERS)}


def say(text: str) -> None:
    """One line of progress, at once even where the output is piped."""
    print(text, flush=True)


def stamp_of(environment: Environment, version: str) -> dict:
    """What the environment has to agree with: place, Python, locks."""
    digest = hashlib.sha256()
    for lock in environment.locks(version):
        digest.update(lock.read_bytes())
    return {"root": str(ROOT), "python": version, "lock": digest.hexdigest()}


def read_stamp(environment: Environment) -> dict:
    """The stamp of a finished environment; empty when there is none."""
    try:
        stamp = json.loads((environment.folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and environment.python.exists() else {}


def is_current(environment: Environment) -> bool:
    """Whether the environment was finished with today's lock at this place."""
    stamp = read_stamp(environment)
    if stamp.get("python") not in environment.pythons:
        return False
    return all(stamp.get(key) == value for key, value in stamp_of(environment, stamp["python"]).items())


def run_logged(command: list, log: Path, what: str, on_line: Callable = lambda line: None) -> None:
    """Run a command with its output in a log file; raise SetupError with the end of it when it fails.

    `on_line` is given each line of the output as it comes.
    """
    started = time.time()
    with log.open("a", encoding="utf-8") as stream:
        stream.write("\n$ " + " ".join(command) + "\n")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(log.parent)
        ) as process:
            assert process.stdout is not None
            try:
                for raw in process.stdout:
                    line = raw.decode("utf-8", "replace")
                    stream.write(line)
                    stream.flush()
                    on_line(line.strip())
            except BaseException:
                process.kill()
                raise
        code = process.returncode
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        telling = [line for line in lines if re.match(r"\s*(ERROR|error|fatal|OSError)", line)] or lines
        quoted = "\n    ".join(telling[-8:])
        raise SetupError(
            f"{what} failed:\n    {quoted}\n  Everything that was said is in {log}. "
            "If the package registry could not be reached, run the same command again."
        )
    say(f"  {what:<58} {time.time() - started:4.0f} s")


def make(environment: Environment, version: str, python: Path, on_line: Callable = lambda line: None) -> None:
    """Make one environment from nothing; `on_line` hears what pip says. Raises SetupError."""
    environment.home.mkdir(parents=True, exist_ok=True)
    need = SMALLEST_FREE_GB["solver" if environment.is_solver else "bpy"]
    free = shutil.disk_usage(str(environment.home)).free / 1e9
    if free < need:
        raise SetupError(
            f"{environment.name} needs about {need:.0f} GB, only {free:.1f} GB are free in "
            f"{environment.home}."
        )
    say(f"{environment.name}: making {environment.folder} with Python {version} ({python})")
    if environment.folder.exists():
        shutil.rmtree(str(environment.folder))
    log = environment.log
    log.write_text("", encoding="utf-8")
    run_logged([str(python), "-m", "venv", str(environment.folder)], log, "virtual environment")
    pip = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    locks = environment.locks(version)
    if environment.is_solver:
        requirement = next(line for line in locks[0].read_text().split() if line.startswith("torch=="))
        options, choice = torch_build.pip_options(environment.python, requirement)
        say("  PyTorch: " + choice)
        run_logged([*pip, "-c", str(locks[0]), *options, requirement], log, requirement, on_line)
    arguments = [argument for lock in locks for argument in ("-r", str(lock))]
    run_logged([*pip, *arguments], log, "the other packages of " + locks[0].name, on_line)
    stamp = stamp_of(environment, version)
    (environment.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def install_project(environment: Environment) -> None:
    """Put this checkout and its commands into the solver's environment; repeated when pyproject changes."""
    project = hashlib.sha256(
        (ROOT / "pyproject.toml").read_bytes() + (ROOT / "setup.py").read_bytes()
    ).hexdigest()
    stamp = read_stamp(environment)
    if stamp.get("project") == project:
        return
    command = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    run_logged(command, environment.log, "nextgenface itself and its commands")
    stamp["project"] = project
    (environment.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def check_imports(environment: Environment, install_libraries: bool) -> None:
    """Import what the environment is for; name what the system lacks in one line. Raises SetupError."""
    stamp = read_stamp(environment)
    if stamp.get("imports"):
        return
    for attempt in ("first", "after installing"):
        command = [str(environment.python), "-c", "import " + environment.imports]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode == 0:
            break
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        # Some packages hide the loader's complaint behind an error of their own.
        last = next((line for line in lines if "cannot open shared object file" in line), lines[-1])
        packages = system_libraries.missing_packages()
        if packages and install_libraries and attempt == "first" and system_libraries.install(packages):
            continue
        message = f"{environment.name} is installed, but does not start: {last}"
        if packages:
            message += "\n  System libraries are missing. Install them and run this again:\n    "
            message += system_libraries.install_line(packages)
        raise SetupError(message)
    stamp["imports"] = True
    (environment.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def ensure_llvm(solver: Environment) -> None:
    """See to it that Mitsuba finds an LLVM that works; without one, say so and go on (scalar is slow)."""
    stamp = read_stamp(solver)
    known = stamp.get("llvm")
    if known and Path(known).is_file():
        return
    query = (
        "import json; from nextgenface.rendering.llvm import select_variant; v = select_variant('cpu'); "
        "print(json.dumps([v.name, str(v.llvm_path or '')]))"
    )

    def selected() -> list:
        done = subprocess.run(
            [str(solver.python), "-c", query], capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            raise SetupError(
                "Mitsuba does not render: " + (done.stderr.strip().splitlines() or ["no message"])[-1]
            )
        return list(json.loads(done.stdout.strip().splitlines()[-1]))

    variant, library = selected()
    if variant == "scalar_rgb":
        try:
            say("  LLVM for Mitsuba: unpacking " + str(llvm_library.unpack_llvm(solver.home / "llvm")))
        except llvm_library.UnpackError as problem:
            say("  LLVM for Mitsuba: none that works was found, and " + str(problem) + ".")
            say("  Ray tracing will be slow. To change that: install LLVM 17 or newer, for example")
            say("    sudo apt-get install libllvm19     (macOS: brew install llvm)")
            say("  and run this again, or name the library in DRJIT_LIBLLVM_PATH.")
            return
        variant, library = selected()
    say("  LLVM for Mitsuba: %s renders" % (library or variant))
    stamp["llvm"] = library
    (solver.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def ensure(environment: Environment, install_libraries: bool = False) -> str:
    """Bring one environment up to date and return its Python version. Raises SetupError."""
    if is_current(environment):
        version = read_stamp(environment)["python"]
        say(f"{environment.name}: up to date (Python {version})")
    else:
        found = interpreters.find(list(environment.pythons))
        if found is None:
            wanted = " or ".join(environment.pythons)
            raise SetupError(
                f"{environment.name} needs Python {wanted} with its venv module, which was not found on "
                "PATH, among pyenv's versions or in /usr/bin.\n"
                f"  On Debian: sudo apt-get install python{environment.pythons[0]}-venv"
            )
        version, python = found
        make(environment, version, python)
    if environment.is_solver:
        install_project(environment)
    check_imports(environment, install_libraries)
    if environment.is_solver:
        ensure_llvm(environment)
        if version == "3.13":  # its MediaPipe has no detector inside the package
            say("  " + landmarker.ensure())
    return version


def default_blender() -> Environment:
    """The Blender for the demo: one that is there already, else the first whose Python is on this machine."""
    for environment in BLENDERS[:2]:
        if is_current(environment):
            return environment
    for environment in BLENDERS[:2]:
        if interpreters.find(list(environment.pythons)):
            return environment
    return BLENDERS[0]


def made_blenders() -> list:
    """The Blender environments that are there."""
    return [environment for environment in BLENDERS if read_stamp(environment)]


def main(arguments: list) -> int:
    """Make what was asked for; 0 when all of it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    known = "of " + ", ".join(EVERY) + "; default: the solver and one Blender"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    parser.add_argument("--all-blenders", action="store_true", help="every Blender whose Python is there")
    parser.add_argument(
        "--install-system-libraries",
        action="store_true",
        help="as root on Debian, install missing system libraries instead of naming them",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in EVERY]
    if unknown:
        parser.error("there is no environment " + ", ".join(unknown) + "; choose " + known)
    wanted = [EVERY[name] for name in options.names] or [SOLVER, default_blender()]
    if options.all_blenders:
        for environment in BLENDERS:
            if environment in wanted:
                continue
            if interpreters.find(list(environment.pythons)):
                wanted.append(environment)
            else:
                say(f"{environment.name}: left out, there is no Python {environment.pythons[0]} here")
    failed = []
    for environment in wanted:
        try:
            ensure(environment, options.install_system_libraries)
        except SetupError as problem:
            failed.append(environment.name)
            say(f"{environment.name}: {problem}")
    if failed:
        say("Not ready: " + ", ".join(failed))
        return 1
    say("Ready.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
