# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Correlations: the weight and bias gradients of convolutions.

With x the input, d the gradient of the loss with respect to the output, s the stride:

    weights    dw[o, i, k] = sum over samples and positions p of d[o, p] x[i, s p + k - padding]
    biases     db[o]       = sum over samples and positions p of d[o, p]

A tile holds the sums of rows (units) x columns (kernel columns k, or input channels i where the kernel is one
column wide) while it goes over all positions; then the lanes (samples) are added up. Positions at the edges
of a line, at which some kernel columns meet padding, come before the others and leave those columns out.
"""

from numba import types

from unstuck.nn.kernels import tiles
from unstuck.nn.kernels.contract import whole
from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.rows import three
from unstuck.nn.kernels.vectors import (
    INT,
    VECTORS,
    address,
    at,
    fused,
    intrinsic,
    lane_sum,
    lane_sums,
    load,
    put,
    splat,
    spread,
)

_WIDEST = {8: 3, 4: 5, 2: 5, 1: 5}
SIZES = [
    (rows, columns)
    for rows, widest in _WIDEST.items()
    for columns in range(1, widest + 1)
    if rows * columns + columns + 1 < tiles.REGISTERS
]
"""(rows, columns) of all tiles."""
WIDEST = tuple(max([c for r, c in SIZES if r == rows], default=0) for rows in range(9))
"""By rows: columns of the widest tile, 0 where there is none."""

# fields of a CORRELATE row
DELTA, INPUT, GRADIENT, UNITS, CHANNELS, KERNEL_LINES, KERNEL_COLUMNS, LINES, POSITIONS = range(1, 10)
LINE_STEP, LINES_BEFORE, LINES_FILLED, COLUMN_STEP, COLUMNS_BEFORE, COLUMNS_FILLED = range(10, 16)
DELTA_STRIDES, INPUT_STRIDES = 16, 19
"""Of channel, line and position."""

# fields of a BIAS row
BIAS_DELTA, BIAS_GRADIENT, BIAS_UNITS, BIAS_LINES, BIAS_POSITIONS, BIAS_UNIT, BIAS_LINE, BIAS_STEP = range(
    1, 9
)

# what a tile is told about its way, as an array on the stack
(
    _LINES,  # lines of the way
    _EDGES,  # positions of a line at which some columns are left out
    _FIRST,  # how many of them come before the others
    _INNER,  # positions at which no column is left out
    _STEP,  # distance of two positions in the value, in columns
    _BEFORE,  # column of the value's first position, seen from the tile's first column
    _FILLED,  # columns of the value
    _DELTA_ROW,
    _DELTA_LINE,
    _DELTA_POSITION,
    _VALUE_COLUMN,
    _VALUE_LINE,
    _VALUE_POSITION,
    _GRADIENT_ROW,
    _GRADIENT_COLUMN,
) = range(15)
_WAY = 15


def _emit_tile(rows, columns, kind):
    def emit(builder, deltas, values, target, way):
        field = tiles.fields(builder, way, _WAY)
        strides = tiles.in_bytes(builder, kind, field[_DELTA_ROW:])
        row, delta_line, delta_step, column, value_line, value_step, target_row, target_column = strides
        row_places = tiles.multiples(builder, row, rows)
        column_places = tiles.multiples(builder, column, columns)
        zero = spread(builder, kind, kind.element(0.0))
        sums = [[builder.alloca(kind) for _ in range(columns)] for _ in range(rows)]
        for row_sums in sums:
            for cell in row_sums:
                builder.store(zero, cell)

        def add(k, x, ds):
            for row_sums, d in zip(sums, ds, strict=True):
                builder.store(fused(builder, kind, d, x, builder.load(row_sums[k])), row_sums[k])

        def edge(number, delta, value):
            skipped = builder.select(builder.icmp_signed("<", number, field[_FIRST]), INT(0), field[_INNER])
            place = builder.add(number, skipped)
            start = builder.mul(place, field[_STEP])
            delta = tiles.moved(builder, delta, builder.mul(place, delta_step))
            value = tiles.moved(builder, value, builder.mul(place, value_step))
            ds = [tiles.numbers(builder, kind, tiles.moved(builder, delta, at_row)) for at_row in row_places]
            for k in range(columns):
                # unsigned: below 0 is beyond the end, too
                inside = builder.sub(builder.add(start, INT(k)), field[_BEFORE])
                with builder.if_then(builder.icmp_unsigned("<", inside, field[_FILLED])):
                    add(k, tiles.numbers(builder, kind, tiles.moved(builder, value, column_places[k])), ds)

        def inner(delta, value):
            xs = [tiles.numbers(builder, kind, tiles.moved(builder, value, place)) for place in column_places]
            for r, place in enumerate(row_places):
                d = tiles.numbers(builder, kind, tiles.moved(builder, delta, place))
                for k, x in enumerate(xs):
                    builder.store(fused(builder, kind, d, x, builder.load(sums[r][k])), sums[r][k])

        def line(delta, value):
            with builder.if_then(builder.icmp_signed(">", field[_EDGES], INT(0))):
                tiles.count(builder, field[_EDGES], lambda number: edge(number, delta, value))
            with builder.if_then(builder.icmp_signed(">", field[_INNER], INT(0))):
                start = [
                    tiles.moved(builder, pointer, builder.mul(field[_FIRST], step))
                    for pointer, step in ((delta, delta_step), (value, value_step))
                ]
                tiles.walk(builder, [field[_INNER]], start, [[delta_step], [value_step]], inner)

        with builder.if_then(builder.icmp_signed(">", field[_LINES], INT(0))):
            tiles.walk(builder, [field[_LINES]], [deltas, values], [[delta_line], [value_line]], line)
        cells = [(r, k) for r in range(rows) for k in range(columns)]
        row_places = tiles.multiples(builder, target_row, rows)
        column_places = tiles.multiples(builder, target_column, columns)
        for start in range(0, len(cells), kind.count):
            some = cells[start : start + kind.count]
            totals = builder.alloca(kind)
            builder.store(lane_sums(builder, [builder.load(sums[r][k]) for r, k in some]), totals)
            total = builder.bitcast(totals, kind.element.as_pointer())
            for i, (r, k) in enumerate(some):
                place = tiles.moved(builder, target, builder.add(row_places[r], column_places[k]))
                place = builder.bitcast(place, kind.element.as_pointer())
                more = builder.load(builder.gep(total, [INT(i)]))
                builder.store(builder.fadd(builder.load(place), more), place)

    return emit


@intrinsic
def _tile(typingctx, rows, columns, memory, delta, value, gradients, gradient, way):
    """Run the tile of `rows` x `columns` along `way`, a tuple of the numbers above."""
    kind = VECTORS[memory.dtype].llvm

    def emit(context, builder, signature, args):
        types_of = signature.args
        pointers = [
            address(context, builder, types_of[2], args[2], args[3]),
            address(context, builder, types_of[2], args[2], args[4]),
            address(context, builder, types_of[5], args[5], args[6]),
        ]
        pointers = [builder.bitcast(pointer, tiles.POINTER) for pointer in pointers]
        told = tiles.on_stack(builder, args[7], _WAY)
        arguments = [tiles.POINTER] * 3 + [INT.as_pointer()]
        tiles.dispatch(
            builder, "correlate", SIZES, args[0], args[1], kind, arguments, [*pointers, told], _emit_tile
        )
        return context.get_dummy_value()

    int64 = types.int64
    told = types.UniTuple(int64, _WAY)
    return types.void(int64, int64, memory, int64, int64, gradients, int64, told), emit


@kernel
def _height(units, columns):
    """Rows of the next tile, when so many units are left and a unit has so many columns."""
    if units >= 8 and columns <= 3 and WIDEST[8] > 0:
        return 8
    return 4 if units >= 4 else 2 if units >= 2 else 1


@kernel
def correlate(memory, gradients, table, t):
    """Run a CORRELATE row: add this chunk's weight gradients."""
    delta, value, gradient = at(table, t + DELTA), at(table, t + INPUT), at(table, t + GRADIENT)
    units, channels = at(table, t + UNITS), at(table, t + CHANNELS)
    kernel_lines, kernel_columns = at(table, t + KERNEL_LINES), at(table, t + KERNEL_COLUMNS)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    step_y, above, height = at(table, t + LINE_STEP), at(table, t + LINES_BEFORE), at(table, t + LINES_FILLED)
    step_x, left, breadth = (
        at(table, t + COLUMN_STEP),
        at(table, t + COLUMNS_BEFORE),
        at(table, t + COLUMNS_FILLED),
    )
    dc, dy, dx = three(table, t + DELTA_STRIDES)
    vc, vy, vx = three(table, t + INPUT_STRIDES)
    over_channels = kernel_columns == 1
    columns = channels if over_channels else kernel_columns
    area = kernel_lines * kernel_columns
    column_step, gradient_column = (vc, area) if over_channels else (vx, 1)
    r = 0
    while r < units:
        rows = _height(units - r, columns)
        pieces = (columns + WIDEST[rows] - 1) // WIDEST[rows]
        for i in range(1 if over_channels else channels):
            for ky in range(kernel_lines):
                y0, y1 = whole(lines, step_y, above - ky, height, 1)
                k = 0
                for piece in range(pieces):
                    wide = (columns - k + pieces - piece - 1) // (pieces - piece)
                    taps, before = (1, left) if over_channels else (wide, left - k)
                    first, end = whole(positions, step_x, before, breadth, taps)
                    inner, edges = end - first, 0 if over_channels else positions - (end - first)
                    x = value + i * vc + (y0 * step_y + ky - above) * vy - left * vx + k * column_step
                    d = delta + r * dc + y0 * dy
                    g = gradient + r * channels * area + i * area + ky * kernel_columns + k * gradient_column
                    way = (
                        y1 - y0, edges, first, inner, step_x, before, breadth,
                        dc, dy, dx, column_step, step_y * vy, step_x * vx, channels * area, gradient_column,
                    )  # fmt: skip
                    _tile(rows, wide, memory, d, x, gradients, g, way)
                    k += wide
        r += rows


@kernel
def sum_biases(memory, gradients, table, t):
    """Run a BIAS row: db[o] += sum over samples and positions of d[o], in four sums taken in turn."""
    delta, gradient = at(table, t + BIAS_DELTA), at(table, t + BIAS_GRADIENT)
    unit, line, step = at(table, t + BIAS_UNIT), at(table, t + BIAS_LINE), at(table, t + BIAS_STEP)
    positions = at(table, t + BIAS_POSITIONS)
    for o in range(at(table, t + BIAS_UNITS)):
        total = splat(memory, 0.0)
        second, third, fourth = total, total, total
        for y in range(at(table, t + BIAS_LINES)):
            d = delta + o * unit + y * line
            whole_fours = positions // 4 * 4
            for x in range(0, whole_fours, 4):
                total = total + load(memory, d + x * step)
                second = second + load(memory, d + (x + 1) * step)
                third = third + load(memory, d + (x + 2) * step)
                fourth = fourth + load(memory, d + (x + 3) * step)
            for x in range(whole_fours, positions):
                total = total + load(memory, d + x * step)
        put(
            gradients,
            gradient + o,
            at(gradients, gradient + o) + lane_sum((total + second) + (third + fourth)),
        )
