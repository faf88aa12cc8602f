"""The extension's zip in a Blender of its own: installed, switched, reinstalled, used, removed. Needs bpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOLVER = ROOT / ".venv" / "solver" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

pytest.importorskip("bpy")
pytestmark = pytest.mark.skipif(
    not SOLVER.is_file(), reason="the zip is built with make setup's environments"
)

START = """
import hashlib, json, os, sys, time, warnings
from pathlib import Path
import bpy

NAME = "bl_ext.user_default.nextgenface"
here = Path(os.environ["HERE"])
caught = []
warnings.simplefilter("always")
warnings.showwarning = lambda text, kind, file, line, *rest: caught.append(f"{file}: {text}")


def install():
    bpy.ops.extensions.package_install_files(
        filepath=os.environ["ZIP"], repo="user_default", enable_on_install=True, overwrite=True
    )
    assert NAME in bpy.context.preferences.addons, "not enabled"


def folder():
    return Path(sys.modules[NAME].__file__).parent


def content():
    # Blender's own Python may keep byte code of the add-on; nothing else may appear or change.
    return {
        str(path.relative_to(folder())): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder().rglob("*")
        if path.is_file() and "nextgenface_addon" not in path.parts[:-1] or path.suffix == ".py"
    }


def ours(texts):
    return [text for text in texts if "nextgenface" in text]
"""

SWITCHED = """
install()
assert hasattr(bpy.types, "NEXTGENFACE_PT_main") and bpy.context.scene.nextgenface is not None
for _ in range(2):
    bpy.ops.preferences.addon_disable(module=NAME)
    assert NAME not in bpy.context.preferences.addons and not hasattr(bpy.types, "NEXTGENFACE_PT_main")
    assert not hasattr(bpy.types.Scene, "nextgenface")
    bpy.ops.preferences.addon_enable(module=NAME)
    assert NAME in bpy.context.preferences.addons and hasattr(bpy.types, "NEXTGENFACE_PT_main")
install()
assert hasattr(bpy.types, "NEXTGENFACE_PT_main")
before = content()
assert len(before) > 100
repos = bpy.context.preferences.extensions.repos
index = next(i for i, repo in enumerate(repos) if repo.module == "user_default")
bpy.ops.extensions.package_uninstall(repo_index=index, pkg_id="nextgenface")
assert NAME not in bpy.context.preferences.addons and not hasattr(bpy.types, "NEXTGENFACE_PT_main")
print(json.dumps({"warnings": ours(caught)}))
"""

USED = """
from mathutils import Vector

install()
before = content()
image = bpy.data.images.new("grey", 64, 64)
image.filepath_raw, image.file_format = str(here / "photos" / "grey.png"), "PNG"
image.save()
bpy.ops.nextgenface.add_photos(directory=str(here / "photos"), files=[{"name": "grey.png"}])
bpy.context.scene.nextgenface.output = str(here / "results")
problem = ""
try:
    bpy.ops.nextgenface.run()
except RuntimeError as error:
    problem = str(error)
after = content()
changed = [name for name in before | after if before.get(name) != after.get(name)]
print(json.dumps({"problem": problem, "changed": changed, "warnings": ours(caught)}))
"""


SUBSCRIBED = """
bpy.context.preferences.system.use_online_access = True
repos = bpy.context.preferences.extensions.repos
repo = repos.new(name="NextGenFace", module="nextgenface_repo", remote_url=os.environ["URL"])
index = list(repos).index(repo)
bpy.ops.extensions.repo_sync(repo_index=index)
bpy.ops.extensions.package_install(repo_index=index, pkg_id="nextgenface", enable_on_install=True)
assert "bl_ext.nextgenface_repo.nextgenface" in bpy.context.preferences.addons, "not enabled"
assert hasattr(bpy.types, "NEXTGENFACE_PT_main")
print(json.dumps({"warnings": ours(caught)}))
"""


def make(tmp_path: Path, *arguments: str) -> Path:
    """Run tools/extension.py; returns the folder with what it made."""
    done = subprocess.run(
        [sys.executable, "-B", str(ROOT / "tools" / "extension.py"), str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static repository with the extension's zip."""
    return make(tmp_path_factory.mktemp("made"), "--repository") / "repository"


