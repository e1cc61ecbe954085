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
from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.softmax import highest
from unstuck.nn.kernels.table import BINARY, BINARY_LOGITS, CROSS_ENTROPY, LIKELIHOOD, SQUARED
from unstuck.nn.kernels.vectors import equal, less, like, load, select, splat, store


@kernel
def loss_value(kind, memory, scores, targets, outputs, lanes, valid):
    """Sum of the loss over the first `valid` lanes, in float64 and in a fixed order.

    Cross entropy uses the two vectors behind the targets, of which it needs one.
    """
    total = 0.0
    if kind == CROSS_ENTROPY:
        top = highest(memory, scores, lanes, outputs)
        mass = splat(memory, 0.0)
        for o in range(outputs):
            mass = mass + exp(load(memory, scores + o * lanes) - top)
        store(memory, targets + lanes, top)
        store(memory, targets + 2 * lanes, mass)
    for lane in range(valid):
        if kind == CROSS_ENTROPY:
            label = int(memory[targets + lane])
            own = float(memory[scores + label * lanes + lane])
            largest, mass_here = (
                float(memory[targets + lanes + lane]),
                float(memory[targets + 2 * lanes + lane]),
            )
            total += math.log(mass_here) + largest - own
            continue
        if kind == LIKELIHOOD:
            total -= float(memory[scores + int(memory[targets + lane]) * lanes + lane])
            continue
        for o in range(outputs):
            z = float(memory[scores + o * lanes + lane])
            t = float(memory[targets + o * lanes + lane])
            if kind == SQUARED:
                total += (z - t) * (z - t)
            elif kind == BINARY:
                # max(.., -100) written so that NaN stays NaN
                yes = math.log(z) if z > 0.0 or z != z else -100.0
                no = math.log(1.0 - z) if z < 1.0 or z != z else -100.0
                total -= t * (max(yes, -100.0)) + (1.0 - t) * (max(no, -100.0))
            else:
                total += (max(z, 0.0)) - z * t + math.log1p(math.exp(-abs(z)))
    return total


@kernel
def output_slope(kind, z, t):
    """Derivative with respect to one output z of the losses that are sums over outputs."""
    d = z - t
    if kind == SQUARED:
        d = d + d
    elif kind == BINARY_LOGITS:
        d = sigmoid(z) - t
    elif kind == BINARY:
        spread = z * (like(z, 1.0) - z)
        bound = like(z, 1e-12)
        d = d / select(less(spread, bound), bound, spread)
    return d


@kernel
def loss_gradient(kind, memory, scores, targets, deltas, outputs, lanes, valid, scale):
    """Write the gradient with respect to the scores; 0 in the lanes that hold no sample."""
    factor, one = splat(memory, scale), splat(memory, 1.0)
    if kind == CROSS_ENTROPY:
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
    elif kind == LIKELIHOOD:
        label, zero = load(memory, targets), splat(memory, 0.0)
        for o in range(outputs):
            hit = equal(label, splat(memory, float(o)))
            store(memory, deltas + o * lanes, select(hit, zero - factor, zero))
    else:
        for o in range(outputs):
            z, t = load(memory, scores + o * lanes), load(memory, targets + o * lanes)
            store(memory, deltas + o * lanes, output_slope(kind, z, t) * factor)
    if valid < lanes:
        for o in range(outputs):
            for lane in range(valid, lanes):
                memory[deltas + o * lanes + lane] = 0.0
