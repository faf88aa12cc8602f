"""`make gui-test`: the panel in a real window, from installing the zip to the head in the camera view.

    python3 tools/gui_test.py --zip out --out out/gui [--blender BLENDER] [--preset NAME] [--set KEY=NUMBER]

Starts Blender on a screen of its own (Xvfb), where tools/gui_test_steps.py presses the buttons, and takes the
pictures that it asks for (scrot). Nothing of somebody's own Blender is seen or changed. Exit codes: 0 passed,
1 a step failed, 2 something is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import environments
from environments import ROOT, SOLVER, say

STEPS = Path(__file__).resolve().parent / "gui_test_steps.py"
SCREEN = (1400, 1060)
LIMIT = 3600.0  # seconds for everything
SHOT_WAIT = 0.6  # software drawing is a moment behind the events

PHOTO = "from PIL import Image; from skimage import data; Image.fromarray(data.astronaut()).save({!r})"
PICTURES = Path(__file__).resolve().parent / "gui_test_pictures.py"


class Screen:
    """A screen that nobody looks at."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        geometry = "{}x{}x24".format(*SCREEN)
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", geometry],
            pass_fds=(writer,),
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        with os.fdopen(reader) as stream:
            self.display = ":" + stream.readline().strip()

    def picture(self, path: Path, area: list | None) -> None:
        """Take a picture of the screen, or of an area of it: x, y from the top left, width, height."""
        command = ["scrot", "-o"] + (["-a", ",".join(map(str, area))] if area else []) + [str(path)]
        subprocess.run(command, env=dict(os.environ, DISPLAY=self.display), check=True, timeout=60)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


def blender_environment(out: Path, display: str) -> dict:
    """A Blender of its own: no settings of the user's, the solver's environment of this checkout."""
    return dict(
        os.environ,
        DISPLAY=display,
        BLENDER_USER_RESOURCES=str(out / "user"),
        NEXTGENFACE_PYTHON=str(SOLVER.python),
        NEXTGENFACE_HOME=str(out / "home"),
        # A Blender in a folder of its own sees only what it is told to (see the tool that set it up).
        BLENDER_BIND=os.pathsep.join([str(ROOT), str(base_python()), os.environ.get("BLENDER_BIND", "")]),
    )


def base_python() -> Path:
    """The folder of the Python that the solver's environment was made with."""
    for line in (SOLVER.folder / "pyvenv.cfg").read_text("utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return Path(value.strip()).parent
    return ROOT


def serve(process: subprocess.Popen, out: Path, screen: Screen) -> int:
    """Take the pictures that the steps ask for until Blender ends; returns its exit code."""
    requests, end = out / "picture.json", time.monotonic() + LIMIT
    while process.poll() is None:
        if time.monotonic() > end:
            say("The steps took too long.")
            os.killpg(process.pid, signal.SIGKILL)
            return 1
        if requests.is_file():
            asked = json.loads(requests.read_text("utf-8"))
            time.sleep(SHOT_WAIT)
            screen.picture(out / asked["name"], asked["area"])
            requests.unlink()
        time.sleep(0.05)
    return process.returncode


def run(blender: str, archive: Path, out: Path, preset: str, changes: list) -> int:
    """Run all steps; returns the exit code and leaves pictures, report.json and blender.log in `out`."""
    shutil.rmtree(str(out), ignore_errors=True)
    out.mkdir(parents=True)
    photo = out / "astronaut.png"
    subprocess.run([str(SOLVER.python), "-c", PHOTO.format(str(photo))], check=True)
    screen = Screen()
    try:
        command = [blender, "--factory-startup", "--enable-event-simulate", "--python-exit-code", "1"]
        command += ["--window-geometry", "0", "0", *map(str, SCREEN), "--python", str(STEPS), "--"]
        command += [str(out), str(archive), str(photo), preset, json.dumps(changes)]
        with (out / "blender.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env=blender_environment(out, screen.display),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=str(ROOT),
                start_new_session=True,
            )
            serve(process, out, screen)
    finally:
        screen.close()
    report_file = out / "report.json"
    if not report_file.is_file():
        say((out / "blender.log").read_text("utf-8", errors="replace")[-3000:])
        say("Blender ended before the steps were done.")
        return 1
    subprocess.run([str(SOLVER.python), "-B", str(PICTURES), str(out)], check=True)
    report = json.loads(report_file.read_text("utf-8"))
    for name, value in report["measured"].items():
        say(f"  {name:<44} {value}")
    for problem in report["problems"]:
        say("FAILED: " + problem)
    say(f"{len(report['steps'])} steps; pictures in {out}")
    return 1 if report["problems"] else 0


def main(arguments: list) -> int:
    """Find what is needed, then run."""
    parser = argparse.ArgumentParser(description="Drive the panel in a real window.")
    parser.add_argument("--zip", type=Path, required=True, help="the extension's zip, or the folder it is in")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "gui", help="folder for pictures and report"
    )
    parser.add_argument("--blender", default="blender", help="a Blender 4.2 or newer with a window")
    parser.add_argument("--preset", default="Fast Preview", help="preset of options to run with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=NUMBER", help="one more option")
    asked = parser.parse_args(arguments)
    missing = [name for name in (asked.blender, "Xvfb", "scrot") if shutil.which(name) is None]
    if missing or not environments.read_stamp(SOLVER):
        say("Not found: " + ", ".join(missing) if missing else "Run `make setup` first.")
        say("A Blender with its window is named with BLENDER=/path/to/blender; Xvfb and scrot are packages.")
        return 2
    archive = asked.zip
    if archive.is_dir():
        found = [path for path in archive.glob("nextgenface-*.zip") if "store" not in path.name]
        if not found:
            say(f"There is no zip in {archive}. Run `make extension`.")
            return 2
        archive = max(found, key=lambda path: path.stat().st_mtime)
    return run(
        str(shutil.which(asked.blender)), archive.resolve(), asked.out.resolve(), asked.preset, asked.set
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
