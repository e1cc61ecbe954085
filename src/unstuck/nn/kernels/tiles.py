# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""The two register tiles that all multiplications are made of, emitted as LLVM code.

A tile keeps rows x columns accumulators (vectors) in registers while it walks three (or two) loops whose
lengths and strides are runtime arguments. So one compiled tile serves every layer of every shape: a linear
layer is a convolution of one position, an input gradient is a convolution with its kernel read backwards
(negative strides). Only the tile's own size is fixed at compile time.

The loop lengths and strides stand in the program table (see `machine.py`) as consecutive int64:

contraction   field: 0-2 lengths of the loops a, b, c; 3-5 weight strides of a, b, c; 6-8 value strides of
              a, b, c; 9 weight stride of a row; 10 bias stride of a row; 11 value stride of a column;
              12 output stride of a row; 13 output stride of a column
correlation   field: 0-1 lengths of the loops over positions y, x; 2-3 output-gradient strides of y, x;
              4-5 value strides of y, x; 6 output-gradient stride of a row; 7 value stride of a column;
              8 gradient stride of a row; 9 gradient stride of a column
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from unstuck.nn.kernels.vectors import (
    INT,
    VECTORS,
    address,
    fused,
    intrinsic,
    lane_sums,
    load_vector,
    spread,
    store_vector,
)

CONTRACTION_FIELDS = 14
CORRELATION_FIELDS = 10


def _fields(context, builder, table_type, table, start, count):
    pointer = address(context, builder, table_type, table, start)
    return [builder.load(builder.gep(pointer, [INT(i)])) for i in range(count)]


def _walk(builder, lengths, body, *offsets):
    """Emit nested loops; `offsets` are lists of strides, the body gets one running offset for each."""
    zero = INT(0)

    def nest(level, current):
        if level == len(lengths):
            body(*current)
            return
        with cgutils.for_range(builder, lengths[level], intp=INT) as loop:
            step = [
                builder.add(base, builder.mul(loop.index, strides[level]))
                for base, strides in zip(current, offsets, strict=True)
            ]
            nest(level + 1, step)

    nest(0, [zero] * len(offsets))


def contraction_tile(rows, columns):
    """Make the tile  out[r, p] = bias[r] + sum over a, b, c of weight[r; a, b, c] * value[p; a, b, c].

    r counts `rows` (output units), p counts `columns` (positions); every value and output is a vector of
    lanes, every weight a scalar spread over them. The sum runs over a, then b, then c; the length of the
    loop over b is an argument of its own, since lines of padding are left out.
    """

    @intrinsic
    def tile(typingctx, params, weight, bias, memory, value, out, table, fields, middle):
        kind = VECTORS[memory.dtype].llvm

        def emit(context, builder, signature, args):
            types_of = signature.args
            weights = address(context, builder, types_of[0], args[0], args[1])
            biases = address(context, builder, types_of[0], args[0], args[2])
            values = address(context, builder, types_of[3], args[3], args[4])
            outputs = address(context, builder, types_of[3], args[3], args[5])
            field = _fields(context, builder, types_of[6], args[6], args[7], CONTRACTION_FIELDS)
            lengths, weight_strides, value_strides = field[0:3], field[3:6], field[6:9]
            lengths[1] = args[8]
            weight_row, bias_row, value_column, out_row, out_column = field[9:14]
            sums = [[cgutils.alloca_once(builder, kind) for _ in range(columns)] for _ in range(rows)]
            for r in range(rows):
                start = builder.load(builder.gep(biases, [builder.mul(INT(r), bias_row)]))
                start = spread(builder, kind, start)
                for p in range(columns):
                    builder.store(start, sums[r][p])

            def multiply(weight_at, value_at):
                xs = [
                    load_vector(
                        builder,
                        kind,
                        builder.gep(values, [builder.add(value_at, builder.mul(INT(p), value_column))]),
                    )
                    for p in range(columns)
                ]
                for r in range(rows):
                    at_row = builder.add(weight_at, builder.mul(INT(r), weight_row))
                    w = spread(builder, kind, builder.load(builder.gep(weights, [at_row])))
                    for p in range(columns):
                        builder.store(fused(builder, kind, w, xs[p], builder.load(sums[r][p])), sums[r][p])

            _walk(builder, lengths, multiply, weight_strides, value_strides)
            for r in range(rows):
                for p in range(columns):
                    at_out = builder.add(builder.mul(INT(r), out_row), builder.mul(INT(p), out_column))
                    store_vector(builder, kind, builder.load(sums[r][p]), builder.gep(outputs, [at_out]))
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(params, int64, int64, memory, int64, int64, table, int64, int64), emit

    return tile


