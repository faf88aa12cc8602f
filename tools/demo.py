"""`make demo`: a portrait in the public domain becomes a lit, textured head in a .blend file.

Everything goes to out/demo/: the photo, the results folder, demo.blend, and the Cycles picture from the
photo's camera, also beside the photo.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import environments
from environments import ROOT, SOLVER, say

# Run with the solver's Python, which has scikit-image (the photo) and Pillow.
EXTRACT = """
import sys
from PIL import Image
from skimage import data
Image.fromarray(data.astronaut()).save(sys.argv[1])
"""

COMPARE = """
import sys
from PIL import Image
photo, picture = (Image.open(path).convert("RGBA") for path in sys.argv[1:3])
height = max(photo.height, picture.height)
gap = height // 64
parts = [
    part.resize((round(part.width * height / part.height), height), Image.LANCZOS)
    for part in (photo, picture)
]
sheet = Image.new("RGBA", (sum(part.width for part in parts) + gap, height), (255, 255, 255, 255))
x = 0
for part in parts:
    sheet.alpha_composite(part, (x, 0))
    x += part.width + gap
sheet.convert("RGB").save(sys.argv[3])
"""


def main(arguments: list) -> int:
    """Run the demo; returns the exit code of the step that failed, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "demo")
    parser.add_argument("--photo", type=Path, help="another photo than the astronaut's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the solver"
    )
    options = parser.parse_args(arguments)
    blenders = environments.made_blenders()
    if not blenders or not environments.read_stamp(SOLVER):
        say("The environments are missing. Run `make setup` first.")
        return 2
    started = time.time()
    output = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    solver, blender = str(SOLVER.python), str(blenders[0].python)
    photo = options.photo.absolute() if options.photo else output / "astronaut.png"
    if not options.photo:
        subprocess.run([solver, "-c", EXTRACT, str(photo)], check=True)
    blend, picture, sheet = output / "demo.blend", output / "cycles.png", output / "compare.png"
    for old in (blend, picture, sheet):  # nothing of an earlier run may pass for this one's
        if old.exists():
            old.unlink()
    command = [blender, str(ROOT / "nextgenface_addon" / "batch.py"), "--"]
    command += ["--input", str(photo), "--output", str(output / "results"), "--solver-python", solver]
    command += ["--save", str(blend), "--render", str(picture)]
    for pair in options.set:
        command += ["--set", pair]
    say(f"Reconstructing {photo.name} through {blenders[0].name}")
    environment = dict(os.environ, BLENDER_USER_RESOURCES=str(output / ".blender"))
    code = subprocess.run(command, cwd=str(ROOT), env=environment).returncode
    if code != 0:
        say(f"The demo stopped (code {code}); what went wrong stands above.")
        return code
    subprocess.run([solver, "-c", COMPARE, str(photo), str(picture), str(sheet)], check=True)
    say("\nDone in %.0f s:" % (time.time() - started))
    say("  the scene, to open in Blender      " + str(blend))
    say("  photo beside Cycles' picture       " + str(sheet))
    say("  maps, mesh, light, checkpoints     " + str(output / "results" / photo.stem))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
