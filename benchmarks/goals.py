"""The means over the subjects, and the goals they are held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]

MEASURES = (
    "render_psnr", "relit_psnr", "mean_relit_psnr", "mesh_mean_mm", "mesh_p90_mm", "mean_face_mm",
    "albedo_rmse_si", "mean_albedo_rmse_si", "constant_albedo_rmse_si", "albedo_detail", "env_cosine",
    "light_error_deg", "coverage", "cycles_psnr", "seconds", "cpu_seconds", "peak_mb",
)  # fmt: skip
"""What is measured on every subject, in the order in which it is printed."""


@dataclass(frozen=True)
class Goal:
    """One row of the table: a value of the means, its floor and its aim."""

    text: str
    key: str
    floor: float
    aim: float
    unit: str = ""
    smaller_is_better: bool = False
    share: bool = False  # of the subjects: the value is a count

    def reached(self, value: float | None, level: float, subjects: int) -> bool:
        """Whether a value is as good as `level`; what was not measured is not reached."""
        if value is None:
            return False
        if self.share:
            return value >= level * subjects
        return value <= level if self.smaller_is_better else value >= level


GOALS = (
    Goal("re-render against the photo, inside visible skin", "render_psnr", 30, 36, "dB"),
    Goal("coverage of the visible skin", "coverage", 0.90, 0.97),
    Goal("albedo error / best single colour", "albedo_vs_constant", 0.97, 0.65, smaller_is_better=True),
    Goal("albedo error / mean albedo", "albedo_vs_mean", 0.90, 0.60, smaller_is_better=True),
    Goal("under the unseen light, better than the mean face by", "relit_gain_db", 1, 4, "dB"),
    Goal("mesh error", "mesh_mean_mm", 2.40, 1.9, "mm", smaller_is_better=True),
    Goal("mesh error / mean face", "mesh_vs_mean_face", 0.95, 0.75, smaller_is_better=True),
    Goal("light: cosine of the SH without its mean", "env_cosine", 0.5, 0.8),
    Goal("subjects whose mesh is better than the mean face", "better_meshes", 4 / 6, 1, share=True),
    Goal("Cycles against Mitsuba, face pixels", "cycles_psnr", 32, 38, "dB"),
    Goal("whole solve", "seconds", 300, 90, "s", smaller_is_better=True),
    Goal("peak memory", "peak_mb", 3000, 1500, "MB", smaller_is_better=True),
)


def summary(subjects: Mapping[str, Entry]) -> dict[str, float | int | None]:
    """Means over the subjects, and the comparisons of the goals.

    Every measure gets its mean over the subjects that have it (None where none has). The comparisons of
    albedo are means of the subjects' ratios; `mesh_vs_mean_face` is the ratio of the mean errors;
    `relit_gain_db` the mean of the differences; `better_meshes` a number of subjects. `subjects` counts those
    that were solved, `failed` the others.
    """
    solved = [entry for entry in subjects.values() if "error" not in entry]
    means: dict[str, float | int | None] = {key: _mean(e.get(key) for e in solved) for key in MEASURES}
    for key, reference in (
        ("albedo_vs_constant", "constant_albedo_rmse_si"),
        ("albedo_vs_mean", "mean_albedo_rmse_si"),
    ):
        means[key] = _mean(_ratio(e, "albedo_rmse_si", reference) for e in solved)
    means["relit_gain_db"] = _mean(_difference(e, "relit_psnr", "mean_relit_psnr") for e in solved)
    means["mesh_vs_mean_face"] = _ratio(means, "mesh_mean_mm", "mean_face_mm")
    differences = [_difference(entry, "mesh_mean_mm", "mean_face_mm") for entry in solved]
    compared = [value for value in differences if value is not None]
    means["better_meshes"] = sum(value < 0 for value in compared) if compared else None
    means["subjects"] = len(solved)
    means["failed"] = len(subjects) - len(solved)
    return means


def table(means: Entry) -> str:
    """The goals as text: value, floor, aim, and which of the two is reached."""
    count = int(means["subjects"])
    rows = [("", "value", "floor", "aim", "")]
    for goal in GOALS:
        value = means.get(goal.key)
        if goal.reached(value, goal.aim, count):
            verdict = "aim"
        elif goal.reached(value, goal.floor, count):
            verdict = "floor"
        else:
            verdict = "not measured" if value is None else "MISSED"
        floor, aim = (_level(goal, level, count) for level in (goal.floor, goal.aim))
        rows.append((goal.text, _shown(goal, value, count), floor, aim, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]
    if means["failed"]:
        lines.append(f"{means['failed']} subject(s) failed and are in none of these values.")
    return "\n".join(lines)


def _shown(goal: Goal, value: float | None, subjects: int) -> str:
    if value is None:
        return "–"
    if goal.share:
        return f"{value:g} of {subjects}"
    digits = 0 if goal.unit in ("s", "MB") else 3 if not goal.unit else 2
    return f"{value:.{digits}f} {goal.unit}".rstrip()


def _level(goal: Goal, level: float, subjects: int) -> str:
    sign = "≤" if goal.smaller_is_better else "≥"
    return f"{sign} {math.ceil(level * subjects - 1e-9) if goal.share else level:g}"


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _ratio(entry: Entry, key: str, reference: str) -> float | None:
    value, other = entry.get(key), entry.get(reference)
    return None if value is None or not other else value / other


def _difference(entry: Entry, key: str, reference: str) -> float | None:
    value, other = entry.get(key), entry.get(reference)
    return None if value is None or other is None else value - other
