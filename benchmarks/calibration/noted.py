"""Numbers that note what they are compared with: which bounds a diagnosis depends on, and from where on."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np

from unstuck.diagnose.bounds import Bounds

Key: TypeAlias = tuple[str, str]
"""A section of the bounds and a name in it."""
ALWAYS = math.nan
"""Compared with something that is not known: a diagnosis may depend on any change of the bound."""


class Noting:
    """A number that puts down in a list what it is compared with; what is computed from it is a usual one."""

    __array_ufunc__ = None  # else NumPy compares by itself, and nothing is noted
    notes: list[float]
    plain: Any

    def _compared(self, other: object, name: str) -> Any:
        values = np.asarray(other, np.float64)
        self.notes += values.reshape(-1).tolist()
        if values.ndim:
            return getattr(np.float64(self.plain), name)(other)
        return getattr(float(self.plain), name)(float(values))

    def _computed(self, name: str, *others: Any) -> Any:
        self.notes.append(ALWAYS)
        got = getattr(self.plain, name)(*others)
        return getattr(np.float64(self.plain), name)(*others) if got is NotImplemented else got


COMPARED = "lt gt le ge eq ne"
COMPUTED = "add radd sub rsub mul rmul truediv rtruediv pow rpow neg abs round bool floordiv rfloordiv"


def _comparison(name: str) -> Callable[[Noting, object], Any]:
    return lambda self, other: self._compared(other, name)


def _computation(name: str) -> Callable[..., Any]:
    return lambda self, *others: self._computed(name, *others)


for _name in COMPARED.split():
    setattr(Noting, f"__{_name}__", _comparison(f"__{_name}__"))
for _name in COMPUTED.split():
    setattr(Noting, f"__{_name}__", _computation(f"__{_name}__"))


class NotedFloat(Noting, float):
    """A float."""

    __hash__ = float.__hash__


class NotedInt(Noting, int):
    """A whole number; as an index it is a usual one, and nothing is noted."""

    __hash__ = int.__hash__


def noted(number: float, notes: list[float]) -> Noting:
    """A number with its list."""
    made = NotedInt(number) if isinstance(number, int) else NotedFloat(number)
    made.notes, made.plain = notes, number
    return made


def keys(bounds: Bounds) -> Iterator[Key]:
    """Every bound."""
    tables = cast("Mapping[str, Mapping[str, Any]]", msgspec.to_builtins(bounds))
    for section, values in tables.items():
        for name, value in values.items():
            if not isinstance(value, bool):
                yield section, name


def value(bounds: Bounds, key: Key) -> float:
    """What a bound is."""
    return getattr(getattr(bounds, key[0]), key[1])


def changed(bounds: Bounds, key: Key, to: float) -> Bounds:
    """The bounds with another number in one place; of whole numbers, the nearest."""
    return put(bounds, key, round(to) if isinstance(value(bounds, key), int) else to)


def put(bounds: Bounds, key: Key, new: object) -> Bounds:
    """The bounds with another object in one place."""
    section = getattr(bounds, key[0])
    return msgspec.structs.replace(bounds, **{key[0]: msgspec.structs.replace(section, **{key[1]: new})})


def noting(bounds: Bounds) -> tuple[Bounds, dict[Key, list[float]]]:
    """Bounds that note, and their notes."""
    notes: dict[Key, list[float]] = {}
    for key in keys(bounds):
        notes[key] = []
        bounds = put(bounds, key, noted(value(bounds, key), notes[key]))
    return bounds, notes


def crossed(notes: np.ndarray, old: float, new: float) -> bool:
    """Whether a comparison may come out otherwise when a bound is moved."""
    low, high = min(old, new), max(old, new)
    return bool(np.any(np.isnan(notes) | ((notes >= low) & (notes <= high))))
