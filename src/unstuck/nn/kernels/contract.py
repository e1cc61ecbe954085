# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Linear and convolution layers: forward pass, gradients of inputs, weights and biases, as tiles.

With x the input, w the weight (PyTorch's layout: output unit, input, kernel row, kernel column), d the
gradient of the loss with respect to the layer's output:

    forward            y[o, p]   = b[o] + sum_i,k  w[o, i, k] x[i, p + k]
    input gradient     dx[i, q]  = sum_o,k  w[o, i, k] d[o, q - k]     (a convolution read backwards)
    weight gradient    dw[o,i,k] = sum_samples,p  d[o, p] x[i, p + k]
    bias gradient      db[o]     = sum_samples,p  d[o, p]

The first two are contractions, the third is a correlation; a linear layer has a single position.
"""

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.tiles import contraction_tile, correlation_tile, outer_tile, transpose_tile
from unstuck.nn.kernels.vectors import BYTES, at, lane_sum, load, put, splat

ROWS = 4
COLUMNS = 4 if BYTES == 64 else 2
"""4 x 4 accumulators fill half of the 32 registers of AVX-512; elsewhere there are 16."""
TALL = 8
"""Rows of the tile for a single position (linear layers): enough to hide the latency of the additions."""

_wide = contraction_tile(ROWS, COLUMNS)
_wide_pair = contraction_tile(2, COLUMNS)
_wide_row = contraction_tile(1, COLUMNS)
_tall = contraction_tile(TALL, 1)
_short = contraction_tile(ROWS, 1)
_single = contraction_tile(1, 1)

_square = correlation_tile(4, 4)
_three = correlation_tile(4, 3)
_two = correlation_tile(4, 2)
_column = correlation_tile(4, 1)
_row = correlation_tile(1, 4)
_cell = correlation_tile(1, 1)

OUTER_ROWS = 4
OUTER_COLUMNS = 4 if BYTES == 64 else 2
_outer = outer_tile(OUTER_ROWS, OUTER_COLUMNS)
_outer_column = outer_tile(OUTER_ROWS, 1)
_outer_row = outer_tile(1, 1)

# fields of a TRANSPOSE row
SOURCE, TARGET, FEATURES, ROW = range(1, 5)
# fields of an OUTER row
OUTER_DELTA, OUTER_INPUT, OUTER_GRADIENTS, OUTER_UNITS, OUTER_WEIGHTS, OUTER_ROW = range(1, 7)
# fields of a CONTRACT row
WEIGHT, BIASES, VALUE, OUT, UNITS, LINES, POSITIONS, VALUE_LINE, OUT_LINE = range(1, 10)
# which lines of the value hold more than zeros: distance of two outputs, zero lines above, filled lines
LINE_STEP, LINES_ABOVE, LINES_FILLED, INNER = range(10, 14)
# fields of a CORRELATE row
DELTA, INPUT, GRADIENT, DELTA_UNITS, WEIGHTS, OUTER, MIDDLE = range(1, 8)
OUTER_VALUE, MIDDLE_VALUE, OUTER_GRADIENT, MIDDLE_GRADIENT, INNER_SUMS = range(8, 13)
# fields of a BIAS row
BIAS_DELTA, BIAS_GRADIENT, BIAS_UNITS, BIAS_LINES, BIAS_POSITIONS, BIAS_UNIT, BIAS_LINE, BIAS_STEP = range(
    1, 9
)


@kernel
def contract(params, memory, table, t):
    """Run a CONTRACT row: all units x all positions, in tiles.

    Units that do not fill a tile go into a smaller one; positions are done by a tile that overlaps its
    neighbour (writing the same numbers again), or one at a time where there are fewer than a tile has.
    Kernel lines that would only meet lines of padding are left out.
    """
    weight, bias, value, out = (
        at(table, t + WEIGHT),
        at(table, t + BIASES),
        at(table, t + VALUE),
        at(table, t + OUT),
    )
    units, lines, positions = at(table, t + UNITS), at(table, t + LINES), at(table, t + POSITIONS)
    value_line, out_line = at(table, t + VALUE_LINE), at(table, t + OUT_LINE)
    step_y, above, filled = at(table, t + LINE_STEP), at(table, t + LINES_ABOVE), at(table, t + LINES_FILLED)
    inner = t + INNER
    kernel_lines, weight_b, value_b = at(table, inner + 1), at(table, inner + 4), at(table, inner + 7)
    weight_row, bias_row, value_column = at(table, inner + 9), at(table, inner + 10), at(table, inner + 11)
    out_row, out_column = at(table, inner + 12), at(table, inner + 13)
    wide = positions >= COLUMNS
    step_p = COLUMNS if wide else 1
    r = 0
    while r < units:
        left = units - r
        rows = TALL if left >= TALL and not wide else ROWS if left >= ROWS else 2 if left >= 2 and wide else 1
        for y in range(lines):
            first = max(0, above - y * step_y)
            last = min(kernel_lines, above + filled - y * step_y)
            middle = max(0, last - first)
            w = weight + r * weight_row + first * weight_b
            b = bias + r * bias_row
            base = value + y * value_line + first * value_b
            for first_position in range(0, positions, step_p):
                p = min(first_position, positions - step_p)
                x = base + p * value_column
                o = out + y * out_line + r * out_row + p * out_column
                if wide:
                    if rows == ROWS:
                        _wide(params, w, b, memory, x, o, table, inner, middle)
                    elif rows == 2:
                        _wide_pair(params, w, b, memory, x, o, table, inner, middle)
                    else:
                        _wide_row(params, w, b, memory, x, o, table, inner, middle)
                elif rows == TALL:
                    _tall(params, w, b, memory, x, o, table, inner, middle)
                elif rows == ROWS:
                    _short(params, w, b, memory, x, o, table, inner, middle)
                else:
                    _single(params, w, b, memory, x, o, table, inner, middle)
        r += rows


@kernel
def correlate(memory, gradients, table, t):
    """Run a CORRELATE row: add this chunk's weight gradients."""
    delta, value, gradient = at(table, t + DELTA), at(table, t + INPUT), at(table, t + GRADIENT)
    units, weights = at(table, t + DELTA_UNITS), at(table, t + WEIGHTS)
    outer, middle = at(table, t + OUTER), at(table, t + MIDDLE)
    outer_value, middle_value = at(table, t + OUTER_VALUE), at(table, t + MIDDLE_VALUE)
    outer_gradient, middle_gradient = at(table, t + OUTER_GRADIENT), at(table, t + MIDDLE_GRADIENT)
    inner = t + INNER_SUMS
    delta_row, value_column = at(table, inner + 6), at(table, inner + 7)
    gradient_row, gradient_column = at(table, inner + 8), at(table, inner + 9)
    for i in range(outer):
        for j in range(middle):
            x_base = value + i * outer_value + j * middle_value
            g_base = gradient + i * outer_gradient + j * middle_gradient
            r = 0
            while r < units:
                rows = 4 if units - r >= 4 else 1
                d = delta + r * delta_row
                k = 0
                while k < weights:
                    left = weights - k
                    x = x_base + k * value_column
                    g = g_base + r * gradient_row + k * gradient_column
                    if rows == 4:
                        if left >= 4 and left != 5:
                            _square(memory, d, x, gradients, g, table, inner)
                            k += 4
                        elif left == 3 or left == 5:
                            _three(memory, d, x, gradients, g, table, inner)
                            k += 3
                        elif left == 2:
                            _two(memory, d, x, gradients, g, table, inner)
                            k += 2
                        else:
                            _column(memory, d, x, gradients, g, table, inner)
                            k += 1
                    elif left >= 4:
                        _row(memory, d, x, gradients, g, table, inner)
                        k += 4
                    else:
                        _cell(memory, d, x, gradients, g, table, inner)
                        k += 1
                r += rows


@kernel
def transpose(memory, table, t):
    """Run a TRANSPOSE row: features x lanes to lanes x features, rows of ROW numbers."""
    source, target, row = at(table, t + SOURCE), at(table, t + TARGET), at(table, t + ROW)
    lanes = BYTES // memory.itemsize
    features = at(table, t + FEATURES)
    whole = features // lanes * lanes
    for i in range(0, whole, lanes):
        transpose_tile(memory, source + i * lanes, target + i, row)
    for i in range(whole, features):
        for lane in range(lanes):
            put(memory, target + lane * row + i, at(memory, source + i * lanes + lane))


@kernel
def outer(memory, gradients, table, t):
    """Run an OUTER row: a linear layer's weight gradients, lanes being weights of one unit."""
    lanes = BYTES // memory.itemsize
    delta, value, gradient = (
        at(table, t + OUTER_DELTA),
        at(table, t + OUTER_INPUT),
        at(table, t + OUTER_GRADIENTS),
    )
    units, weights, row = at(table, t + OUTER_UNITS), at(table, t + OUTER_WEIGHTS), at(table, t + OUTER_ROW)
    r = 0
    while r < units:
        rows = OUTER_ROWS if units - r >= OUTER_ROWS else 1
        d, g = delta + r * lanes, gradient + r * weights
        c = 0
        while c < weights:
            if rows == 1:
                _outer_row(memory, d, lanes, value + c, row, gradients, g + c, weights)
                c += lanes
            elif weights - c > (OUTER_COLUMNS - 1) * lanes:
                _outer(memory, d, lanes, value + c, row, gradients, g + c, weights)
                c += OUTER_COLUMNS * lanes
            else:
                _outer_column(memory, d, lanes, value + c, row, gradients, g + c, weights)
                c += lanes
        r += rows


@kernel
def sum_biases(memory, gradients, table, t):
    """Run a BIAS row: db[o] += sum over samples and positions of d[o]."""
    delta, gradient = at(table, t + BIAS_DELTA), at(table, t + BIAS_GRADIENT)
    unit, line, step = at(table, t + BIAS_UNIT), at(table, t + BIAS_LINE), at(table, t + BIAS_STEP)
    for o in range(at(table, t + BIAS_UNITS)):
        total = splat(memory, 0.0)
        for y in range(at(table, t + BIAS_LINES)):
            for x in range(at(table, t + BIAS_POSITIONS)):
                total = total + load(memory, delta + o * unit + y * line + x * step)
        put(gradients, gradient + o, at(gradients, gradient + o) + lane_sum(total))
