# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""What is measured of outputs, weights and gradients where they lie: one pass over each, sums of vectors.

Of one number of an output (a unit at a position), over N samples, with x_0 the first sample's:

    m = sum (x - x_0) / N        mean = x_0 + m        variance = sum (x - x_0)**2 / N - m**2

Differences to the first sample are exactly 0 where an output is constant, and lose little where it is not.
A vector adds up at most some hundred numbers in each lane before it goes into a float64. Where a sum of
a tensor's squares may have overflowed or vanished, it is made again of float64 squares; those of outputs are
not: whoever reads them sees it.
"""

import numpy as np

from unstuck.nn.kernels.elementwise import memory_lanes
from unstuck.nn.kernels.jit import entry, kernel
from unstuck.nn.kernels.vectors import (
    at,
    fma,
    lane_numbers,
    lane_sum,
    less,
    less_or_greater,
    load,
    negative,
    put,
    select,
    splat,
)

# fields of an output in a plan
OFFSET, CHANNELS, LINES, POSITIONS, CHANNEL_STEP, LINE_STEP, POSITION_STEP, KIND = range(8)
PLAIN, PIECEWISE, SIGMOID, TANH = range(4)
"""Kinds: what else than means is measured of an output."""

MEANS, SQUARES, WITHIN, DEVIATION, DEAD, FILLED, SLOPE, FLAT = range(8)
"""What is found of an output. Sums over units and positions: of means over samples, of mean squares, of
variances. Sums over units: of variances over samples and positions, of units that are 0 throughout. Sums over
single numbers: of those that are not 0, of slopes' sizes as shares of the largest, of flat slopes."""

WEIGHTS, GRADIENTS, UPDATES, DRIFTS, ALONG, FILLED_GRADIENTS = range(6)
"""What is found of a tensor: sums of squares of weights, gradients, updates and distances from the start; of
products with the gradient before; of gradients that are not 0."""

LEVEL = 0.05
"""A slope below this share of the largest is flat."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Sums of squares outside of these are made again of float64 squares (float32 ends near 1e-38 and 1e38)."""
_RUN = 128
"""Vectors that are added up before their sum goes into a float64."""


