# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""The two functions that train many members of one network: `steps` and `test`.

A block is the memory of as many members as a vector has lanes: vectors of

    parameters and buffers | momentum | -learning rate | momentum's factor | weight decay

so that members differ in all of these. What a program is written for stands in a `Design`.
"""

from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils

from unstuck.nn.kernels import vectors
from unstuck.nn.kernels.vectors import Vector
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.members import losses, order
from unstuck.nn.members.code import INT, Code, Index
from unstuck.nn.members.design import Design
from unstuck.nn.members.lanes import Lanes, chosen, widened
from unstuck.nn.members.layers import Operation, Parameter, Values, operation_of

FEW = 32
"""Losses of up to so many batches are added up in the network's own type: rounding costs 1e-6 at most."""
TEST_FIELDS = 4
LOSS, SQUARES, RIGHT, DEAD = range(TEST_FIELDS)
"""Rows of what `test` writes: sums over all samples of the loss, the squared error and the right answers;
1 where an output or a whole layer of ReLU is inactive on all samples."""


def write(design: Design) -> str:
    """The program as LLVM's text: the functions `steps` and `test`.

    steps(block, inputs, targets, order, keys, losses, sums, place, count)
        trains `count` batches from batch number `place` of an epoch on; `losses` gets a vector for each, the
        sum of the batch's losses before its update; `sums` a vector of float64 for each epoch that ends, and
        one more: the sum of all; `order` is room for the shuffled order (samples vectors
        of int64), `keys` as `order.write_shuffle` wants it.
    test(block, inputs, targets, labels, out)
        evaluates all samples; `out` gets TEST_FIELDS vectors of float64.
    """
    module = ir.Module("members")
    kind = Vector(types.float32 if design.single else types.float64, design.width)
    _write_steps(module, design, kind)
    _write_test(module, design, kind)
    # vectors that do not fit the registers must not straddle cache lines; llvmlite cannot say so itself
    return str(module).replace(")\n{", ") alignstack(64)\n{")


def _write_steps(module: Any, design: Design, kind: Any) -> None:
    scalar, whole, double = kind.llvm.element.as_pointer(), INT.as_pointer(), ir.DoubleType().as_pointer()
    code = Code(module, "steps", [scalar, scalar, scalar, whole, whole, scalar, double, INT, INT], kind)
    block, inputs, targets, orders, keys, written, sums, place, count = code.function.args
    builder = code.builder
    epoch_loss, whole_loss = Sum(code, wide=design.steps_per_epoch > FEW), Sum(code)
    passed, at = cgutils.alloca_once_value(builder, INT(0)), cgutils.alloca_once_value(builder, place)
    if design.shuffle:
        order.write_shuffle(code, orders, design.samples, keys, builder.load(passed))

    def source(first: Index, s: int) -> "Source":
        position = code.place(first, (s, 1))
        lane_samples = order.load_order(code, orders, position) if design.shuffle else None
        return Source(code, inputs, targets, position, lane_samples, design)

    def batch(first: Index, size: int, step: Index) -> None:
        total = Batch(code, design, block).train([source(first, s) for s in range(size)])
        code.store(written, step, total)
        epoch_loss.add(total)

    whole_batches, rest = divmod(design.samples, design.batch)

    def step(k: Index) -> None:
        now = builder.load(at)
        first = builder.mul(now, INT(design.batch))
        if rest and whole_batches:
            with builder.if_else(builder.icmp_signed("==", now, INT(whole_batches))) as (last, other):
                with last:
                    batch(first, rest, k)
                with other:
                    batch(first, design.batch, k)
        else:
            batch(first, rest or design.batch, k)
        builder.store(builder.add(now, INT(1)), at)
        with code.when(builder.icmp_signed("==", builder.load(at), INT(design.steps_per_epoch))):
            builder.store(INT(0), at)
            epoch_loss.write(sums, builder.load(passed))
            whole_loss.take(epoch_loss)
            builder.store(builder.add(builder.load(passed), INT(1)), passed)
            if design.shuffle:
                order.write_shuffle(code, orders, design.samples, keys, builder.load(passed))

    code.each(count, step)
    whole_loss.take(epoch_loss)
    whole_loss.write(sums, builder.load(passed))
    builder.ret_void()


