"""`make extension`: the zip that Blender installs, built and validated by Blender's own extension command.

The zip holds the add-on, the solver's source, the assets, the locks with the set-up scripts, and the
built-in face model, which is not in the repository and is built here when needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import environments
from environments import ROOT, SOLVER, say

FILES = [
    "__init__.py",
    "blender_manifest.toml",
    "LICENSE",
    "NOTICE",
    "README.md",
    "pyproject.toml",
    "setup.py",
]
FOLDERS = ["nextgenface_addon", "solver/nextgenface", "assets", "requirements", "tools"]
UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info")
NEEDED = [
    "__init__.py",
    "blender_manifest.toml",
    "nextgenface_addon/__init__.py",
    "solver/nextgenface/job.py",
]

MODEL = "from nextgenface.facemodel.registry import build_builtin, builtin_files; build_builtin(say=print); "
MODEL += "print(builtin_files()[0])"


def stage(folder: Path) -> None:
    """Copy what the extension holds into `folder`."""
    for name in FILES:
        shutil.copyfile(str(ROOT / name), str(folder / name))
    for name in FOLDERS:
        shutil.copytree(str(ROOT / name), str(folder / name), ignore=UNWANTED)
    done = subprocess.run([str(SOLVER.python), "-c", MODEL], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise environments.SetupError("the built-in face model cannot be built; see above")
    model = Path(done.stdout.strip().splitlines()[-1])
    (folder / "assets" / "models").mkdir(exist_ok=True)
    shutil.copyfile(str(model), str(folder / "assets" / "models" / model.name))


def extension_command(blender: environments.Environment) -> list:
    """Blender's extension command line, which is a plain script inside the bpy module."""
    found = sorted(blender.folder.rglob("bl_pkg/cli/blender_ext.py"))
    if not found:
        raise environments.SetupError(f"{blender.name} has no extension command")
    return [str(blender.python), "-B", str(found[0])]


def main(arguments: list) -> int:
    """Build and validate; 0 when the zip is good."""
    target_folder = Path(arguments[0]) if arguments else ROOT / "out"
    blenders = environments.made_blenders()
    if not blenders or not environments.read_stamp(SOLVER):
        say("The environments are missing. Run `make setup` first.")
        return 2
    target_folder.mkdir(parents=True, exist_ok=True)
    try:
        command = extension_command(blenders[0])
        with tempfile.TemporaryDirectory(prefix="nextgenface-extension-") as temporary:
            source = Path(temporary) / "nextgenface"
            source.mkdir()
            stage(source)
            # Our own exclusions are done; the manifest's would take out what the solver's set-up needs.
            manifest = source / "blender_manifest.toml"
            manifest.write_text(
                manifest.read_text("utf-8").split("\n[build]")[0].rsplit("\n# `make", 1)[0] + "\n"
            )
            built = Path(temporary) / "built"
            built.mkdir()
            build = [*command, "build", "--source-dir", str(source), "--output-dir", str(built)]
            if subprocess.run(build).returncode != 0:
                raise environments.SetupError("Blender's extension command did not build the zip; see above")
            archive = next(built.glob("*.zip"))
            if subprocess.run([*command, "validate", str(archive)]).returncode != 0:
                raise environments.SetupError("the zip is not valid; see above")
            names = set(zipfile.ZipFile(str(archive)).namelist())
            missing = [name for name in NEEDED if name not in names]
            if missing or not any(name.startswith("assets/models/") for name in names):
                raise environments.SetupError("the zip lacks " + (", ".join(missing) or "the face model"))
            target = target_folder / archive.name
            shutil.copyfile(str(archive), str(target))
    except environments.SetupError as problem:
        say(f"extension: {problem}")
        return 1
    say(f"{target} ({target.stat().st_size / 1e6:.1f} MB, {len(names)} files)")
    say("Install it in Blender: Edit > Preferences > Get Extensions > Install from Disk.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
