"""`blender --command nextgenface reconstruct|import|doctor …`: the extension from a shell, without a window.

`reconstruct` takes the options of batch.py, `import` results folders or checkpoints, `doctor` those of
nextgenface-doctor. Progress goes to standard output. Exit codes: 0 done, 1 unexpected error or a failed
check, 2 something the user can put right, 130 cancelled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import headless
from .jobs import solver_environment
from .problems import AddonProblem
from .solver_python import solver_folder

NAME = "nextgenface"
USAGE = f"""usage: blender --command {NAME} COMMAND …

  reconstruct   photos become a .blend: --input PHOTO --output DIR --save FILE.blend
  import        results folders or checkpoints become a .blend: FOLDER … --save FILE.blend
  doctor        check the solver's environment

COMMAND --help lists the options."""


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code."""
    command, arguments = (argv[0], argv[1:]) if argv else ("", [])
    if command == "reconstruct":
        return headless.main(arguments, f"{NAME} reconstruct")
    if command == "import":
        return import_results(arguments)
    if command == "doctor":
        return doctor(arguments)
    print(USAGE, file=sys.stdout if command in ("-h", "--help", "help") else sys.stderr)
    return 0 if command in ("-h", "--help", "help") else 2


def import_results(argv: list[str]) -> int:
    """`import`: the same as `reconstruct --results …`."""
    parser = argparse.ArgumentParser(prog=f"{NAME} import", description="Results become a .blend file.")
    parser.add_argument("results", type=Path, nargs="+", metavar="FOLDER", help="results or checkpoints")
    parser.add_argument("--solver-python", metavar="PATH", help="Python of the solver's environment")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    headless.add_scene_options(parser)
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed what is wrong
        return int(stop.code or 0)
    return headless.guarded(lambda: headless.run(options))


def doctor(argv: list[str]) -> int:
    """`doctor`: hands on to nextgenface-doctor in the solver's environment."""
    named = None
    if "--solver-python" in argv[:-1]:
        place = argv.index("--solver-python")
        named = argv[place + 1]
        argv = argv[:place] + argv[place + 2 :]
    try:
        python = headless.chosen_python(named)
    except AddonProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    command = [str(python), "-B", "-m", "nextgenface.cli.doctor", *argv]
    try:
        return subprocess.run(command, env=solver_environment(solver_folder())).returncode
    except OSError as problem:
        print(f"error: {python} cannot be started: {problem.strerror or problem}.", file=sys.stderr)
        return 2


_registered: list[object] = []

CLASSES = ()


def register() -> None:
    import bpy

    _registered.append(bpy.utils.register_cli_command(NAME, main))


def unregister() -> None:
    import bpy

    while _registered:
        bpy.utils.unregister_cli_command(_registered.pop())
