"""Photos to a .blend without a window.

    blender -b --python nextgenface_addon/batch.py -- --input PHOTO --output DIR --save face.blend
    python nextgenface_addon/batch.py -- …            (where the bpy module is installed)

Works from a clone without installing anything into Blender; with the extension installed,
`blender --command nextgenface reconstruct …` takes the same options. Exit codes: 0 done, 1 unexpected error,
2 something the user can put right, 130 cancelled.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)


def arguments_after_dashes(argv: list[str]) -> list[str]:
    """What follows `--`, which is where Blender leaves the script's own arguments."""
    return argv[argv.index("--") + 1 :] if "--" in argv else argv[1:]


if __name__ == "__main__":
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    from nextgenface_addon.headless import main

    sys.exit(main(arguments_after_dashes(sys.argv)))
