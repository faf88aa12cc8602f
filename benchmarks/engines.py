"""The engines side by side on the synthetic heads: accuracy, seconds, memory; prints JSON and a table.

    python benchmarks/engines.py --data DATA --out DIR [--subjects NAME …] [--rows ROW …] [--set key=value …]
                                 [--write docs/rendering.md]

One row per way to draw while fitting: the three engines, and the deferred engine without cast shadows,
without the specular layer, and with light of either sign (`leaveOut`). Every row solves and judges the
subjects as `accuracy.py` does. `--write` puts the table between the marks in a Markdown page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accuracy import Plan, make_parser, make_plan, measure, say, subjects_of, warm_up
from goals import summary
from nextgenface.cli.common import share_cores
from nextgenface.errors import NextGenFaceError

ROWS: dict[str, tuple[str, ...]] = {
    "deferred": ("engine=deferred",),
    "hybrid": ("engine=hybrid", "rtBounces=2"),
    "raytraced": ("engine=raytraced", "rtBounces=2"),
    "deferred, no visibility": ("engine=deferred", "leaveOut=visibility"),
    "deferred, no specular layer": ("engine=deferred", "leaveOut=specular"),
    "deferred, light of either sign": ("engine=deferred", "leaveOut=nonnegative"),
}

COLUMNS = (
    ("photo", "render_psnr", "{:.1f} dB"),
    ("second light", "relit_psnr", "{:.2f} dB"),
    ("albedo error", "albedo_rmse_si", "{:.4f}"),
    ("mesh", "mesh_mean_mm", "{:.2f} mm"),
    ("light", "env_cosine", "{:.3f}"),
    ("solve", "seconds", "{:.0f} s"),
    ("… of all cores together", "cpu_seconds", "{:.0f} s"),
    ("memory", "peak_mb", "{:.0f} MB"),
)
"""Heading, key of the means, and format of what the table shows."""

BEGIN, END = "<!-- engines: begin -->", "<!-- engines: end -->"


def main(arguments: list[str] | None = None) -> int:
    """Solve, judge, print; returns the exit code."""
    options = _parse(arguments)
    share_cores()  # as the commands do, before torch starts its threads
    try:
        names = subjects_of(options.data, options.subjects)
        plan = make_plan(options)
        warm_up(plan)
    except NextGenFaceError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    found: dict[str, dict[str, Any]] = {}
    for row in options.rows or list(ROWS):
        one = _plan_of(plan, row)
        found[row] = {name: measure(one, name) for name in names}
        say(f"{row}: {json.dumps(found[row])}")
    means = {row: summary(entries) for row, entries in found.items()}
    text = table(means)
    say(text)
    if options.write:
        _write(options.write, f"{text}\n\nMeans over {', '.join(names)}" + _settings(plan) + ".")
    print(json.dumps({"rows": found, "mean": means}, indent=1))
    return 1 if any(mean["failed"] for mean in means.values()) else 0


def table(means: Mapping[str, Mapping[str, Any]]) -> str:
    """The means of every row as a Markdown table; a dash for what was not measured."""
    lines = [
        "| | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for row, mean in means.items():
        values = ["–" if mean.get(key) is None else form.format(mean[key]) for _, key, form in COLUMNS]
        lines.append(f"| {row} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = make_parser()
    parser.description = (__doc__ or "").split("\n")[0]
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW", help="only these rows")
    parser.add_argument("--write", type=Path, metavar="FILE", help="page to put the table into")
    return parser.parse_args(arguments)


def _plan_of(plan: Plan, row: str) -> Plan:
    folder = row.replace(", ", "-").replace(" ", "_")
    return replace(plan, out=plan.out / folder, settings=(*plan.settings, *ROWS[row]), cycles=False)


def _settings(plan: Plan) -> str:
    return f"; {', '.join(plan.settings)}" if plan.settings else ""


def _write(page: Path, text: str) -> None:
    """Replace what stands between the marks. Raises NextGenFaceError when the page has none."""
    content = page.read_text("utf-8")
    if BEGIN not in content or END not in content:
        raise NextGenFaceError(f"{page} has no marks {BEGIN} and {END} to put the table between.")
    before, rest = content.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
