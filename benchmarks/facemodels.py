"""How faces of every model format are recovered, and what a model of the Basel size costs; one JSON object.

    python benchmarks/facemodels.py [--work DIR] [--kinds bfm flame …] [--size 512] [--people 2] [--no-cost]

{"recovery": {"bfm": {"mesh_mm": …, "landmarks_px": …, …}, …}, "cost": {"load_seconds": …, …}, "goals": {…}}

For every format a model is written in exactly that format, from the built-in model's data (tests/solver/
model_files.py). Random people of it (0.7 standard deviations) are drawn under a lamp, and fitted with the
default options but the texture stage; the landmarks are exact. Errors are those of the visible skin after the
best similarity, and of the landmark vertices in the picture. Cost: a model with the vertices and components
of the Basel Face Model 2017 (28,588; 199, 100 and 145), a whole default solve beside the built-in model's,
each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "solver")]

GOALS = {"mesh_mm": 0.7, "landmarks_px": 1.0, "load_seconds": 3.0, "peak_gb": 3.0, "solve_ratio": 1.5}
BASEL_VERTICES, BASEL_SIZES = 28_588, (199, 100, 145)


def solve(place: str, size: int, seed: int, steps: int, textures: bool) -> dict[str, Any]:
    """Load a model, draw a person of it, fit the picture; what it took and how far it is off."""
    import numpy as np
    import torch
    from nextgenface.config import Config
    from nextgenface.events import NullListener
    from nextgenface.facemodel.registry import load_model, load_place
    from nextgenface.fitting.photometric import fit_photometric
    from nextgenface.fitting.pose import fit_pose
    from nextgenface.fitting.state import initial_state
    from nextgenface.fitting.surface import shape_vertices
    from nextgenface.fitting.textures import fit_textures
    from nextgenface.fitting.whitened import whiten
    from nextgenface.rendering.deferred import Pose

    from tests.solver import small_face

    config = Config()
    torch.set_num_threads(config.threadCount())
    started = time.monotonic()
    model = load_model(config) if place == "builtin" else load_place(Path(place))
    loaded = time.monotonic() - started
    small_face.SIZE = size
    truth = small_face.example(model, seed=seed, yaw=0.2 if seed % 2 else -0.2, scale=0.7)
    view = small_face.photograph(model, truth)
    if steps:
        config.iterStep2 = config.iterStep3 = steps
    state = initial_state(model, [view], shared=False, seed=0, device="cpu")
    started = time.monotonic()
    seconds = []
    for stage in (fit_pose, fit_photometric, *((fit_textures,) if textures else ())):
        state, report = stage(model, [view], state, config, NullListener())
        seconds.append(round(report.seconds, 2))
    solved = time.monotonic() - started
    seen = model.regions["skin"] > 0.5
    wanted, found = truth.vertices(whiten(model, "cpu")).numpy(), shape_vertices(model, state, 0)
    mean = model.shape_mean + model.expression_mean
    pose = Pose.from_euler(state.rotation[0], state.translation[0], state.focals[0], state.principal[0])
    table = model.landmarks["mediapipe"]
    marks = table[table >= 0]
    gap = np.linalg.norm(
        pose.screen(pose.camera_space(torch.from_numpy(found))).numpy()[marks]
        - truth.pose.screen(truth.pose.camera_space(torch.from_numpy(wanted))).numpy()[marks],
        axis=1,
    )
    return {
        "vertices": model.vertex_count,
        "load_seconds": round(loaded, 2),
        "solve_seconds": round(solved, 1),
        "stage_seconds": seconds,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "mesh_mm": round(small_face.shape_error(found[seen], wanted[seen]), 3),
        "mean_face_mm": round(small_face.shape_error(mean[seen], wanted[seen]), 3),
        "landmarks_px": round(float(gap.mean()), 3),
        "landmarks_worst_px": round(float(gap.max()), 3),
    }


def apart(*arguments: str) -> dict[str, Any]:
    """`solve` in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--solve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    result = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(result, dict)
    return result


def recovery(work: Path, kinds: list[str], size: int, people: int, steps: int) -> dict[str, Any]:
    """Write, read and recover every format; means over people, the worst landmark of all."""
    from tests.solver.model_files import WRITERS

    results = {}
    for kind in kinds:
        if not (work / kind).is_dir():
            WRITERS[kind](work / kind)
        rows = [apart(str(work / kind), str(size), str(seed), str(steps), "0") for seed in range(people)]
        means = {
            k: round(sum(r[k] for r in rows) / len(rows), 3)
            for k in ("mesh_mm", "mean_face_mm", "landmarks_px")
        }
        worst = max(r["landmarks_worst_px"] for r in rows)
        results[kind] = {
            **means,
            "landmarks_worst_px": worst,
            "vertices": rows[0]["vertices"],
            "people": people,
        }
    return results


def cost(work: Path, size: int, steps: int) -> dict[str, Any]:
    """A model of the Basel size: first and second load, memory, and a whole solve beside the built-in
    model's."""
    from tests.solver.model_files import write_basel

    place = work / "basel-size"
    if not place.is_dir():
        write_basel(place, vertices=BASEL_VERTICES, sizes=BASEL_SIZES)
    from nextgenface.facemodel.registry import load_place

    started = time.monotonic()
    load_place(place)
    first = time.monotonic() - started
    basel = apart(str(place), str(size), "1", str(steps), "1")
    builtin = apart("builtin", str(size), "1", str(steps), "1")
    return {
        "first_load_seconds": round(first, 1),
        "load_seconds": basel["load_seconds"],
        "peak_gb": basel["peak_gb"],
        "builtin_peak_gb": builtin["peak_gb"],
        "solve_seconds": basel["solve_seconds"],
        "builtin_solve_seconds": builtin["solve_seconds"],
        "solve_ratio": round(basel["solve_seconds"] / builtin["solve_seconds"], 2),
        "stage_seconds": basel["stage_seconds"],
        "builtin_stage_seconds": builtin["stage_seconds"],
        "mesh_mm": basel["mesh_mm"],
        "landmarks_px": basel["landmarks_px"],
        "landmarks_worst_px": basel["landmarks_worst_px"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, help="where the models are written and kept")
    parser.add_argument("--kinds", nargs="*", default=["bfm", "flame", "ict", "gnm"])
    parser.add_argument("--size", type=int, default=512, help="side of the pictures, pixels")
    parser.add_argument("--people", type=int, default=2, help="random people per format")
    parser.add_argument("--steps", type=int, default=0, help="iterStep2 and 3; 0: the defaults")
    parser.add_argument("--no-cost", action="store_true", help="leave the model of the Basel size out")
    parser.add_argument("--solve", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.solve:
        place, size, seed, steps, textures = options.solve
        print(json.dumps(solve(place, int(size), int(seed), int(steps), textures == "1")))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        report: dict[str, Any] = {
            "size": options.size,
            "recovery": recovery(work, options.kinds, options.size, options.people, options.steps),
        }
        if not options.no_cost:
            report["cost"] = cost(work, options.size, options.steps)
    reached = {
        f"{kind} {name}": row[name] <= GOALS[name]
        for kind, row in report["recovery"].items()
        for name in ("mesh_mm", "landmarks_px")
    }
    reached |= {name: value <= GOALS[name] for name, value in report.get("cost", {}).items() if name in GOALS}
    report["goals"] = GOALS
    report["reached"] = reached
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
