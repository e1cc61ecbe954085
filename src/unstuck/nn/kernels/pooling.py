# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Pooling over windows that may overlap or hang over the edge (padding).

maximum    y = max of the window                  gradient to the first maximum, row by row (as torch)
average    y = sum of the window / (kh kw)        gradient / (kh kw) to every place; padding counts as 0

Where the input is a ReLU's output and the row says so (GATED), the gradient is multiplied with that ReLU's
slope: where a maximum is 0, nothing gets through.
"""

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.table import AVERAGE
from unstuck.nn.kernels.vectors import (
    BYTES,
    at,
    different,
    either,
    greater,
    less_or_greater,
    load,
    select,
    splat,
    store,
)

(KIND, CHANNELS, LINES, POSITIONS, KERNEL_Y, KERNEL_X, STRIDE_Y, STRIDE_X, PAD_Y, PAD_X, HEIGHT, BREADTH) = (
    range(1, 13)
)
SOURCE, OUTPUT, DELTA, RESULT, GATED = 13, 17, 21, 25, 29
"""Each but the last is an offset followed by the strides of channel, line and position. Output and its
gradient have CHANNELS x LINES x POSITIONS, source and input gradient CHANNELS x HEIGHT x BREADTH."""


@kernel
def _larger(v, result):
    """The larger of two; NaN wins, whichever side it stands on."""
    return select(either(greater(v, result), different(v, v)), v, result)


@kernel
def _window(y, step, padding, kernel_size, extent):
    """First and end of a window inside the image."""
    return max(y * step - padding, 0), min(y * step - padding + kernel_size, extent)


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
    down, right = at(table, t + SOURCE + 2), at(table, t + SOURCE + 3)
    step = at(table, t + OUTPUT + 3)
    quarters = not average and ky == 2 and kx == 2 and py == 0 and px == 0
    part = splat(memory, 1.0 / (ky * kx))
    for c in range(at(table, t + CHANNELS)):
        for y in range(at(table, t + LINES)):
            top, bottom = _window(y, sy, py, ky, height)
            line = at(table, t + SOURCE) + c * at(table, t + SOURCE + 1)
            target = at(table, t + OUTPUT) + c * at(table, t + OUTPUT + 1) + y * at(table, t + OUTPUT + 2)
            if quarters:
                s = line + top * down
                for x in range(at(table, t + POSITIONS)):
                    first = _larger(load(memory, s + right), load(memory, s))
                    first = _larger(load(memory, s + down), first)
                    store(memory, target + x * step, _larger(load(memory, s + down + right), first))
                    s += sx * right
                continue
            for x in range(at(table, t + POSITIONS)):
                left, end = _window(x, sx, px, kx, breadth)
                result = splat(memory, 0.0)
                if average:
                    for i in range(top, bottom):
                        for j in range(left, end):
                            result = result + load(memory, line + i * down + j * right)
                    result = result * part
                else:
                    result = load(memory, line + top * down + left * right)
                    for i in range(top, bottom):
                        for j in range(left, end):
                            result = _larger(load(memory, line + i * down + j * right), result)
                store(memory, target + x * step, result)


@kernel
def _clear(memory, start, stop, step):
    """Set vectors to 0."""
    for place in range(start, stop, step):
        store(memory, place, splat(memory, 0.0))


@kernel
def pool_back(memory, table, t):
    """Run a POOL_BACK row."""
    average, gated = at(table, t + KIND) == AVERAGE, at(table, t + GATED) != 0
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
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    down, right = at(table, t + SOURCE + 2), at(table, t + SOURCE + 3)
    into_down, into_right = at(table, t + RESULT + 2), at(table, t + RESULT + 3)
    quarters = not average and ky == 2 and kx == 2 and sy == 2 and sx == 2 and py == 0 and px == 0
    part, zero = splat(memory, 1.0 / (ky * kx)), splat(memory, 0.0)
    lanes = BYTES // memory.itemsize
    for c in range(at(table, t + CHANNELS)):
        source = at(table, t + SOURCE) + c * at(table, t + SOURCE + 1)
        result = at(table, t + RESULT) + c * at(table, t + RESULT + 1)
        if not quarters:
            _clear(memory, result, result + height * into_down, lanes)
        elif height > 2 * lines:
            _clear(memory, result + 2 * lines * into_down, result + height * into_down, lanes)
        for y in range(lines):
            output = at(table, t + OUTPUT) + c * at(table, t + OUTPUT + 1) + y * at(table, t + OUTPUT + 2)
            delta = at(table, t + DELTA) + c * at(table, t + DELTA + 1) + y * at(table, t + DELTA + 2)
            top, bottom = _window(y, sy, py, ky, height)
            if quarters:
                s, r = source + top * down, result + top * into_down
                for _ in range(positions):
                    best, d = load(memory, output), load(memory, delta)
                    if gated:
                        d = select(greater(best, zero), d, zero * best)
                    # NaN is a hit, so that its gradient is not lost
                    miss = less_or_greater(load(memory, s), best)
                    store(memory, r, select(miss, zero, d))
                    d = select(miss, d, zero)
                    miss = less_or_greater(load(memory, s + right), best)
                    store(memory, r + into_right, select(miss, zero, d))
                    d = select(miss, d, zero)
                    miss = less_or_greater(load(memory, s + down), best)
                    store(memory, r + into_down, select(miss, zero, d))
                    d = select(miss, d, zero)
                    miss = less_or_greater(load(memory, s + down + right), best)
                    store(memory, r + into_down + into_right, select(miss, zero, d))
                    s, r = s + 2 * right, r + 2 * into_right
                    output, delta = output + at(table, t + OUTPUT + 3), delta + at(table, t + DELTA + 3)
                if breadth > 2 * positions:
                    end = result + top * into_down + breadth * into_right
                    _clear(memory, r, end, lanes)
                    _clear(memory, r + into_down, end + into_down, lanes)
                continue
            for x in range(positions):
                left, end = _window(x, sx, px, kx, breadth)
                d = load(memory, delta + x * at(table, t + DELTA + 3))
                if average:
                    d = d * part
                    for i in range(top, bottom):
                        for j in range(left, end):
                            r = result + i * into_down + j * into_right
                            store(memory, r, load(memory, r) + d)
                    continue
                best = load(memory, output + x * at(table, t + OUTPUT + 3))
                if gated:
                    d = select(greater(best, zero), d, zero * best)
                for i in range(top, bottom):
                    for j in range(left, end):
                        miss = less_or_greater(load(memory, source + i * down + j * right), best)
                        r = result + i * into_down + j * into_right
                        store(memory, r, load(memory, r) + select(miss, zero, d))
                        d = select(miss, d, zero)  # only the first maximum gets it
