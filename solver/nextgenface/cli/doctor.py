"""nextgenface-doctor: one table of what is there, what is wrong and what to do."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from nextgenface import __version__
from nextgenface.cli.common import run_command
from nextgenface.doctor import Check, run_checks
from nextgenface.files import write_text

SIGNS = {"ok": "ok", "warning": "warn", "failed": "FAIL"}


def as_table(checks: Sequence[Check], width: int) -> str:
    """The checks as text of at most `width` columns: status, name, and what there is to say."""
    name_width = max(len(check.name) for check in checks)
    indent = " " * (6 + name_width + 2)
    lines: list[str] = []
    for check in checks:
        said = [check.found] if check.found else []
        if check.wrong:
            said.append(f"wrong: {check.wrong}")
        if check.action:
            said.append(f"do:    {check.action}")
        first = f"{SIGNS[check.status]:<6}{check.name:<{name_width}}  "
        for i, text in enumerate(said or [""]):
            wrapped = textwrap.wrap(text, max(width - len(indent), 30), break_long_words=False) or [""]
            lines.append((first if i == 0 else indent) + wrapped[0])
            lines += [indent + more for more in wrapped[1:]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 when nothing failed (warnings are allowed), else 1."""
    parser = argparse.ArgumentParser(prog="nextgenface-doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--output", metavar="FILE.json", help="also write that JSON object to this file")
    parser.add_argument(
        "--render", metavar="FILE.png", help="also render one picture with Mitsuba to this file"
    )
    chosen = parser.parse_args(arguments)

    def work() -> int:
        # The detector's own libraries are talkative; here only the table counts.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logger = logging.getLogger("nextgenface")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            checks = run_checks(picture=Path(chosen.render).absolute() if chosen.render else None)
        finally:
            logger.setLevel(level)
        failed = [check for check in checks if check.status == "failed"]
        report = {"version": __version__, "ok": not failed, "checks": [check.as_dict() for check in checks]}
        if chosen.output:
            write_text(Path(chosen.output), json.dumps(report, ensure_ascii=False, indent=1))
        if chosen.json:
            print(json.dumps(report, ensure_ascii=False, indent=1))
        else:
            print(f"NextGenFace {__version__}")
            print(as_table(checks, min(shutil.get_terminal_size((110, 24)).columns, 120)))
            if failed:
                print(f"\n{len(failed)} of {len(checks)} checks failed.")
            else:
                print("\nReady to reconstruct.")
        return 1 if failed else 0

    return run_command(work)


if __name__ == "__main__":
    raise SystemExit(main())
