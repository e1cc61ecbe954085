# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""What is measured of a step inside the training's own pass, while outputs and weights are in the cache.

Of every output, over the samples of the batch and its positions: mean and variance of each unit, and how
many numbers are not 0 or have a flat slope. Of every tensor what `statistics.step_sums` adds up. A chunk's
outputs are looked at between its forward and its backward pass (`look_at_outputs`), weights and gradients
around their update (`open_update`, `weigh`), some at a time. Nothing that the training reads is written.

Of a batch of several chunks every other one is looked at: even ones at even steps, odd ones at odd steps.

Sums of one unit are of distances to its mean at the watched step before: numbers that lie close together far
from 0 keep their variance.
"""

import math

from unstuck.nn.kernels.elementwise import memory_lanes
from unstuck.nn.kernels.jit import inlined, kernel
from unstuck.nn.kernels.operation import caller, flat, operation
from unstuck.nn.kernels.statistics import (
    ALONG,
    DRIFTS,
    LEVEL,
    PIECEWISE,
    PLAIN,
    SIGMOID,
    path_sums,
    step_sums,
)
from unstuck.nn.kernels.vectors import (
    at,
    fma,
    lane_numbers,
    lane_sum,
    lane_sums_at,
    less,
    less_or_greater,
    load,
    negative,
    put,
    select,
    splat,
    store,
)

# the head of a plan; behind it a row for each output, and for each tensor where it begins and its length
EVERY, OUTPUTS, TENSORS, UNITS = range(4)
"""Steps between two that are watched; how many outputs and tensors there are, and units of all outputs, each
output's rounded up to whole vectors."""
HEAD = 4
OFFSET, CHANNELS, LINES, POSITIONS, CHANNEL_STEP, LINE_STEP, POSITION_STEP, KIND = range(8)
ROW = 8

COUNT, SQUARES, FILLED, SLOPES, FLAT, MEANS, MEAN_SQUARES, SHIFTS = range(8)
"""Vectors of an output in a part of a batch, behind those of its units: samples; sums over units and
positions of squares, of numbers that are not 0, of slopes and of flat ones; and, once a step is closed, over
units of means, of their squares and of squares of distances between mean and centre."""
SUMS = 8

MEAN, SQUARE, DEVIATION, FILLED_SHARE, SLOPE, FLAT_SHARE = range(6)
"""What is found of an output: means over its units of their means, mean squares and variances; shares of
numbers that are not 0 and that have a flat slope, and the mean size of slopes as a share of the largest."""
FOUND = 6
"""Numbers that are found of an output, and of a tensor."""

TURNS = 16
"""Of so many watched steps the first also tells distances from the start, which change slowly, and the
direction of the gradient beside that of the step before: both need memory that the training does not."""
BLOCK = 1024
"""Numbers that are updated and weighed at once: they stay in the first cache."""
LARGEST = 1e30
"""A mean beyond it is not taken for the next step's centre."""

_LOOK = "vninnI"
_CLOSE = "vinnIIf"
_OPEN = "vnnIII"
_WEIGH = "vnnnIiIIIf"
call_look, call_close, call_open, call_weigh = (caller(shape) for shape in (_LOOK, _CLOSE, _OPEN, _WEIGH))


@inlined
def _add(memory, place, here, middle, moved, squares):
    """Take a vector of a unit into its sums."""
    away = select(here, load(memory, place) - middle, splat(memory, 0.0))
    return moved + away, fma(away, away, squares)


@inlined
def _add_filled(memory, place, here, filled):
    """Take a vector into the number of those that are not 0."""
    zero = splat(memory, 0.0)
    more = select(less_or_greater(load(memory, place), zero), filled + splat(memory, 1.0), filled)
    return select(here, more, filled)


