# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""One small batch of many members: forward, backward and update, as code."""

import math
from typing import Any, cast

from unstuck.nn.kernels import functions, vectors
from unstuck.nn.members import losses, order
from unstuck.nn.members.code import Code, Index
from unstuck.nn.members.design import AdamRule, Design
from unstuck.nn.members.lanes import Lanes
from unstuck.nn.members.layers import operation_of
from unstuck.nn.members.operation import Operation, Parameter, Values


class Source:
    """One sample of the batch: its inputs and targets, the same in all lanes or each lane's own."""

    def __init__(
        self,
        code: Code,
        inputs: Any,
        targets: Any,
        position: Index,
        lane_samples: Lanes | None,
        design: Design,
    ) -> None:
        self._code, self._position, self._lane_samples = code, position, lane_samples
        self._inputs, self._targets = (inputs, design.units[0]), (targets, design.target_size)

    def input(self, feature: int) -> Lanes:
        """A feature."""
        return self._take(*self._inputs, feature)

    def target(self, o: int) -> Lanes:
        """A target."""
        return self._take(*self._targets, o)

    def _take(self, pointer: Any, size: int, column: int) -> Lanes:
        code = self._code
        if self._lane_samples is None:
            return code.spread(pointer, code.place(column, (self._position, size)))
        indices = self._lane_samples * size + column
        return Lanes(code.builder, order.gather(code, pointer, indices, code.scalar), code.kind)


