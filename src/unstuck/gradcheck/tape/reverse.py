"""Gradients of a forward pass that was written down, right ones and ones with slips in them."""

from collections.abc import Callable, Mapping

import numpy as np

from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.writing import Written
from unstuck.gradcheck.tree import Array

Passed = list[tuple[Array, Array]]
"""Numbers of entries, and what is added to their gradients."""
Override = Callable[[Record, Array], Passed]


class Reverse:
    """The backward pass over a tape."""

    def __init__(self, made: Written, dy: Array) -> None:
        """Prepare.

        Args:
            made: the forward pass.
            dy: gradient by its output.
        """
        self.made, self.dy = made, dy
        self.right, self.signals = self._run({}, keep=True)

    def run(self, overrides: Mapping[int, Override]) -> dict[str, Array]:
        """All tensors' gradients with other rules at some steps."""
        return self._run(overrides, keep=False)[0]

    def _run(self, overrides: Mapping[int, Override], *, keep: bool) -> tuple[dict[str, Array], list[Array]]:
        tape = self.made.tape
        tape.gradients = sums = np.zeros(tape.count)
        add(sums, self.made.ids, self.dy.reshape(self.made.ids.shape))
        signals: list[Array] = []
        with np.errstate(all="ignore"):
            for record in reversed(tape.records):
                signal = sums[record.first : record.first + record.value.size].reshape(record.value.shape)
                if keep:
                    signals.append(signal.copy())
                override = overrides.get(record.number)
                if override is not None:
                    for ids, gradient in override(record, signal):
                        add(sums, ids, gradient)
                    continue
                if not signal.any():
                    continue
                for edge in record.edges:
                    add(sums, edge.ids, edge.pull(signal, None), edge)
        gradients = {name: sums[ids] for name, ids in tape.leaves.items()}
        return gradients, signals[::-1]


def add(sums: Array, ids: Array, gradient: Array, edge: Edge | None = None) -> None:
    """Add gradients to those of numbered entries, which may repeat."""
    if edge is not None and edge.once:
        sums[ids] += gradient
        return
    if ids.size * 20 < sums.size:
        np.add.at(sums, ids, gradient)
        return
    sums += np.bincount(ids.reshape(-1), np.broadcast_to(gradient, ids.shape).reshape(-1), sums.size)
