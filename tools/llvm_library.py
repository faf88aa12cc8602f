"""Unpacks Debian's LLVM library into a folder, without root, where the machine has none that works.

`apt-get download` needs no rights, and `dpkg-deb -x` unpacks anywhere. The libraries that LLVM itself
needs and the machine lacks are fetched the same way and put beside it; nextgenface.rendering.probe_child
loads them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGES = ["libllvm19", "libllvm20", "libllvm21", "libllvm18", "libllvm22", "libllvm17"]
"""Versions that Dr.Jit 1.5 can work with, the best tested first."""

OWN_COPY_MARK = "nextgenface-llvm.json"
"""Also known to nextgenface.rendering.probe_child: libraries beside this file are loaded by hand."""

NEEDED_BY_LLVM = {
    "libbsd.so.0": "libbsd0",
    "libedit.so.2": "libedit2",
    "libffi.so.8": "libffi8",
    "liblzma.so.5": "liblzma5",
    "libmd.so.0": "libmd0",
    "libtinfo.so.6": "libtinfo6",
    "libxml2.so.2": "libxml2",
    "libz3.so.4": "libz3-4",
    "libzstd.so.1": "libzstd1",
}


class UnpackError(Exception):
    """It did not work; the message says why, for people."""


def package_of(soname: str) -> str | None:
    """The Debian package that holds one of LLVM's own dependencies."""
    icu = re.fullmatch(r"libicu\w+\.so\.(\d+)", soname)
    return "libicu" + icu.group(1) if icu else NEEDED_BY_LLVM.get(soname)


def missing_libraries(library: Path) -> list[str]:
    """Names of the shared libraries that the loader would not find for `library`, its own folder included."""
    done = subprocess.run(
        ["ldd", str(library)], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(library.parent)}
    )
    return sorted(set(re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)))


class Archive:
    """Debian's package archive, used without root: with the machine's package lists, else with fresh ones."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.options: list[str] = []
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise UnpackError("this machine has no apt-get and dpkg-deb")

    def use_own_lists(self) -> None:
        """Fetch package lists into the working folder, for machines whose own lists are empty or old."""
        lists, cache = self.work / "lists", self.work / "cache"
        for folder in (lists / "partial", cache / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        self.options = ["-o", "Dir::State::lists=" + str(lists), "-o", "Dir::Cache=" + str(cache)]
        done = subprocess.run(["apt-get", "-q", *self.options, "update"], capture_output=True, text=True)
        if done.returncode != 0:
            raise UnpackError("the package lists cannot be fetched: " + _last_line(done.stderr))

    def unpack(self, package: str, target: Path) -> None:
        """Download one package and move its shared libraries and its licence text into `target`."""
        folder = self.work / package
        folder.mkdir()
        done = subprocess.run(
            ["apt-get", "-q", *self.options, "download", package], cwd=folder, capture_output=True, text=True
        )
        files = sorted(folder.glob("*.deb"))
        if done.returncode != 0 or not files:
            shutil.rmtree(folder)
            raise UnpackError(package + " cannot be downloaded: " + _last_line(done.stderr))
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "-x", str(files[0]), str(tree)], check=True)
        for path in sorted(tree.rglob("*.so*")):
            if path.is_symlink() and ("/" in str(path.readlink()) or not path.exists()):
                continue  # aliases into other folders are of no use here
            destination = target / path.name
            if not destination.exists() and not destination.is_symlink():
                shutil.move(str(path), str(destination))
        for path in tree.glob("usr/share/doc/*/copyright"):
            shutil.copyfile(path, target / (package + ".copyright"))


def unpack_llvm(target: Path) -> Path:
    """Unpack an LLVM library with what it needs into `target` and return its path.

    The folder is made anew and appears only when complete. Raises UnpackError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".llvm-", dir=str(target.parent)) as folder:
        work = Path(folder)
        partial = work / "llvm"
        partial.mkdir()
        archive = Archive(work)
        package = _first_available(archive, partial)
        libraries = [path for path in partial.glob("libLLVM*") if not path.is_symlink()]
        library = max(libraries, key=lambda path: path.stat().st_size)
        for _ in range(10):  # what was fetched may itself need something
            missing = missing_libraries(library)
            packages = sorted({name for name in map(package_of, missing) if name})
            if not missing:
                break
            if not packages:
                raise UnpackError(package + " needs libraries that are not known here: " + ", ".join(missing))
            for name in packages:
                archive.unpack(name, partial)
        else:
            raise UnpackError(package + " still lacks " + ", ".join(missing_libraries(library)))
        (partial / OWN_COPY_MARK).write_text(json.dumps({"package": package, "library": library.name}) + "\n")
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    return target / library.name


def _first_available(archive: Archive, target: Path) -> str:
    """Unpack the first LLVM package to be had: with the machine's package lists, then with fresh ones."""
    problem = UnpackError("no LLVM package is known")
    for fresh in (False, True):
        if fresh:
            archive.use_own_lists()
        for package in PACKAGES:
            try:
                archive.unpack(package, target)
                return package
            except UnpackError as error:
                problem = error
    raise problem


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
