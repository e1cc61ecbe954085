"""Writes down what a forward pass does, step by step, with where in the user's code each step was made."""

import functools
import inspect
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.tape.record import Again, Edge, Parts, Place, Pull, Record
from unstuck.gradcheck.tape.rules import PARTIALS, partials
from unstuck.gradcheck.tree import Array

MOST, SECONDS = 20_000, 4.0
"""Steps, and time, after which writing down is given up: then other ways have to do."""
DEEPEST = 12
LARGEST = 2e6
"""More parts of a gradient are not looked at one by one."""
_LIBRARIES = ("/numpy/", "/scipy/")
"""In whose files no line is the user's."""
_HERE = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parents[1])


class Tape:
    """All steps of one forward pass. Numbers 1.. stand for entries; 0 for what depends on no tensor."""

    def __init__(self, *, apart: bool = False) -> None:
        self.apart = apart
        """Whether repeating entries and putting arrays together are steps of their own."""
        self.records: list[Record] = []
        self.leaves: dict[str, Array] = {}
        """Tensor to the numbers of its entries."""
        self.compared: list[tuple[Array, Array]] = []
        """Entries that were asked which of them is larger: numbers of the ones, and of the others."""
        self.gradients = np.zeros(0)
        """Of all entries, in the backward pass that is under way."""
        self.shapes: dict[int, set[tuple[int, ...]]] = {}
        """Number of a result's first entry to the shapes to which all of it was reshaped."""
        self.lost: list[tuple[int, Array]] | None = None
        """Steps that took the place of others' entries: step, and the numbers of these; None: not noted."""
        self.assembled: dict[int, tuple[tuple[str, int], Any]] = {}
        """Arrays to which something was assigned where that is noted: the line, and the array."""
        self.count = 1
        self.label = ""
        """Of which larger step, such as a variance, the next steps are part."""
        self._end = time.process_time() + SECONDS

    def leaf(self, name: str, value: Array) -> Array:
        """Numbers for the entries of a tensor."""
        self.leaves[name] = self._new(value)
        return self.leaves[name].copy()

    def _new(self, value: Array) -> Array:
        ids = np.arange(self.count, self.count + value.size).reshape(value.shape)
        self.count += value.size
        return ids

    def owner(self, ids: Array) -> str:
        """The tensor that all of these are entries of, or nothing."""
        if not ids.size:
            return ""
        low, high = int(ids.min()), int(ids.max())
        for name, own in self.leaves.items():
            if own.size and low >= int(own.flat[0]) and high <= int(own.flat[-1]):
                return name
        return ""

    def write(
        self,
        name: str,
        value: Array,
        edges: list[Edge],
        again: Again | None = None,
        operands: Sequence[Array] = (),
    ) -> Array:
        """Write a step down, and give the numbers of what it made."""
        if len(self.records) >= MOST or time.process_time() > self._end:
            raise UnstuckError("the forward pass is too long to be written down")
        ids = self._new(value)
        step = f"{self.label}{name}"
        place, first = Place(calls(), step), int(ids.flat[0])
        number = len(self.records)
        record = Record(number, place, name, first, value.copy(), edges, again, operands)
        self.records.append(record)
        return ids

    def shaped(self, ids: Array) -> None:
        """Note the shape to which all of one result was brought, in its order."""
        low = int(ids.flat[0]) if ids.ndim > 1 and ids.size else 0
        if low and int(ids.flat[-1]) - low == ids.size - 1 and (np.diff(ids.reshape(-1)) == 1).all():
            self.shapes.setdefault(low, set()).add(ids.shape)

    def compare(self, one: Array, two: Array) -> None:
        """Note that entries were compared with each other."""
        one, two = np.broadcast_arrays(one, two)
        both = (one > 0) & (two > 0)
        if both.any() and len(self.compared) < MOST:
            self.compared.append((one[both], two[both]))

    def elementwise(
        self, name: str, values: Sequence[Array], ids: Sequence[Array], result: Array
    ) -> Array | None:
        """A function of NumPy that works entry by entry; None: its derivative is not known here."""
        if name not in PARTIALS:
            return None
        result = result.copy()  # what was made may be overwritten in place
        edges = [
            Edge(
                own,
                value,
                _scaled(name, number, values, result, partial, value.shape),
                _each(partial, value.shape),
                number,
            )
            for number, (own, value, partial) in enumerate(
                zip(ids, values, partials(name, values, result), strict=True)
            )
            if own.any()
        ]
        function = getattr(np, name, None)
        again = _anew(function, values) if function is not None else None
        return self.write(name, result, edges, again, values)

    def contract(
        self, left: str, right: str, out: str, values: Sequence[Array], ids: Sequence[Array]
    ) -> tuple[Array, Array]:
        """A product that sums over letters, as einsum has it: the result, and its numbers."""
        result = np.asarray(einsum(left, right, out, values[0], values[1]), order="C")
        edges: list[Edge] = []
        for own, other, mine, its in ((0, 1, left, right), (1, 0, right, left)):
            if ids[own].any():
                pull = _contracted(mine, its, out, values[own].shape, values[other])
                parts = _apart(mine, its, out, values[other])
                edges.append(Edge(ids[own], values[own], pull, parts, own, values[other]))
        again = _anew(functools.partial(einsum, left, right, out), values)
        return result, self.write("product", result, edges, again, values)


