# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""A layer in the code of one small batch of many members, and the values that stand between layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unstuck.nn.kernels import softmax as softmax_kernel
from unstuck.nn.layers.layer import Layer
from unstuck.nn.members.code import UNROLLED, Code, Index
from unstuck.nn.members.lanes import Lanes


class Values:
    """One number for each member, sample of the batch and unit: (samples, units) vectors."""

    def __init__(self, code: Code, samples: int, units: int) -> None:
        self.code, self.samples, self.units = code, samples, units
        self._memory = code.room(samples * units)

    def get(self, sample: Index, unit: Index) -> Lanes:
        """One vector."""
        return self.code.load(self._memory, self.code.place(0, (sample, self.units), (unit, 1)))

    def set(self, sample: Index, unit: Index, value: Lanes) -> None:
        """Write one vector."""
        self.code.store(self._memory, self.code.place(0, (sample, self.units), (unit, 1)), value)

    def each(self, body: Callable[[int, Index], None]) -> None:
        """The body for every sample and unit."""
        few = self.samples * self.units <= UNROLLED // 4

        def unit(u: Index) -> None:
            for s in range(self.samples):
                body(s, u)

        self.code.each(self.units, unit, unrolled=few)


Update = Callable[[Index, list[Lanes], list[Lanes] | None], None]
"""Write the update of one number of a parameter (its place in the tensor), whose gradient is a sum over the
samples: of the first list, or of the products of both."""


@dataclass(frozen=True)
class Parameter:
    """A parameter tensor in a member block: its first vector, and how it is trained."""

    offset: int
    update: Update | None
    """None: it is frozen."""


Parameters = dict[str, Parameter]


class Operation:
    """A layer in the code of one batch."""

    def __init__(self, code: Code, layer: Layer, block: Any, parameters: Parameters) -> None:
        self.code, self.layer, self.block, self.parameters = code, layer, block, parameters

    def forward(self, x: Values, y: Values) -> None:
        """Write y from x, while training."""
        raise NotImplementedError

    def evaluate(self, x: Values, y: Values) -> None:
        """Write y from x, while evaluating."""
        self.forward(x, y)

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        """Write dx from dy."""
        raise NotImplementedError

    def update(self, x: Values, dy: Values) -> None:
        """Write the updates of the parameters."""


def added(values: list[Lanes]) -> Lanes:
    """Sum of some vectors, from the first on."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def highest(code: Code, values: list[Lanes]) -> Lanes:
    """Largest of some vectors, lane by lane; NaN wins."""
    larger = code.formula(softmax_kernel.larger)
    top = values[0]
    for value in values[1:]:
        top = larger(value, top)
    return top
