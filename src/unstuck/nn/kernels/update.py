# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Optimisers: one pass over the parameters after the gradients of a batch are complete.

g is the gradient after clipping, c the weight decay, r the learning rate, t the number of updates with this.

    SGD        g = g + c w;  v = m v + g;  w = w - r v           (Nesterov: w = w - r (g + m v))
    Adam       g = g + c w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g**2
               w = w - r / (1 - b1**t) m / (sqrt(v) / sqrt(1 - b2**t) + eps)
    AdamW      w = (1 - r c) w, and then Adam without c
    GrowingAdam  c1 = c1 + (1 - b1) (1 - c1);  c2 = c2 + (1 - b2) (1 - c2);  m and v as Adam's
               w = w - r m / (c1 (sqrt(v / c2) + eps))              (c1 = 1 - b1**t, t the parameter's own)
    RMSprop    g = g + c w;  s = a s + (1 - a) g**2;  w = w - r g / (sqrt(s) + eps)
               centred: a = a a' + (1 - a') g  and  sqrt(s - a**2);  with momentum: as SGD on g / (...)

`segments`: for each tensor offset, length (a multiple of the vector width) and whether it is trained.
`state`: as many arrays of the parameters' layout as the optimiser needs, one after another; all 0 at first.
The loops have no branches: each would double them, and the time that they take to compile.
"""

import math

from unstuck.nn.kernels.jit import inlined, kernel
from unstuck.nn.kernels.table import ADAM, DESCENT, GROWING_ADAM, RMSPROP
from unstuck.nn.kernels.vectors import (
    BYTES,
    at,
    fma,
    greater,
    lane_sum,
    less,
    load,
    select,
    splat,
    square_root,
    store,
)

# fields of `numbers`; an optimiser reads those that it has
SCALE, CLIP_NORM, CLIP_VALUE, DECAY, MOMENTUM, BETA, EPS, OPTION, DECOUPLED = range(9)
NUMBERS = 9


@kernel
def clipping_factor(gradients, segments, tensors, limit):
    """What all trained gradients are multiplied by so that their norm together is at most `limit`."""
    total = 0.0
    for s in range(tensors):
        if at(segments, 3 * s + 2) != 0:
            squares = splat(gradients, 0.0)
            first = at(segments, 3 * s)
            for i in range(first, first + at(segments, 3 * s + 1), BYTES // gradients.itemsize):
                g = load(gradients, i)
                squares = fma(g, g, squares)
            total += float(lane_sum(squares))
    factor = limit / (math.sqrt(total) + 1e-6)  # the 1e-6 is PyTorch's
    return min(factor, 1.0)  # NaN stays NaN


@kernel
def decayed(params, gradients, i, factor, bound, decay):
    """A vector of gradients after clipping and weight decay."""
    g = load(gradients, i) * splat(params, factor)
    high, low = splat(params, bound), splat(params, -bound)
    g = select(greater(g, high), high, g)
    g = select(less(g, low), low, g)
    return fma(splat(params, decay), load(params, i), g)


@kernel
def add_parts(gradients, size, parts, first, last):
    """Add the gradients of all parts of a batch to those of the first part, between two places.

    `gradients`: one array of `size` for each part, one after another. The parts are added in their order.
    """
    for i in range(first, last, BYTES // gradients.itemsize):
        total = load(gradients, i)
        for part in range(1, parts):
            total = total + load(gradients, part * size + i)
        store(gradients, i, total)


@inlined
def update(rule, params, state, gradients, size, segments, tensors, numbers, rate, step, begin, end):
    """Make one step by a rule for the parameters between two places; `step` counts the steps made before."""
    factor = 1.0
    if numbers[CLIP_NORM] < math.inf:
        factor = clipping_factor(gradients, segments, tensors, numbers[CLIP_NORM])
    for s in range(tensors):
        if at(segments, 3 * s + 2) != 0:
            first, last = at(segments, 3 * s), at(segments, 3 * s) + at(segments, 3 * s + 1)
            first, last = max(first, begin), min(last, end)
            rule(params, state, gradients, size, first, last, factor, numbers, rate, step + 1)


@kernel
def descend(params, state, gradients, size, first, last, factor, numbers, rate, t):
    """SGD; OPTION: Nesterov's momentum, w = w - r (a g + b v) with a = 1 and b = m, not 0 and 1."""
    keep, down = splat(params, numbers[MOMENTUM]), splat(params, -rate)
    a, b = splat(params, numbers[OPTION]), splat(params, 1.0)
    if numbers[OPTION] != 0.0:
        b = keep
    for i in range(first, last, BYTES // params.itemsize):
        g = decayed(params, gradients, i, factor, numbers[CLIP_VALUE], numbers[DECAY])
        v = fma(keep, load(state, i), g)
        store(state, i, v)
        store(params, i, fma(down, fma(b, v, a * g), load(params, i)))


@kernel
def adam(params, state, gradients, size, first, last, factor, numbers, rate, t):
    """Adam; OPTION: the largest v so far stands for v (AMSGrad)."""
    largest_at = (2 if numbers[OPTION] != 0.0 else 1) * size
    b1, b2 = numbers[MOMENTUM], numbers[BETA]
    root_scale = splat(params, math.sqrt(1.0 - b2**t))
    down = splat(params, -rate / (1.0 - b1**t))
    stay = splat(params, 1.0 - rate * numbers[DECOUPLED])
    eps = splat(params, numbers[EPS])
    new1, keep2, new2 = splat(params, 1.0 - b1), splat(params, b2), splat(params, 1.0 - b2)
    for i in range(first, last, BYTES // params.itemsize):
        g = decayed(params, gradients, i, factor, numbers[CLIP_VALUE], numbers[DECAY])
        m, v = load(state, i), load(state, size + i)
        m = fma(new1, g - m, m)
        v = fma(new2 * g, g, keep2 * v)
        store(state, i, m)
        store(state, size + i, v)
        largest = load(state, largest_at + i)
        v = select(less(v, largest), largest, v)
        store(state, largest_at + i, v)
        root = square_root(v) / root_scale + eps
        store(params, i, fma(down, m / root, load(params, i) * stay))


@kernel
def growing_adam(params, state, gradients, size, first, last, factor, numbers, rate, t):
    """Adam that counts each parameter's own steps: c1 and c2 are the means of a gradient that is 1."""
    b1, b2 = numbers[MOMENTUM], numbers[BETA]
    down, eps, one = splat(params, -rate), splat(params, numbers[EPS]), splat(params, 1.0)
    new1, keep2, new2 = splat(params, 1.0 - b1), splat(params, b2), splat(params, 1.0 - b2)
    for i in range(first, last, BYTES // params.itemsize):
        g = decayed(params, gradients, i, factor, numbers[CLIP_VALUE], numbers[DECAY])
        m, v = load(state, i), load(state, size + i)
        c1, c2 = load(state, 2 * size + i), load(state, 3 * size + i)
        m = fma(new1, g - m, m)
        v = fma(new2 * g, g, keep2 * v)
        c1 = fma(new1, one - c1, c1)
        c2 = fma(new2, one - c2, c2)
        store(state, i, m)
        store(state, size + i, v)
        store(state, 2 * size + i, c1)
        store(state, 3 * size + i, c2)
        root = square_root(v / c2) + eps
        store(params, i, fma(down, m / (c1 * root), load(params, i)))


@kernel
def rmsprop(params, state, gradients, size, first, last, factor, numbers, rate, t):
    """RMSprop; BETA is its alpha; OPTION: centred."""
    keep, new = splat(params, numbers[BETA]), splat(params, 1.0 - numbers[BETA])
    momentum, down, eps = splat(params, numbers[MOMENTUM]), splat(params, -rate), splat(params, numbers[EPS])
    centre, zero = splat(params, -numbers[OPTION]), splat(params, 0.0)
    for i in range(first, last, BYTES // params.itemsize):
        g = decayed(params, gradients, i, factor, numbers[CLIP_VALUE], numbers[DECAY])
        s, mean, b = load(state, i), load(state, size + i), load(state, 2 * size + i)
        s = fma(new * g, g, keep * s)
        mean = fma(new, g - mean, mean)
        store(state, i, s)
        store(state, size + i, mean)
        s = fma(centre * mean, mean, s)
        s = select(less(s, zero), zero, s)  # by rounding only
        b = fma(momentum, b, g / (square_root(s) + eps))
        store(state, 2 * size + i, b)
        store(params, i, fma(down, b, load(params, i)))


RULES = {DESCENT: descend, ADAM: adam, RMSPROP: rmsprop, GROWING_ADAM: growing_adam}
"""The formulas of the optimisers."""
