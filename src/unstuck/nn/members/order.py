# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""The order of samples for many members: each lane shuffles by its own seed and epoch, all at a time.

The same order as `kernels/shuffle.py` gives one network: Fisher and Yates with words of Philox4x32-10.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from unstuck.nn.kernels import shuffle as kernels
from unstuck.nn.kernels import vectors
from unstuck.nn.members.code import INT, Code, Index
from unstuck.nn.members.lanes import Lanes, number


def write_shuffle(code: Code, order: Any, samples: int, keys: Any, passed: Any) -> None:
    """Write: fill `order` (samples vectors of whole numbers) for the epoch that each lane is in.

    Args:
        code: where to.
        order: pointer to int64, (samples, lanes).
        samples: how many.
        keys: pointer to int64, (3, lanes): lower and upper half of the seed, epoch at the start.
        passed: an LLVM number: epochs since that start.
    """
    builder, whole = code.builder, code.whole
    low, high, epoch = (_load(code, keys, row) for row in range(3))
    epoch = epoch + Lanes(builder, vectors.spread(builder, whole.llvm, passed), whole)
    philox = code.formula(kernels.philox)
    lane_numbers = Lanes(builder, ir.Constant(whole.llvm, list(range(whole.width))), whole)

    def everywhere(value: Index) -> Lanes:
        return Lanes(builder, vectors.spread(builder, whole.llvm, code.integer(value)), whole)

    code.each(samples, lambda i: _store(code, order, i, everywhere(i)))
    words = [cgutils.alloca_once(builder, whole.llvm) for _ in range(4)]

    def draw(block: Index) -> None:
        stream = number(builder, whole, kernels.SHUFFLE_STREAM)
        drawn = philox(everywhere(block), number(builder, whole, 0), stream, epoch, low, high)
        for slot, word in zip(words, drawn, strict=True):
            builder.store(word.value, slot)

    def exchange(i: Index, word: Any) -> None:
        drawn = Lanes(builder, builder.load(word), whole)
        other = (drawn * everywhere(code.place(1, (i, 1)))) >> 32
        distance = other * whole.width + lane_numbers
        mine, theirs = _load(code, order, i), gather(code, order, distance, INT)
        scatter(code, order, distance, mine.value)
        _store(code, order, i, Lanes(builder, theirs, whole))

    def four(block: Index) -> None:
        draw(block)
        for rest, word in enumerate(words):
            i = code.place(rest, (block, 4))
            if rest == 0:
                with builder.if_then(builder.icmp_signed(">", code.integer(i), INT(0))):
                    exchange(i, word)
            else:
                exchange(i, word)

    code.each(samples // 4, four)
    if samples % 4:
        block = samples // 4
        draw(block)
        for rest in range(samples % 4):
            if block * 4 + rest:
                exchange(block * 4 + rest, words[rest])


def _load(code: Code, pointer: Any, row: Index) -> Lanes:
    whole = code.builder.bitcast(pointer, code.whole.llvm.as_pointer())
    place = code.builder.gep(whole, [code.integer(row)])
    return Lanes(code.builder, code.builder.load(place, align=8), code.whole)


def _store(code: Code, pointer: Any, row: Index, value: Lanes) -> None:
    whole = code.builder.bitcast(pointer, code.whole.llvm.as_pointer())
    code.builder.store(value.value, code.builder.gep(whole, [code.integer(row)]), align=8)


def load_order(code: Code, order: Any, row: Index) -> Lanes:
    """The sample that each lane takes at a place of its order."""
    return _load(code, order, row)


def gather(code: Code, pointer: Any, indices: Lanes, scalar: Any) -> Any:
    """One scalar for each lane, from its own index behind the pointer: an LLVM vector."""
    builder, width = code.builder, code.kind.width
    kind = ir.VectorType(scalar, width)
    places, name, mask = _places(code, pointer, indices, scalar)
    size = _bytes(scalar)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [places.type, ir.IntType(32), mask.type, kind]),
        f"llvm.masked.gather.v{width}{name}.v{width}p0",
    )
    nothing = ir.Constant(kind, ir.Undefined)
    return builder.call(function, [places, ir.IntType(32)(size), mask, nothing])


def scatter(code: Code, pointer: Any, indices: Lanes, values: Any) -> None:
    """Write one scalar of each lane to its own index behind the pointer."""
    builder, width = code.builder, code.kind.width
    places, name, mask = _places(code, pointer, indices, values.type.element)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [values.type, places.type, ir.IntType(32), mask.type]),
        f"llvm.masked.scatter.v{width}{name}.v{width}p0",
    )
    builder.call(function, [values, places, ir.IntType(32)(_bytes(values.type.element)), mask])


def _places(code: Code, pointer: Any, indices: Lanes, scalar: Any) -> tuple[Any, str, Any]:
    builder, width = code.builder, code.kind.width
    start = vectors.spread(builder, code.whole.llvm, builder.ptrtoint(pointer, INT))
    addresses = indices * _bytes(scalar) + Lanes(builder, start, code.whole)
    places = builder.inttoptr(addresses.value, ir.VectorType(scalar.as_pointer(), width))
    name = f"i{scalar.width}" if isinstance(scalar, ir.IntType) else f"f{_bytes(scalar) * 8}"
    return places, name, ir.Constant(ir.VectorType(ir.IntType(1), width), [1] * width)


def _bytes(scalar: Any) -> int:
    return (
        scalar.width // 8 if isinstance(scalar, ir.IntType) else 4 if isinstance(scalar, ir.FloatType) else 8
    )
