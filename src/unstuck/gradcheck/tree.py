"""Arrays inside whatever a user keeps them in: dicts, lists, tuples and objects, found by their place."""

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DEEPEST = 8
"""Containers in containers are followed no further: what lies deeper is no parameter."""


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Arrays and floats by their place, such as `W`, `layers.0.W` or `0`.

    Args:
        value: an array, a number, or containers of them.
        path: what the places begin with.

    Example:
        >>> sorted(leaves({"W": np.zeros(2), "more": [1.5, "text"]}))
        ['W', 'more.0']
    """
    found: dict[str, Any] = {}
    _walk(value, path, found, set(), 0)
    return found


def _walk(value: Any, path: str, found: dict[str, Any], seen: set[int], depth: int) -> None:
    if is_leaf(value):
        found[path] = value
        return
    if depth > DEEPEST or id(value) in seen:
        return
    items = _items(value)
    if items:
        seen = seen | {id(value)}
        for name, inner in items:
            _walk(inner, f"{path}.{name}" if path else name, found, seen, depth + 1)


def is_leaf(value: Any) -> bool:
    """Whether it is an array, a float, or a nested list of numbers with a float in it."""
    if isinstance(value, (np.ndarray, float, np.floating)):
        return True
    if not isinstance(value, (list, tuple)) or not value:
        return False
    first: Any = cast("list[Any]", value)
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if not isinstance(first, (int, float)) or hasattr(value, "_fields"):
        return False
    try:
        return bool(np.asarray(value).dtype.kind == "f")
    except ValueError:
        return False


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in cast("Mapping[Any, Any]", value).items()]
    if isinstance(value, (list, tuple)):
        return [(str(number), inner) for number, inner in enumerate(cast("list[Any]", value))]
    if isinstance(value, (str, bytes, int, type)) or callable(value) or value is None:
        return []
    inside = getattr(value, "__dict__", None)
    return [(str(key), inner) for key, inner in inside.items()] if isinstance(inside, dict) else []


def opened(value: Any, depth: int = 0) -> Any:
    """The same containers, with functions replaced by what they remember: some keep their cache in closures.

    Args:
        value: a cache.
        depth: how many containers it lies in.

    Example:
        >>> def layer(x):
        ...     return lambda dy: dy * x
        >>> opened([layer(2.0)])
        [{'x': 2.0}]
    """
    if depth > DEEPEST or is_leaf(value):
        return value
    if isinstance(value, Mapping):
        return {key: opened(part, depth + 1) for key, part in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [opened(part, depth + 1) for part in cast("list[Any]", value)]
    code, cells = getattr(value, "__code__", None), getattr(value, "__closure__", None)
    if code is None:
        return value
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, cells or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            found[name] = opened(cell.cell_contents, depth + 1)
    return found


def replaced(value: Any, new: Mapping[str, Any], path: str = "") -> Any:
    """The same containers with other arrays at the given places; all else is copied.

    Args:
        value: as for `leaves`.
        new: place to array or float.
        path: what the places begin with.
    """
    if path in new and is_leaf(value):
        if isinstance(value, (list, tuple)):
            return type(value)(new[path].tolist())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return float(new[path]) if isinstance(value, float) else new[path]

    def inner(name: Any, part: Any) -> Any:
        return replaced(part, new, f"{path}.{name}" if path else str(name))

    return _rebuilt(value, inner)


def _rebuilt(value: Any, inner: Callable[[Any, Any], Any]) -> Any:
    if isinstance(value, dict):
        made = copy.copy(cast("dict[Any, Any]", value))
        made.update({key: inner(key, part) for key, part in made.items()})
        return made
    if isinstance(value, list):
        return [inner(number, part) for number, part in enumerate(cast("list[Any]", value))]
    if isinstance(value, tuple):
        parts = [inner(number, part) for number, part in enumerate(cast("tuple[Any, ...]", value))]
        make = getattr(type(value), "_make", None)
        return make(parts) if make is not None else tuple(parts)
    inside = getattr(value, "__dict__", None)
    if isinstance(inside, dict) and not callable(value) and not isinstance(value, type):
        made = copy.copy(value)
        made.__dict__.update({key: inner(key, part) for key, part in cast("dict[str, Any]", inside).items()})
        return made
    return copied(value)


def stacks(value: Any) -> list[Array]:
    """Arrays in a value; those of one shape in one container also as one, and without their ends.

    Recurrent networks keep their states so: step by step, and with one before the first.
    """
    found = leaves(value)
    groups: dict[tuple[str, tuple[int, ...]], list[Array]] = {}
    arrays: list[Array] = []
    for path, leaf in found.items():
        array = np.asarray(leaf)
        arrays.append(array)
        if array.ndim:
            groups.setdefault((path.rpartition(".")[0], array.shape), []).append(array)
    arrays += [np.stack(group) for group in groups.values() if len(group) > 1]
    whole = [array for array in arrays if array.ndim > 1]
    arrays += [array[1:] for array in whole] + [array[:-1] for array in whole]
    arrays += [array[:, 1:] for array in whole] + [array[:, :-1] for array in whole]
    arrays += [array[-1] for array in whole] + [array[:, -1] for array in whole if array.ndim > 2]
    return arrays


def copied(value: Any) -> Any:
    """A deep copy, or the thing itself where Python cannot copy it."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  (a user's object may refuse in any way; it is then shared)
        return value
