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
"""RECTIFIED: whether negative results become 0 (ReLU). From INNER on: what the tile reads,
0-2 lengths of the loops a, b, c; 3-5 weight strides of a, b, c; 6-8 value strides of a, b, c;
9 weight stride of a row; 10 bias stride of a row; 11 output stride of a row."""
_INNER_FIELDS = 12


def _emit_tile(rows, columns, kind):
    def emit(
        builder, weights, biases, values, outputs, table, middle, inner, value_column, out_column, least
    ):
        field = tiles.fields(builder, table, _INNER_FIELDS)
        lengths = [field[0], middle, inner]
        strides = tiles.in_bytes(builder, kind, [*field[3:12], value_column, out_column])
        weight_row, bias_row, out_row, column, out_column = strides[6:]
        sums = [[builder.alloca(kind) for _ in range(columns)] for _ in range(rows)]
        for r, distance in enumerate(tiles.multiples(builder, bias_row, rows)):
            start = tiles.number(builder, kind, tiles.moved(builder, biases, distance))
            for cell in sums[r]:
                builder.store(start, cell)
        row_places = tiles.multiples(builder, weight_row, rows)
        column_places = tiles.multiples(builder, column, columns)

        def multiply(weight, value):
            xs = [tiles.numbers(builder, kind, tiles.moved(builder, value, place)) for place in column_places]
            for row, place in zip(sums, row_places, strict=True):
                w = tiles.number(builder, kind, tiles.moved(builder, weight, place))
                for x, cell in zip(xs, row, strict=True):
                    builder.store(fused(builder, kind, w, x, builder.load(cell)), cell)

        some = builder.icmp_signed("!=", builder.mul(middle, inner), INT(0))
        with builder.if_then(some):
            tiles.walk(builder, lengths, [weights, values], [strides[0:3], strides[3:6]], multiply)
        bound = spread(builder, kind, least)
        for row, at_row in zip(sums, tiles.multiples(builder, out_row, rows), strict=True):
            for cell, at_column in zip(row, tiles.multiples(builder, out_column, columns), strict=True):
                total = builder.load(cell)
                total = builder.select(builder.fcmp_ordered("<", total, bound), bound, total)
                store_vector(
                    builder, kind, total, tiles.moved(builder, outputs, builder.add(at_row, at_column))
                )

    return emit


@intrinsic
def _tile(
    typingctx,
    rows,
    columns,
    params,
    weight,
    bias,
    memory,
    value,
    out,
    table,
    field,
    middle,
    inner,
    across,
    along,
    least,
):
    """Run the tile of `rows` x `columns`; `across` and `along`: distance of two columns in value and output."""
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
        bound = args[14] if kind.element is ir.DoubleType() else builder.fptrunc(args[14], kind.element)
        given = [*pointers, inner_fields, *args[10:14], bound]
        arguments = [tiles.POINTER] * 4 + [INT.as_pointer()] + [INT] * 4 + [kind.element]
        tiles.dispatch(builder, "contract", SIZES, args[0], args[1], kind, arguments, given, _emit_tile)
        return context.get_dummy_value()

    int64 = types.int64
    given = (
        int64,
        int64,
        params,
        int64,
        int64,
        memory,
        int64,
        int64,
        table,
        int64,
        int64,
        int64,
        int64,
        int64,
    )
    return types.void(*given, types.float64), emit


@kernel
def _height(units, count):
    """Rows of the next tile, when so many units are left and each has `count` positions."""
    if count == 1 and units >= 10:
        return 16 if units >= 16 and WIDEST[16] else 10
    if units == 10 or units == 12 or units == 6 or units == 7:
        return 6
    return 8 if units >= 8 else 4 if units >= 4 else 2 if units >= 2 else 1


@kernel
def _stripe(params, weight, bias, memory, value, out, table, t, count, middle, inner, across, along):
    """All units at `count` positions, `across` and `along` apart, that meet the same part of the kernel."""
    units, field = at(table, t + UNITS), t + INNER
    weight_row, bias_row, out_row = at(table, field + 9), at(table, field + 10), at(table, field + 11)
    least = 0.0 if at(table, t + RECTIFIED) != 0 else -math.inf
    r = 0
    while r < units:
        rows = _height(units - r, count)
        w, b, o = weight + r * weight_row, bias + r * bias_row, out + r * out_row
        left = count
        while left > 0:
            columns = WIDEST[rows]
            if left < 2 * columns:  # the last two tiles share what is left
                columns = left if left <= columns else (left + 1) >> 1
            p = count - left
            x, y = value + p * across, o + p * along
            _tile(
                rows, columns, params, w, b, memory, x, y, table, field, middle, inner, across, along, least
            )
            left -= columns
        r += rows


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
    for y in range(lines):
        b0 = max(0, above - y * step_y)
        middle = max(0, min(kernel_lines, above + height - y * step_y) - b0)
        w, v, o = weight + b0 * weight_b, value + y * value_line + b0 * value_b, out + y * out_line
        if end > first:
            x = v + first * value_column
            r = o + first * out_column
            count = end - first
            _stripe(
                params,
                w,
                bias,
                memory,
                x,
                r,
                table,
                t,
                count,
                middle,
                kernel_columns,
                value_column,
                out_column,
            )
        count, across, along = 1, value_line, out_line
        if y == top and bottom > top:
            count = bottom - top
        elif top < y < bottom:
            continue  # done together with line `top`
        for edge in range(positions - (end - first)):
            p = edge if edge < first else edge + end - first
            c0 = max(0, left - p * step_x)
            inner = max(0, min(kernel_columns, left + breadth - p * step_x) - c0)
            x = v + p * value_column + c0 * value_c
            r = o + p * out_column
            _stripe(
                params, w + c0 * weight_c, bias, memory, x, r, table, t, count, middle, inner, across, along
            )
