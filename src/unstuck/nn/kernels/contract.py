# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Contractions: the forward pass and the input gradient of linear and convolution layers.

With x the input, w the weight (PyTorch's layout: output unit, input, kernel line, kernel column), d the
gradient of the loss with respect to the layer's output:

    forward            y[o, p]  = b[o] + sum_i,k  w[o, i, k] x[i, s p + k - padding]
    input gradient     dx[i, q] = sum_o,k  w[o, i, k] d[o, p]       over those p, k with s p + k - padding = q

Both are  out[r, p] = bias[r] + sum over a, b, c of weight[r; a, b, c] value[p; a, b, c]  with a channel a and
a kernel line b and column c; a linear layer has a single position and no kernel. The input gradient of a
convolution with stride s falls into s x s such sums, one for each remainder of q.

Nothing is multiplied with padding, and no memory holds it: every position gets the kernel lines and columns
that meet the image. Positions with the same ones are done together, in tiles of rows (units) x columns
(positions): along lines where all kernel columns meet the image, down the columns of the image at its edges.
"""

import math

from llvmlite import ir
from numba import types

from unstuck.nn.kernels import tiles
from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import INT, VECTORS, address, at, fused, intrinsic, spread, store_vector

_WIDEST = {16: 1, 10: 1, 8: 3, 6: 4, 4: 6, 2: 4, 1: 4}
"""Columns of the widest tile of so many rows; a machine of few registers has narrower ones."""


def _fits(rows, columns):
    return rows * columns + columns + 1 < tiles.REGISTERS


SIZES = [
    (rows, columns)
    for rows, widest in _WIDEST.items()
    for columns in range(1, widest + 1)
    if _fits(rows, columns)
]
"""(rows, columns) of all tiles."""
WIDEST = tuple(max([c for r, c in SIZES if r == rows], default=0) for rows in range(17))
"""By rows: columns of the widest tile, 0 where there is none."""

# fields of a CONTRACT row
WEIGHT, BIASES, VALUE, OUT, UNITS, LINES, POSITIONS, VALUE_LINE, OUT_LINE = range(1, 10)
# for lines and for columns: distance of two positions in the value, lines of padding before it, its lines
LINE_STEP, LINES_BEFORE, LINES_FILLED, COLUMN_STEP, COLUMNS_BEFORE, COLUMNS_FILLED = range(10, 16)
RECTIFIED, VALUE_COLUMN, OUT_COLUMN, INNER = range(16, 20)
GATE = 31
"""RECTIFIED: whether negative results become 0 (ReLU). GATE: if not 0, how far behind a result its ReLU's
output lies: the result is multiplied with the slope there. From INNER on: what the tile reads,
0-2 lengths of the loops a, b, c; 3-5 weight strides of a, b, c; 6-8 value strides of a, b, c;
9 weight stride of a row; 10 bias stride of a row; 11 output stride of a row."""
_INNER_FIELDS = 12


# what a tile is told about its way, besides those fields
(
    _REPEATS,  # how many times all of it is done, and what lies between two times
    _NEXT_WEIGHT,
    _NEXT_BIAS,
    _NEXT_VALUE,
    _NEXT_OUT,
    _PIECES,  # how many tiles stand side by side in each of them, and what lies between two
    _PIECE_VALUE,
    _PIECE_OUT,
    _MIDDLE,  # length of the loop b
    _LAST,  # length of the loop c
    _VALUE_STEP,  # distance of two columns
    _OUT_STEP,
    _GATE,  # field GATE
) = range(13)
_WAY = 13


def _emit_tile(rows, columns, kind):
    def emit(builder, weights, biases, values, outputs, table, way, least):
        field = tiles.fields(builder, table, _INNER_FIELDS)
        told = tiles.fields(builder, way, _WAY)
        lengths = [field[0], told[_MIDDLE], told[_LAST]]
        strides = tiles.in_bytes(builder, kind, field[3:12])
        weight_row, bias_row, out_row = strides[6:]
        told_bytes = tiles.in_bytes(builder, kind, told)
        bound, zero = spread(builder, kind, least), spread(builder, kind, kind.element(0.0))
        gated = builder.icmp_signed("!=", told[_GATE], INT(0))
        sums = [[builder.alloca(kind) for _ in range(columns)] for _ in range(rows)]
        # eight rows can be reached from one pointer
        weight_places = tiles.multiples(builder, weight_row, min(rows, 8))
        column_places = tiles.multiples(builder, told_bytes[_VALUE_STEP], columns)
        second = builder.shl(weight_row, INT(3))
        some = builder.icmp_signed("!=", builder.mul(told[_MIDDLE], told[_LAST]), INT(0))

        def multiply(value, *weight):
            xs = [tiles.numbers(builder, kind, tiles.moved(builder, value, place)) for place in column_places]
            for r, row in enumerate(sums):
                place = tiles.moved(builder, weight[r // 8], weight_places[r % 8])
                w = tiles.number(builder, kind, place)
                for x, cell in zip(xs, row, strict=True):
                    builder.store(fused(builder, kind, w, x, builder.load(cell)), cell)

        def one(weights, biases, values, outputs):
            for row, place in zip(sums, tiles.multiples(builder, bias_row, rows), strict=True):
                start = tiles.number(builder, kind, tiles.moved(builder, biases, place))
                for cell in row:
                    builder.store(start, cell)
            pointers, moves = [values, weights], [strides[3:6], strides[0:3]]
            if rows > 8:
                pointers.append(tiles.moved(builder, weights, second))
                moves.append(strides[0:3])
            with builder.if_then(some):
                tiles.walk(builder, lengths, pointers, moves, multiply)
            for row, at_row in zip(sums, tiles.multiples(builder, out_row, rows), strict=True):
                at_columns = tiles.multiples(builder, told_bytes[_OUT_STEP], columns)
                places = [
                    tiles.moved(builder, tiles.moved(builder, outputs, at_row), at_column)
                    for at_column in at_columns
                ]
                with builder.if_then(gated):
                    for cell, place in zip(row, places, strict=True):
                        y = tiles.numbers(builder, kind, tiles.moved(builder, place, told_bytes[_GATE]))
                        closed = builder.fmul(y, zero)  # NaN stays NaN
                        opened = builder.fcmp_ordered(">", y, zero)
                        builder.store(builder.select(opened, builder.load(cell), closed), cell)
                for cell, place in zip(row, places, strict=True):
                    total = builder.load(cell)
                    total = builder.select(builder.fcmp_ordered("<", total, bound), bound, total)
                    store_vector(builder, kind, total, place)

        nothing = INT(0)
        steps = [
            [told_bytes[_NEXT_WEIGHT], nothing],
            [told_bytes[_NEXT_BIAS], nothing],
            [told_bytes[_NEXT_VALUE], told_bytes[_PIECE_VALUE]],
            [told_bytes[_NEXT_OUT], told_bytes[_PIECE_OUT]],
        ]
        repeats = [told[_REPEATS], told[_PIECES]]
        tiles.walk(builder, repeats, [weights, biases, values, outputs], steps, one)

    return emit


@intrinsic
def _tile(typingctx, rows, columns, params, weight, bias, memory, value, out, table, field, least, way):
    """Run the tile of `rows` x `columns` along `way`, a tuple of the numbers above; `least`: the bound."""
    kind = VECTORS[memory.dtype].llvm

    def emit(context, builder, signature, args):
        types_of = signature.args
        pointers = [
            address(context, builder, types_of[2], args[2], args[3]),
            address(context, builder, types_of[2], args[2], args[4]),
            address(context, builder, types_of[5], args[5], args[6]),
            address(context, builder, types_of[5], args[5], args[7]),
        ]
        pointers = [builder.bitcast(pointer, tiles.POINTER) for pointer in pointers]
        inner_fields = address(context, builder, types_of[8], args[8], args[9])
        bound = args[10] if kind.element is ir.DoubleType() else builder.fptrunc(args[10], kind.element)
        given = [*pointers, inner_fields, tiles.on_stack(builder, args[11], _WAY), bound]
        arguments = [tiles.POINTER] * 4 + [INT.as_pointer()] * 2 + [kind.element]
        tiles.dispatch(builder, "contract", SIZES, args[0], args[1], kind, arguments, given, _emit_tile)
        return context.get_dummy_value()

    int64 = types.int64
    given = (int64, int64, params, int64, int64, memory, int64, int64, table, int64, types.float64)
    return types.void(*given, types.UniTuple(int64, _WAY)), emit


@kernel
def _height(units, count):
    """Rows of the next tile, when so many units are left and each has `count` positions."""
    if count == 1 and units >= 10:
        return 16 if units >= 16 and WIDEST[16] > 0 else 10
    if units == 10 or units == 12 or units == 6 or units == 7:
        return 6
    return 8 if units >= 8 else 4 if units >= 4 else 2 if units >= 2 else 1


@kernel
def _rectangle(
    params,
    weight,
    bias,
    memory,
    value,
    out,
    table,
    t,
    lines,
    down,
    out_down,
    count,
    across,
    along,
    middle,
    inner,
):
    """All units at `lines` x `count` positions that meet the same part of the kernel.

    `down`, `out_down` and `across`, `along`: distance of two lines and of two columns, in value and output.
    """
    units, field = at(table, t + UNITS), t + INNER
    weight_row, bias_row, out_row = at(table, field + 9), at(table, field + 10), at(table, field + 11)
    least = 0.0 if at(table, t + RECTIFIED) != 0 else -math.inf
    r = 0
    while r < units:
        rows = _height(units - r, lines * count)
        repeats, next_weight, next_bias, next_value, next_out = lines, 0, 0, down, out_down
        groups = 1
        if lines == 1:  # repeat over units instead
            while units - r >= (groups + 1) * rows and _height(units - r - groups * rows, count) == rows:
                groups += 1
            repeats, next_weight, next_bias = groups, rows * weight_row, rows * bias_row
            next_value, next_out = 0, rows * out_row
        w, b, o = weight + r * weight_row, bias + r * bias_row, out + r * out_row
        p = 0
        while p < count:
            left, columns, pieces = count - p, WIDEST[rows], 1
            if left < 2 * columns:  # the last two tiles share what is left
                columns = left if left <= columns else (left + 1) >> 1
                pieces = 2 if left == 2 * columns else 1
            else:
                pieces = left // columns - (1 if left % columns else 0)
            way = (
                *(repeats, next_weight, next_bias, next_value, next_out),
                *(
                    pieces,
                    columns * across,
                    columns * along,
                    middle,
                    inner,
                    across,
                    along,
                    at(table, t + GATE),
                ),
            )
            x, y = value + p * across, o + p * along
            _tile(rows, columns, params, w, b, memory, x, y, table, field, least, way)
            p += columns * pieces
        r += rows * groups


@kernel
def whole(positions, step, before, filled, taps):
    """First and end of the positions at which all taps meet the value."""
    first, end = before, before + filled - taps
    if step != 1:
        first, end = (before + step - 1) // step, end // step
    first, end = max(0, min(first, positions)), end + 1
    return first, max(first, min(end, positions))


@kernel
def contract(params, memory, table, t):
    """Run a CONTRACT row: all units at all positions."""
    weight, bias, value, out = (
        at(table, t + WEIGHT),
        at(table, t + BIASES),
        at(table, t + VALUE),
        at(table, t + OUT),
    )
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    value_line, out_line = at(table, t + VALUE_LINE), at(table, t + OUT_LINE)
    value_column, out_column = at(table, t + VALUE_COLUMN), at(table, t + OUT_COLUMN)
    step_y, above, height = at(table, t + LINE_STEP), at(table, t + LINES_BEFORE), at(table, t + LINES_FILLED)
    step_x, left, breadth = (
        at(table, t + COLUMN_STEP),
        at(table, t + COLUMNS_BEFORE),
        at(table, t + COLUMNS_FILLED),
    )
    kernel_lines, kernel_columns = at(table, t + INNER + 1), at(table, t + INNER + 2)
    weight_b, weight_c = at(table, t + INNER + 4), at(table, t + INNER + 5)
    value_b, value_c = at(table, t + INNER + 7), at(table, t + INNER + 8)
    top, bottom = whole(lines, step_y, above, height, kernel_lines)
    first, end = whole(positions, step_x, left, breadth, kernel_columns)
    y = 0
    while y < lines:
        height_here = bottom - y if y == top and bottom > top else 1
        b0 = max(0, above - y * step_y)
        middle = max(0, min(kernel_lines, above + height - y * step_y) - b0)
        w, v, o = weight + b0 * weight_b, value + y * value_line + b0 * value_b, out + y * out_line
        if end > first:
            x = v + first * value_column
            r = o + first * out_column
            _rectangle(
                *(params, w, bias, memory, x, r, table, t, height_here, value_line, out_line),
                *(end - first, value_column, out_column, middle, kernel_columns),
            )
        for edge in range(positions - (end - first)):
            p = edge if edge < first else edge + end - first
            c0 = max(0, left - p * step_x)
            inner = max(0, min(kernel_columns, left + breadth - p * step_x) - c0)
            x = v + p * value_column + c0 * value_c
            r = o + p * out_column
            _rectangle(
                *(params, w + c0 * weight_c, bias, memory, x, r, table, t, 1, 0, 0),
                *(height_here, value_line, out_line, middle, inner),
            )
        y += height_here
