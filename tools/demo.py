"""`make demo`: a portrait in the public domain becomes a lit, textured head in a .blend file.

Everything goes to out/demo/: the photo, the results folder, demo.blend, the Cycles picture from the photo's
camera, and compare.png with the photo and the head close up.
"""

from __future__ import annotations

import argparse
import os
import shutil
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

# Four close-ups of the same part of the picture: the photo, Cycles over the photo, turned, in another light.
COMPARE = """
import json, sys
from PIL import Image
photo = Image.open(sys.argv[1]).convert("RGB")
folder, target = sys.argv[2:4]
frame = json.load(open(folder + "/frame.json"))
heads = [Image.open(f"{folder}/{name}.png").convert("RGBA") for name in ("photo", "turned", "relit")]
size = heads[0].size
box = (frame["left"] * photo.width, frame["top"] * photo.height)
box += (frame["right"] * photo.width, frame["bottom"] * photo.height)
photo = photo.resize(size, Image.LANCZOS, box=box).convert("RGBA")
panels = [photo, Image.alpha_composite(photo, heads[0])]
panels += [Image.alpha_composite(Image.new("RGBA", size, (34, 36, 40, 255)), head) for head in heads[1:]]
gap = size[1] // 70
sheet = Image.new("RGB", (4 * size[0] + 3 * gap, size[1]), (255, 255, 255))
for i, panel in enumerate(panels):
    sheet.paste(panel.convert("RGB"), (i * (size[0] + gap), 0))
sheet.save(target, optimize=True)
"""

def main(arguments: list) -> int:
    """Run the demo; returns the exit code of the step that failed, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "demo")
    parser.add_argument("--photo", type=Path, help="another photo than the astronaut's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the solver"
    )
    parser.add_argument(
        "--update-readme-picture", action="store_true", help="make compare.png docs/images/demo.png, too"
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
    say("Drawing close-ups")
    close_ups = output / "close-ups"
    command = [blender, str(ROOT / "tools" / "demo_pictures.py"), str(blend), str(close_ups)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run([solver, "-c", COMPARE, str(photo), str(close_ups), str(sheet)], check=True)
    if options.update_readme_picture:
        shutil.copyfile(str(sheet), str(ROOT / "docs" / "images" / "demo.png"))
    say("\nDone in %.0f s:" % (time.time() - started))
    say("  the scene, to open in Blender      " + str(blend))
    say("  Cycles' picture from its camera    " + str(picture))
    say("  photo, head, turned, relit         " + str(sheet))
    say("  maps, mesh, light, checkpoints     " + str(output / "results" / photo.stem))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