def outer_tile(rows, columns):
    """Make the tile  gradient[r, c] += sum over samples of delta[r, sample] * value[sample, c].

    The lanes of a vector are `columns` * W consecutive weights of a unit here, not samples: the values come
    transposed, one row of features a sample, so that no sum over lanes is needed. A row may reach beyond
    its unit's weights; the values there are 0, and what stands there is written back as it was.
    """

    @intrinsic
    def tile(typingctx, memory, delta, delta_row, value, value_row, gradients, gradient, gradient_row):
        kind = VECTORS[memory.dtype].llvm
        width = kind.count

        def emit(context, builder, signature, args):
            types_of = signature.args
            deltas = address(context, builder, types_of[0], args[0], args[1])
            values = address(context, builder, types_of[0], args[0], args[3])
            target = address(context, builder, types_of[5], args[5], args[6])
            places = [
                [
                    builder.gep(target, [builder.add(builder.mul(INT(r), args[7]), INT(c * width))])
                    for c in range(columns)
                ]
                for r in range(rows)
            ]
            sums = [[load_vector(builder, kind, place) for place in row] for row in places]
            for sample in range(width):
                at_sample = builder.mul(INT(sample), args[4])
                xs = [
                    load_vector(builder, kind, builder.gep(values, [builder.add(at_sample, INT(c * width))]))
                    for c in range(columns)
                ]
                for r in range(rows):
                    at_delta = builder.add(builder.mul(INT(r), args[2]), INT(sample))
                    d = spread(builder, kind, builder.load(builder.gep(deltas, [at_delta])))
                    sums[r] = [fused(builder, kind, d, x, old) for x, old in zip(xs, sums[r], strict=True)]
            for r in range(rows):
                for c in range(columns):
                    store_vector(builder, kind, sums[r][c], places[r][c])
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(memory, int64, int64, int64, int64, gradients, int64, int64), emit

    return tile


@intrinsic
def transpose_tile(typingctx, memory, source, target, target_row):
    """Write W vectors of W lanes each the other way round: out[lane][i] = in[i][lane]."""
    kind = VECTORS[memory.dtype].llvm
    width = kind.count

    def emit(context, builder, signature, args):
        types_of = signature.args
        start = address(context, builder, types_of[0], args[0], args[1])
        end = address(context, builder, types_of[0], args[0], args[2])
        rows = [load_vector(builder, kind, builder.gep(start, [INT(i * width)])) for i in range(width)]
        # log2(W) rounds, each interleaving the first half of the rows with the second
        rounds = width.bit_length() - 1
        for _ in range(rounds):
            half = width // 2
            mixed = []
            for i in range(half):
                mixed += _interleave(builder, rows[i], rows[i + half])
            rows = mixed
        for i, row in enumerate(rows):
            store_vector(builder, kind, row, builder.gep(end, [builder.mul(INT(i), args[3])]))
        return context.get_dummy_value()

    int64 = types.int64
    return types.void(memory, int64, int64, int64), emit


def _interleave(builder, x, y):
    """Lanes of x and y in turn: two vectors, the lower halves first."""
    width = x.type.count
    order = ir.VectorType(ir.IntType(32), width)
    low = [i // 2 + (width if i % 2 else 0) for i in range(width)]
    high = [index + width // 2 for index in low]
    return [builder.shuffle_vector(x, y, ir.Constant(order, lanes)) for lanes in (low, high)]


def correlation_tile(rows, columns):
    """Make the tile  gradient[r, k] += sum over positions and lanes of delta[r; y, x] * value[k; y, x].

    r counts `rows` (output units), k counts `columns` (weights of a unit). Lanes are summed at the end, by
    one tree for all accumulators.
    """

    @intrinsic
    def tile(typingctx, memory, delta, value, gradients, gradient, table, fields):
        kind = VECTORS[memory.dtype].llvm

        def emit(context, builder, signature, args):
            types_of = signature.args
            deltas = address(context, builder, types_of[0], args[0], args[1])
            values = address(context, builder, types_of[0], args[0], args[2])
            target = address(context, builder, types_of[3], args[3], args[4])
            field = _fields(context, builder, types_of[5], args[5], args[6], CORRELATION_FIELDS)
            lengths, delta_strides, value_strides = field[0:2], field[2:4], field[4:6]
            delta_row, value_column, gradient_row, gradient_column = field[6:10]
            zero = spread(builder, kind, kind.element(0.0))
            sums = [[cgutils.alloca_once(builder, kind) for _ in range(columns)] for _ in range(rows)]
            for r in range(rows):
                for k in range(columns):
                    builder.store(zero, sums[r][k])

            def multiply(delta_at, value_at):
                xs = [
                    load_vector(
                        builder,
                        kind,
                        builder.gep(values, [builder.add(value_at, builder.mul(INT(k), value_column))]),
                    )
                    for k in range(columns)
                ]
                for r in range(rows):
                    at_row = builder.add(delta_at, builder.mul(INT(r), delta_row))
                    d = load_vector(builder, kind, builder.gep(deltas, [at_row]))
                    for k in range(columns):
                        builder.store(fused(builder, kind, d, xs[k], builder.load(sums[r][k])), sums[r][k])

            _walk(builder, lengths, multiply, delta_strides, value_strides)
            totals = lane_sums(builder, [builder.load(cell) for row in sums for cell in row])
            for r in range(rows):
                for k in range(columns):
                    at = builder.add(builder.mul(INT(r), gradient_row), builder.mul(INT(k), gradient_column))
                    pointer = builder.gep(target, [at])
                    builder.store(builder.fadd(builder.load(pointer), totals[r * columns + k]), pointer)
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(memory, int64, int64, gradients, int64, table, int64), emit

    return tile
