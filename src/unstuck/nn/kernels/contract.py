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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unstuck.nn.kernels import table, tiles
from unstuck.nn.kernels.vectors import INT, fused, spread, store_vector

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
WIDEST = {rows: max([c for r, c in SIZES if r == rows], default=0) for rows in _WIDEST}
"""By rows: columns of the widest tile, 0 where there is none."""

# fields of a CONTRACT row
WEIGHT, BIASES, VALUE, OUT, UNITS, LINES, POSITIONS, VALUE_LINE, OUT_LINE = range(1, 10)
# for lines and for columns: distance of two positions in the value, lines of padding before it, its lines
LINE_STEP, LINES_BEFORE, LINES_FILLED, COLUMN_STEP, COLUMNS_BEFORE, COLUMNS_FILLED = range(10, 16)
RELU, VALUE_COLUMN, OUT_COLUMN, INNER = range(16, 20)
GATE_AT = 31
"""RELU: 0, `table.RECTIFY` or `table.GATE`. GATE_AT: how far behind a result the output of a ReLU lies whose
slope it is multiplied with. From INNER on, what the tile reads: 0-2 lengths of the loops a, b, c; 3-5 weight
strides of a, b, c; 6-8 value strides of a, b, c; 9 weight stride of a row; 10 bias stride of a row; 11 output
stride of a row."""
_INNER_FIELDS = 12


# a record
(
    _WEIGHT,  # where things stand
    _BIAS,
    _VALUE,
    _OUT,
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
    _GATE_AT,  # field GATE_AT
    _RELU,  # field RELU
    _INNER,  # fields INNER
) = range(19)


def _emitter(rows, columns):
    def emit(builder, kind, params, gradients, memory, record):
        told = tiles.fields(builder, record, _INNER + _INNER_FIELDS)
        field = told[_INNER:]
        starts = [
            (params, told[_WEIGHT]),
            (params, told[_BIAS]),
            (memory, told[_VALUE]),
            (memory, told[_OUT]),
        ]
        weights, biases, values, outputs = tiles.places(builder, kind, starts)
        rectified = builder.icmp_signed("==", told[_RELU], INT(table.RECTIFY))
        least = builder.select(rectified, kind.element(0.0), kind.element(-math.inf))
        lengths = [field[0], told[_MIDDLE], told[_LAST]]
        strides = tiles.in_bytes(builder, kind, field[3:12])
        weight_row, bias_row, out_row = strides[6:]
        told_bytes = tiles.in_bytes(builder, kind, told)
        bound, zero = spread(builder, kind, least), spread(builder, kind, kind.element(0.0))
        gated = builder.icmp_signed("==", told[_RELU], INT(table.GATE))
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
                        y = tiles.numbers(builder, kind, tiles.moved(builder, place, told_bytes[_GATE_AT]))
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


TILES = {
    (rows, columns): tiles.Tile(f"contract_{rows}_{columns}", _emitter(rows, columns))
    for rows, columns in SIZES
}


def _height(units: int, count: int) -> int:
    """Rows of the next tile, when so many units are left and each has `count` positions."""
    if count == 1 and units >= 10:
        return 16 if units >= 16 and WIDEST[16] > 0 else 10
    if units in (6, 7, 10, 12):
        return 6
    return 8 if units >= 8 else 4 if units >= 4 else 2 if units >= 2 else 1


@dataclass(frozen=True)
class _Rectangle:
    """Positions that meet the same part of the kernel, and where the first has its weights and values."""

    weight: int
    value: int
    out: int
    lines: int
    down: int
    out_down: int
    count: int
    across: int
    along: int
    """Lines and columns, and the distance of two in value and output."""
    middle: int
    last: int
    """Kernel lines and columns that they meet."""

    def records(self, row: Sequence[int], itemsize: int) -> Iterator[list[int]]:
        """The tiles that go over all units here."""
        units, inner = row[UNITS], row[INNER : INNER + _INNER_FIELDS]
        weight_row, bias_row, out_row = inner[9:]
        r = 0
        while r < units:
            rows = _height(units - r, self.lines * self.count)
            repeats, next_weight, next_bias = self.lines, 0, 0
            next_value, next_out = self.down, self.out_down
            groups = 1
            if self.lines == 1:  # repeat over units instead
                while (
                    units - r >= (groups + 1) * rows
                    and _height(units - r - groups * rows, self.count) == rows
                ):
                    groups += 1
                repeats, next_weight, next_bias = groups, rows * weight_row, rows * bias_row
                next_value, next_out = 0, rows * out_row
            p = 0
            while p < self.count:
                left, columns, pieces = self.count - p, WIDEST[rows], 1
                if left < 2 * columns:  # the last two tiles share what is left
                    columns = left if left <= columns else (left + 1) >> 1
                    pieces = 2 if left == 2 * columns else 1
                else:
                    pieces = left // columns - (1 if left % columns else 0)
                numbers = [
                    *(self.weight + r * weight_row, row[BIASES] + r * bias_row),
                    *(self.value + p * self.across, self.out + r * out_row + p * self.along),
                    *(repeats, next_weight, next_bias, next_value, next_out),
                    *(pieces, columns * self.across, columns * self.along),
                    *(self.middle, self.last, self.across, self.along, row[GATE_AT], row[RELU], *inner),
                ]
                yield tiles.record(TILES[rows, columns], itemsize, numbers)
                p += columns * pieces
            r += rows * groups


def whole(positions: int, step: int, before: int, filled: int, taps: int) -> tuple[int, int]:
    """First and end of the positions at which all taps meet the value."""
    first, end = -(-before // step), (before + filled - taps) // step
    first, end = max(0, min(first, positions)), end + 1
    return first, max(first, min(end, positions))


def plan(row: Sequence[int], itemsize: int) -> Iterator[list[int]]:
    """The records of a CONTRACT row: all units at all positions."""
    lines, positions = row[LINES], row[POSITIONS]
    step_y, above, height, step_x, left, breadth = row[LINE_STEP : COLUMNS_FILLED + 1]
    kernel_lines, kernel_columns, _, weight_b, weight_c, _, value_b, value_c = row[INNER + 1 : INNER + 9]
    top, bottom = whole(lines, step_y, above, height, kernel_lines)
    first, end = whole(positions, step_x, left, breadth, kernel_columns)
    value_line, out_line, value_column, out_column = (
        row[VALUE_LINE],
        row[OUT_LINE],
        row[VALUE_COLUMN],
        row[OUT_COLUMN],
    )
    y = 0
    while y < lines:
        height_here = bottom - y if y == top and bottom > top else 1
        b0 = max(0, above - y * step_y)
        middle = max(0, min(kernel_lines, above + height - y * step_y) - b0)
        w, v, o = (
            row[WEIGHT] + b0 * weight_b,
            row[VALUE] + y * value_line + b0 * value_b,
            row[OUT] + y * out_line,
        )
        if end > first:
            yield from _Rectangle(
                *(w, v + first * value_column, o + first * out_column),
                *(height_here, value_line, out_line, end - first, value_column, out_column),
                *(middle, kernel_columns),
            ).records(row, itemsize)
        for edge in range(positions - (end - first)):
            p = edge if edge < first else edge + end - first
            c0 = max(0, left - p * step_x)
            inner = max(0, min(kernel_columns, left + breadth - p * step_x) - c0)
            yield from _Rectangle(
                *(w + c0 * weight_c, v + p * value_column + c0 * value_c, o + p * out_column),
                *(1, 0, 0, height_here, value_line, out_line, middle, inner),
            ).records(row, itemsize)
        y += height_here
