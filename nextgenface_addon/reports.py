"""The report that a user can send when something went wrong: one text file. No bpy in here."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path

LOG_NAMES = ("job.json", "process.json", "console.log", "solver.log", "events.jsonl", "install.log")
TAIL_BYTES = 8000


def tail(path: Path, size: int = TAIL_BYTES) -> str:
    """The end of a text file, from the start of a line; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(0, length - size))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return (text.partition("\n")[2] if length > size else text).strip()


def without_home(text: str) -> str:
    """The text with the path of the user's home folder, which often is their name, written as ~."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def report_text(title: str, facts: Mapping[str, object], details: str, job_folder: Path | None = None) -> str:
    """The report: what happened, versions, the traceback or message, and the ends of the job's logs."""
    lines = [title, "", f"time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}"]
    lines += [f"system: {platform.platform()}", f"python: {sys.version.split()[0]}"]
    lines += [f"{name}: {value}" for name, value in facts.items()]
    lines += ["", details.strip(), ""]
    if job_folder is not None:
        lines.append(f"job: {job_folder}")
        for name in LOG_NAMES:
            text = tail(job_folder / name)
            if text:
                lines += ["", f"==== {name} ====", text]
    return without_home("\n".join(lines)) + "\n"


def write_report(folder: Path, text: str) -> Path:
    """Write a report into `folder` under the current time; returns its path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("report-%Y%m%d-%H%M%S")
    path, number = folder / f"{stem}.txt", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.txt", number + 1
    path.write_text(text, encoding="utf-8")
    return path
