# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Activations: each function beside its derivative, both in terms of the output y.

    sigmoid    y = 1 / (1 + e**-x)      dy/dx = y (1 - y)
    tanh       y = tanh x               dy/dx = 1 - y**2
    ReLU       y = max(0, x)            dy/dx = 1 where y > 0, else 0
    leaky      y = max(x, s x), s < 1   dy/dx = 1 where y > 0, else s   (the sign of y is the sign of x)

NaN stays NaN in all of them: a comparison that turns NaN into 0 would make a lost network look healthy.
"""

from unstuck.nn.kernels.functions import sigmoid, tanh
from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.table import LEAKY, RELU, SIGMOID, TANH
from unstuck.nn.kernels.vectors import BYTES, at, greater, less, like, load, select, splat, store

# fields of FORWARD: kind, from, to, three lengths, three strides of each
KIND, SOURCE, TARGET, CHANNELS, LINES, POSITIONS = range(1, 7)
SOURCE_STRIDES, TARGET_STRIDES = 7, 10
# fields of BACKWARD: kind, output, its gradient, input gradient, lengths, strides of each
OUTPUT, DELTA, RESULT = 2, 3, 4
BACK_CHANNELS, BACK_LINES, BACK_POSITIONS = 5, 6, 7
OUTPUT_STRIDES, DELTA_STRIDES, RESULT_STRIDES = 8, 11, 14


@kernel
def activate(kind, x, slope):
    """f(x)."""
    zero = like(x, 0.0)
    if kind == SIGMOID:
        x = sigmoid(x)
    elif kind == TANH:
        x = tanh(x)
    elif kind == RELU:
        x = select(less(x, zero), zero, x)
    elif kind == LEAKY:
        x = select(less(x, zero), x * like(x, slope), x)
    return x


@kernel
def slope_times(kind, y, d, slope):
    """f'(x) * d, from y = f(x)."""
    zero, one = like(y, 0.0), like(y, 1.0)
    if kind == SIGMOID:
        d = y * (one - y) * d
    elif kind == TANH:
        d = (one - y * y) * d
    elif kind == RELU:
        d = select(greater(y, zero), d, zero * y)
    elif kind == LEAKY:
        d = select(greater(y, zero), d, d * like(y, slope))
    return d


@kernel
def forward(memory, table, t, slope):
    """Run a FORWARD row."""
    kind, source, target = at(table, t + KIND), at(table, t + SOURCE), at(table, t + TARGET)
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = (
        at(table, t + SOURCE_STRIDES),
        at(table, t + SOURCE_STRIDES + 1),
        at(table, t + SOURCE_STRIDES + 2),
    )
    tc, ty, tx = (
        at(table, t + TARGET_STRIDES),
        at(table, t + TARGET_STRIDES + 1),
        at(table, t + TARGET_STRIDES + 2),
    )
    for c in range(channels):
        for y in range(lines):
            s, r = source + c * sc + y * sy, target + c * tc + y * ty
            for x in range(positions):
                store(memory, r + x * tx, activate(kind, load(memory, s + x * sx), slope))


@kernel
def backward(memory, table, t, slope):
    """Run a BACKWARD row."""
    kind = at(table, t + KIND)
    output, delta, result = at(table, t + OUTPUT), at(table, t + DELTA), at(table, t + RESULT)
    channels, lines, positions = (
        at(table, t + BACK_CHANNELS),
        at(table, t + BACK_LINES),
        at(table, t + BACK_POSITIONS),
    )
    oc, oy, ox = (
        at(table, t + OUTPUT_STRIDES),
        at(table, t + OUTPUT_STRIDES + 1),
        at(table, t + OUTPUT_STRIDES + 2),
    )
    dc, dy, dx = (
        at(table, t + DELTA_STRIDES),
        at(table, t + DELTA_STRIDES + 1),
        at(table, t + DELTA_STRIDES + 2),
    )
    rc, ry, rx = (
        at(table, t + RESULT_STRIDES),
        at(table, t + RESULT_STRIDES + 1),
        at(table, t + RESULT_STRIDES + 2),
    )
    for c in range(channels):
        for y in range(lines):
            o, d, r = output + c * oc + y * oy, delta + c * dc + y * dy, result + c * rc + y * ry
            for x in range(positions):
                gradient = slope_times(kind, load(memory, o + x * ox), load(memory, d + x * dx), slope)
                store(memory, r + x * rx, gradient)


@kernel
def clear(memory, start, length):
    """Set `length` numbers (a multiple of the vector width) to zero."""
    zero = splat(memory, 0.0)
    for i in range(start, start + length, memory_lanes(memory)):
        store(memory, i, zero)


@kernel
def memory_lanes(memory):
    """Lanes of a vector of the memory's type."""
    return BYTES // memory.itemsize
