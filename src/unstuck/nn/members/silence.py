# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""Units that are silent on all data: what tells a dead network from one that is only stuck."""

from unstuck.nn.kernels import vectors
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.members.code import Code, Index
from unstuck.nn.members.design import Design
from unstuck.nn.members.lanes import Lanes, chosen
from unstuck.nn.members.operation import Values


class Silence:
    """Which units of ReLU layers have been 0 on every sample so far."""

    def __init__(self, code: Code, design: Design) -> None:
        self._code = code
        self._layers = [i for i, (_, layer) in enumerate(design.layers) if isinstance(layer, ReLU)]
        self._last = len(design.layers) - 1
        self._silent = {i: Values(code, 1, design.units[i + 1]) for i in self._layers}
        one = code.number(1.0)
        for values in self._silent.values():
            values.each(lambda s, u, values=values: values.set(s, u, one))

    def hear(self, values: list[Values]) -> None:
        """Take one sample's values into account."""
        code = self._code
        zero, equal = code.number(0.0), code.formula(vectors.equal)
        for i, silent in self._silent.items():
            heard = values[i + 1]

            def one(s: int, u: Index, silent: Values = silent, heard: Values = heard) -> None:
                silent.set(s, u, chosen(equal(heard.get(0, u), zero), silent.get(s, u), zero))

            silent.each(one)

    def dead(self) -> Lanes:
        """1 where all units of such a layer, or one of the network's outputs, are silent; else 0."""
        code = self._code
        greater, zero, one = code.formula(vectors.greater), code.number(0.0), code.number(1.0)
        dead = zero
        for i, silent in self._silent.items():
            total = zero
            for u in range(silent.units):
                total = total + silent.get(0, u)
            limit = 0.5 if i == self._last else silent.units - 0.5
            dead = chosen(greater(total, code.number(limit)), one, dead)
        return dead
