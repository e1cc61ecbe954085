"""Marks on the operations of the autograd graph: which module call made them.

A mark is kept in the operation's own `metadata`, so that it lives as long as the operation: holding the
operations themselves would keep whole graphs in memory.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

_NUMBERS = itertools.count()
MAX_CALLS = 8
"""Calls of one module without weights that are told apart in a step; of a layer, the first is measured."""


@dataclass(eq=False)
class Call:
    """One call of a module in a forward pass."""

    name: str
    """Of the node: the module's attribute path; with a number if a module without weights is used again."""
    module: Any
    type: str
    group: int
    """Number of the forward pass that it belongs to."""
    boundary: frozenset[int] | None
    """Marks of the operations that made its inputs; None when they cannot be told (it works in place)."""
    sources: tuple[str, ...]
    """Names of the calls that made its inputs, "input" for data."""
    shape: tuple[int, ...]
    """Of its output, with the batch axis."""
    traced: bool
    """Whether its output is part of the graph."""
    learns: bool
    """Whether it or anything before it has parameters that require a gradient."""


@dataclass(eq=False)
class Mark:
    """What is known of one operation of the graph."""

    number: int
    calls: list[Call] = field(default_factory=list[Call])
    """The call that it is the last operation of; further ones return their input as it is."""
    outermost: bool = False
    """Whether it makes the output of a whole model."""


class Marks:
    """Reads and writes the marks of one recorder."""

    def __init__(self) -> None:
        """Marks of its own, apart from those of other recorders."""
        self._key = f"unstuck.{next(_NUMBERS)}"
        self._next = itertools.count()

    def get(self, fn: Any) -> Mark | None:
        """The mark of an operation, if it has one."""
        return fn.metadata.get(self._key)

    def put(self, fn: Any) -> Mark:
        """The mark of an operation, made if it has none."""
        notes = fn.metadata
        mark = notes.get(self._key)
        if mark is None:
            mark = notes[self._key] = Mark(next(self._next))
        return mark

    def made_by_module(self, fn: Any) -> bool:
        """Whether it makes the output of a module's call."""
        mark = self.get(fn)
        return mark is not None and bool(mark.calls)

    def known(self, fn: Any) -> bool:
        """Whether it makes the output of a module's call or of a whole model."""
        mark = self.get(fn)
        return mark is not None and (bool(mark.calls) or mark.outermost)
