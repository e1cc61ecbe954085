# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Correlations: the weight gradients of convolutions.

With x the input, d the gradient of the loss with respect to the output, s the stride:

    weights    dw[o, i, k] = sum over samples and positions p of d[o, p] x[i, s p + k - padding]

A tile holds the sums of rows (units) x columns (kernel columns k, or input channels i where the kernel is one
column wide) while it goes over all positions; then the lanes (samples) are added up. Positions at the edges
of a line, at which some kernel columns meet padding, come before the others and leave those columns out.
"""

import functools
from collections.abc import Iterator, Sequence

from unstuck.nn.kernels import tiles
from unstuck.nn.kernels.contract import whole
from unstuck.nn.kernels.vectors import (
    INT,
    fused,
    lane_sums,
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
WIDEST = {rows: max([c for r, c in SIZES if r == rows], default=0) for rows in _WIDEST}
"""By rows: columns of the widest tile, 0 where there is none."""

# fields of a CORRELATE row
DELTA, INPUT, GRADIENT, UNITS, CHANNELS, KERNEL_LINES, KERNEL_COLUMNS, LINES, POSITIONS = range(1, 10)
LINE_STEP, LINES_BEFORE, LINES_FILLED, COLUMN_STEP, COLUMNS_BEFORE, COLUMNS_FILLED = range(10, 16)
DELTA_STRIDES, INPUT_STRIDES = 16, 19
"""Of channel, line and position."""

# a record
(
    _DELTA,  # where things stand
    _VALUE,
    _GRADIENT,
    _LINES,  # lines of the way
    _INNER,  # positions at which no column is left out
    _DELTA_ROW,
    _DELTA_LINE,
    _DELTA_POSITION,
    _VALUE_COLUMN,
    _VALUE_LINE,
    _VALUE_POSITION,
    _GRADIENT_ROW,
    _GRADIENT_COLUMN,
) = range(13)
_RECORD = 13


def _emitter(rows, columns, before, behind):
    def emit(builder, kind, params, gradients, memory, record):
        field = tiles.fields(builder, record, _RECORD)
        starts = [(memory, field[_DELTA]), (memory, field[_VALUE]), (gradients, field[_GRADIENT])]
        deltas, values, target = tiles.places(builder, kind, starts)
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

        def edge(places, delta, value, *, beyond):
            """Positions at one end of a line, each with the columns that meet the image there."""
            for number, met in enumerate(places):
                if not met:
                    continue
                place = builder.add(INT(number), beyond)
                here = tiles.moved(builder, delta, builder.mul(place, delta_step))
                there = tiles.moved(builder, value, builder.mul(place, value_step))
                ds = [
                    tiles.numbers(builder, kind, tiles.moved(builder, here, at_row)) for at_row in row_places
                ]
                for k in met:
                    add(k, tiles.numbers(builder, kind, tiles.moved(builder, there, column_places[k])), ds)

        def inner(delta, value):
            xs = [tiles.numbers(builder, kind, tiles.moved(builder, value, place)) for place in column_places]
            for r, place in enumerate(row_places):
                d = tiles.numbers(builder, kind, tiles.moved(builder, delta, place))
                for k, x in enumerate(xs):
                    builder.store(fused(builder, kind, d, x, builder.load(sums[r][k])), sums[r][k])

        def line(delta, value):
            edge(before, delta, value, beyond=INT(0))
            edge(behind, delta, value, beyond=builder.add(INT(len(before)), field[_INNER]))
            with builder.if_then(builder.icmp_signed(">", field[_INNER], INT(0))):
                start = [
                    tiles.moved(builder, pointer, builder.mul(INT(len(before)), step))
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


Edge = tuple[tuple[int, ...], ...]
"""By position at one end of a line: the kernel columns that meet the image there."""


@functools.cache
def tile(rows: int, columns: int, before: Edge, behind: Edge) -> tiles.Tile:
    """The tile of one size and two ends of a line; they are part of the code, which needs no branches."""
    ends = ["_".join("".join(map(str, met)) or "x" for met in end) for end in (before, behind)]
    return tiles.Tile(
        f"correlate_{rows}_{columns}-{ends[0]}-{ends[1]}", _emitter(rows, columns, before, behind)
    )


def _height(units: int, columns: int) -> int:
    """Rows of the next tile, when so many units are left and a unit has so many columns."""
    if units >= 8 and columns <= 3 and WIDEST[8] > 0:
        return 8
    return 4 if units >= 4 else 2 if units >= 2 else 1


def plan(row: Sequence[int], itemsize: int) -> Iterator[list[int]]:
    """The records of a CORRELATE row: add a chunk's weight gradients."""
    channels, kernel_lines, kernel_columns = row[CHANNELS : KERNEL_COLUMNS + 1]
    lines, positions = row[LINES], row[POSITIONS]
    step_y, above, height, step_x, left, breadth = row[LINE_STEP : COLUMNS_FILLED + 1]
    dc, dy, dx = row[DELTA_STRIDES : DELTA_STRIDES + 3]
    vc, vy, vx = row[INPUT_STRIDES : INPUT_STRIDES + 3]
    over_channels = kernel_columns == 1
    columns = channels if over_channels else kernel_columns
    area = kernel_lines * kernel_columns
    column_step, gradient_column = (vc, area) if over_channels else (vx, 1)
    r = 0
    while r < row[UNITS]:
        rows = _height(row[UNITS] - r, columns)
        pieces = -(-columns // WIDEST[rows])
        for i in range(1 if over_channels else channels):
            for ky in range(kernel_lines):
                y0, y1 = whole(lines, step_y, above - ky, height, 1)
                k = 0
                for piece in range(pieces):
                    wide = -(-(columns - k) // (pieces - piece))
                    taps, before = (1, left) if over_channels else (wide, left - k)
                    first, end = whole(positions, step_x, before, breadth, taps)
                    edges = [
                        tuple(c for c in range(wide) if 0 <= p * step_x + c - before < breadth)
                        for p in range(0 if over_channels else positions)
                    ]
                    skipped = first if over_channels else 0
                    numbers = [
                        row[DELTA] + r * dc + y0 * dy + skipped * dx,
                        *(
                            row[INPUT]
                            + i * vc
                            + (y0 * step_y + ky - above) * vy
                            + (skipped * step_x - left) * vx
                            + k * column_step,
                        ),
                        row[GRADIENT]
                        + r * channels * area
                        + i * area
                        + ky * kernel_columns
                        + k * gradient_column,
                        *(y1 - y0, end - first),
                        *(
                            dc,
                            dy,
                            dx,
                            column_step,
                            step_y * vy,
                            step_x * vx,
                            channels * area,
                            gradient_column,
                        ),
                    ]
                    yield tiles.record(
                        tile(rows, wide, tuple(edges[:first]), tuple(edges[end:])), itemsize, numbers
                    )
                    k += wide
        r += rows
