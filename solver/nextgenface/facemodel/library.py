"""The user's face models: what is installed, where it came from, adding and removing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import ModelError, OutputError
from ..files import write_bytes
from . import formats
from .catalogue import KNOWN, KnownModel, known
from .download import Say, fetch_model
from .model import FaceModel
from .registry import BASEL, BUILTIN, build_builtin, builtin_files, find_place, load_place, models_folder

ABOUT = "about.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")


@dataclass(frozen=True)
class ModelRow:
    """One line of the list. `installed`: it can be chosen by its name now."""

    name: str
    title: str
    kind: str
    installed: bool
    path: str | None
    size_mb: float
    licence: str
    source: str
    commercial: bool | None  # None: not known
    downloadable: bool
    download_mb: int
    note: str


def rows() -> list[ModelRow]:
    """The built-in model, what is installed, and what could be."""
    built = next(iter(builtin_files()), None)
    found = [
        ModelRow(
            BUILTIN, "Built-in face model", "NextGenFace", True, None if built is None else str(built),
            0.0 if built is None else round(built.stat().st_size / 1e6, 1),
            "Apache-2.0 template, our own statistics",
            "made by this program", True, False, 0,
            "is built on first use" if built is None else "built",
        )
    ]  # fmt: skip
    names = set()
    folder = models_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(("nextgenface-builtin-", ".")) or (path.is_file() and path.suffix != ".h5"):
            continue
        found.append(_installed(path))
        names.add(found[-1].name)
    basel = Config().modelFolder()
    if BASEL not in names and basel is not None and basel.is_dir() and formats.basel.find(basel):
        entry = known(BASEL)
        assert entry is not None
        found.append(_from_catalogue(entry, basel, "found by path or NEXTGENFACE_DATA_DIR"))
        names.add(BASEL)
    found += [_from_catalogue(entry, None, entry.files) for entry in KNOWN if entry.name not in names]
    return found


def _size(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return round(sum(p.stat().st_size for p in files) / 1e6, 1)


def _from_catalogue(entry: KnownModel, path: Path | None, note: str) -> ModelRow:
    return ModelRow(
        entry.name, entry.title, entry.kind, path is not None, None if path is None else str(path),
        0.0 if path is None else _size(path), entry.licence, entry.page, entry.commercial,
        entry.download is not None, 0 if entry.download is None else entry.download.megabytes, note,
    )  # fmt: skip


def _installed(path: Path) -> ModelRow:
    about = read_about(path)
    name = path.stem if path.is_file() else path.name
    entry = known(str(about.get("known") or name))
    recognised = formats.find(path)
    kind = recognised[0].NAME if recognised else "not recognised"
    return ModelRow(
        name, str(about.get("title") or (entry.title if entry else name)), kind, recognised is not None,
        str(path),
        _size(path), str(about.get("licence") or (entry.licence if entry else "not known")),
        str(about.get("source") or (entry.page if entry else "not known")),
        entry.commercial if entry else None, False, 0,
        f"added {about['added']}" if about.get("added") else "",
    )  # fmt: skip


def read_about(path: Path) -> dict[str, Any]:
    """What was written when a model was added; empty when nothing was or it is damaged."""
    try:
        content = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def as_json(listed: Sequence[ModelRow]) -> str:
    """The rows as one JSON list."""
    return json.dumps([asdict(row) for row in listed], ensure_ascii=False)


def check(name: str) -> FaceModel:
    """Load a model by name or path as a reconstruction would. Raises ModelError."""
    if name == BUILTIN:
        return build_builtin()
    return load_place(find_place(name, Config().modelFolder()))


def add(paths: Sequence[Path], name: str, licence: str = "", source: str = "") -> tuple[Path, FaceModel]:
    """Copy files or folders into the user's models under a name; only what loads stays there.

    Returns the folder and the model. Raises ModelError, OutputError.
    """
    if not _NAME.match(name) or name == BUILTIN:
        raise ModelError(
            f"'{name}' cannot be the name of a model: letters, digits, dots and dashes, not '{BUILTIN}'."
        )
    target = models_folder() / name
    if target.exists():
        raise ModelError(
            f"There is a model '{name}' already ({target}). Remove it first, or choose another name."
        )
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise ModelError(f"{', '.join(missing)} does not exist.")
    for path in paths:
        if formats.find(path) is None and len(paths) == 1:
            kinds = ", ".join(module.NAME for module in formats.FORMATS)
            raise ModelError(f"{path} is no face model of a known format ({kinds}).")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=target.parent) as temporary:
            staged = Path(temporary) / name
            staged.mkdir()
            for path in paths:
                if path.is_dir():
                    shutil.copytree(path, staged, dirs_exist_ok=True)
                else:
                    shutil.copy2(path, staged / path.name)
            staged.rename(target)
    except OSError as error:
        raise OutputError(f"The model cannot be copied to {target} ({error.strerror or error}).") from None
    return target, _keep_if_it_loads(
        target, name, licence, source or ", ".join(str(p.absolute()) for p in paths)
    )


def download(name: str, say: Say) -> tuple[Path, FaceModel]:
    """Fetch an openly licensed model of the catalogue into the user's models. Raises ModelError."""
    entry = known(name)
    if entry is None or entry.download is None:
        offered = ", ".join(k.name for k in KNOWN if k.download is not None)
        why = (
            f"{entry.title} has to be asked for at {entry.page}"
            if entry
            else f"'{name}' is not in the catalogue"
        )
        raise ModelError(f"{why}; what can be downloaded: {offered}.")
    target = models_folder() / name
    if target.exists():
        raise ModelError(f"There is a model '{name}' already ({target}).")
    # Parts stay here when the connection breaks, and go on the next time.
    staged = models_folder() / f".download-{name}"
    try:
        revision = fetch_model(entry.download, staged, say)
        staged.rename(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}).") from None
    source = f"{entry.page} ({entry.download.repository} at {revision})"
    return target, _keep_if_it_loads(target, name, entry.licence, source)


def remove(name: str) -> Path:
    """Delete a model from the user's models; returns where it was. Raises ModelError."""
    for place in (models_folder() / name, models_folder() / f"{name}.h5"):
        if _NAME.match(name) and place.exists():
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
            return place
    raise ModelError(f"There is no model '{name}' in {models_folder()}; nothing was removed.")


def _keep_if_it_loads(target: Path, name: str, licence: str, source: str) -> FaceModel:
    try:
        model = load_place(target)
    except BaseException:  # stopped by Ctrl-C as well: what was never checked must not look installed
        shutil.rmtree(target, ignore_errors=True)
        raise
    files = {
        p.relative_to(target).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(target.rglob("*"))
        if p.is_file()
    }
    entry = known(name)
    about = {
        "known": entry.name if entry else None,
        "title": entry.title if entry else name,
        "licence": licence or (entry.licence if entry else "not known"),
        "source": source,
        "added": time.strftime("%Y-%m-%d"),
        "sha256": files,
    }
    write_bytes(target / ABOUT, json.dumps(about, indent=1, ensure_ascii=False).encode())
    return model
