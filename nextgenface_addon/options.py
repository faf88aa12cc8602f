"""The solver's options that the panel shows, as one table. No bpy in here.

Names are the solver's; defaults and limits are read from its own lists. An option whose value is the default
is not sent, so that what a photo says about itself still counts where nobody has chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

from .face_options import FACE_GROUPS
from .method_options import METHOD_GROUPS
from .option_types import Group, Option, Value

GROUPS: tuple[Group, ...] = (*FACE_GROUPS, *METHOD_GROUPS)

OPTIONS: dict[str, Option] = {option.key: option for group in GROUPS for option in group.options}
"""By key."""


def same(option: Option, value: Value) -> bool:
    """Whether a value is the option's default, as far as Blender's 32-bit floats can tell."""
    if isinstance(option.default, float):
        return abs(float(value) - option.default) <= 1e-6 * max(abs(option.default), 1e-6)
    return value == option.default


def plain(value: Value) -> Value:
    """The value as somebody would have typed it: 0.001 rather than 0.0010000000474974513."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def changed(values: Mapping[str, Value]) -> dict[str, Value]:
    """Of these option values, by key, those that are not the defaults."""
    return {name: plain(value) for name, value in values.items() if not same(OPTIONS[name], value)}
