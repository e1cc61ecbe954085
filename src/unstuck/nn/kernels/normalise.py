# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Batch normalisation: each channel's numbers, over samples and positions, to mean 0 and variance 1.

With n numbers x_i of one channel, m their mean, v their variance, d the gradient with respect to y:

    forward            v = sum_i (x_i - m)**2 / n,   r = 1 / sqrt(v + eps),   h_i = (x_i - m) r
                       y_i = w h_i + b
    weight, bias       dw = sum_i d_i h_i,           db = sum_i d_i
    input gradient     dx_i = w r (d_i - db / n - h_i dw / n)        (m and v depend on every x_i)

A sum over the batch goes over several chunks. Each chunk leaves its own share of it (`moments`,
`slope_sums`); then, when all chunks have come that far, the shares are added in the chunks' order, in
float64, and the total is written into the memory of every chunk (`join_moments`, `join_slopes`). The variance
of a chunk is taken around the chunk's own mean and moved to the common one afterwards, which loses no digits.

Running statistics stand behind the parameters. They follow the batches in a training only, with the
unbiased variance; an evaluation normalises with them instead (unless the layer keeps none).

References:
    S. Ioffe, C. Szegedy (2015), arXiv 1502.03167.
    T. Chan, G. Golub, R. LeVeque (1983), Algorithms for computing the sample variance.
"""

import math

from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.rows import three
from unstuck.nn.kernels.vectors import (
    BYTES,
    at,
    fma,
    lane_numbers,
    lane_sum,
    less,
    load,
    put,
    select,
    splat,
    store,
)

# fields of all six rows; SECOND is y in the forward pass and d in the backward pass
SOURCE, CHANNELS, LINES, POSITIONS = 1, 2, 3, 4
SOURCE_STRIDES = 5
SECOND, SECOND_STRIDES = 8, 9
RESULT, RESULT_STRIDES = 12, 13
SHARES = 16
"""Where in a chunk's memory four vectors of each channel stand: all means, all r, two kinds of shares."""
AFFINE, WEIGHT, BIAS = 17, 18, 19
TRACKED, MEAN, VARIANCE, COUNT = 20, 21, 22, 23
"""Whether there are running statistics, and where among the parameters."""


@inlined
def within(memory, x, valid):
    """X in the first `valid` lanes, 0 in those that hold no sample."""
    return select(less(lane_numbers(memory), splat(memory, float(valid))), x, splat(memory, 0.0))


@inlined
def moments(params, memory, table, t, eps, valid, batch_statistics):
    """Run a MOMENTS row: this chunk's mean of each channel, and its sum of squares around that.

    Without batch statistics: the running mean, and r of the running variance, ready for use.
    """
    lanes = BYTES // memory.itemsize
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = three(table, t + SOURCE_STRIDES)
    shares = at(table, t + SHARES)
    running = at(table, t + TRACKED) != 0 and not batch_statistics
    for c in range(channels):
        if running:
            mean = splat(memory, float(at(params, at(table, t + MEAN) + c)))
            variance = float(at(params, at(table, t + VARIANCE) + c))
            store(memory, shares + c * lanes, mean)
            store(memory, shares + (channels + c) * lanes, splat(memory, 1.0 / math.sqrt(variance + eps)))
            continue
        start = at(table, t + SOURCE) + c * sc
        total = splat(memory, 0.0)
        for y in range(lines):
            for x in range(positions):
                total = total + load(memory, start + y * sy + x * sx)
        share = float(lane_sum(within(memory, total, valid))) / (valid * lines * positions)
        mean, total = splat(memory, share), splat(memory, 0.0)
        for y in range(lines):
            for x in range(positions):
                off = load(memory, start + y * sy + x * sx) - mean
                total = fma(off, off, total)
        squares = lane_sum(within(memory, total, valid))
        put(memory, shares + (2 * channels + c) * lanes, memory.dtype.type(share))
        put(memory, shares + (3 * channels + c) * lanes, squares)


@inlined
def join_moments(params, memory, table, t, eps, momentum, size, count, batch_statistics, follow):
    """Run a JOIN_MOMENTS row over all chunks of a batch of `count` samples, `size` numbers apart.

    `follow`: move the running statistics by `momentum`; a negative one stands for the mean of all batches.
    """
    tracked = at(table, t + TRACKED) != 0
    if tracked and not batch_statistics:
        return
    lanes = BYTES // memory.itemsize
    channels, area = at(table, t + CHANNELS), at(table, t + LINES) * at(table, t + POSITIONS)
    shares, n = at(table, t + SHARES), count * area
    part = momentum
    if tracked and follow:
        batches = float(at(params, at(table, t + COUNT))) + 1.0
        put(params, at(table, t + COUNT), params.dtype.type(batches))
        if momentum < 0.0:
            part = 1.0 / batches
    for c in range(channels):
        total, squares = 0.0, 0.0
        for first in range(0, count, lanes):
            place = first // lanes * size + shares + (2 * channels + c) * lanes
            total += float(at(memory, place)) * (min(lanes, count - first) * area)
        mean = total / n
        for first in range(0, count, lanes):
            place = first // lanes * size + shares + (2 * channels + c) * lanes
            off = float(at(memory, place)) - mean
            off *= off * (min(lanes, count - first) * area)
            squares += float(at(memory, place + channels * lanes)) + off
        variance = squares / n
        for first in range(0, count, lanes):
            place = first // lanes * size + shares + c * lanes
            store(memory, place, splat(memory, mean))
            store(memory, place + channels * lanes, splat(memory, 1.0 / math.sqrt(variance + eps)))
        if tracked and follow:
            place = at(table, t + MEAN) + c
            moved = (1.0 - part) * float(at(params, place)) + part * mean
            put(params, place, params.dtype.type(moved))
            place = at(table, t + VARIANCE) + c
            moved = (1.0 - part) * float(at(params, place)) + part * squares / (n - 1)
            put(params, place, params.dtype.type(moved))


