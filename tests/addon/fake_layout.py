"""A layout that is as strict as Blender's: panels are drawn onto it in tests, where no window is.

A property, operator, menu or icon that does not exist raises, as do properties an operator does not have.
`texts` collects what a user would read, `operators` what could be pressed.
"""

from __future__ import annotations

from typing import Any

import bpy

ICONS = set(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())


class OperatorButton:
    """What `layout.operator` returns: takes only the operator's own properties."""

    def __init__(self, name: str) -> None:
        category, function = name.split(".")
        kind = getattr(getattr(bpy.ops, category), function).get_rna_type()
        object.__setattr__(self, "name_of_operator", name)
        object.__setattr__(self, "known", kind.properties)
        object.__setattr__(self, "given", {})

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.known:
            raise AttributeError(f"{self.name_of_operator} has no property {name}")
        kind = self.known[name].type
        expected = {"STRING": str, "BOOLEAN": bool, "INT": int, "ENUM": str, "FLOAT": float}[kind]
        if not isinstance(value, expected):
            raise TypeError(f"{self.name_of_operator}.{name} cannot be {value!r}")
        self.given[name] = value


class FakeLayout:
    """See above. Parts of a layout share `texts` and `operators`."""

    def __init__(self, parent: FakeLayout | None = None, *, open_panels: bool = True) -> None:
        self.texts: list[str] = parent.texts if parent else []
        self.operators: list[OperatorButton] = parent.operators if parent else []
        self.lists: list[tuple[Any, str]] = parent.lists if parent else []
        self.open_panels = parent.open_panels if parent else open_panels
        self.use_property_split = self.use_property_decorate = False
        self.active = self.enabled = True
        self.scale_x = self.scale_y = 1.0
        self.alignment = "EXPAND"

    def _part(self, **options: object) -> FakeLayout:
        allowed = {"align", "factor", "heading", "translate"}
        assert set(options) <= allowed, options
        return FakeLayout(self)

    row = column = box = split = column_flow = _part

    def panel(self, name: str, default_closed: bool = False) -> tuple[FakeLayout, FakeLayout | None]:
        assert isinstance(name, str) and isinstance(default_closed, bool)
        return FakeLayout(self), FakeLayout(self) if self.open_panels else None

    def _text(self, text: str | None, icon: str, icon_value: int) -> None:
        assert icon in ICONS, icon
        assert isinstance(icon_value, int)
        if text is not None:
            assert isinstance(text, str), text
            self.texts.append(text)

    def label(self, text: str = "", icon: str = "NONE", icon_value: int = 0, translate: bool = True) -> None:
        self._text(text, icon, icon_value)

    def prop(
        self, data: Any, name: str, text: str | None = None, icon: str = "NONE", icon_value: int = 0,
        slider: bool = False, emboss: bool = True, expand: bool = False, index: int = -1, toggle: int = -1,
    ) -> None:  # fmt: skip
        assert name in data.bl_rna.properties, f"{data} has no property {name}"
        getattr(data, name)
        self._text(text, icon, icon_value)

    def operator(
        self, name: str, text: str | None = None, icon: str = "NONE", icon_value: int = 0,
        emboss: bool = True, depress: bool = False, translate: bool = True,
    ) -> OperatorButton:  # fmt: skip
        self._text(text, icon, icon_value)
        self.operators.append(OperatorButton(name))
        return self.operators[-1]

    def menu(self, name: str, text: str | None = None, icon: str = "NONE") -> None:
        assert hasattr(bpy.types, name), name
        self._text(text, icon, 0)

    def template_list(
        self, kind: str, ident: str, data: Any, name: str, active_data: Any, active: str, rows: int = 5
    ) -> None:
        assert hasattr(bpy.types, kind), kind
        assert name in data.bl_rna.properties and active in active_data.bl_rna.properties
        self.lists.append((getattr(data, name), kind))

    def template_icon(self, icon_value: int, scale: float = 1.0) -> None:
        assert isinstance(icon_value, int)

    def progress(self, text: str = "", factor: float = 0.0, type: str = "BAR") -> None:
        assert 0.0 <= factor <= 1.0 and type in ("BAR", "RING")
        self.texts.append(text)

    def separator(self, factor: float = 1.0) -> None:
        assert factor > 0

    def names(self) -> list[str]:
        """The operators that could be pressed."""
        return [button.name_of_operator for button in self.operators]

    def text(self) -> str:
        """All that can be read, in one string."""
        return "\n".join(self.texts)
