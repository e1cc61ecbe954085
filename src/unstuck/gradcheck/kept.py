"""What a network keeps in itself from call to call: in objects, dicts, lists, closures and globals."""

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from unstuck.gradcheck.tree import DEEPEST, is_leaf

MOST = 20_000
"""So many things are looked at: who keeps more keeps a data set."""
Path = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """Where an array or a float is kept."""

    value: Any
    put: Callable[[Any], None]
    """Puts something else there."""


def places(roots: list[Any]) -> dict[Path, Place]:
    """All arrays and floats that can be reached from these, by the keys that lead there.

    Args:
        roots: functions, objects and containers.
    """
    found: dict[Path, Place] = {}
    waiting: list[tuple[Any, Path, Put]] = [(root, (number,), None) for number, root in enumerate(roots)]
    known: set[int] = set()
    while waiting and len(known) < MOST:
        thing, path, put_all = waiting.pop()
        if id(thing) in known or len(path) > DEEPEST:
            continue
        known.add(id(thing))
        for key, inner, put in _inside(thing, put_all):
            if not is_leaf(inner):
                waiting.append((inner, (*path, key), put))
            elif put is not None:
                found[*path, key] = Place(inner, put)
    return found


Put = Callable[[Any], None] | None
Inside = Iterator[tuple[Any, Any, Put]]
"""Key, what is there, and what puts something else there, if anything can."""


def _inside(thing: Any, put_all: Put) -> Inside:
    if isinstance(thing, dict):
        items = cast("dict[Any, Any]", thing)
        for key, inner in list(items.items()):
            yield key, inner, lambda new, key=key: items.__setitem__(key, new)
    elif isinstance(thing, list):
        row = cast("list[Any]", thing)
        for number, inner in enumerate(row):
            yield number, inner, lambda new, number=number: row.__setitem__(number, new)
    elif isinstance(thing, tuple):
        yield from _of_tuple(cast("tuple[Any, ...]", thing), put_all)
    elif isinstance(thing, types.FunctionType):
        yield from _seen_by(thing)
    elif isinstance(thing, types.MethodType):
        yield "self", thing.__self__, None
        yield "function", thing.__func__, None
    elif not isinstance(thing, (type, types.ModuleType, np.ndarray, np.generic)):
        held = getattr(thing, "__dict__", None)
        for name, inner in list(cast("dict[str, Any]", held).items()) if isinstance(held, dict) else []:
            yield name, inner, lambda new, name=name: setattr(thing, name, new)


def _of_tuple(thing: tuple[Any, ...], put_all: Put) -> Inside:
    """A tuple cannot be changed: another one takes its place."""
    row = list(thing)
    make = getattr(type(thing), "_make", tuple)

    def put(new: Any, number: int) -> None:
        row[number] = new
        if put_all is not None:
            put_all(make(row))

    for number, inner in enumerate(thing):
        yield number, inner, None if put_all is None else (lambda new, number=number: put(new, number))


def _seen_by(function: types.FunctionType) -> Inside:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents, lambda new, cell=cell: setattr(cell, "cell_contents", new)
        except ValueError:  # an empty cell
            continue
    around = function.__globals__
    for name in _names(function.__code__):
        if name in around:
            yield name, around[name], lambda new, name=name: around.__setitem__(name, new)


def _names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names(constant)
    return names
