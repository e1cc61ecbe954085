# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Between arrays of samples (sample by sample in memory) and chunks (lanes are samples)."""

from numba import types

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.outer import turned
from unstuck.nn.kernels.vectors import (
    INT,
    VECTORS,
    address,
    at,
    intrinsic,
    load_vector,
    put,
    store_vector,
)


@intrinsic
def _turn(typingctx, memory, target, inputs, order, first, size, place):
    """Write numbers `place` to `place` + W of W samples as W vectors of one lane for each sample."""
    kind = VECTORS[memory.dtype].llvm

    def emit(context, builder, signature, args):
        types_of = signature.args
        rows = []
        for lane in range(kind.count):
            which = address(context, builder, types_of[3], args[3], builder.add(args[4], INT(lane)))
            start = builder.add(builder.mul(builder.load(which), args[5]), args[6])
            rows.append(load_vector(builder, kind, address(context, builder, types_of[2], args[2], start)))
        end = address(context, builder, types_of[0], args[0], args[1])
        for i, row in enumerate(turned(builder, rows)):
            store_vector(builder, kind, row, builder.gep(end, [INT(i * kind.count)]))
        return context.get_dummy_value()

    int64 = types.int64
    return types.void(memory, int64, inputs, order, int64, int64, int64), emit


@kernel
def _gather_blocks(memory, offset, inputs, order, first, size, lanes):
    """Gather a whole chunk into a compact buffer, W numbers of each sample at a time."""
    place = 0
    while place < size:
        start = min(place, size - lanes)  # the last block may overlap the one before
        _turn(memory, offset + start * lanes, inputs, order, first, size, start)
        place += lanes


@kernel
def gather(memory, place, inputs, order, first, valid, lanes):
    """Write `valid` samples into the lanes of an input buffer; the other lanes become 0.

    `place`: offset, channels, lines, positions, and the strides of the three, in the buffer.
    """
    offset, channels, lines, positions = place[0], place[1], place[2], place[3]
    sc, sy, sx = place[4], place[5], place[6]
    size = channels * lines * positions
    zero = memory.dtype.type(0)
    if valid == lanes and size >= lanes and sx == lanes and sy == positions * sx and sc == lines * sy:
        _gather_blocks(memory, offset, inputs, order, first, size, lanes)
        return
    for lane in range(lanes):
        start = order[first + lane] * size if lane < valid else 0
        for c in range(channels):
            for y in range(lines):
                to = offset + c * sc + y * sy + lane
                source = start + (c * lines + y) * positions
                for x in range(positions):
                    put(memory, to + x * sx, at(inputs, source + x) if lane < valid else zero)


@kernel
def scatter(memory, place, outputs, first, valid):
    """Write the lanes of a buffer to consecutive samples of an array, from sample `first` on."""
    offset, channels, lines, positions = place[0], place[1], place[2], place[3]
    sc, sy, sx = place[4], place[5], place[6]
    size = channels * lines * positions
    for lane in range(valid):
        start = (first + lane) * size
        for c in range(channels):
            for y in range(lines):
                source = offset + c * sc + y * sy + lane
                to = start + (c * lines + y) * positions
                for x in range(positions):
                    put(outputs, to + x, at(memory, source + x * sx))
