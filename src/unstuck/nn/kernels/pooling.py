# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Pooling over windows that may overlap or hang over the edge (padding).

maximum    y = max of the window                  gradient to the first maximum, row by row (as torch)
quarters   the same for windows of 2 x 2 side by side, without loops over the window
average    y = sum of the window / (kh kw)        gradient / (kh kw) to every place; padding counts as 0

Where the input is a ReLU's output and the row says so (GATED), the gradient is multiplied with that ReLU's
slope: where a maximum is 0, nothing gets through.
"""

from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.rows import three
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


@inlined
def _larger(v, result):
    """The larger of two; NaN wins, whichever side it stands on."""
    return select(either(greater(v, result), different(v, v)), v, result)


@inlined
def _window(y, step, padding, kernel_size, extent):
    """First and end of a window inside the image."""
    first, end = y * step - padding, y * step - padding + kernel_size
    return max(0, first), min(extent, end)


@inlined
def _clear(memory, start, stop, step):
    """Set vectors to 0."""
    for place in range(start, stop, step):
        store(memory, place, splat(memory, 0.0))


@inlined
def quarters(memory, table, t):
    """Run a POOL row of kind QUARTERS."""
    sc, down, right = three(table, t + SOURCE + 1)
    oc, oy, ox = three(table, t + OUTPUT + 1)
    source, output = at(table, t + SOURCE), at(table, t + OUTPUT)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    for c in range(at(table, t + CHANNELS)):
        for y in range(lines):
            s, o = source + c * sc + 2 * y * down, output + c * oc + y * oy
            for _ in range(positions):
                first = _larger(load(memory, s + right), load(memory, s))
                first = _larger(load(memory, s + down), first)
                store(memory, o, _larger(load(memory, s + down + right), first))
                s, o = s + 2 * right, o + ox


@inlined
def maximum(memory, table, t):
    """Run a POOL row of kind MAXIMUM."""
    ky, kx, sy = three(table, t + KERNEL_Y)
    sx, py, px = three(table, t + STRIDE_X)
    height, breadth = at(table, t + HEIGHT), at(table, t + BREADTH)
    sc, down, right = three(table, t + SOURCE + 1)
    oc, oy, ox = three(table, t + OUTPUT + 1)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    for c in range(at(table, t + CHANNELS)):
        line, output = at(table, t + SOURCE) + c * sc, at(table, t + OUTPUT) + c * oc
        for y in range(lines):
            top, bottom = _window(y, sy, py, ky, height)
            for x in range(positions):
                left, end = _window(x, sx, px, kx, breadth)
                result = load(memory, line + top * down + left * right)
                for i in range(top, bottom):
                    for j in range(left, end):
                        result = _larger(load(memory, line + i * down + j * right), result)
                store(memory, output + y * oy + x * ox, result)


@inlined
def average(memory, table, t):
    """Run a POOL row of kind AVERAGE."""
    ky, kx, sy = three(table, t + KERNEL_Y)
    sx, py, px = three(table, t + STRIDE_X)
    height, breadth = at(table, t + HEIGHT), at(table, t + BREADTH)
    sc, down, right = three(table, t + SOURCE + 1)
    oc, oy, ox = three(table, t + OUTPUT + 1)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    part = splat(memory, 1.0 / (ky * kx))
    for c in range(at(table, t + CHANNELS)):
        line, output = at(table, t + SOURCE) + c * sc, at(table, t + OUTPUT) + c * oc
        for y in range(lines):
            top, bottom = _window(y, sy, py, ky, height)
            for x in range(positions):
                left, end = _window(x, sx, px, kx, breadth)
                result = splat(memory, 0.0)
                for i in range(top, bottom):
                    for j in range(left, end):
                        result = result + load(memory, line + i * down + j * right)
                store(memory, output + y * oy + x * ox, result * part)


@inlined
def quarters_back(memory, table, t):
    """Run a POOL_BACK row of kind QUARTERS; the result may lie where the source does."""
    height, breadth, gated = at(table, t + HEIGHT), at(table, t + BREADTH), at(table, t + GATED) != 0
    sc, down, right = three(table, t + SOURCE + 1)
    oc, oy, ox = three(table, t + OUTPUT + 1)
    dc, dy, dx = three(table, t + DELTA + 1)
    rc, into_down, into_right = three(table, t + RESULT + 1)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    zero, lanes = splat(memory, 0.0), BYTES // memory.itemsize
    for c in range(at(table, t + CHANNELS)):
        result = at(table, t + RESULT) + c * rc
        if height > 2 * lines:
            _clear(memory, result + 2 * lines * into_down, result + height * into_down, lanes)
        for y in range(lines):
            output, delta = at(table, t + OUTPUT) + c * oc + y * oy, at(table, t + DELTA) + c * dc + y * dy
            s, r = at(table, t + SOURCE) + c * sc + 2 * y * down, result + 2 * y * into_down
            end = r + breadth * into_right
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
                output, delta = output + ox, delta + dx
            if breadth > 2 * positions:
                _clear(memory, r, end, lanes)
                _clear(memory, r + into_down, end + into_down, lanes)


@inlined
def maximum_back(memory, table, t):
    """Run a POOL_BACK row of kind MAXIMUM."""
    gated = at(table, t + GATED) != 0
    ky, kx, sy = three(table, t + KERNEL_Y)
    sx, py, px = three(table, t + STRIDE_X)
    height, breadth = at(table, t + HEIGHT), at(table, t + BREADTH)
    sc, down, right = three(table, t + SOURCE + 1)
    oc, oy, ox = three(table, t + OUTPUT + 1)
    dc, dy, dx = three(table, t + DELTA + 1)
    rc, into_down, into_right = three(table, t + RESULT + 1)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    zero = splat(memory, 0.0)
    for c in range(at(table, t + CHANNELS)):
        source, result = at(table, t + SOURCE) + c * sc, at(table, t + RESULT) + c * rc
        _clear(memory, result, result + height * into_down, BYTES // memory.itemsize)
        for y in range(lines):
            output, delta = at(table, t + OUTPUT) + c * oc + y * oy, at(table, t + DELTA) + c * dc + y * dy
            top, bottom = _window(y, sy, py, ky, height)
            for x in range(positions):
                left, end = _window(x, sx, px, kx, breadth)
                best, d = load(memory, output + x * ox), load(memory, delta + x * dx)
                if gated:
                    d = select(greater(best, zero), d, zero * best)
                for i in range(top, bottom):
                    for j in range(left, end):
                        miss = less_or_greater(load(memory, source + i * down + j * right), best)
                        r = result + i * into_down + j * into_right
                        store(memory, r, load(memory, r) + select(miss, zero, d))
                        d = select(miss, d, zero)  # only the first maximum gets it


@inlined
def average_back(memory, table, t):
    """Run a POOL_BACK row of kind AVERAGE."""
    ky, kx, sy = three(table, t + KERNEL_Y)
    sx, py, px = three(table, t + STRIDE_X)
    height, breadth = at(table, t + HEIGHT), at(table, t + BREADTH)
    dc, dy, dx = three(table, t + DELTA + 1)
    rc, into_down, into_right = three(table, t + RESULT + 1)
    lines, positions = at(table, t + LINES), at(table, t + POSITIONS)
    part = splat(memory, 1.0 / (ky * kx))
    for c in range(at(table, t + CHANNELS)):
        result = at(table, t + RESULT) + c * rc
        _clear(memory, result, result + height * into_down, BYTES // memory.itemsize)
        for y in range(lines):
            delta = at(table, t + DELTA) + c * dc + y * dy
            top, bottom = _window(y, sy, py, ky, height)
            for x in range(positions):
                left, end = _window(x, sx, px, kx, breadth)
                d = load(memory, delta + x * dx) * part
                for i in range(top, bottom):
                    for j in range(left, end):
                        r = result + i * into_down + j * into_right
                        store(memory, r, load(memory, r) + d)
