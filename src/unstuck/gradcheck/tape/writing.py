"""Runs a user's forward pass on arrays that write down what is done with them."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.gradcheck.subject import Subject, Values
from unstuck.gradcheck.tape.planes import followed
from unstuck.gradcheck.tape.tape import Tape
from unstuck.gradcheck.tape.traced import Traced, ids_of, plain, wrap
from unstuck.gradcheck.tree import Array

_OF_NUMBERS = ("exp", "log", "tanh", "sqrt", "log1p", "expm1", "sin", "cos", "sinh", "cosh", "pow", "fabs")
"""Of the module math, for code that computes with single numbers."""
_OF_LISTS = ("sum", "mean", "max", "min", "var", "std", "average", "prod", "dot")
"""Of NumPy, for lists of numbers, in which NumPy does not look for arrays of other classes."""


@dataclass
class Written:
    """A forward pass as it was written down."""

    tape: Tape
    y: Array
    ids: Array
    """Numbers of the output's entries."""
    drawn: bool = False
    """Whether it drew random numbers."""


def written(subject: Subject, values: Values, *, apart: bool = False) -> Written | None:
    """Write a forward pass down; None where nothing of it could be followed.

    Args:
        subject: what is checked.
        values: the point.
        apart: whether repeating entries and putting arrays together are steps of their own.
    """
    tape = Tape(apart=apart)
    tensors = {name: wrap(tape, np.array(value), tape.leaf(name, value)) for name, value in values.items()}
    try:
        with _creating(tape), np.errstate(all="ignore"):
            y = subject.on_these(tensors)
    except Exception:  # noqa: BLE001  (a user's code may not bear other arrays: then it is not followed)
        return None
    if isinstance(y, (list, tuple)) and _any(y):
        with _creating(tape):
            y = _stacked(tape, y)
    if isinstance(y, Traced):
        ids = np.array(ids_of(y))
        return Written(tape, np.array(plain(y)), ids, subject.random_used) if ids.any() else None
    for record in reversed(tape.records):  # as after float(loss)
        if record.value.size == np.size(y) and np.array_equal(record.value.reshape(np.shape(y)), y):
            return Written(tape, np.array(y), record.ids.reshape(np.shape(y)), subject.random_used)
    return None


@dataclass
class WrittenBack:
    """A forward pass and the user's own backward pass, on one tape."""

    tape: Tape
    first: int
    """Number of the first step of the backward pass."""
    dy: Array
    """Numbers of the entries of dy."""
    gradients: dict[str, tuple[Array, Array]]
    """The user's gradients: their entries, and the numbers of these."""


def written_back(subject: Subject, values: Values, dy: Array, *, apart: bool = False) -> WrittenBack | None:
    """Write both passes down; None where the backward pass cannot be followed."""
    tape = Tape(apart=apart)
    tensors = {name: wrap(tape, np.array(value), tape.leaf(name, value)) for name, value in values.items()}
    numbers = tape.leaf(" dy", dy)
    first: list[int] = []

    def between() -> None:
        first.append(len(tape.records))
        tape.lost = []

    try:
        with _creating(tape), np.errstate(all="ignore"):
            given = wrap(tape, dy.copy(), numbers)
            _, found = subject.both_on_these(tensors, given, between)
            gradients = {name: _stacked(tape, gradient) for name, gradient in found.items()}
    except Exception:  # noqa: BLE001  (a user's code may not bear other arrays: then it is not followed)
        return None
    made = {
        name: (np.array(plain(gradient), dtype=np.float64), np.array(ids_of(gradient)))
        for name, gradient in gradients.items()
    }
    return WrittenBack(tape, first[0], numbers, made)


@contextmanager
def _creating(tape: Tape) -> Generator[None]:
    """Arrays that are made empty, or of lists, can take up numbers too, while this lasts."""
    scalars = {name: getattr(math, name) for name in _OF_NUMBERS}
    blanks = {name: getattr(np, name) for name in ("zeros", "empty", "ones", "full")}
    copies = {name: getattr(np, name) for name in ("array", "asarray", "ascontiguousarray")}
    reducing = {name: getattr(np, name) for name in _OF_LISTS}
    tricks: Any = np.lib.stride_tricks
    strided = tricks.as_strided
    try:
        for name, function in blanks.items():
            setattr(np, name, _blank(tape, function))
        for name, function in copies.items():
            setattr(np, name, _taken(tape, function, copy=name == "array"))
        for name, function in reducing.items():
            setattr(np, name, _of_list(tape, function))
        for name, function in scalars.items():
            setattr(math, name, _of_numbers(name, function))
        tricks.as_strided = _strided(tape, strided)
        with followed():
            yield
    finally:
        tricks.as_strided = strided
        for name, function in scalars.items():
            setattr(math, name, function)
        for name, function in {**blanks, **copies, **reducing}.items():
            setattr(np, name, function)


def _blank(tape: Tape, make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        array = make(*args, **kwargs)
        if isinstance(array, Traced) or array.dtype.kind != "f":
            return array
        return wrap(tape, array.astype(np.float64, copy=False), np.zeros(array.shape, dtype=np.int64))

    return made


def _taken(tape: Tape, make: Callable[..., Any], *, copy: bool) -> Callable[..., Any]:
    def made(thing: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(thing, Traced):
            dtype = kwargs.get("dtype", args[0] if args else None)
            if dtype is not None and np.dtype(dtype).kind != "f":
                return make(plain(thing), *args, **kwargs)
            return thing.copy() if copy else thing
        if isinstance(thing, (list, tuple)) and _any(thing):
            return _stacked(tape, thing)
        return make(thing, *args, **kwargs)

    return made


def _of_list(tape: Tape, make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        seen = (
            _stacked(tape, part) if isinstance(part, (list, tuple)) and _any(part) else part for part in args
        )
        return make(*seen, **kwargs)

    return made


def _strided(tape: Tape, make: Callable[..., Any]) -> Callable[..., Any]:
    def made(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, Traced):
            return make(x, *args, **kwargs)
        values, ids = np.array(plain(x), order="C"), np.array(ids_of(x), order="C")
        return wrap(tape, plain(make(values, *args, **kwargs)), plain(make(ids, *args, **kwargs)))

    return made


def _of_numbers(name: str, plainly: Callable[..., Any]) -> Callable[..., Any]:
    function = getattr(np, {"fabs": "absolute", "pow": "power"}.get(name, name))

    def made(*args: Any) -> Any:
        return function(*args) if any(isinstance(part, Traced) for part in args) else plainly(*args)

    return made


def _any(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_any(part) for part in value)
    return isinstance(value, Traced)


def _stacked(tape: Tape, value: Any) -> Any:
    """Nested lists of traced arrays as one."""
    if isinstance(value, (list, tuple)):
        return np.stack([_stacked(tape, part) for part in value])
    if isinstance(value, Traced):
        return value
    array = np.asarray(value, dtype=np.float64)
    return array if isinstance(array, Traced) else wrap(tape, array, np.zeros(array.shape, dtype=np.int64))
