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
from unstuck.nn.kernels.tiles import contraction_tile, correlation_tile
from unstuck.nn.kernels.vectors import BYTES, at, lane_sum, load, put, splat

ROWS = 4
COLUMNS = 4 if BYTES == 64 else 2
"""4 x 4 accumulators fill half of the 32 registers of AVX-512; elsewhere there are 16."""
TALL = 8
"""Rows of the tile for a single position (linear layers): enough to hide the latency of the additions."""

_wide = contraction_tile(ROWS, COLUMNS)
_wide_row = contraction_tile(1, COLUMNS)
_tall = contraction_tile(TALL, 1)
_single = contraction_tile(1, 1)

CORRELATION_ROWS = 4
_square = correlation_tile(4, 4)
_three = correlation_tile(4, 3)
_column = correlation_tile(4, 1)
_row = correlation_tile(1, 4)
_cell = correlation_tile(1, 1)

# fields of a CONTRACT row
WEIGHT, BIASES, VALUE, OUT, UNITS, LINES, POSITIONS, VALUE_LINE, OUT_LINE, INNER = range(1, 11)
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

    What does not fill a tile is done by a tile that overlaps its neighbour (writing the same numbers again)
    or, where there are fewer units or positions than a tile has, one at a time.
    """
    weight, bias, value, out = (
        at(table, t + WEIGHT),
        at(table, t + BIASES),
        at(table, t + VALUE),
        at(table, t + OUT),
    )
    units, lines, positions = at(table, t + UNITS), at(table, t + LINES), at(table, t + POSITIONS)
    value_line, out_line = at(table, t + VALUE_LINE), at(table, t + OUT_LINE)
    inner = t + INNER
    weight_row, bias_row, value_column = at(table, inner + 9), at(table, inner + 10), at(table, inner + 11)
    out_row, out_column = at(table, inner + 12), at(table, inner + 13)
    wide = positions >= COLUMNS
    step_p = COLUMNS if wide else 1
    step_r = ROWS if wide else TALL
    if units < step_r:
        step_r = 1
    for first_unit in range(0, units, step_r):
        r = min(first_unit, units - step_r)
        w, b = weight + r * weight_row, bias + r * bias_row
        for y in range(lines):
            for first_position in range(0, positions, step_p):
                p = min(first_position, positions - step_p)
                x = value + y * value_line + p * value_column
                o = out + y * out_line + r * out_row + p * out_column
                if wide:
                    if step_r > 1:
                        _wide(params, w, b, memory, x, o, table, inner)
                    else:
                        _wide_row(params, w, b, memory, x, o, table, inner)
                elif step_r > 1:
                    _tall(params, w, b, memory, x, o, table, inner)
                else:
                    _single(params, w, b, memory, x, o, table, inner)


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
                        if left >= 4:
                            _square(memory, d, x, gradients, g, table, inner)
                            k += 4
                        elif left == 3:
                            _three(memory, d, x, gradients, g, table, inner)
                            k += 3
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
