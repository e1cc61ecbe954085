# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""The two functions that train many members of one network: `steps` and `test`.

A block is the memory of as many members as a vector has lanes: vectors of

    parameters and buffers | momentum, or Adam's m and v
    | -learning rate | momentum's factor | weight decay | steps made

so that members differ in all of these. What a program is written for stands in a `Design`.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from unstuck.nn.kernels.vectors import Vector
from unstuck.nn.members import losses, order
from unstuck.nn.members.batch import Batch, Source
from unstuck.nn.members.code import INT, Code, Index
from unstuck.nn.members.design import Design
from unstuck.nn.members.lanes import Lanes, chosen, widened
from unstuck.nn.members.silence import Silence

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
        with builder.if_then(builder.icmp_signed("==", builder.load(at), INT(design.steps_per_epoch))):
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
        source = Source(code, inputs, targets, k, None, design)
        values = Batch(code, design, block).forward([source])
        silence.hear(values)
        z = [values[-1].get(0, u) for u in range(design.units[-1])]
        sums[LOSS].add(losses.value(code, design.loss, z, source.target))
        sums[SQUARES].add(losses.squared_error(code, design.loss, z, source.target))
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
