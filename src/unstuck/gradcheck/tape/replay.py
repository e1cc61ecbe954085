"""Runs a backward pass that was written down once more, with other rules at some of its steps."""

from collections.abc import Callable, Mapping

import numpy as np

from unstuck.gradcheck.tape.cuts import Cuts
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tree import Array

CLOSE = 1e-6
SMALL = 1e-3
"""Of the largest entry there is: less is noise."""
MOST_TENSORS = 60
Change = Callable[[Record, dict[int, Array], Array], Array]
"""(step, operands by slot, values of all entries) to the result."""


class Replay:
    """A backward pass that can be changed: unlike a slope, that tells what several changes do together."""

    def __init__(self, looked: Cuts) -> None:
        self.looked = looked
        tape = looked.back.tape
        self.steps = tape.records[looked.back.first :]
        self.values = np.zeros(tape.count)
        for record in tape.records:
            for edge in record.edges:
                self.values[edge.ids] = edge.value
        for record in tape.records:
            self.values[record.ids] = record.value
        self.values[0] = 0.0
        self.names = list(looked.back.gradients)
        self.reach = self._reach()
        self.taking = {r.number: [(e.slot, _taking(e)) for e in r.edges] for r in self.steps}
        self.before = {record.number: self._before(record) for record in self.steps}

    def _before(self, record: Record) -> frozenset[int]:
        """Steps of the backward pass whose results a step uses."""
        starts, first = self.looked.starts, self.looked.back.first
        found: set[int] = set()
        for edge in record.edges:
            ids = edge.ids[edge.ids >= starts[0]]
            found.update((np.unique(np.searchsorted(starts, ids, side="right")) - 1 + first).tolist())
        return frozenset(found)

    def _reach(self) -> dict[int, int]:
        """Step to the gradients that it has a part in, a bit for each."""
        bits = np.zeros(self.values.size, dtype=np.int64)
        for number, name in enumerate(self.names[:MOST_TENSORS]):
            bits[self.looked.back.gradients[name][1]] |= 1 << number
        bits[0] = 0
        found: dict[int, int] = {}
        for record in reversed(self.steps):
            own = int(np.bitwise_or.reduce(bits[record.ids], axis=None))
            found[record.number] = own
            for edge in record.edges if own else ():
                bits[edge.ids] |= own
            bits[0] = 0
        return found

    def mask(self, names: list[str]) -> int:
        """The bits of some gradients."""
        return sum(1 << number for number, name in enumerate(self.names[:MOST_TENSORS]) if name in names)

    def run(self, changes: Mapping[int, Change]) -> Array | None:
        """Values of all entries; None: what has to be made anew cannot be."""
        values, moved = self.values.copy(), set[int]()
        for record in self.steps[min(changes) - self.looked.back.first :]:
            change = changes.get(record.number)
            if change is None and moved.isdisjoint(self.before[record.number]):
                continue
            operands = {slot: take(values) for slot, take in self.taking[record.number]}
            if change is not None:
                result = change(record, operands, values)
            elif record.again is not None:
                result = record.again(operands)
            else:
                return None
            if result.shape != record.value.shape:
                return None
            values[record.first : record.first + record.value.size] = result.reshape(-1)
            moved.add(record.number)
        return values

    def repairs(self, changes: Mapping[int, Change]) -> bool:
        """Whether all gradients are right then."""
        try:
            with np.errstate(all="ignore"):
                values = self.run(changes)
        except (ValueError, IndexError):  # arrays that do not fit each other
            return False
        if values is None:
            return False
        for name, (found, ids) in self.looked.back.gradients.items():
            made = np.where(ids > 0, values[ids], found)
            right = self.looked.reverse.right[name]
            kept = self.looked.kept[name].reshape(-1) > 0
            gap = (made.reshape(-1) - right.reshape(-1))[kept]
            size = float(np.sqrt((right.reshape(-1)[kept] ** 2).sum()))
            if not float(np.sqrt((gap**2).sum())) <= CLOSE * max(size, SMALL * self.looked.size):
                return False
        return True


def _taking(edge: Edge) -> Callable[[Array], Array]:
    """Values of all entries to those of an operand."""
    ids, low = edge.ids, int(edge.ids.flat[0]) if edge.ids.size else 0
    if ids.all():
        if np.array_equal(ids.reshape(-1), np.arange(low, low + ids.size)):
            return lambda values: values[low : low + ids.size].reshape(ids.shape)
        return lambda values: values[ids]
    return lambda values: np.where(ids > 0, values[ids], edge.value)
