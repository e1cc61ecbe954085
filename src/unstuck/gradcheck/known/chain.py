"""Recognised operations one after another: outputs, and gradients with or without slips."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unstuck.gradcheck.known.operation import Operation
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


@dataclass(frozen=True)
class Applied:
    """A slip in one operation of a chain; `size` is the number in it, where it has one."""

    at: int
    slip: str
    size: float = 0.0


@dataclass
class Pass:
    """A backward pass: the signal that enters each operation, and all gradients."""

    signals: list[Array]
    gradients: dict[str, Array] = field(default_factory=dict[str, Array])


class Chain:
    """Operations from x to y at one point."""

    def __init__(self, operations: list[Operation], values: Values, x: str) -> None:
        self.operations, self.values, self.x = operations, values, x
        self.states = [values[x]]
        for operation in operations:
            self.states.append(operation.forward(values, self.states[-1]))

    @property
    def y(self) -> Array:
        """The output."""
        return self.states[-1]

    def place(self, name: str) -> int:
        """The operation that a tensor belongs to; -1 for the input."""
        for number, operation in enumerate(self.operations):
            if name in operation.tensors:
                return number
        return -1

    def backward(self, dy: Array, applied: Mapping[int, Applied]) -> Pass:
        """All gradients.

        Args:
            dy: the gradient by y.
            applied: slips by operation.
        """
        first = applied.get(len(self.operations))
        signal = dy if first is None else dy * first.size
        made = Pass([np.empty(0)] * len(self.operations))
        for number in reversed(range(len(self.operations))):
            operation = self.operations[number]
            made.signals[number] = signal
            slip = applied.get(number)
            h, y = self.states[number], self.states[number + 1]
            name = "" if slip is None or slip.slip in {"times", "updated"} else slip.slip
            back, grads = operation.backward(self.values, h, y, signal, name)
            if slip is not None and slip.slip == "times":
                back = back * slip.size
            if slip is not None and slip.slip == "updated":
                back = back + slip.size * operation.backward(self.values, h, y, signal, "updated")[0]
            made.gradients.update(grads)
            signal = back
        made.gradients[self.x] = signal
        return made
