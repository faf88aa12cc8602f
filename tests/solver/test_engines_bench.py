"""The comparison of engines: its rows are options that exist, its table goes where the page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nextgenface.config import Config
from nextgenface.errors import NextGenFaceError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import engines  # noqa: E402


@pytest.mark.parametrize("row", list(engines.ROWS))
def test_every_row_is_made_of_options(row: str) -> None:
    config = Config()
    for setting in engines.ROWS[row]:
        key, value = setting.split("=")
        config.set(key, value)
        assert str(getattr(config, key)) == value


def test_each_part_is_left_out_in_one_row() -> None:
    left_out = {s.split("=")[1] for row in engines.ROWS.values() for s in row if s.startswith("leaveOut")}
    assert left_out == set(Config.leaveOut.choices) - {""}


def test_table_and_page(tmp_path: Path) -> None:
    keys = [key for _, key, _ in engines.COLUMNS]
    text = engines.table({"deferred": dict.fromkeys(keys, 1.25), "hybrid": {keys[0]: None}})
    header, _, first, second = text.split("\n")
    assert header.count("|") == len(keys) + 2 and "1.2500" in first and second.count("–") == len(keys)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{engines.BEGIN}\nold\n{engines.END}\nafter\n", "utf-8")
    engines._write(page, text)
    engines._write(page, text)
    assert page.read_text("utf-8") == f"before\n{engines.BEGIN}\n{text}\n{engines.END}\nafter\n"
    page.write_text("nothing", "utf-8")
    with pytest.raises(NextGenFaceError, match="marks"):
        engines._write(page, text)
