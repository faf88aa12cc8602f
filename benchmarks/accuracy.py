"""How close reconstructions come to the truth on synthetic heads; prints one JSON object.

    python benchmarks/accuracy.py --data DATA --out DIR [--subjects NAME …] [--set key=value …] [--table]

The solver gets a copy of each subject's photo.png and nothing else, through nextgenface-reconstruct in a
process of its own. Then DIR/<subject>/score/ is written (mesh.ply, albedo.exr, render.exr, relit.exr,
env.exr, coverage.png, and the same of the mean head) and judged by the data set's own score.py, found in
DATA or above it.

{"subjects": {name: {"render_psnr", "relit_psnr", "mean_relit_psnr", "mesh_mean_mm", "mesh_p90_mm",
                     "mean_face_mm", "albedo_rmse_si", "mean_albedo_rmse_si", "constant_albedo_rmse_si",
                     "albedo_detail", "env_cosine", "light_error_deg", "coverage", "cycles_psnr",
                     "seconds", "cpu_seconds", "peak_mb"}},
 "mean": {the same, "albedo_vs_constant", "albedo_vs_mean", "relit_gain_db", "mesh_vs_mean_face",
          "better_meshes", "subjects", "failed"}}

Pictures are compared where the skin is visible and the reconstruction covers it; `coverage` says how much
that is. The second light is judged after matching the exposure. DIR/<subject>/photo/ holds the results,
score/sheet.png the pictures beside the truth. A subject that failed has "error" and is in no mean; the exit
code is then 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goals import summary, table
from nextgenface.cli.common import share_cores
from nextgenface.errors import NextGenFaceError


@dataclass(frozen=True)
class Plan:
    """What is done with every subject."""

    data: Path
    out: Path
    judge: Path
    settings: tuple[str, ...]
    reuse: bool
    blender: Path | None
    cycles: bool
    cycles_samples: int


def main(arguments: list[str] | None = None) -> int:
    """Solve, judge and print; returns the exit code."""
    options = make_parser().parse_args(arguments)
    share_cores()  # as the commands do, before torch starts its threads
    try:
        names = subjects_of(options.data, options.subjects)
        plan = make_plan(options)
        warm_up(plan)
    except NextGenFaceError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in measured(plan, names, options.jobs):
        entries[name] = entry
        say(f"{name}: {json.dumps(entry)}")
    ordered = {name: entries[name] for name in names}
    means = summary(ordered)
    if options.table:
        say(table(means))
    print(json.dumps({"subjects": ordered, "mean": means}, indent=1))
    return 1 if means["failed"] else 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the subjects")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results and the judged files")
    add("--subjects", nargs="+", metavar="NAME", help="only these (default: every subject_* of the data)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the solver; may be repeated",
    )
    add(
        "--reuse",
        action="store_true",
        help="judge finished results of the same options without solving again",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="subjects at once; with more than 1, seconds mean little",
    )
    add("--no-cycles", action="store_true", help="leave Blender's picture out")
    add("--cycles-samples", type=int, default=128, metavar="N", help="samples of Blender's picture, at most")
    add("--blender-python", type=Path, metavar="FILE", help="a Python with bpy (default: .venv/bpy-*)")
    add("--table", action="store_true", help="print the goals, and which are reached, to standard error")
    return parser


def subjects_of(data: Path, wanted: list[str] | None) -> list[str]:
    """Names of the subjects, folders relative to `data`. Raises NextGenFaceError."""
    names = wanted or sorted(path.parent.name for path in data.glob("subject_*/photo.png"))
    if not names:
        raise NextGenFaceError(
            f"{data} holds no subject_*/photo.png. Point --data at the folder of the subjects."
        )
    for name in names:
        if not (data / name / "photo.png").is_file():
            raise NextGenFaceError(f"There is no {data / name / 'photo.png'}. Check --subjects.")
    return list(dict.fromkeys(names))


def make_plan(options: argparse.Namespace) -> Plan:
    """The command line with everything found that it needs. Raises NextGenFaceError."""
    from blender_picture import find_blender_python
    from judge import find_judge

    if options.blender_python is not None and not options.blender_python.is_file():
        raise NextGenFaceError(f"There is no Python at {options.blender_python}. Check --blender-python.")
    return Plan(
        data=options.data.resolve(),
        out=options.out.resolve(),
        judge=find_judge(options.data.resolve(), options.out.resolve()),
        settings=tuple(options.set),
        reuse=options.reuse,
        blender=options.blender_python.absolute() if options.blender_python else find_blender_python(),
        cycles=not options.no_cycles,
        cycles_samples=options.cycles_samples,
    )


def warm_up(plan: Plan) -> None:
    """Build and cache the face model and prove the LLVM: a machine does this once, so no subject pays."""
    from nextgenface.config import Config
    from nextgenface.facemodel.registry import load_model
    from subject import prepare_mitsuba

    config = Config()
    for setting in plan.settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise NextGenFaceError(f"--set {setting!r}: write it as --set key=value.")
        config.set(key.strip(), value)
    config.validate()
    load_model(config)
    prepare_mitsuba()


def measured(plan: Plan, names: list[str], jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and measures of every subject, as they are finished."""
    if jobs <= 1:
        for name in names:
            yield name, measure(plan, name)
        return
    # Fresh processes: one that has drawn must not be forked.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(measure, plan, name): name for name in names}
        for done in as_completed(running):
            yield running[done], done.result()


