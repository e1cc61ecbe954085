# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Outer products: the weight gradients of linear layers.

    weights    dw[o, i] = sum over samples of d[o] x[i]

The lanes of a vector are consecutive weights of a unit here, not samples: the input comes transposed, a row
of features for each sample, so that nothing is summed over lanes.
"""

from collections.abc import Iterator, Sequence

from llvmlite import ir
from numba import types

from unstuck.nn.kernels import tiles
from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.vectors import (
    BYTES,
    INT,
    VECTORS,
    address,
    at,
    fused,
    intrinsic,
    load_vector,
    put,
    store_vector,
)

COLUMNS = 4 if BYTES == 64 else 2
"""Vectors of weights in the wide tiles."""
SIZES = [(rows, columns) for rows in (5, 4, 2, 1) for columns in (COLUMNS, 1)]
"""(rows, columns) of all tiles."""

# fields of a TRANSPOSE row
SOURCE, TARGET, FEATURES, ROW = range(1, 5)
# fields of an OUTER row
DELTA, INPUT, GRADIENT, UNITS, WEIGHTS, INPUT_ROW = range(1, 7)


# a record
_DELTA, _VALUE, _GRADIENT, _VALUE_ROW, _GRADIENT_ROW = range(5)
_RECORD = 5


def _emitter(rows, columns):
    """gradient[r, c] += sum over samples of delta[r, sample] * value[sample, c].

    A row may reach beyond its unit's weights; the values there are 0, and what stands there is written back
    as it was.
    """

    def emit(builder, kind, params, gradients, memory, record):
        field = tiles.fields(builder, record, _RECORD)
        starts = [(memory, field[_DELTA]), (memory, field[_VALUE]), (gradients, field[_GRADIENT])]
        deltas, values, target = tiles.places(builder, kind, starts)
        size = tiles.size_of(kind)
        width = kind.count
        value_row, gradient_row = tiles.in_bytes(builder, kind, field[_VALUE_ROW:])
        places = [
            [
                tiles.moved(builder, tiles.moved(builder, target, row), INT(c * width * size))
                for c in range(columns)
            ]
            for row in tiles.multiples(builder, gradient_row, rows)
        ]
        sums = [[builder.alloca(kind) for _ in range(columns)] for _ in range(rows)]
        for row, cells in zip(places, sums, strict=True):
            for place, cell in zip(row, cells, strict=True):
                builder.store(tiles.numbers(builder, kind, place), cell)

        def multiply(delta, value):
            xs = [
                tiles.numbers(builder, kind, tiles.moved(builder, value, INT(c * width * size)))
                for c in range(columns)
            ]
            for r, cells in enumerate(sums):
                d = tiles.number(builder, kind, tiles.moved(builder, delta, INT(r * width * size)))
                for x, cell in zip(xs, cells, strict=True):
                    builder.store(fused(builder, kind, d, x, builder.load(cell)), cell)

        tiles.walk(builder, [INT(width)], [deltas, values], [[INT(size)], [value_row]], multiply)
        for row, cells in zip(places, sums, strict=True):
            for place, cell in zip(row, cells, strict=True):
                store_vector(builder, kind, builder.load(cell), place)

    return emit


TILES = {
    (rows, columns): tiles.Tile(f"outer_{rows}_{columns}", _emitter(rows, columns)) for rows, columns in SIZES
}


def plan(row: Sequence[int], itemsize: int) -> Iterator[list[int]]:
    """The records of an OUTER row."""
    lanes = BYTES // itemsize
    weights, r = row[WEIGHTS], 0
    while r < row[UNITS]:
        left = row[UNITS] - r
        rows = 5 if left in (5, 10) else 4 if left >= 4 else 2 if left >= 2 else 1
        c = 0
        while c < weights:
            columns = COLUMNS if weights - c > (COLUMNS - 1) * lanes else 1
            numbers = [
                *(row[DELTA] + r * lanes, row[INPUT] + c, row[GRADIENT] + r * weights + c),
                *(row[INPUT_ROW], weights),
            ]
            yield tiles.record(TILES[rows, columns], itemsize, numbers)
            c += columns * lanes
        r += rows


@intrinsic
def _turn(typingctx, memory, source, source_row, target, target_row):
    """Write W rows of W numbers each the other way round: out[lane][i] = in[i][lane]."""
    kind = VECTORS[memory.dtype].llvm
    width = kind.count

    def emit(context, builder, signature, args):
        types_of = signature.args
        start = address(context, builder, types_of[0], args[0], args[1])
        end = address(context, builder, types_of[0], args[0], args[3])
        rows = [
            load_vector(builder, kind, builder.gep(start, [builder.mul(INT(i), args[2])]))
            for i in range(width)
        ]
        for i, row in enumerate(turned(builder, rows)):
            store_vector(builder, kind, row, builder.gep(end, [builder.mul(INT(i), args[4])]))
        return context.get_dummy_value()

    int64 = types.int64
    return types.void(memory, int64, int64, int64, int64), emit


def turned(builder, rows):
    """The columns of W vectors: log2(W) rounds of interleaving the first half of the rows with the second."""
    width = len(rows)
    for _ in range(width.bit_length() - 1):
        half = width // 2
        rows = [mixed for i in range(half) for mixed in _interleave(builder, rows[i], rows[i + half])]
    return rows


def _interleave(builder, x, y):
    """Lanes of x and y in turn: two vectors, the lower halves first."""
    width = x.type.count
    order = ir.VectorType(ir.IntType(32), width)
    low = [i // 2 + (width if i % 2 else 0) for i in range(width)]
    high = [index + width // 2 for index in low]
    return [builder.shuffle_vector(x, y, ir.Constant(order, lanes)) for lanes in (low, high)]


@inlined
def transpose(memory, table, t):
    """Run a TRANSPOSE row: features x lanes to lanes x features, rows of ROW numbers."""
    source, target, row = at(table, t + SOURCE), at(table, t + TARGET), at(table, t + ROW)
    lanes = BYTES // memory.itemsize
    features = at(table, t + FEATURES)
    filled = features // lanes * lanes
    for i in range(0, filled, lanes):
        _turn(memory, source + i * lanes, lanes, target + i, row)
    for i in range(filled, features):
        for lane in range(lanes):
            put(memory, target + lane * row + i, at(memory, source + i * lanes + lane))
