"""`make extension`, `make extension-repo`: the zip that Blender installs, and a static repository of it.

    python3 tools/extension.py OUT                 out/nextgenface-VERSION.zip
    python3 tools/extension.py OUT --store         … without the installer: an existing environment only
    python3 tools/extension.py OUT --repository    out/repository/: the zip, index.json, index.html

Built, validated and indexed by Blender's own extension command. The zip holds the add-on, the solver's
source, the assets, the built-in face model (not in the repository; built here when needed), and what the
installer needs: the locks and the set-up scripts. No wheels: nothing of it enters Blender's own Python.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import environments
from environments import ROOT, SOLVER, say

FILES = ["__init__.py", "blender_manifest.toml", "LICENSE", "NOTICE", "README.md"]
FOLDERS = ["nextgenface_addon", "solver/nextgenface", "assets"]
INSTALLER_FILES = ["pyproject.toml", "setup.py"]
INSTALLER_FOLDERS = ["requirements"]
INSTALLER_TOOLS = [
    "environments.py",
    "interpreters.py",
    "landmarker.py",
    "llvm_library.py",
    "solver_environment.py",
    "system_libraries.py",
    "torch_build.py",
]
UNWANTED = shutil.ignore_patterns(
    "__pycache__", "*.pyc", ".*", "*.egg-info", "bpy-*.txt", "dev.txt", "cluster.txt"
)
NEEDED = [
    "__init__.py",
    "blender_manifest.toml",
    "nextgenface_addon/__init__.py",
    "solver/nextgenface/job.py",
]
LARGEST_MB = 60

MODEL = "from nextgenface.facemodel.registry import build_builtin, builtin_files; build_builtin(say=print); "
MODEL += "print(builtin_files()[0])"


def stage(folder: Path, store: bool) -> None:
    """Copy what the extension holds into `folder`; the store's has no installer and asks for no network."""
    files, folders = list(FILES), list(FOLDERS)
    if not store:
        files += [*INSTALLER_FILES, *("tools/" + name for name in INSTALLER_TOOLS)]
        folders += INSTALLER_FOLDERS
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(str(ROOT / name), str(folder / name))
    for name in folders:
        shutil.copytree(str(ROOT / name), str(folder / name), ignore=UNWANTED)
    manifest = folder / "blender_manifest.toml"
    manifest.write_text(staged_manifest(manifest.read_text("utf-8"), store), encoding="utf-8")
    done = subprocess.run([str(SOLVER.python), "-c", MODEL], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise environments.SetupError("the built-in face model cannot be built; see above")
    model = Path(done.stdout.strip().splitlines()[-1])
    (folder / "assets" / "models").mkdir(exist_ok=True)
    shutil.copyfile(str(model), str(folder / "assets" / "models" / model.name))


def staged_manifest(text: str, store: bool) -> str:
    """The manifest for the staged copy: its exclusions are done; the store's zip needs no network."""
    text = text.split("\n[build]")[0].rsplit("\n# `make", 1)[0] + "\n"
    if store:
        text, removed = re.subn(r"^network = .*\n", "", text, flags=re.MULTILINE)
        if removed != 1:
            raise environments.SetupError("blender_manifest.toml does not state its network permission once")
    return text


def extension_command(blender: environments.Environment) -> list:
    """Blender's extension command line, which is a plain script inside the bpy module."""
    found = sorted(blender.folder.rglob("bl_pkg/cli/blender_ext.py"))
    if not found:
        raise environments.SetupError(blender.name + " has no extension command")
    return [str(blender.python), "-B", str(found[0])]


def build(command: list, target_folder: Path, store: bool) -> Path:
    """Build and validate the zip; returns its path. Raises SetupError."""
    with tempfile.TemporaryDirectory(prefix="nextgenface-extension-") as temporary:
        source, built = Path(temporary) / "nextgenface", Path(temporary) / "built"
        source.mkdir()
        built.mkdir()
        stage(source, store)
        if subprocess.run([*command, "build", "--source-dir", source, "--output-dir", built]).returncode != 0:
            raise environments.SetupError("Blender's extension command did not build the zip; see above")
        archive = next(built.glob("*.zip"))
        if subprocess.run([*command, "validate", str(archive)]).returncode != 0:
            raise environments.SetupError("the zip is not valid; see above")
        check(archive)
        target_folder.mkdir(parents=True, exist_ok=True)
        target = target_folder / (archive.stem + ("-store" if store else "") + ".zip")
        shutil.copyfile(str(archive), str(target))
    return target


def check(archive: Path) -> None:
    """Whether the zip holds what it has to, and nothing that it must not. Raises SetupError."""
    names = zipfile.ZipFile(str(archive)).namelist()
    missing = [name for name in NEEDED if name not in names]
    if not any(name.startswith("assets/models/") for name in names):
        missing.append("the face model")
    if missing:
        raise environments.SetupError("the zip lacks " + ", ".join(missing))
    wrong = [name for name in names if name.endswith((".whl", ".pyc", ".so", ".dll", ".dylib", ".task"))]
    if wrong:
        raise environments.SetupError("the zip must not hold " + ", ".join(wrong))
    size = archive.stat().st_size / 1e6
    if size > LARGEST_MB:
        raise environments.SetupError(f"the zip has grown to {size:.0f} MB; {LARGEST_MB} MB is the limit")


def repository(command: list, target_folder: Path) -> Path:
    """A folder that any web server can serve: the zip, index.json for Blender, index.html for people."""
    folder = target_folder / "repository"
    shutil.rmtree(str(folder), ignore_errors=True)
    build(command, folder, store=False)
    if subprocess.run([*command, "server-generate", "--repo-dir", str(folder), "--html"]).returncode != 0:
        raise environments.SetupError("Blender's extension command did not write the index; see above")
    return folder / "index.json"


def main(arguments: list) -> int:
    """Build what is asked for; 0 when it is good."""
    parser = argparse.ArgumentParser(description="Build the Blender extension.")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "out", help="folder for the zip")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--store", action="store_true", help="without the installer")
    kinds.add_argument("--repository", action="store_true", help="a static repository with the zip")
    asked = parser.parse_args(arguments)
    blenders = environments.made_blenders()
    if not blenders or not environments.read_stamp(SOLVER):
        say("The environments are missing. Run `make setup` first.")
        return 2
    try:
        command = extension_command(blenders[0])
        if asked.repository:
            index = repository(command, asked.out)
            say(f"{index.parent}: put this folder on a web server. In Blender: Edit > Preferences >")
            say("Get Extensions > Repositories > + > Add Remote Repository, with the address of index.json.")
            return 0
        target = build(command, asked.out, asked.store)
    except environments.SetupError as problem:
        say(f"extension: {problem}")
        return 1
    say(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
    say("Install it in Blender: Edit > Preferences > Get Extensions > Install from Disk.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
