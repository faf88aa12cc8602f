"""Options of the methods for many views: one declaration for command line, job and script."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pytest
from nextgenface.errors import ConfigError
from nextgenface.multiview.options import add_options, as_json, option, read_options, typed_options


@dataclass(frozen=True)
class Example:
    size: int = option(64, "side", low=16, high=128)
    rate: float = option(0.5, "learning rate, 50 % of it", low=0)
    mode: str = option("random", "order", choices=("random", "sequential"))
    steps: tuple[int, ...] = option((500, 1000), "when", low=0)
    names: tuple[str, ...] = option((), "views")


def test_text_becomes_values() -> None:
    read = read_options(Example, {"size": "32", "steps": "1, 2 3", "names": "a b", "mode": "sequential"})
    assert read == Example(32, 0.5, "sequential", (1, 2, 3), ("a", "b"))
    assert as_json(read)["steps"] == [1, 2, 3]


@pytest.mark.parametrize(
    "given", [{"size": "8"}, {"size": "x"}, {"mode": "other"}, {"steps": "1 -2"}, {"unknown": "1"}]
)
def test_wrong_values_name_the_option(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        read_options(Example, given)


def test_the_command_line_passes_on_only_what_was_typed() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Example)
    assert typed_options(Example, parser.parse_args([])) == {}
    typed = typed_options(Example, parser.parse_args(["--steps", "5", "6", "--rate", "0.25"]))
    assert read_options(Example, typed) == Example(rate=0.25, steps=(5, 6))
    assert "50 %" in parser.format_help()
