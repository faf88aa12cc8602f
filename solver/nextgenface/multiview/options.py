"""Options of a method as a frozen dataclass: declared once, read from a command line, a job or a script.

@dataclass(frozen=True)
class TextureOptions:
    size: int = option(2048, "side of the texture in texels", low=16, high=8192)
    views: tuple[str, ...] = option((), "names of views")

options = read_options(TextureOptions, {"size": "1024"})        # from text, checked
add_options(parser, TextureOptions); typed = typed_options(TextureOptions, parser.parse_args())
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ConfigError
from ..options import Option

C = TypeVar("C")


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str = "",
) -> Any:
    """A field with its description and range. A tuple is a list of its first item's type (text when empty).

    `flag` is its name on the command line where that differs from the field's.
    """
    kind = (default[0] if default else "") if isinstance(default, tuple) else default
    value: Option[Any] = Option(kind, text, low=low, high=high, choices=choices)
    return dataclasses.field(default=default, metadata={"option": value, "flag": flag})


def read_options(cls: type[C], given: Mapping[str, str]) -> C:
    """The options with these values, written as text. Raises ConfigError for unknown names and bad values."""
    fields = _fields(cls)
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in fields:
            raise ConfigError(f"There is no option {name!r}. There are: {', '.join(sorted(fields))}.")
        values[name] = _parse(name, fields[name], str(text))
    return cls(**values)


def add_options(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """An argument `--name` for every option; one that is not typed is left out of the namespace."""
    for name, field in _fields(cls).items():
        value: Option[Any] = field.metadata["option"]
        default: Any = field.default
        many = isinstance(default, tuple)
        shown = " ".join(map(str, default)) if many else str(default)
        parser.add_argument(
            "--" + (field.metadata["flag"] or name),
            dest=name,
            nargs="*" if many else None,
            default=argparse.SUPPRESS,
            metavar="|".join(value.choices)
            or {int: "N", float: "X", bool: "true|false"}.get(value.kind, "TEXT"),
            help=f"{value.text} ({shown or 'none'})".replace("%", "%%"),
        )


def typed_options(cls: type[Any], arguments: argparse.Namespace) -> dict[str, str]:
    """What a command line typed of the options of `cls`, as text."""
    typed = {name: getattr(arguments, name) for name in _fields(cls) if hasattr(arguments, name)}
    return {name: " ".join(text) if isinstance(text, list) else text for name, text in typed.items()}


def as_json(options: Any) -> dict[str, Any]:
    """Options as plain values for `result.json`."""
    plain = dataclasses.asdict(options)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls) if "option" in field.metadata}


def _parse(name: str, field: dataclasses.Field[Any], text: str) -> Any:
    value: Option[Any] = field.metadata["option"]
    value.name = name
    if isinstance(field.default, tuple):
        return tuple(value.parse(word) for word in text.replace(",", " ").split())
    return value.parse(text)
