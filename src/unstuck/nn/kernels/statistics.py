# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""What is measured of outputs, weights and gradients where they lie: one pass over each, sums of vectors.

Of one number of an output (a unit at a position), over N samples, with x_0 the first sample's:

    m = sum (x - x_0) / N        mean = x_0 + m        variance = sum (x - x_0)**2 / N - m**2

Differences to the first sample are exactly 0 where an output is constant, and lose little where it is not.
A vector adds up at most some dozens of numbers in each lane before it goes into a float64. Nothing is scaled:
sums of squares that overflow or vanish are seen by whoever reads them.
"""

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
_RUN = 32
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
    lanes = memory_lanes(before)
    zero, one = splat(before, 0.0), splat(before, 1.0)
    for row in range(tensors.shape[0]):
        sums = found[row]
        sums[:] = 0.0
        begin, end = tensors[row, 0], tensors[row, 0] + tensors[row, 1]
        for run in range(begin, end, _RUN * lanes):
            weights, slopes, updates, drifts, along, filled = zero, zero, zero, zero, zero, zero
            for i in range(run, min(run + _RUN * lanes, end), lanes):
                w, g, old = load(before, i), load(gradients, i), load(earlier, i)
                update, drift = load(after, i) - w, load(after, i) - load(start, i)
                if end - i < lanes:  # behind the tensor
                    some = less(lane_numbers(before), splat(before, float(end - i)))
                    w, g, old = select(some, w, zero), select(some, g, zero), select(some, old, zero)
                    update, drift = select(some, update, zero), select(some, drift, zero)
                weights, slopes = fma(w, w, weights), fma(g, g, slopes)
                updates, drifts = fma(update, update, updates), fma(drift, drift, drifts)
                along = fma(g, old, along)
                filled = filled + select(less_or_greater(g, zero), one, zero)
            sums[WEIGHTS] += float(lane_sum(weights))
            sums[GRADIENTS] += float(lane_sum(slopes))
            sums[UPDATES] += float(lane_sum(updates))
            sums[DRIFTS] += float(lane_sum(drifts))
            sums[ALONG] += float(lane_sum(along))
            sums[FILLED_GRADIENTS] += float(lane_sum(filled))
