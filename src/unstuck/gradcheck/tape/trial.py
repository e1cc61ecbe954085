"""One mistake to try: other rules for some steps of a forward pass that was written down."""

from collections.abc import Callable
from dataclasses import dataclass

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