class Batch:
    """One batch of all members in a block."""

    def __init__(self, code: Code, design: Design, block: Any) -> None:
        self.code, self.design, self.block = code, design, block
        self.operations = self._operations()
        self.scale = 1.0
        """What the updates multiply gradients by; only where a step is `plain`."""
        self.by_input = False
        self._correction: tuple[Lanes, Lanes] | None = None
        """Of Adam in this batch: what m and the root of v are multiplied by."""

    def _operations(self) -> list[Operation]:
        offsets, offset = dict[str, int](), 0
        for name, size in self.design.parameters:
            offsets[name] = offset
            offset += size
        operations = list[Operation]()
        for name, layer in self.design.layers:
            operation = cast("type[Operation]", operation_of(layer))
            own = {
                short: Parameter(offsets[f"{name}.{short}"], self._update(f"{name}.{short}", offsets))
                for short in layer.parameters()
            }
            own |= {short: Parameter(offsets[f"{name}.{short}"], None) for short in layer.buffers()}
            operations.append(operation(self.code, layer, self.block, own))
        return operations

    def _update(self, name: str, offsets: dict[str, int]) -> Any:
        if name in self.design.frozen:
            return None
        offset = offsets[name]

        def update(place: Index, ds: list[Lanes], xs: list[Lanes] | None) -> None:
            self._descend(self.code.place(offset, (place, 1)), ds, xs)

        return update

    def _descend(self, place: Index, ds: list[Lanes], xs: list[Lanes] | None) -> None:
        """SGD or Adam as in `kernels/update.py`, on one parameter of every member."""
        code, block, design = self.code, self.block, self.design
        w = code.load(block, place)
        down, keep, decay = (code.load(block, design.numbers_at + row) for row in range(3))
        down = down * code.number(self.scale)
        if design.plain:
            # w - lr scale (d0 x0 + d1 x1 + ...): the products with lr are the same for all that share a d or
            # an x, whichever are fewer, and are made once
            for s, d in enumerate(ds):
                if xs is None:
                    w = code.fma(down, d, w)
                elif self.by_input:
                    w = code.fma(d, down * xs[s], w)
                else:
                    w = code.fma(down * d, xs[s], w)
            code.store(block, place, w)
            return
        g = ds[0] if xs is None else ds[0] * xs[0]
        for s in range(1, len(ds)):
            g = g + ds[s] if xs is None else code.fma(ds[s], xs[s], g)
        if design.clip_value is not None:
            select, greater, less = (code.formula(f) for f in (vectors.select, vectors.greater, vectors.less))
            high, low = code.number(design.clip_value), code.number(-design.clip_value)
            g = select(greater(g, high), high, g)
            g = select(less(g, low), low, g)
        if design.adam is not None:
            code.store(block, place, self._adam(design.adam, place, g, w, (down, decay)))
            return
        if design.decay:
            g = code.fma(decay, w, g)
        step = g
        if design.momentum:
            held = code.place(design.size, (place, 1))
            step = code.fma(keep, code.load(block, held), g)
            code.store(block, held, step)
            if design.nesterov:
                step = code.fma(keep, step, g)
        code.store(block, place, code.fma(down, step, w))

    def _adam(self, rule: AdamRule, place: Index, g: Lanes, w: Lanes, numbers: tuple[Lanes, Lanes]) -> Lanes:
        """The parameter after a step of Adam or AdamW."""
        code, block, size = self.code, self.block, self.design.size
        down, decay = numbers
        if self.design.decay and rule.decoupled:
            w = w * code.fma(down, decay, code.number(1.0))
        elif self.design.decay:
            g = code.fma(decay, w, g)
        (b1, b2), (of_mean, of_root) = rule.betas, cast("tuple[Lanes, Lanes]", self._correction)
        mean_at, square_at = code.place(size, (place, 1)), code.place(2 * size, (place, 1))
        mean, square = code.load(block, mean_at), code.load(block, square_at)
        mean = code.fma(code.number(1.0 - b1), g - mean, mean)
        square = code.fma(code.number(1.0 - b2) * g, g, code.number(b2) * square)
        code.store(block, mean_at, mean)
        code.store(block, square_at, square)
        root = code.formula(vectors.square_root)(square) * of_root + code.number(rule.eps)
        return code.fma(down * of_mean, mean / root, w)

    def _count_step(self, rule: AdamRule) -> None:
        """One more step. The correction comes from their number alone, so that bits are the same anywhere."""
        code, place = self.code, self.design.numbers_at + 3
        one, root = code.number(1.0), code.formula(vectors.square_root)
        steps = code.load(self.block, place) + one
        code.store(self.block, place, steps)
        shares = [
            one if beta == 0 else code.number(0.0) - code.formula(functions.expm1)(steps * math.log(beta))
            for beta in rule.betas
        ]
        self._correction = one / shares[0], one / root(shares[1])

    def forward(self, sources: list[Source], *, training: bool = False) -> list[Values]:
        """Values of the input and of every layer."""
        count = len(sources)
        values = [Values(self.code, count, units) for units in self.design.units]
        for s, source in enumerate(sources):
            for feature in range(self.design.units[0]):
                values[0].set(s, feature, source.input(feature))
        for i, operation in enumerate(self.operations):
            (operation.forward if training else operation.evaluate)(values[i], values[i + 1])
        return values

    def train(self, sources: list[Source]) -> Lanes:
        """Forward, backward, update; the sum of the samples' losses before it."""
        code, design, count = self.code, self.design, len(sources)
        values = self.forward(sources, training=True)
        deltas = [Values(code, count, units) for units in design.units]
        total = code.number(0.0)
        for s, source in enumerate(sources):
            z = [values[-1].get(s, u) for u in range(design.units[-1])]
            total = total + losses.value(code, design.loss, z, source.target)
            ds, factor = losses.slopes(code, design.loss, z, source.target)
            factor *= design.scale / count
            if design.plain:
                self.scale = factor
            for u, d in enumerate(ds):
                deltas[-1].set(s, u, d if design.plain else d * code.number(factor))
        if design.adam is not None:
            self._count_step(design.adam)
        first = next((i for i, (_, layer) in enumerate(design.layers) if layer.parameters()), None)
        for i in reversed(range(len(self.operations))):
            if first is not None and i > first:
                self.operations[i].backward(values[i], values[i + 1], deltas[i + 1], deltas[i])
        for i, operation in enumerate(self.operations):
            self.by_input = design.units[i] < design.units[i + 1]
            operation.update(values[i], deltas[i + 1])
        return total