@pytest.fixture(scope="module")
def archive(repository: Path) -> Path:
    """The extension's zip."""
    (found,) = repository.glob("*.zip")
    return found


def in_blender(script: str, archive: Path, tmp_path: Path) -> dict[str, Any]:
    """Run a script in a new Blender whose folders are all in `tmp_path`; returns what it printed as JSON."""
    for name in ("home", "temp", "blender", "photos"):
        (tmp_path / name).mkdir()
    (tmp_path / "script.py").write_text(START + script, encoding="utf-8")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NEXTGENFACE_", "BLENDER_"))}
    environment = keep | {
        "HOME": str(tmp_path / "home"), "USERPROFILE": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temp"), "BLENDER_USER_RESOURCES": str(tmp_path / "blender"),
        "NEXTGENFACE_PYTHON": str(SOLVER), "HERE": str(tmp_path), "ZIP": str(archive),
        "PYTHONDONTWRITEBYTECODE": "", "URL": (archive.parent / "index.json").as_uri(),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_it_is_installed_switched_reinstalled_and_removed(archive: Path, tmp_path: Path) -> None:
    assert in_blender(SWITCHED, archive, tmp_path)["warnings"] == []


def test_a_job_leaves_the_extension_and_everything_else_alone(archive: Path, tmp_path: Path) -> None:
    """The real solver, on a photo without a face: it loads everything, and ends with a sentence."""
    said = in_blender(USED, archive, tmp_path)
    assert "face" in said["problem"] and "grey" in said["problem"], said
    assert said["changed"] == [] and said["warnings"] == []
    assert not list((tmp_path / "blender").rglob("solver/**/__pycache__")), "the solver runs with -B"
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert written == [], "nothing is written outside the extension's user folder and the results"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "blender", "home", "photos", "results", "script.py", "temp",
    ]  # fmt: skip
    beside = [path for path in (tmp_path / "blender").rglob("*") if path.is_file()]
    allowed = ("extensions/user_default/", "extensions/.user/user_default/nextgenface/", "extensions/.cache/")
    stray = [str(path) for path in beside if not any(part in path.as_posix() for part in allowed)]
    assert [path for path in stray if "nextgenface" in path.lower()] == []


def test_what_is_in_the_zip(archive: Path, tmp_path: Path) -> None:
    names = zipfile.ZipFile(archive).namelist()
    assert any(name.startswith("assets/models/") for name in names) and "LICENSE" in names
    assert not any(
        name.startswith(("tests/", "docs/", "benchmarks/", ".")) or ".whl" in name for name in names
    )
    assert archive.stat().st_size < 60e6
    # The installer's scripts find each other.
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    script = tmp_path / "tools" / "solver_environment.py"
    done = subprocess.run(
        [str(SOLVER), "-B", str(script), "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_stores_zip_has_no_installer_and_asks_for_no_network(tmp_path: Path) -> None:
    (store,) = make(tmp_path, "--store").glob("*-store.zip")
    with zipfile.ZipFile(store) as opened:
        names = opened.namelist()
        manifest = opened.read("blender_manifest.toml").decode("utf-8")
    assert not any(name.startswith(("tools/", "requirements/")) for name in names)
    assert "solver/nextgenface/job.py" in names
    permissions = manifest.partition("[permissions]")[2]
    assert "files = " in permissions and "network" not in permissions


def test_the_repository_is_static_and_leads_to_the_zip(repository: Path) -> None:
    index = json.loads((repository / "index.json").read_text(encoding="utf-8"))
    (entry,) = index["data"]
    assert entry["id"] == "nextgenface" and entry["permissions"]["files"]
    target = repository / entry["archive_url"]
    assert target.is_file() and target.stat().st_size == entry["archive_size"]
    assert (repository / "index.html").is_file()


def test_blender_installs_from_the_repository(archive: Path, tmp_path: Path) -> None:
    assert in_blender(SUBSCRIBED, archive, tmp_path)["warnings"] == []
