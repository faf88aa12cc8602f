"""Makes the solver's environment for the Blender extension, in a folder of the user's.

    python solver_environment.py install FOLDER [--python PATH]
    python solver_environment.py remove FOLDER

Blender starts it as a process of its own and follows it through FOLDER/install/events.jsonl (the events of
docs/architecture.md); FOLDER/solver is the environment. Its stamp says `checked` only after the doctor has
found nothing wrong, so an installation that failed or was cancelled is never taken for a good one. Nothing is
written beside this file. SIGINT (CTRL_BREAK on Windows) or a file FOLDER/install/stop cancels.
"""

from __future__ import annotations

import _thread
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

# Blender's Python is started isolated, which leaves the script's own folder out.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import environments
import interpreters
import landmarker
from environments import SetupError

STAGES = ("python", "packages", "check")
PREFERRED = (("3.11", "3.12"), ("3.13",))
"""The solver is happiest with the first; the second needs the landmark detector as a download."""

EXIT_CANCELLED = 130


class Events:
    """Appends events to a file, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.stream = path.open("w", encoding="utf-8")

    def tell(self, event: str, **values: object) -> None:
        """Append one event."""
        self.stream.write(json.dumps({"event": event, **values, "time": time.time()}) + "\n")
        self.stream.flush()


class PipProgress:
    """Turns what pip says into progress: packages that were collected, of all in the lock."""

    def __init__(self, events: Events, total: int) -> None:
        self.events = events
        self.total = total
        self.seen: set = set()
        self.last = 0.0

    def __call__(self, line: str) -> None:
        match = re.match(r"(Collecting|Downloading|Installing|Using cached) (\S+)(.*)", line)
        if match is None:
            return
        if match.group(1) == "Collecting":
            self.seen.add(re.split(r"[<>=!~;\[]", match.group(2))[0].lower())
        note = line if match.group(1) != "Installing" else "Installing collected packages"
        step = min(len(self.seen), self.total)
        self.events.tell("progress", stage="packages", step=step, total=self.total, note=note[:120])


def find_python(named: str | None) -> tuple:
    """Version and path of the Python to use. Raises SetupError."""
    versions = [version for group in PREFERRED for version in group]
    if named:
        for version in versions:
            if interpreters.works(Path(named), version):
                return version, Path(named)
        raise SetupError(
            named + " is not a Python 3.11, 3.12 or 3.13 that can make virtual environments. Choose another."
        )
    for group in PREFERRED:
        found = interpreters.find(list(group))
        if found is not None:
            return found
    raise SetupError(
        "No Python 3.11, 3.12 or 3.13 with its venv module was found. Install one from python.org (on "
        "Debian: sudo apt install python3-venv) and press Install again."
    )


def install(folder: Path, events: Events, named: str | None) -> None:
    """Make the environment anew and check it. Raises SetupError."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # the extension's own folder stays as it is
    os.environ["PYTHONPATH"] = str(environments.ROOT / "solver")
    environment = replace(environments.SOLVER, place=folder)
    events.tell("stage", stage="python")
    version, python = find_python(named)
    events.tell("progress", stage="python", step=1, total=1, note="Python " + version + " at " + str(python))
    events.tell("stage", stage="packages")
    lock = environment.locks(version)[0]
    total = sum(1 for line in lock.read_text("utf-8").splitlines() if "==" in line)
    try:
        environments.make(environment, version, python, PipProgress(events, total))
        events.tell("stage", stage="check")
        check(environment, version, folder, events)
    except BaseException:
        shutil.rmtree(str(environment.folder), ignore_errors=True)
        raise


def check(environment: environments.Environment, version: str, folder: Path, events: Events) -> None:
    """Prove that the environment works, and stamp it. Raises SetupError."""

    def step(number: int, note: str) -> None:
        events.tell("progress", stage="check", step=number, total=4, note=note)

    step(0, "Importing the packages")
    environments.check_imports(environment, install_libraries=False)
    step(1, "Looking for LLVM")
    environments.ensure_llvm(environment)
    if version == "3.13":  # its MediaPipe has no detector inside the package
        step(2, "Fetching the landmark detector")
        print(landmarker.ensure(), flush=True)
    step(3, "Rendering a picture")
    report = folder / "install" / "doctor.json"
    command = [str(environment.python), "-B", "-m", "nextgenface.cli.doctor", "--output", str(report)]
    command += ["--render", str(folder / "install" / "doctor.png")]
    subprocess.run(command, stdout=subprocess.DEVNULL)
    try:
        rows = json.loads(report.read_text("utf-8"))["checks"]
    except (OSError, ValueError, KeyError) as problem:
        raise SetupError("the check of the new environment did not end: " + str(problem)) from problem
    failed = [row["name"] + ": " + row["wrong"] for row in rows if row["status"] == "failed"]
    if failed:
        raise SetupError("the new environment does not work. " + "; ".join(failed))
    stamp = environments.read_stamp(environment)
    stamp["checked"] = True
    (environment.folder / environments.STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    step(4, "Ready")


def remove(folder: Path, events: Events) -> None:
    """Delete the environment. Raises SetupError."""
    environment = replace(environments.SOLVER, place=folder)
    events.tell("stage", stage="python")
    # The stamp goes first: half an environment must not look like a whole one.
    for path in (environment.folder / environments.STAMP, environment.log):
        path.unlink(missing_ok=True)
    for path in (environment.folder, folder / "llvm"):
        if path.exists():
            shutil.rmtree(str(path))


def listen_for_stop(stop_file: Path) -> None:
    """Raise KeyboardInterrupt once, in the main thread, at the first signal or when the file is there."""
    numbers = [signal.SIGINT] + ([signal.SIGBREAK] if hasattr(signal, "SIGBREAK") else [])

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def watch() -> None:
        while not stop_file.exists():
            time.sleep(0.2)
        if os.name == "nt":
            _thread.interrupt_main()
        else:
            os.kill(os.getpid(), signal.SIGINT)  # also ends a wait for pip's next word

    for each in numbers:
        signal.signal(each, stop)
    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list) -> int:
    """Do what was asked; 0 when it was done, 130 when it was cancelled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("action", choices=("install", "remove"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", help="the Python to make the environment with")
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    events = Events(folder / "install" / "events.jsonl")
    try:
        listen_for_stop(folder / "install" / "stop")
        if options.action == "install":
            install(folder, events, options.python)
        else:
            remove(folder, events)
    except KeyboardInterrupt:
        events.tell("error", text="Stopped.", kind="Cancelled")
        return EXIT_CANCELLED
    except (SetupError, OSError) as problem:
        events.tell("error", text=str(problem), kind="SetupError")
        print("error: " + str(problem), file=sys.stderr)
        return 2
    events.tell("done", result="events.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
