# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Pooling over windows that may overlap or hang over the edge (padding).

maximum    y = max of the window                  gradient to the first maximum, row by row (as torch)
average    y = sum of the window / (kh kw)        gradient / (kh kw) to every place; padding counts as 0
"""

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.table import AVERAGE
from unstuck.nn.kernels.vectors import at, different, either, equal, greater, like, load, select, splat, store

(KIND, CHANNELS, LINES, POSITIONS, KERNEL_Y, KERNEL_X, STRIDE_Y, STRIDE_X, PAD_Y, PAD_X, HEIGHT, BREADTH) = (
    range(1, 13)
)
SOURCE, OUTPUT, DELTA, RESULT = 13, 17, 21, 25
"""Each is an offset followed by the strides of channel, line and position. Output and its gradient have
CHANNELS x LINES x POSITIONS, source and input gradient CHANNELS x HEIGHT x BREADTH."""


@kernel
def _place(table, field, c, y, x):
    return at(table, field) + c * at(table, field + 1) + y * at(table, field + 2) + x * at(table, field + 3)


@kernel
def pool(memory, table, t):
    """Run a POOL row."""
    average = at(table, t + KIND) == AVERAGE
    ky, kx, sy, sx = (
        at(table, t + KERNEL_Y),
        at(table, t + KERNEL_X),
        at(table, t + STRIDE_Y),
        at(table, t + STRIDE_X),
    )
    py, px, height, breadth = (
        at(table, t + PAD_Y),
        at(table, t + PAD_X),
        at(table, t + HEIGHT),
        at(table, t + BREADTH),
    )
    part = splat(memory, 1.0 / (ky * kx))
    for c in range(at(table, t + CHANNELS)):
        for y in range(at(table, t + LINES)):
            top, bottom = max(y * sy - py, 0), min(y * sy - py + ky, height)
            for x in range(at(table, t + POSITIONS)):
                left, right = max(x * sx - px, 0), min(x * sx - px + kx, breadth)
                result = splat(memory, 0.0)
                if average:
                    for i in range(top, bottom):
                        for j in range(left, right):
                            result = result + load(memory, _place(table, t + SOURCE, c, i, j))
                    result = result * part
                else:
                    result = load(memory, _place(table, t + SOURCE, c, top, left))
                    for i in range(top, bottom):
                        for j in range(left, right):
                            v = load(memory, _place(table, t + SOURCE, c, i, j))
                            # NaN wins, whichever side it stands on
                            result = select(either(greater(v, result), different(v, v)), v, result)
                store(memory, _place(table, t + OUTPUT, c, y, x), result)


@kernel
def pool_back(memory, table, t):
    """Run a POOL_BACK row; the input gradient was cleared before."""
    average = at(table, t + KIND) == AVERAGE
    ky, kx, sy, sx = (
        at(table, t + KERNEL_Y),
        at(table, t + KERNEL_X),
        at(table, t + STRIDE_Y),
        at(table, t + STRIDE_X),
    )
    py, px, height, breadth = (
        at(table, t + PAD_Y),
        at(table, t + PAD_X),
        at(table, t + HEIGHT),
        at(table, t + BREADTH),
    )
    part = splat(memory, 1.0 / (ky * kx))
    for c in range(at(table, t + CHANNELS)):
        for y in range(at(table, t + LINES)):
            top, bottom = max(y * sy - py, 0), min(y * sy - py + ky, height)
            for x in range(at(table, t + POSITIONS)):
                left, right = max(x * sx - px, 0), min(x * sx - px + kx, breadth)
                delta = load(memory, _place(table, t + DELTA, c, y, x))
                if average:
                    delta = delta * part
                    for i in range(top, bottom):
                        for j in range(left, right):
                            r = _place(table, t + RESULT, c, i, j)
                            store(memory, r, load(memory, r) + delta)
                else:
                    zero = like(delta, 0.0)
                    best = load(memory, _place(table, t + OUTPUT, c, y, x))
                    for i in range(top, bottom):
                        for j in range(left, right):
                            hit = equal(load(memory, _place(table, t + SOURCE, c, i, j)), best)
                            r = _place(table, t + RESULT, c, i, j)
                            store(memory, r, load(memory, r) + select(hit, delta, zero))
                            delta = select(hit, zero, delta)  # only the first maximum gets it
