# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Softmax and its logarithm over channels (axis 1 of a batch), at every position.

y_i = e**(x_i - m) / sum_j e**(x_j - m),  m = max x        dx_i = y_i (d_i - sum_j d_j y_j)
y_i = x_i - m - log sum_j e**(x_j - m)                     dx_i = d_i - e**y_i sum_j d_j
"""

import math

from unstuck.nn.kernels.functions import exp
from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.table import LOGARITHM
from unstuck.nn.kernels.vectors import (
    BYTES,
    at,
    different,
    either,
    fma,
    greater,
    load,
    put,
    select,
    splat,
    store,
)

SOURCE, OUTPUT, DELTA, RESULT, CHANNELS, LINES, POSITIONS = range(1, 8)
SOURCE_STRIDES, OUTPUT_STRIDES, DELTA_STRIDES, RESULT_STRIDES = 8, 11, 14, 17
KIND = 20


@inlined
def highest(memory, start, step, count):
    """Largest of `count` vectors, lane by lane; NaN wins."""
    top = load(memory, start)
    for i in range(1, count):
        top = larger(load(memory, start + i * step), top)
    return top


@inlined
def larger(v, top):
    """The larger of two vectors, lane by lane; a NaN in the first wins."""
    return select(either(greater(v, top), different(v, v)), v, top)


@inlined
def softmax(memory, table, t):
    """Run a SOFTMAX row."""
    channels = at(table, t + CHANNELS)
    sc, oc = at(table, t + SOURCE_STRIDES), at(table, t + OUTPUT_STRIDES)
    for y in range(at(table, t + LINES)):
        for x in range(at(table, t + POSITIONS)):
            s = (
                at(table, t + SOURCE)
                + y * at(table, t + SOURCE_STRIDES + 1)
                + x * at(table, t + SOURCE_STRIDES + 2)
            )
            o = (
                at(table, t + OUTPUT)
                + y * at(table, t + OUTPUT_STRIDES + 1)
                + x * at(table, t + OUTPUT_STRIDES + 2)
            )
            top = highest(memory, s, sc, channels)
            total = splat(memory, 0.0)
            for c in range(channels):
                e = exp(load(memory, s + c * sc) - top)
                total = total + e
                store(memory, o + c * oc, e)
            if at(table, t + KIND) == LOGARITHM:
                store(memory, o, total)
                for lane in range(o, o + BYTES // memory.itemsize):
                    put(memory, lane, memory.dtype.type(math.log(float(at(memory, lane)))))
                rest = load(memory, o)
                for c in range(channels):
                    store(memory, o + c * oc, load(memory, s + c * sc) - top - rest)
            else:
                for c in range(channels):
                    store(memory, o + c * oc, load(memory, o + c * oc) / total)


@inlined
def softmax_back(memory, table, t):
    """Run a SOFTMAX_BACK row."""
    channels = at(table, t + CHANNELS)
    oc, dc, rc = at(table, t + OUTPUT_STRIDES), at(table, t + DELTA_STRIDES), at(table, t + RESULT_STRIDES)
    for y in range(at(table, t + LINES)):
        for x in range(at(table, t + POSITIONS)):
            o = (
                at(table, t + OUTPUT)
                + y * at(table, t + OUTPUT_STRIDES + 1)
                + x * at(table, t + OUTPUT_STRIDES + 2)
            )
            d = (
                at(table, t + DELTA)
                + y * at(table, t + DELTA_STRIDES + 1)
                + x * at(table, t + DELTA_STRIDES + 2)
            )
            r = (
                at(table, t + RESULT)
                + y * at(table, t + RESULT_STRIDES + 1)
                + x * at(table, t + RESULT_STRIDES + 2)
            )
            inner = splat(memory, 0.0)
            if at(table, t + KIND) == LOGARITHM:
                for c in range(channels):
                    inner = inner + load(memory, d + c * dc)
                for c in range(channels):
                    part = exp(load(memory, o + c * oc)) * inner
                    store(memory, r + c * rc, load(memory, d + c * dc) - part)
                continue
            for c in range(channels):
                inner = fma(load(memory, o + c * oc), load(memory, d + c * dc), inner)
            for c in range(channels):
                store(memory, r + c * rc, load(memory, o + c * oc) * (load(memory, d + c * dc) - inner))
