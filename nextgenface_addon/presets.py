"""Presets of options: four that come with the add-on, and the user's own, one JSON file each. No bpy in here.

A preset holds what differs from the defaults; everything else goes back to its default when it is applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .child import write_json
from .option_types import Value
from .options import OPTIONS
from .problems import AddonProblem

SCHEMA = 1

_CONVERT: dict[type, Callable[[Any], Value]] = {bool: bool, int: int, float: float, str: str}


class PresetError(AddonProblem):
    """A preset cannot be used or saved."""


def shipped(assets: Path) -> dict[str, dict[str, Value]]:
    """The presets that come with the add-on, by name. Raises PresetError when shadows.ini is damaged."""
    return {
        "Default": {},
        "Harsh Light": differences(assets / "shadows.ini"),
        "Fast Preview": {
            "maxResolution": 256,
            "textureResolution": 256,
            "iterStep2": 150,
            "iterStep3": 100,
            "rtSamples": 64,
            "noiseLevel": 0.05,
        },
        "Quality": {"maxResolution": 1024, "textureResolution": 2048, "iterStep3": 800, "noiseLevel": 0.005},
    }


def differences(path: Path) -> dict[str, Value]:
    """What one of the solver's ini files sets to other values than the panel's defaults."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise PresetError(f"{path} cannot be read. Install the add-on again.") from problem
    values: dict[str, Value] = {}
    for line in lines:
        match = re.match(r"\s*(\w+)\s*=\s*('[^']*'|[^#\s]+)", line)
        if match and match.group(1) in OPTIONS:
            values[match.group(1)] = match.group(2).strip("'")
    return {
        name: value for name, value in checked(values, str(path)).items() if value != OPTIONS[name].default
    }


def values_of(name: str, assets: Path, own: UserPresets) -> dict[str, Value]:
    """The values of a preset; the user's own wins over one that comes with the add-on. Raises PresetError."""
    if name in own.names():
        return own.read(name)
    known = shipped(assets)
    if name not in known:
        raise PresetError(f"There is no preset '{name}'. Choose one of {', '.join([*known, *own.names()])}.")
    return known[name]


def checked(values: Mapping[str, object], source: str) -> dict[str, Value]:
    """Values in their options' types. Options that are not known are left out. Raises PresetError."""
    result: dict[str, Value] = {}
    for name, value in values.items():
        option = OPTIONS.get(name)
        if option is None:
            continue
        kind = type(option.default)
        try:
            if kind is bool and isinstance(value, str):
                value = {"true": True, "false": False}[value.lower()]
            if kind is str and not isinstance(value, str) or isinstance(value, (list, dict)) or value is None:
                raise ValueError
            converted = _CONVERT[kind](value)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise PresetError(f"{source}: {name} cannot be {value!r}.") from None
        allowed = [choice[0] for choice in option.choices]
        within = True
        if option.low is not None:
            within = option.low <= float(converted) <= (option.high or float("inf"))
        if (allowed and converted not in allowed) or not within:
            raise PresetError(f"{source}: {name} cannot be {value!r}.")
        result[name] = converted
    return result


class UserPresets:
    """The user's own presets: `<folder>/<name>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Their names, sorted."""
        try:
            return sorted(path.stem for path in self.folder.glob("*.json"))
        except OSError:
            return []

    def read(self, name: str) -> dict[str, Value]:
        """The values of one preset. Raises PresetError."""
        path = self.path(name)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise PresetError(f"The preset {path} cannot be read. Save it again or delete it.") from problem
        if (
            not isinstance(raw, dict)
            or raw.get("schema") != SCHEMA
            or not isinstance(raw.get("options"), dict)
        ):
            raise PresetError(f"{path} is no preset of this version. Save it again or delete it.")
        return checked(raw["options"], str(path))

    def save(self, name: str, values: Mapping[str, Value]) -> Path:
        """Write a preset; one of that name is replaced. Raises PresetError."""
        path = self.path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"schema": SCHEMA, "options": dict(values)})
        except OSError as problem:
            raise PresetError(f"The preset {path} cannot be written ({problem.strerror}).") from problem
        return path

    def remove(self, name: str) -> None:
        """Delete a preset. Raises PresetError."""
        try:
            self.path(name).unlink()
        except OSError as problem:
            raise PresetError(f"The preset {name} cannot be deleted ({problem.strerror}).") from problem

    def path(self, name: str) -> Path:
        """The file of a preset. Raises PresetError for a name that is no file name on every system."""
        name = name.strip()
        if (
            not name
            or name.startswith(".")
            or name.endswith(".")
            or re.search(r'[<>:"/\\|?*\x00-\x1f]', name)
        ):
            raise PresetError(f"'{name}' cannot be a preset's name. Use letters, digits and spaces.")
        return self.folder / f"{name}.json"