def _anew(function: Callable[..., Any], values: Sequence[Array]) -> Again:
    """The same function of operands of which some are others."""

    def again(others: dict[int, Array]) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*(others.get(slot, value) for slot, value in enumerate(values))))

    return again


def einsum(left: str, right: str, out: str, a: Array, b: Array) -> Array:
    """Einsum of two operands; large ones by matrix products."""
    return np.einsum(f"{left},{right}->{out}", a, b, optimize=a.size * b.size > 1 << 16)


def _contracted(mine: str, its: str, out: str, shape: tuple[int, ...], other: Array) -> Pull:
    sizes = dict(zip(mine, shape, strict=True))
    alone = [letter for letter in mine if letter not in its and letter not in out]
    there = "".join(letter for letter in mine if letter not in alone)

    def pull(dy: Array, instead: Array | None) -> Array:
        found = einsum(out, its, there, dy, other if instead is None else instead)
        if alone:
            found = np.expand_dims(found, tuple(mine.index(letter) for letter in alone))
            found = np.broadcast_to(found, tuple(sizes[letter] for letter in mine))
        return found

    return pull


def _scaled(
    name: str,
    number: int,
    values: Sequence[Array],
    result: Array,
    partial: Array | float,
    shape: tuple[int, ...],
) -> Pull:
    def pull(dy: Array, instead: Array | None) -> Array:
        factor = partial
        if instead is not None and len(values) == 2:
            moved = [values[0], instead] if number == 0 else [instead, values[1]]
            factor = partials(name, moved, result)[number]
        return unbroadcast(dy * factor, shape)

    return pull


def _apart(mine: str, its: str, out: str, other: Array) -> Parts:
    extra = "".join(letter for letter in out if letter not in mine)

    def parts(dy: Array) -> Array | None:
        if set(mine) - set(its) - set(out) or not extra:
            return None
        sizes = {**dict(zip(out, dy.shape, strict=True)), **dict(zip(its, other.shape, strict=True))}
        if np.prod([sizes[letter] for letter in extra + mine], dtype=float) > LARGEST:
            return None
        return einsum(out, its, extra + mine, dy, other)

    return parts


def _each(partial: Array | float, shape: tuple[int, ...]) -> Parts:
    def parts(dy: Array) -> Array | None:
        full = np.broadcast_to(dy * partial, dy.shape)
        own = (1,) * (full.ndim - len(shape)) + shape
        extra = [axis for axis, size in enumerate(own) if size == 1 and full.shape[axis] > 1]
        if not extra or full.size > LARGEST:
            return None
        rest = [axis for axis in range(full.ndim) if axis not in extra]
        lead = [full.shape[axis] for axis in extra]
        return full.transpose(extra + rest).reshape(*lead, *shape)

    return parts


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Summed over axes along which an operand of this shape was repeated."""
    extra = gradient.ndim - len(shape)
    if extra:
        gradient = gradient.sum(axis=tuple(range(extra)))
    axes = tuple(k for k, size in enumerate(shape) if size == 1 and gradient.shape[k] > 1)
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient


def calls() -> tuple[tuple[str, int, int], ...]:
    """The user's calls on the way here, innermost first."""
    frame = inspect.currentframe()
    found: list[tuple[str, int, int]] = []
    while frame is not None and len(found) < DEEPEST:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE) and not file.startswith(_HERE):
            break
        foreign = file.startswith((_HERE, "<__array")) or any(part in file for part in _LIBRARIES)
        if not foreign:
            found.append((file, frame.f_lineno, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def matmul_letters(a: Array, b: Array) -> tuple[str, str, str]:
    """Letters of a matrix product of two arrays whose leading axes are alike."""
    if a.ndim == 1 and b.ndim == 1:
        return "k", "k", ""
    if a.ndim == 1:
        lead = _LETTERS[14 : 14 + b.ndim - 2]
        return "k", f"{lead}kj", f"{lead}j"
    if b.ndim == 1:
        lead = _LETTERS[14 : 14 + a.ndim - 2]
        return f"{lead}ik", "k", f"{lead}i"
    lead = _LETTERS[14 : 14 + max(a.ndim, b.ndim) - 2]
    return (
        f"{lead[len(lead) - a.ndim + 2 :]}ik",
        f"{lead[len(lead) - b.ndim + 2 :]}kj",
        f"{lead}ij",
    )


def fresh(used: str) -> str:
    """A letter that is not used."""
    return next(itertools.filterfalse(set(used).__contains__, _LETTERS))