@inlined
def _add_slope(memory, place, here, kind, steep, flats):
    """Take a vector of a sigmoid's or a hyperbolic tangent's unit into the sums of slopes."""
    zero, one, x = splat(memory, 0.0), splat(memory, 1.0), load(memory, place)
    slope = fma(negative(x), x, one)
    if kind == SIGMOID:
        slope = splat(memory, 4.0) * fma(negative(x), x, x)
    slope = select(less(slope, zero), negative(slope), slope)
    more = select(less(slope, splat(memory, LEVEL)), flats + one, flats)
    return select(here, steep + slope, steep), select(here, more, flats)


@operation(_LOOK)
def look_at_outputs(memory, plan, sums, centres, valid):
    """Add a chunk's outputs to the sums of its part of the batch: vectors, whose lanes are added up later.

    `sums`: of all units, and behind them SUMS of each output; `centres`: of all units.
    """
    memory, plan, sums, centres = flat(memory), flat(plan), flat(sums), flat(centres)
    lanes, zero = memory_lanes(memory), splat(memory, 0.0)
    here = less(lane_numbers(memory), splat(memory, float(valid)))
    place_of_unit, fields = 0, at(plan, UNITS) * lanes
    for output in range(at(plan, OUTPUTS)):
        row = HEAD + output * ROW
        kind, step, line_step = at(plan, row + KIND), at(plan, row + POSITION_STEP), at(plan, row + LINE_STEP)
        lines, positions = at(plan, row + LINES), at(plan, row + POSITIONS)
        start, channels = at(plan, row + OFFSET), at(plan, row + CHANNELS)
        squares, squares2, filled, filled2, steep, flats = zero, zero, zero, zero, zero, zero
        for channel in range(channels):
            middle = splat(memory, float(at(centres, place_of_unit // lanes)))
            moved, moved2 = load(sums, place_of_unit), zero
            for line in range(lines):
                place = start + channel * at(plan, row + CHANNEL_STEP) + line * line_step
                if kind == PIECEWISE:
                    for _ in range(positions // 2):  # two sums: none waits for the addition before
                        moved, squares = _add(memory, place, here, middle, moved, squares)
                        filled = _add_filled(memory, place, here, filled)
                        place += step
                        moved2, squares2 = _add(memory, place, here, middle, moved2, squares2)
                        filled2 = _add_filled(memory, place, here, filled2)
                        place += step
                    if positions % 2:
                        moved, squares = _add(memory, place, here, middle, moved, squares)
                        filled = _add_filled(memory, place, here, filled)
                else:
                    for _ in range(positions):
                        moved, squares = _add(memory, place, here, middle, moved, squares)
                        if kind != PLAIN:
                            steep, flats = _add_slope(memory, place, here, kind, steep, flats)
                        place += step
            store(sums, place_of_unit, moved + moved2)
            place_of_unit += lanes
        place_of_unit += -channels % lanes * lanes
        store(sums, fields + COUNT * lanes, load(sums, fields) + select(here, splat(memory, 1.0), zero))
        store(sums, fields + SQUARES * lanes, load(sums, fields + SQUARES * lanes) + squares + squares2)
        store(sums, fields + FILLED * lanes, load(sums, fields + FILLED * lanes) + filled + filled2)
        store(sums, fields + SLOPES * lanes, load(sums, fields + SLOPES * lanes) + steep)
        store(sums, fields + FLAT * lanes, load(sums, fields + FLAT * lanes) + flats)
        fields += SUMS * lanes


@kernel
def _close_outputs(plan, sums, centres, parts, found):
    """What the sums of all parts say of each output."""
    lanes, units, outputs = memory_lanes(sums), at(plan, UNITS), at(plan, OUTPUTS)
    zero, least = splat(sums, 0.0), splat(sums, -LARGEST)
    fields = units * lanes
    width = fields + outputs * SUMS * lanes
    for place in range(fields, width, lanes):
        for part in range(1, parts):
            store(sums, place, load(sums, place) + load(sums, part * width + place))
    unit = 0
    for output in range(outputs):
        row, place = HEAD + output * ROW, fields + output * SUMS * lanes
        positions = at(plan, row + LINES) * at(plan, row + POSITIONS)
        share = splat(sums, 1.0 / (float(lane_sum(load(sums, place + COUNT * lanes))) * positions))
        means, squares, shifts = zero, zero, zero
        for _ in range(0, at(plan, row + CHANNELS), lanes):
            total = lane_sums_at(sums, unit * lanes)
            for part in range(1, parts):
                total = total + lane_sums_at(sums, part * width + unit * lanes)
            shift = total * share
            mean = load(centres, unit) + shift
            means, squares, shifts = means + mean, fma(mean, mean, squares), fma(shift, shift, shifts)
            tame = select(less(mean, splat(sums, LARGEST)), mean, zero)  # NaN becomes 0
            store(centres, unit, select(less(tame, least), zero, tame))
            unit += lanes
        store(sums, place + MEANS * lanes, means)
        store(sums, place + MEAN_SQUARES * lanes, squares)
        store(sums, place + SHIFTS * lanes, shifts)
    for i in range(0, outputs * SUMS, lanes):  # the sums over lanes stand where the first vectors stood
        store(sums, fields + i, lane_sums_at(sums, fields + i * lanes))
    for output in range(outputs):
        row, place = HEAD + output * ROW, fields + output * SUMS
        channels = float(at(plan, row + CHANNELS))
        positions = at(plan, row + LINES) * at(plan, row + POSITIONS)
        count = channels * float(at(sums, place + COUNT)) * positions
        spread = float(at(sums, place + SQUARES)) / count - float(at(sums, place + SHIFTS)) / channels
        spread = 0.0 if spread < 0.0 else spread  # noqa: FURB136  NaN stays NaN
        put(found, output * FOUND + MEAN, float(at(sums, place + MEANS)) / channels)
        put(found, output * FOUND + SQUARE, spread + float(at(sums, place + MEAN_SQUARES)) / channels)
        put(found, output * FOUND + DEVIATION, spread)
        put(found, output * FOUND + FILLED_SHARE, float(at(sums, place + FILLED)) / count)
        put(found, output * FOUND + SLOPE, float(at(sums, place + SLOPES)) / count)
        put(found, output * FOUND + FLAT_SHARE, float(at(sums, place + FLAT)) / count)


@operation(_CLOSE)
def close_outputs(plan, sums, centres, parts, turn, found):
    """Write down what is found of the outputs of a step; sums of tensors begin at 0, those of its turn too.

    `found`: FOUND numbers of each output, and then of each tensor.
    """
    plan, sums, centres, found = flat(plan), flat(sums), flat(centres), flat(found)
    _close_outputs(plan, sums, centres, parts, found)
    for tensor in range(at(plan, TENSORS)):
        for field in range(FOUND):
            told = turn == 0 or (field != DRIFTS and field != ALONG)
            put(found, (at(plan, OUTPUTS) + tensor) * FOUND + field, 0.0 if told else math.nan)


@operation(_OPEN)
def open_update(params, held, size, begin, end):
    """Keep some parameters as they are before an update."""
    params, held = flat(params), flat(held)
    for i in range(begin, end, memory_lanes(params)):
        store(held, 2 * size + i - begin, load(params, i))


@operation(_WEIGH)
def weigh(params, gradients, held, size, plan, turn, begin, end, found):
    """Add the numbers from `begin` to before `end` to what is found of their tensors, after their update.

    `held`: parameters at the start, and the gradients of the step before turn 0, `size` numbers each, and
    parameters before this update.
    """
    params, gradients, held, plan, found = flat(params), flat(gradients), flat(held), flat(plan), flat(found)
    outputs = at(plan, OUTPUTS)
    for tensor in range(at(plan, TENSORS)):
        row, place = HEAD + ROW * outputs + 2 * tensor, (outputs + tensor) * FOUND
        first = max(at(plan, row), begin)
        last = min(at(plan, row) + at(plan, row + 1), end)
        if first < last:
            step_sums(held, 2 * size - begin, params, gradients, first, last, found, place)
            if turn == 0:
                path_sums(held, params, gradients, held, size, first, last, found, place)
    if turn == TURNS - 1:
        for i in range(begin, end, memory_lanes(params)):
            store(held, size + i, load(gradients, i))