def _write_test(module: Any, design: Design, kind: Any) -> None:
    scalar, double = kind.llvm.element.as_pointer(), ir.DoubleType().as_pointer()
    code = Code(module, "test", [scalar, scalar, scalar, scalar, double], kind)
    block, inputs, targets, labels, out = code.function.args
    builder = code.builder
    sums = [Sum(code) for _ in (LOSS, SQUARES, RIGHT)]
    silence = Silence(code, design)

    def sample(k: Index) -> None:
        values = Batch(code, design, block).forward([Source(code, inputs, targets, k, None, design)])
        silence.hear(values)
        z = [values[-1].get(0, u) for u in range(design.units[-1])]
        target = Source(code, inputs, targets, k, None, design).target
        sums[LOSS].add(losses.value(code, design.loss, z, target))
        sums[SQUARES].add(losses.squared_error(code, design.loss, z, target))
        hit = losses.right(code, design.loss, z, code.spread(labels, k))
        sums[RIGHT].add(chosen(hit, code.number(1.0), code.number(0.0)))

    code.each(design.samples, sample)
    dead = Sum(code)
    dead.add(silence.dead())
    for row, total in enumerate((*sums, dead)):
        total.write(out, row)
    builder.ret_void()


class Sum:
    """A sum in every lane, in float64 or (of a few numbers) in the network's own type."""

    def __init__(self, code: Code, *, wide: bool = True) -> None:
        self._code = code
        self._zero = code.number(0.0)
        if wide:
            self._zero = widened(self._zero)
        self._slot = cgutils.alloca_once_value(code.builder, self._zero.value)

    @property
    def _now(self) -> Lanes:
        return self._zero._with(self._code.builder.load(self._slot))

    def add(self, value: Lanes) -> None:
        """Add a vector."""
        term = value if value.kind == self._zero.kind else widened(value)
        self._code.builder.store((self._now + term).value, self._slot)

    def take(self, other: "Sum") -> None:
        """Add another sum, and make that 0."""
        self.add(other._now)
        self._code.builder.store(other._zero.value, other._slot)

    def write(self, out: Any, row: Index) -> None:
        """Store it in a row of float64 vectors."""
        builder, value = self._code.builder, widened(self._now).value
        place = builder.gep(builder.bitcast(out, value.type.as_pointer()), [self._code.integer(row)])
        builder.store(value, place, align=8)


class Source:
    """One sample of the batch: its inputs and targets, the same in all lanes or each lane's own."""

    def __init__(
        self, code: Code, inputs: Any, targets: Any, position: Index, lane_samples: Any, design: Design
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
        builder, width = code.builder, code.kind.width
        indices = builder.mul(self._lane_samples, ir.Constant(code.whole.llvm, [size] * width))
        indices = builder.add(indices, ir.Constant(code.whole.llvm, [column] * width))
        return Lanes(builder, order.gather(code, pointer, indices, code.scalar), code.kind)


class Batch:
    """One batch of all members in a block."""

    def __init__(self, code: Code, design: Design, block: Any) -> None:
        self.code, self.design, self.block = code, design, block
        self.operations = self._operations()
        self.scale = 1.0
        """What the updates multiply gradients by; only where a step is `plain`."""
        self.by_input = False

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
        """SGD as in `kernels/update.py`, on one parameter of every member."""
        code, block, design = self.code, self.block, self.design
        w = code.load(block, place)
        down, keep, decay = (code.load(block, 2 * design.size + row) for row in range(3))
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
            value = losses.value(code, design.loss, z, source.target)
            total = total + value
            ds, factor = losses.slopes(code, design.loss, z, source.target)
            factor *= design.scale / count
            if design.plain:
                self.scale = factor
            for u, d in enumerate(ds):
                deltas[-1].set(s, u, d if design.plain else d * code.number(factor))
        first = next((i for i, (_, layer) in enumerate(design.layers) if layer.parameters()), None)
        for i in reversed(range(len(self.operations))):
            if first is not None and i > first:
                self.operations[i].backward(values[i], values[i + 1], deltas[i + 1], deltas[i])
        for i, operation in enumerate(self.operations):
            self.by_input = design.units[i] < design.units[i + 1]
            operation.update(values[i], deltas[i + 1])
        return total


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
