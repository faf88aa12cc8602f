"""One configuration option: a typed attribute with a default, a description and allowed values."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from nextgenface.errors import ConfigError

if TYPE_CHECKING:
    from nextgenface.config import Config

T = TypeVar("T", str, bool, int, float)

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Option(Generic[T]):
    """One option: a typed attribute of `Config` with a default, a description and allowed values.

    `low` and `high` bound numbers (inclusive); `choices` lists the allowed words.
    """

    def __init__(
        self,
        default: T,
        text: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.default: T = default
        self.text = text
        self.low = low
        self.high = high
        self.choices = choices
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, instance: Config, owner: type) -> T: ...
    def __get__(self, instance: Config | None, owner: type) -> Option[T] | T:
        return self if instance is None else cast(T, instance._values[self.name])

    def __set__(self, instance: Config, value: T) -> None:
        instance._store(self.name, self.convert(value), "api")

    @property
    def kind(self) -> type:
        """The option's type: str, bool, int or float."""
        return type(self.default)

    def parse(self, text: str) -> T:
        """Value of the option written as text; `ConfigError` (without a place) when it is not one."""
        kind = self.kind
        value: Any = text
        if kind is bool:
            word = text.lower()
            if word not in _TRUE | _FALSE:
                raise self._wrong(text, "true or false (also yes/no, on/off, 1/0)")
            value = word in _TRUE
        elif kind in (int, float):
            try:
                value = float(text)
            except ValueError:
                raise self._wrong(text, "a whole number" if kind is int else "a number") from None
        return self.convert(value)

    def convert(self, value: Any) -> T:
        """The value in the option's own type, checked against its range; `ConfigError` otherwise."""
        kind = self.kind
        is_number = hasattr(value, "__float__") and not isinstance(value, str | bool) and _size(value) == 1
        result: Any
        if kind is bool:
            if not isinstance(value, bool) and not (is_number and float(value) in (0.0, 1.0)):
                raise self._wrong(value, "True or False")
            result = bool(value)
        elif kind is str:
            if not isinstance(value, str | os.PathLike):
                raise self._wrong(value, "text")
            result = os.fspath(value)
        else:
            if not is_number or not math.isfinite(float(value)):
                raise self._wrong(value, "a whole number" if kind is int else "a number")
            if kind is int and float(value) != int(value):
                raise self._wrong(value, "a whole number")
            result = kind(value)
        return self.check(result)

    def check(self, value: Any) -> T:
        """The value itself if it is allowed, else `ConfigError`."""
        if self.choices and value not in self.choices:
            raise self._wrong(value, "one of " + ", ".join(self.choices))
        if self.low is not None and value < self.low or self.high is not None and value > self.high:
            raise self._wrong(value, self.allowed())
        return cast(T, value)

    def allowed(self) -> str:
        """The allowed values in words, empty when there is no limit."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        return ""

    def _wrong(self, value: object, wanted: str) -> ConfigError:
        return ConfigError(f"option {self.name} cannot be {value!r}: expected {wanted}")


def _size(value: Any) -> int:
    """Number of elements: 1 for plain numbers, the array's size for arrays and tensors."""
    shape = getattr(value, "shape", ())
    return math.prod(shape)
