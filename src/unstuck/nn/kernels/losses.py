# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Losses: the value over one chunk's valid lanes, and the gradient with respect to the scores z.

    squared          sum_o (z_o - t_o)**2                          2 (z_o - t_o)
    cross entropy    log sum_j e**z_j - z_t       (t a class)       softmax(z)_o - [o = t]
    likelihood       -z_t                         (t a class)       -[o = t]
    binary           -sum_o t log z + (1 - t) log(1 - z)           (z - t) / (z (1 - z))
    binary, logits   sum_o max(z,0) - z t + log(1 + e**-|z|)       sigmoid(z) - t

Sums over outputs, not means; the caller's `scale` holds what the gradient is divided by. As in torch, the
binary loss bounds its logarithms at -100 and its denominator at 1e-12.
"""

import math

from unstuck.nn.kernels.functions import exp, sigmoid
from unstuck.nn.kernels.jit import inlined, kernel
from unstuck.nn.kernels.softmax import highest
from unstuck.nn.kernels.table import BINARY, BINARY_LOGITS, SQUARED
from unstuck.nn.kernels.vectors import at, equal, less, like, load, put, select, splat, store


@kernel
def square(z, t):
    """(z - t)**2."""
    return (z - t) * (z - t)


@kernel
def binary(z, t):
    """Of a probability z."""
    # max(.., -100) written so that NaN stays NaN
    yes = math.log(z) if z > 0.0 or z != z else -100.0
    no = math.log(1.0 - z) if z < 1.0 or z != z else -100.0
    return -(t * (max(yes, -100.0)) + (1.0 - t) * (max(no, -100.0)))


@kernel
def binary_logits(z, t):
    """Of a score z."""
    return (max(z, 0.0)) - z * t + math.log1p(math.exp(-abs(z)))


@kernel
def square_slope(z, t):
    """2 (z - t)."""
    d = z - t
    return d + d


@kernel
def binary_slope(z, t):
    """(z - t) / (z (1 - z))."""
    spread = z * (like(z, 1.0) - z)
    bound = like(z, 1e-12)
    return (z - t) / select(less(spread, bound), bound, spread)


@kernel
def binary_logits_slope(z, t):
    """sigmoid(z) - t."""
    return sigmoid(z) - t


TERMS = {SQUARED: square, BINARY: binary, BINARY_LOGITS: binary_logits}
"""The loss of one output, of the losses that are sums over outputs."""
SLOPES = {SQUARED: square_slope, BINARY: binary_slope, BINARY_LOGITS: binary_logits_slope}
"""Its derivative."""


@inlined
def summed_value(term, memory, scores, targets, outputs, lanes, valid):
    """Sum of a loss over the first `valid` lanes, in float64 and in a fixed order."""
    total = 0.0
    for lane in range(valid):
        for o in range(outputs):
            z = float(at(memory, scores + o * lanes + lane))
            total += term(z, float(at(memory, targets + o * lanes + lane)))
    return total


@inlined
def summed_gradient(slope, memory, scores, targets, deltas, outputs, lanes, valid, scale):
    """Write the gradient with respect to the scores; 0 in the lanes that hold no sample."""
    factor = splat(memory, scale)
    for o in range(outputs):
        z, t = load(memory, scores + o * lanes), load(memory, targets + o * lanes)
        store(memory, deltas + o * lanes, slope(z, t) * factor)
    _clear(memory, deltas, outputs, lanes, valid)


@inlined
def cross_entropy_value(memory, scores, targets, outputs, lanes, valid):
    """As `summed_value`; uses the two vectors behind the targets, of which it needs one."""
    top = highest(memory, scores, lanes, outputs)
    mass = splat(memory, 0.0)
    for o in range(outputs):
        mass = mass + exp(load(memory, scores + o * lanes) - top)
    store(memory, targets + lanes, top)
    store(memory, targets + 2 * lanes, mass)
    total = 0.0
    for lane in range(valid):
        label = int(at(memory, targets + lane))
        own = float(at(memory, scores + label * lanes + lane))
        largest, mass_here = (
            float(at(memory, targets + lanes + lane)),
            float(at(memory, targets + 2 * lanes + lane)),
        )
        total += math.log(mass_here) + largest - own
    return total


@inlined
def cross_entropy_gradient(memory, scores, targets, deltas, outputs, lanes, valid, scale):
    """As `summed_gradient`."""
    factor, one = splat(memory, scale), splat(memory, 1.0)
    top = highest(memory, scores, lanes, outputs)
    total = splat(memory, 0.0)
    for o in range(outputs):
        e = exp(load(memory, scores + o * lanes) - top)
        store(memory, deltas + o * lanes, e)
        total = total + e
    label = load(memory, targets)
    for o in range(outputs):
        p = load(memory, deltas + o * lanes) / total
        p = select(equal(label, splat(memory, float(o))), p - one, p)
        store(memory, deltas + o * lanes, p * factor)
    _clear(memory, deltas, outputs, lanes, valid)


@inlined
def likelihood_value(memory, scores, targets, lanes, valid):
    """As `summed_value`."""
    total = 0.0
    for lane in range(valid):
        total -= float(at(memory, scores + int(at(memory, targets + lane)) * lanes + lane))
    return total


@inlined
def likelihood_gradient(memory, targets, deltas, outputs, lanes, valid, scale):
    """As `summed_gradient`."""
    label, zero, factor = load(memory, targets), splat(memory, 0.0), splat(memory, scale)
    for o in range(outputs):
        hit = equal(label, splat(memory, float(o)))
        store(memory, deltas + o * lanes, select(hit, zero - factor, zero))
    _clear(memory, deltas, outputs, lanes, valid)


@inlined
def _clear(memory, deltas, outputs, lanes, valid):
    if valid < lanes:
        for o in range(outputs):
            for lane in range(valid, lanes):
                put(memory, deltas + o * lanes + lane, memory.dtype.type(0.0))
