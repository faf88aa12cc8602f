"""Fetches openly licensed models: resumable, and nothing is kept whose checksum is not the published one."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ModelError
from .catalogue import Download

Say = Callable[[str], None]

CHUNK = 1 << 20
HUB, GITHUB_API, GITHUB_RAW = (
    "https://huggingface.co",
    "https://api.github.com",
    "https://raw.githubusercontent.com",
)
_TIMEOUT = 60


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch. Its checksum is a SHA-256, or git's object id ("git:" before it)."""

    url: str
    name: str
    checksum: str
    size: int | None = None


def fetch_model(download: Download, folder: Path, say: Say) -> str:
    """Fetch all files of a model into a folder; returns the revision that was fetched.

    What is there already, with the right checksum, is not fetched again; a file that was cut off goes on
    where
    it stopped. Raises ModelError.
    """
    files, revision = (_hub_file if download.service == "huggingface" else _github_files)(download)
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files, start=1):
        target = folder / file.name
        if target.is_file() and checksum(target, file.checksum) == file.checksum:
            continue
        fetch(file, target, lambda text, n=number: say(f"{n}/{len(files)} {text}"))  # type: ignore[misc]
    return revision


def fetch(file: RemoteFile, target: Path, say: Say) -> None:
    """Fetch one file by way of `NAME.part`. Raises ModelError; what has arrived stays for the next time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(file.url, headers={"User-Agent": "NextGenFace"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            append = have and answer.status == 206
            total = int(answer.headers.get("Content-Length") or 0) + (have if append else 0)
            arrived = have if append else 0
            with part.open("ab" if append else "wb") as stream:
                while piece := answer.read(CHUNK):
                    stream.write(piece)
                    arrived += len(piece)
                    if total:
                        say(f"{file.name}: {arrived / 1e6:.1f} of {total / 1e6:.1f} MB")
        if arrived < total:
            raise ConnectionError(f"the connection broke after {arrived / 1e6:.1f} of {total / 1e6:.1f} MB")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing left to send: the part is whole
            raise ModelError(
                f"{file.url} cannot be fetched: the server answers {error.code} {error.reason}."
            ) from None
    except OSError as error:
        raise ModelError(
            f"{file.url} cannot be fetched ({error}). Run the command again: it goes on where it stopped."
        ) from None
    found = checksum(part, file.checksum)
    if found != file.checksum:
        part.unlink()
        raise ModelError(
            f"{file.name} arrived with the checksum {found} instead of {file.checksum}; it was thrown "
            f"away. Try "
            "again; if it happens twice, the file on the server is not the published one."
        )
    shutil.move(part, target)


def checksum(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as `like`."""
    if like.startswith("git:"):
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        prefix = "git:"
    else:
        digest, prefix = hashlib.sha256(), ""
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return prefix + digest.hexdigest()


def _json(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "NextGenFace", "Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return json.loads(answer.read(50_000_000))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{url} cannot be read ({error}); without the published checksums nothing is fetched."
        ) from None


def _hub_file(download: Download) -> tuple[list[RemoteFile], str]:
    """The file and the SHA-256 that the hub's own listing gives for it."""
    about = _json(f"{HUB}/api/models/{download.repository}/revision/{download.revision}")
    revision = str(about.get("sha", download.revision)) if isinstance(about, dict) else download.revision
    folder = str(Path(download.path).parent.as_posix())
    rows = _json(f"{HUB}/api/models/{download.repository}/tree/{revision}/{quote(folder)}")
    for row in rows if isinstance(rows, list) else []:
        if row.get("path") == download.path and isinstance(row.get("lfs"), dict):
            url = f"{HUB}/{download.repository}/resolve/{revision}/{quote(download.path)}"
            return [
                RemoteFile(url, Path(download.path).name, str(row["lfs"]["oid"]), row.get("size"))
            ], revision
    raise ModelError(f"{HUB}/{download.repository} lists no {download.path} with a checksum any more.")


def _github_files(download: Download) -> tuple[list[RemoteFile], str]:
    """The files of a folder and the object ids that git gives them at one commit."""
    base = f"{GITHUB_API}/repos/{download.repository}"
    commit = _json(f"{base}/commits/{download.revision}")
    revision = str(commit["sha"])
    tree = _json(f"{base}/git/trees/{commit['commit']['tree']['sha']}?recursive=1")
    files = []
    for row in tree.get("tree", []):
        path = str(row.get("path", ""))
        if row.get("type") == "blob" and path.startswith(download.path + "/") and ".." not in path:
            url = f"{GITHUB_RAW}/{download.repository}/{revision}/{quote(path)}"
            files.append(RemoteFile(url, path, "git:" + str(row["sha"]), row.get("size")))
    if not files:
        raise ModelError(f"{download.repository} has no folder {download.path} any more.")
    return files, revision