@inlined
def normalise(params, memory, table, t):
    """Run a NORMALISE row: y of this chunk."""
    lanes = BYTES // memory.itemsize
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = three(table, t + SOURCE_STRIDES)
    oc, oy, ox = three(table, t + SECOND_STRIDES)
    shares = at(table, t + SHARES)
    for c in range(channels):
        mean, r = load(memory, shares + c * lanes), load(memory, shares + (channels + c) * lanes)
        w, b = splat(memory, 1.0), splat(memory, 0.0)
        if at(table, t + AFFINE) != 0:
            w = splat(memory, float(at(params, at(table, t + WEIGHT) + c)))
            b = splat(memory, float(at(params, at(table, t + BIAS) + c)))
        for y in range(lines):
            start = at(table, t + SOURCE) + c * sc + y * sy
            out = at(table, t + SECOND) + c * oc + y * oy
            for x in range(positions):
                store(memory, out + x * ox, fma((load(memory, start + x * sx) - mean) * r, w, b))


@inlined
def slope_sums(memory, table, t, valid):
    """Run a SLOPE_SUMS row: this chunk's sums of d and of d h."""
    lanes = BYTES // memory.itemsize
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = three(table, t + SOURCE_STRIDES)
    dc, dy, dx = three(table, t + SECOND_STRIDES)
    shares = at(table, t + SHARES)
    for c in range(channels):
        mean, r = load(memory, shares + c * lanes), load(memory, shares + (channels + c) * lanes)
        plain, weighted = splat(memory, 0.0), splat(memory, 0.0)
        for y in range(lines):
            start = at(table, t + SOURCE) + c * sc + y * sy
            delta = at(table, t + SECOND) + c * dc + y * dy
            for x in range(positions):
                d = load(memory, delta + x * dx)
                plain = plain + d
                weighted = fma(d, (load(memory, start + x * sx) - mean) * r, weighted)
        put(memory, shares + (2 * channels + c) * lanes, lane_sum(within(memory, plain, valid)))
        put(memory, shares + (3 * channels + c) * lanes, lane_sum(within(memory, weighted, valid)))


@inlined
def join_slopes(gradients, memory, table, t, size, count):
    """Run a JOIN_SLOPES row over all chunks: add dw and db, and give every chunk their means."""
    lanes = BYTES // memory.itemsize
    channels, area = at(table, t + CHANNELS), at(table, t + LINES) * at(table, t + POSITIONS)
    shares, n = at(table, t + SHARES), count * area
    for c in range(channels):
        plain, weighted = 0.0, 0.0
        for first in range(0, count, lanes):
            place = first // lanes * size + shares + (2 * channels + c) * lanes
            plain += float(at(memory, place))
            weighted += float(at(memory, place + channels * lanes))
        for first in range(0, count, lanes):
            place = first // lanes * size + shares + (2 * channels + c) * lanes
            store(memory, place, splat(memory, plain / n))
            store(memory, place + channels * lanes, splat(memory, weighted / n))
        if at(table, t + AFFINE) != 0:
            place = at(table, t + WEIGHT) + c
            put(gradients, place, gradients.dtype.type(float(at(gradients, place)) + weighted))
            place = at(table, t + BIAS) + c
            put(gradients, place, gradients.dtype.type(float(at(gradients, place)) + plain))


@inlined
def normalise_back(params, memory, table, t, valid):
    """Run a NORMALISE_BACK row: dx of this chunk; 0 in the lanes that hold no sample, as it was in d."""
    lanes = BYTES // memory.itemsize
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = three(table, t + SOURCE_STRIDES)
    dc, dy, dx = three(table, t + SECOND_STRIDES)
    rc, ry, rx = three(table, t + RESULT_STRIDES)
    shares = at(table, t + SHARES)
    for c in range(channels):
        mean, r = load(memory, shares + c * lanes), load(memory, shares + (channels + c) * lanes)
        plain = load(memory, shares + (2 * channels + c) * lanes)
        weighted = load(memory, shares + (3 * channels + c) * lanes)
        slope = r
        if at(table, t + AFFINE) != 0:
            slope = r * splat(memory, float(at(params, at(table, t + WEIGHT) + c)))
        for y in range(lines):
            start = at(table, t + SOURCE) + c * sc + y * sy
            delta = at(table, t + SECOND) + c * dc + y * dy
            result = at(table, t + RESULT) + c * rc + y * ry
            for x in range(positions):
                h = (load(memory, start + x * sx) - mean) * r
                d = load(memory, delta + x * dx) - plain - h * weighted
                store(memory, result + x * rx, within(memory, slope * d, valid))
