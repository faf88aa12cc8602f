"""What the solver's own lists say about its options, and the panel's tables made with it. No bpy in here.

A table says only how an option is shown; its default and its limits are read from the solver's source.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from .methods import method_named, method_source
from .option_types import Group, Option, Value


@dataclass(frozen=True)
class Declared:
    """An option in the solver's list. A limit that is not written as a plain number is left out."""

    default: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@cache
def declared(source: Path) -> dict[str, Declared]:
    """The options in one of the solver's lists by name, read from its source without running it.

    The list is a class with lines `name = Option(default, …)` or `name: type = option(default, …)`. Empty
    when the file is not there.
    """
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    found: dict[str, Declared] = {}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(node.value, ast.Call):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        call = node.value
        if isinstance(target, ast.Name) and ast.unparse(call.func) in ("Option", "option") and call.args:
            facts = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
            found[target.id] = Declared(
                ast.literal_eval(call.args[0]),
                facts.get("low"),
                facts.get("high"),
                facts.get("choices") or (),
            )
    return found


def _literal(node: ast.expr) -> Any:
    """The value of an expression, None unless it is a literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def option(name: str, label: str, tip: str, **more: Any) -> Option:
    """A row of a table: how an option of the solver is shown."""
    return Option(name, label, "", tip, **more)  # the default is the solver's


def group(method: str, name: str, label: str, *options: Option, closed: bool = True) -> Group:
    """Options of a method that are shown together; those that this solver does not have are left out."""
    known = declared(method_source(method_named(method)))
    rows = (
        replace(o, method=method, default=d.default, low=d.low, high=d.high)
        for o, d in ((o, known[o.name]) for o in options if o.name in known)
    )
    return Group(name, label, tuple(rows), closed)
