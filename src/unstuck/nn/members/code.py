# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Writing code: memory of vectors, loops, and the sums of products that layers are made of."""

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from unstuck.nn.kernels import vectors
from unstuck.nn.members.lanes import Lanes, Whole, formula, number

INT = ir.IntType(64)
UNROLLED = 64
"""Up to so many products are written one by one; more become loops over tiles."""
ROWS = 4
SAMPLES = 2
"""A tile: that many outputs of so many samples are summed at a time."""

Index = Any
"""A Python number, known while code is written, or an LLVM value, known when it runs."""


class Code:
    """One function under construction."""

    def __init__(self, module: Any, name: str, arguments: list[Any], kind: Any) -> None:
        self.kind = kind
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        for argument in self.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.whole = Whole(kind.width)
        self.scalar = kind.llvm.element
        self.align = kind.scalar.bitwidth // 8

    # ---- numbers

    def number(self, value: float) -> Lanes:
        """The same number in every lane."""
        return number(self.builder, self.kind, value)

    def formula(self, function: Any) -> Any:
        """A formula of the kernels that writes its instructions here."""
        return formula(function, self.builder, self.kind)

    def fma(self, x: Lanes, y: Lanes, z: Lanes) -> Lanes:
        """x*y + z, rounded once."""
        return x._with(vectors.fused(self.builder, self.kind.llvm, x.value, y.value, z.value))

    def integer(self, value: Index) -> Any:
        """An index as an LLVM value."""
        return INT(value) if isinstance(value, int) else value

    def place(self, base: Index, *steps: tuple[Index, int]) -> Index:
        """Base + sum of index times stride; a Python number as long as all are."""
        total = base
        for index, stride in steps:
            if isinstance(total, int) and isinstance(index, int):
                total += index * stride
            else:
                moved = self.builder.mul(self.integer(index), INT(stride))
                total = self.builder.add(self.integer(total), moved)
        return total

    # ---- memory

    def load(self, pointer: Any, index: Index) -> Lanes:
        """Vector number `index` behind a pointer to scalars."""
        value = self.builder.load(self._address(pointer, index), align=self.align)
        return Lanes(self.builder, value, self.kind)

    def store(self, pointer: Any, index: Index, value: Lanes) -> None:
        """Write vector number `index`."""
        self.builder.store(value.value, self._address(pointer, index), align=self.align)

    def spread(self, pointer: Any, index: Index) -> Lanes:
        """The scalar number `index` behind a pointer, in every lane."""
        scalar = self.builder.load(self.builder.gep(pointer, [self.integer(index)]))
        return Lanes(self.builder, vectors.spread(self.builder, self.kind.llvm, scalar), self.kind)

    def room(self, count: int) -> Any:
        """Memory for so many vectors, on the stack; registers where every index is known."""
        kind = ir.ArrayType(self.kind.llvm, count)
        slot = cgutils.alloca_once(self.builder, kind)
        return self.builder.bitcast(slot, self.scalar.as_pointer())

    def _address(self, pointer: Any, index: Index) -> Any:
        whole = self.builder.bitcast(pointer, self.kind.llvm.as_pointer())
        return self.builder.gep(whole, [self.integer(index)])

    # ---- flow

    def each(self, count: Index, body: Callable[[Index], None], *, unrolled: bool = False) -> None:
        """Write the body for 0, 1, ... count - 1: once as a loop, or `count` times."""
        if unrolled:
            for i in range(count):
                body(i)
            return
        with cgutils.for_range(self.builder, self.integer(count), intp=INT) as loop:
            body(loop.index)

    # ---- sums of products

    def contract(
        self,
        rows: int,
        inner: int,
        samples: int,
        weight: Callable[[Index, Index], Lanes],
        value: Callable[[Index, Index], Lanes],
        start: Callable[[Index], Lanes] | None,
        result: Callable[[Index, int, Lanes], None],
    ) -> None:
        """result(r, s) = start(r) + sum over k of weight(r, k) value(s, k).

        A few products: written out, from four on in two sums of every other term, which halves the wait for
        additions.
        Many: loops over tiles of ROWS x SAMPLES sums.
        """
        if rows * inner * samples <= UNROLLED:
            for r, s in itertools.product(range(rows), range(samples)):
                sums = [] if start is None else [start(r)]
                for k in range(inner):
                    w, x = weight(r, k), value(s, k)
                    turn = k % 2 if inner >= 4 else 0
                    if turn == len(sums):
                        sums.append(w * x)
                    else:
                        sums[turn] = self.fma(w, x, sums[turn])
                result(r, s, sums[0] if len(sums) == 1 else sums[0] + sums[1])
            return
        for s in range(0, samples, SAMPLES):
            group = range(s, min(s + SAMPLES, samples))

            def tiles(r: Index, group: range = group, step: int = ROWS) -> None:
                first = self.place(0, (r, step))
                self._tile(
                    [self.place(first, (i, 1)) for i in range(step)],
                    inner,
                    group,
                    weight,
                    value,
                    start,
                    result,
                )

            self.each(rows // ROWS, tiles)
            for r in range(rows // ROWS * ROWS, rows):
                self._tile([r], inner, group, weight, value, start, result)

    def _tile(
        self, rows: list[Index], inner: int, group: range, weight: Any, value: Any, start: Any, result: Any
    ) -> None:
        sums = [[cgutils.alloca_once(self.builder, self.kind.llvm) for _ in group] for _ in rows]
        for row, r in zip(sums, rows, strict=True):
            for slot in row:
                begin = self.number(0.0) if start is None else start(r)
                self.builder.store(begin.value, slot)

        def add(k: Index) -> None:
            xs = [value(s, k) for s in group]
            for row, r in zip(sums, rows, strict=True):
                w = weight(r, k)
                for slot, x in zip(row, xs, strict=True):
                    old = Lanes(self.builder, self.builder.load(slot), self.kind)
                    self.builder.store(self.fma(w, x, old).value, slot)

        self.each(inner, add)
        for row, r in zip(sums, rows, strict=True):
            for slot, s in zip(row, group, strict=True):
                result(r, s, Lanes(self.builder, self.builder.load(slot), self.kind))
