"""Who is in a batch: one subject per photo, one per sub-folder, or one per line of a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NextGenFaceError, PhotoError
from ..photos import SUFFIXES, list_photos
from .records import RECORD_FILE, SUMMARY_FILES, SUMMARY_JSON


@dataclass(frozen=True)
class Subject:
    """One person. `name`: the folder of the results; `source`: the photo or folder of photos it stands for.

    `problem` says why there is nothing to work on; `photos` is empty then.
    """

    name: str
    source: Path
    photos: tuple[Path, ...]
    shared: bool = False
    problem: str = ""


@dataclass
class Found:
    """The subjects in their order, and what was left out."""

    subjects: list[Subject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_subjects(source: Path, output: Path, known: Mapping[str, str] | None = None) -> Found:
    """The subjects of a folder (its photos, its sub-folders), of a list (a text file) or of one photo.

    `known`: names by source path that an earlier run has given; they are kept, whatever has come since.
    Folders of results and `output` itself are never taken for people. Raises NextGenFaceError when there is
    nothing, or when the results would go among the photos.
    """
    source, output = source.expanduser().absolute(), output.expanduser().absolute()
    if not source.exists():
        raise NextGenFaceError(f"There is nothing at --input {source}. Check the path.")
    if source.is_dir() and source.resolve() == output.resolve():
        raise NextGenFaceError(
            f"--output {output} is the folder of the photos: results would be taken for people. Choose "
            "another folder; one inside it will do."
        )
    found = Found()
    if source.is_dir():
        paths = _inside(source, output, found.notes)
    elif source.suffix.lower() in SUFFIXES:
        paths = [source]
    else:
        paths = list(_unique(_listed(source), found.notes))
    if not paths:
        raise NextGenFaceError(
            f"No photos and no folders of photos were found in {source} (PNG, JPEG, TIFF, WebP or EXR)."
        )
    names = _names(paths, known or {})
    found.subjects = [_subject(name, path) for name, path in zip(names, paths, strict=True)]
    return found


def _inside(folder: Path, output: Path, notes: list[str]) -> list[Path]:
    """The photos of a folder in natural order, then its sub-folders that hold photos."""
    photos = _photos_or_none(folder) or []
    folders = []
    for path in sorted(folder.iterdir(), key=lambda item: item.name.casefold()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        results = any((path / name).exists() for name in (RECORD_FILE, SUMMARY_JSON, "result.json"))
        if path.resolve() == output.resolve() or results:
            continue
        if _photos_or_none(path) is None:
            if not output.is_relative_to(path):
                notes.append(f"{path} holds no photos and is left out.")
            continue
        folders.append(path)
    return [*photos, *folders]


def _photos_or_none(folder: Path) -> list[Path] | None:
    try:
        return list_photos(folder)
    except PhotoError:
        return None


def _listed(path: Path) -> Iterator[Path]:
    """The paths in a list, one a line, relative to the list's folder; blank and # lines do not count."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise NextGenFaceError(
            f"--input {path} is neither a photo nor a list that can be read ({problem}). A list is a UTF-8 "
            "text file with one path a line."
        ) from problem
    for line in text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield path.parent / Path(entry).expanduser()


def _unique(paths: Iterable[Path], notes: list[str]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        real = path.resolve()
        if real in seen:
            notes.append(f"{path} is listed more than once and is worked on once.")
            continue
        seen.add(real)
        yield path


def _names(paths: list[Path], known: Mapping[str, str]) -> list[str]:
    """A folder name for every path, no two alike even where capitals and ways to write accents do not count.

    a.png is called a; where that is taken a.jpg keeps its extension; what is still taken gets a number.
    """
    taken = {_folded(name) for name in SUMMARY_FILES}
    names = {path: known[str(path)] for path in paths if str(path) in known}
    taken |= {_folded(name) for name in names.values()}
    for path in paths:
        if path in names:
            continue
        plain = path.stem if path.suffix.lower() in SUFFIXES and not path.is_dir() else path.name
        tried = [plain, path.name, *(f"{plain}-{number}" for number in range(2, len(paths) + 3))]
        names[path] = next(name for name in tried if _folded(name) not in taken)
        taken.add(_folded(names[path]))
    return [names[path] for path in paths]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _subject(name: str, path: Path) -> Subject:
    try:
        photos = tuple(list_photos(path))
    except PhotoError as problem:
        return Subject(name, path, (), problem=str(problem))
    return Subject(name, path, photos, shared=path.is_dir())