@kernel
def _number(memory, place, size, samples, kind):
    """Of one number: mean, variance, how many are not 0, sum of slopes, how many of them are flat."""
    lanes = memory_lanes(memory)
    first = float(at(memory, place))
    begin, zero, one = splat(memory, first), splat(memory, 0.0), splat(memory, 1.0)
    moved, squares, filled, slopes, flat = zero, zero, zero, zero, zero
    for chunk in range((samples + lanes - 1) // lanes):
        x, here = load(memory, place + chunk * size), one
        left = samples - chunk * lanes
        if left < lanes:  # lanes without a sample
            some = less(lane_numbers(memory), splat(memory, float(left)))
            x, here = select(some, x, begin), select(some, one, zero)
        away = x - begin
        moved = moved + away
        squares = fma(away, away, squares)
        if kind == PIECEWISE:
            filled = filled + select(less_or_greater(x, zero), here, zero)
        elif kind != PLAIN:
            slope = fma(negative(x), x, one)
            if kind == SIGMOID:
                slope = splat(memory, 4.0) * fma(negative(x), x, x)
            slope = select(less(slope, zero), negative(slope), slope)
            slopes = fma(slope, here, slopes)
            flat = flat + select(less(slope, splat(memory, LEVEL)), here, zero)
    shift = float(lane_sum(moved)) / samples
    variance = max(float(lane_sum(squares)) / samples - shift * shift, 0.0)
    some, steep, level = 0.0, 0.0, 0.0
    if kind == PIECEWISE:
        some = float(lane_sum(filled))
    elif kind != PLAIN:
        steep, level = float(lane_sum(slopes)), float(lane_sum(flat))
    return first + shift, variance, some, steep, level


@entry
def reduce_outputs(memory, plan, size, samples, found):
    """Reduce the outputs of some samples, all of whose chunks are in memory, `size` apart.

    Args:
        memory: of the chunks.
        plan: (outputs, 8), see the fields.
        size: numbers of a chunk.
        samples: how many there are.
        found: (outputs, 8), receives the sums.
    """
    for row in range(plan.shape[0]):
        sums = found[row]
        sums[:] = 0.0
        positions = plan[row, LINES] * plan[row, POSITIONS]
        for channel in range(plan[row, CHANNELS]):
            within, shift, across, filled = 0.0, 0.0, 0.0, 0.0
            start = plan[row, OFFSET] + channel * plan[row, CHANNEL_STEP]
            begin = float(at(memory, start))
            for line in range(plan[row, LINES]):
                for column in range(plan[row, POSITIONS]):
                    place = start + line * plan[row, LINE_STEP] + column * plan[row, POSITION_STEP]
                    mean, variance, some, slope, flat = _number(memory, place, size, samples, plan[row, KIND])
                    sums[MEANS] += mean
                    sums[SQUARES] += variance + mean * mean
                    within += variance
                    shift += mean - begin
                    across += (mean - begin) * (mean - begin)
                    filled += some
                    sums[SLOPE] += slope
                    sums[FLAT] += flat
            sums[WITHIN] += within
            shift /= positions
            sums[DEVIATION] += within / positions + max(across / positions - shift * shift, 0.0)
            sums[FILLED] += filled
            if filled == 0.0:
                sums[DEAD] += 1.0


@kernel
def double(array, i):
    """A number as a float64 (Numba's `float` leaves a float32 as it is)."""
    return np.float64(at(array, i))


@kernel
def step_sums(before, before_at, after, gradients, begin, end, found, place):
    """Add the sums of what one update did to a tensor, or a part of one, to `found` from `place` on.

    Args:
        before: the parameters before it; the number i of `after` is there the number `before_at` + i.
        before_at: see there.
        after: the parameters after it.
        gradients: that it followed.
        begin: first number.
        end: behind the last number.
        found: float64, receives all sums but DRIFTS and ALONG.
        place: where the tensor's begin.
    """
    lanes, zero, one = memory_lanes(after), splat(after, 0.0), splat(after, 1.0)
    squares, slopes, moves, filled = 0.0, 0.0, 0.0, 0.0
    whole = begin + (end - begin) // lanes * lanes
    for run in range(begin, whole, _RUN * lanes):
        weights, grads, updates, some = zero, zero, zero, zero
        for i in range(run, min(run + _RUN * lanes, whole), lanes):
            w, g = load(before, before_at + i), load(gradients, i)
            update = load(after, i) - w
            weights, grads, updates = fma(w, w, weights), fma(g, g, grads), fma(update, update, updates)
            some = select(less_or_greater(g, zero), some + one, some)
        squares += float(lane_sum(weights))
        slopes += float(lane_sum(grads))
        moves += float(lane_sum(updates))
        filled += float(lane_sum(some))
    for i in range(whole, end):
        w, g = double(before, before_at + i), double(gradients, i)
        squares += w * w
        slopes += g * g
        moves += (double(after, i) - w) ** 2
        filled += 1.0 if g < 0.0 or g > 0.0 else 0.0
    if _doubtful(squares, 0.0) or _doubtful(slopes, filled) or _doubtful(moves, 0.0):
        squares, slopes, moves = 0.0, 0.0, 0.0
        for i in range(begin, end):
            w, g = double(before, before_at + i), double(gradients, i)
            squares += w * w
            slopes += g * g
            moves += (double(after, i) - w) ** 2
    put(found, place + WEIGHTS, at(found, place + WEIGHTS) + squares)
    put(found, place + GRADIENTS, at(found, place + GRADIENTS) + slopes)
    put(found, place + UPDATES, at(found, place + UPDATES) + moves)
    put(found, place + FILLED_GRADIENTS, at(found, place + FILLED_GRADIENTS) + filled)


@kernel
def _doubtful(total, filled):
    """Whether a sum of squares may have vanished or overflowed; it is 0 if no number is known not to be."""
    return not total < LARGEST or (total < SMALLEST and (total > 0.0 or filled > 0.0))


@kernel
def path_sums(start, after, gradients, earlier, earlier_at, begin, end, found, place):
    """Add DRIFTS and ALONG of a tensor, or a part of one, to `found` from `place` on.

    Args:
        start: the parameters before the first step.
        after: the parameters now.
        gradients: of this step.
        earlier: of the step before; the number i of `gradients` is there the number `earlier_at` + i.
        earlier_at: see there.
        begin: first number.
        end: behind the last number.
        found: float64, receives the sums.
        place: where the tensor's begin.
    """
    lanes, zero = memory_lanes(after), splat(after, 0.0)
    ways, products = 0.0, 0.0
    whole = begin + (end - begin) // lanes * lanes
    for run in range(begin, whole, _RUN * lanes):
        drifts, along = zero, zero
        for i in range(run, min(run + _RUN * lanes, whole), lanes):
            drift = load(after, i) - load(start, i)
            drifts = fma(drift, drift, drifts)
            along = fma(load(gradients, i), load(earlier, earlier_at + i), along)
        ways += float(lane_sum(drifts))
        products += float(lane_sum(along))
    for i in range(whole, end):
        ways += (double(after, i) - double(start, i)) ** 2
        products += double(gradients, i) * double(earlier, earlier_at + i)
    if _doubtful(ways, 0.0):
        ways = 0.0
        for i in range(begin, end):
            ways += (double(after, i) - double(start, i)) ** 2
    put(found, place + DRIFTS, at(found, place + DRIFTS) + ways)
    put(found, place + ALONG, at(found, place + ALONG) + products)


@entry
def reduce_weights(start, before, after, gradients, earlier, tensors, found):
    """Reduce the tensors of one step.

    Args:
        start: the parameters at the start, flat; like them `before` and `after` the update, and the gradients
            of this step and of the one measured `earlier`.
        before: see there.
        after: see there.
        gradients: see there.
        earlier: see there.
        tensors: (tensors, 2) where each begins and how many numbers it has.
        found: (tensors, 6), receives the sums.
    """
    sums = found.reshape(-1)
    for row in range(tensors.shape[0]):
        begin, end = tensors[row, 0], tensors[row, 0] + tensors[row, 1]
        place = row * found.shape[1]
        found[row] = 0.0
        step_sums(before, 0, after, gradients, begin, end, sums, place)
        path_sums(start, after, gradients, earlier, 0, begin, end, sums, place)
