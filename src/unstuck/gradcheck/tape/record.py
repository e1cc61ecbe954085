"""What was written down of a forward pass: each step of its arithmetic, its operands and its result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from unstuck.gradcheck.tree import Array

Pull = Callable[[Array, Array | None], Array]
"""(gradient by the result, other operand's value or None for its own) to the gradient by this operand."""
Again = Callable[[dict[int, Array]], Array]
"""Operands by slot, where they are others than they were, to the result."""
Parts = Callable[[Array], Array | None]
"""Gradient by the result to what each sample or position adds to that by this operand: (..., operand)."""


GATHERED, JOINED = "gathered.", "joined."
"""Begin the name of a step that repeats entries, or puts arrays together, where that is a step."""
CONVOLVED = "convolved."
"""Begins the name of a step that convolves as a function of NumPy or SciPy does."""


class Place(NamedTuple):
    """Where in the user's code a step was made: the calls on the way to it, innermost first, and its name."""

    calls: tuple[tuple[str, int, int], ...]
    """File, line and instruction of each call."""
    step: str

    @property
    def line(self) -> tuple[str, int]:
        """File and line of the innermost call."""
        return self.calls[0][:2] if self.calls else ("", 0)


@dataclass(eq=False)
class Edge:
    """One operand of a step."""

    ids: Array
    """Number of every entry among all that were written down, in the operand's shape; 0: a constant."""
    value: Array
    pull: Pull
    parts: Parts | None = None
    slot: int = 0
    """Which operand of the step it is; one that is a constant is left out of the step's list."""
    other: Array | None = None
    """The other factor of a matrix product, which may be such a constant."""
    once: bool = field(init=False)
    """Whether no entry occurs twice."""

    def __post_init__(self) -> None:
        flat = self.ids.reshape(-1)
        self.once = flat.size < 2 or bool((np.diff(np.sort(flat)) > 0).all())

    @property
    def known(self) -> bool:
        """Whether anything of it depends on the tensors."""
        return bool(self.ids.any())


@dataclass(eq=False)
class Record:
    """One step: what it made of its operands."""

    number: int
    place: Place
    name: str
    first: int
    """Its entries have the numbers from here on, in the order of memory."""
    value: Array
    edges: list[Edge]
    again: Again | None = None
    """Makes the result anew; None: how, is not known."""
    operands: Sequence[Array] = ()
    """All of them, constants too, where they are kept."""

    @property
    def ids(self) -> Array:
        """Numbers of its entries, in its shape."""
        return np.arange(self.first, self.first + self.value.size).reshape(self.value.shape)

    def holds(self, ids: Array) -> Array:
        """Which of these numbers are its entries."""
        return (ids >= self.first) & (ids < self.first + self.value.size)
