"""What an option of the solver is to the panel. No bpy in here."""

from __future__ import annotations

from dataclasses import dataclass

Value = bool | int | float | str


@dataclass(frozen=True)
class Option:
    """One option. `name`: the solver's; `key`: where it is kept, as methods use the same names. `choices`:
    (value, label, tooltip). `subtype`: Blender's, for paths. `digits`: decimals shown.
    """

    name: str
    label: str
    default: Value
    tip: str
    low: float | None = None
    high: float | None = None
    choices: tuple[tuple[str, str, str], ...] = ()
    subtype: str = "NONE"
    digits: int = 3
    method: str = "face"

    @property
    def key(self) -> str:
        return self.name if self.method == "face" else f"{self.method}_{self.name}"


@dataclass(frozen=True)
class Group:
    """Options that are shown together; `closed` ones in a sub-panel of their own."""

    name: str
    label: str
    options: tuple[Option, ...]
    closed: bool = True
