"""One method for many views on one synthetic head, as one JSON object.

python benchmarks/multiview.py --method texture|mesh|gaussians --data DIR/multiview_00 --out DIR2

The method learns from ten views and is scored on view_02 and view_09. What is printed depends on the method:
see the module it has here. A new method is a module with a `run` like theirs and a line in METHODS.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "solver"), str(Path(__file__).resolve().parent)]

from nextgenface.cli.common import share_cores  # noqa: E402

METHODS = {
    "texture": "multiview_texture",
    "mesh": "multiview_mesh",
    "gaussians": "multiview_gaussians",
}
"""Name of a method -> module beside this file."""

HELD_OUT = ("view_02", "view_09")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder multiview_XX with its ground truth"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what the method leaves")
    parser.add_argument(
        "--perturbed", action="store_true", help="also with errors in exposure, camera and mask"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the method; repeatable"
    )
    given = parser.parse_args()
    options = dict(item.split("=", 1) for item in given.set)
    share_cores()
    module = importlib.import_module(METHODS[given.method])
    scores = module.run(given.data, given.out / given.method, HELD_OUT, options, perturbed=given.perturbed)
    print(json.dumps(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
