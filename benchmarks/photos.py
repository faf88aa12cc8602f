"""What more photos of a person bring: one photo alone against all; prints one JSON object.

    python benchmarks/photos.py --data DATA --out DIR [--people NAME …] [--set key=value …] [--reuse]

{"person_00": {"one": {"mesh_mean_mm", "albedo_rmse_si", "seconds", "peak_mb", "photos"}, "all": {the same},
               "mesh_gain", "albedo_gain"}, "multiview_00": {…}}

person_*: photo_00 alone against all photos of the folder, judged in photo_00. multiview_*: view_02 alone
against views 01, 02, 03, 07 and 10 over a plain backdrop; the solver is not told the cameras, and there is no
albedo to judge. A gain is the share of the error that more photos take away. The judge is the data set's own
score.py. DIR/<name>/one and /all hold copies of the photos, the results and the files that were judged.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judge import find_judge, judge
from nextgenface.errors import NextGenFaceError
from nextgenface.geometry.ply import write_ply
from nextgenface.images import write_exr, write_png
from nextgenface.rendering.pathtracer import render_map
from PIL import Image
from subject import MAP_SAMPLES, Solve, heads_of, prepare_mitsuba, run_solver, straight

VIEWS = (2, 1, 3, 7, 10)
"""Views of a multi-view head that are used; the first one is fitted alone, too."""

BACKDROP = (128, 128, 128)
FILES = {"mesh": "mesh.ply", "albedo": "albedo.exr", "mask": "coverage.png"}


def photos_of(subject: Path) -> list[Path]:
    """Photos of one person, the judged one first. Raises NextGenFaceError."""
    if (subject / "views").is_dir():
        found = [subject / "views" / f"view_{i:02d}.png" for i in VIEWS]
    else:
        found = sorted(subject.glob("photo_*/photo.png"))
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise NextGenFaceError(f"{missing[0] if missing else subject} is not there. Check --data.")
    return found


def copy_photos(photos: Sequence[Path], folder: Path) -> None:
    """Copies that tell the solver nothing but the picture; the order of their names is that of `photos`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i, path in enumerate(photos):
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
        plain = Image.new("RGBA", picture.size, (*BACKDROP, 255))
        plain.alpha_composite(picture)
        plain.convert("RGB").save(folder / f"{i:02d}.png")


def measure(
    script: Path, subject: Path, photos: Sequence[Path], folder: Path, settings: Sequence[str], reuse: bool
) -> dict[str, Any]:
    """Solve some photos of a person as one and judge the first."""
    copy_photos(photos, folder / "photos")
    solved = run_solver(
        folder / "photos", folder / "solved", settings, reuse=reuse, options=("--sharedIdentity",)
    )
    truth = photos[0].parent if (photos[0].parent / "mesh.ply").is_file() else subject
    verdict = judge(script, truth, folder / "score", files_to_judge(solved, folder / "score", truth))
    scores = {"mesh_mean_mm": float(verdict["mesh"]["rigid_scale"]["mean_mm"])}
    if "albedo" in verdict:
        scores["albedo_rmse_si"] = float(verdict["albedo"]["si_rmse"])
    return {**scores, "seconds": solved.seconds, "peak_mb": solved.peak_mb, "photos": len(photos)}


def files_to_judge(solved: Solve, folder: Path, truth: Path) -> dict[str, str]:
    """Write mesh and, where it can be judged, albedo in the first photo; returns them by judge's option."""
    head, _, _ = heads_of(solved.results)
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(folder / FILES["mesh"], head.in_camera, head.geometry.faces)
    if not (truth / "albedo.exr").is_file():
        return {"mesh": FILES["mesh"]}
    prepare_mitsuba()
    albedo, seen = render_map(head.geometry, head.textures.diffuse, head.camera, samples=MAP_SAMPLES)
    write_exr(folder / FILES["albedo"], straight(albedo, seen))
    write_png(folder / FILES["mask"], np.asarray(seen), srgb=False)
    return FILES


def compare(
    script: Path, subject: Path, folder: Path, settings: Sequence[str], reuse: bool
) -> dict[str, Any]:
    """One photo against all of them."""
    photos = photos_of(subject)
    one = measure(script, subject, photos[:1], folder / "one", settings, reuse)
    both = {"one": one, "all": measure(script, subject, photos, folder / "all", settings, reuse)}
    gains = {}
    for gain, key in (("mesh_gain", "mesh_mean_mm"), ("albedo_gain", "albedo_rmse_si")):
        if key in one:
            gains[gain] = round(1 - both["all"][key] / one[key], 4)
    return {**both, **gains}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with person_* and multiview_*")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and scores")
    parser.add_argument("--people", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="solver option")
    parser.add_argument("--reuse", action="store_true", help="take results that are there already")
    options = parser.parse_args(arguments)
    try:
        data, out = options.data.resolve(), options.out.resolve()
        script = find_judge(data, out)
        names = options.people or sorted(
            path.name for kind in ("person_*", "multiview_*") for path in data.glob(kind) if path.is_dir()
        )
        if not names:
            raise NextGenFaceError(f"{data} holds neither person_* nor multiview_*. Check --data.")
        told = {}
        for name in names:
            print(f"{name}: solving", file=sys.stderr, flush=True)
            told[name] = compare(script, data / name, out / name, options.set, options.reuse)
    except NextGenFaceError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
