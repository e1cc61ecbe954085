"""One mistake to try: other rules for some steps of a forward pass that was written down."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tree import Array

Change = Callable[[Edge, Array], Array | None]
"""(operand, gradient by the result) to the gradient by the operand; None: none."""
FIRST, SECOND, THIRD, LAST = 1, 2, 3, 4
"""How typical a mistake is: where two give the same gradients, the more typical one is told."""
MOST_ALONE = 6
"""Of so many steps of one place each is also tried alone."""


@dataclass
class Trial:
    """One mistake to try."""

    kind: str
    text: str
    overrides: dict[int, Override]
    rank: int
    tensors: frozenset[str]
    """Whose gradients it may change."""
    fit: bool = False
    """Whether a factor of the gradient is to be found, which the overrides take for 0."""
    alike: str = ""
    """What it is, where the same is called otherwise elsewhere."""


def changed(change: Change, which: int | None = None) -> Override:
    """Another gradient by the operand of one slot, or by all."""

    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for edge in record.edges:
            if which is None or edge.slot == which:
                gradient = change(edge, dy)
                if gradient is not None:
                    passed.append((edge.ids, gradient))
            else:
                passed.append((edge.ids, edge.pull(dy, None)))
        return passed

    return override


def fullest(group: list[Record]) -> Record:
    """The step with the most operands; left out are constants, as a first state of zeros."""
    return max(group, key=lambda record: len(record.edges))


def cut(parts: list[tuple[int, Record]], times: float) -> Override:
    """What comes from some steps is multiplied with a number, by operand."""

    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for number, edge in enumerate(record.edges):
            gradient = edge.pull(dy, None)
            for cut, made in parts:
                if cut == number:
                    gradient = np.where(made.holds(edge.ids), times * gradient, gradient)
            passed.append((edge.ids, gradient))
        return passed

    return override