def measure(plan: Plan, name: str) -> dict[str, Any]:
    """All measures of one subject; {"error": text} when it could not be solved or judged."""
    try:
        return _measure(plan, name)
    except NextGenFaceError as problem:
        return {"error": str(problem)}
    except Exception as problem:  # the other subjects are still worth their minutes
        traceback.print_exc()
        return {"error": f"{type(problem).__name__}: {problem}"}


def _measure(plan: Plan, name: str) -> dict[str, Any]:
    import judge
    from sheet import write_sheet
    from subject import solve, write_score_files

    truth, folder = plan.data / name, plan.out / name
    say(f"{name}: solving")
    run = solve(truth / "photo.png", folder, plan.settings, reuse=plan.reuse)
    started = time.monotonic()
    score = folder / "score"
    say(f"{name}: drawing ({run.seconds:.0f} s, {run.peak_mb:.0f} MB for the solve)")
    write_score_files(run.results, truth, score)
    write_sheet(truth, score)
    say(f"{name}: judging ({time.monotonic() - started:.0f} s for drawing)")
    entry: dict[str, Any] = judge.entry(
        *(
            judge.judge(plan.judge, truth, score, files)
            for files in (judge.FILES, judge.MEAN_FILES, judge.CONSTANT_FILES)
        )
    )
    entry["cycles_psnr"], problem = cycles_psnr(plan, run.results, score / "cycles.png")
    entry["seconds"], entry["peak_mb"], entry["cpu_seconds"] = run.seconds, run.peak_mb, run.cpu_seconds
    if problem:
        entry["cycles_problem"] = problem
    (score / "score.json").write_text(json.dumps(entry, indent=1) + "\n", "utf-8")
    say(f"{name}: scored in {time.monotonic() - started:.0f} s")
    return entry


def cycles_psnr(plan: Plan, results: Path, picture: Path) -> tuple[float | None, str]:
    """PSNR of Blender's picture against Mitsuba's, or None and the reason why there is none."""
    from blender_picture import compare, draw

    if not plan.cycles:
        return None, "left out by --no-cycles"
    if plan.blender is None:
        return None, "no environment with bpy was found in .venv; make setup makes one"
    try:
        draw(plan.blender, results, picture, plan.cycles_samples)
        return compare(picture, results / "final_0.exr"), ""
    except NextGenFaceError as problem:
        return None, str(problem)


def say(text: str) -> None:
    """A line of progress; standard output is for the JSON alone."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
