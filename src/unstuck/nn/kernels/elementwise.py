# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Activations: each function beside its derivative.

In terms of the output y where that is enough:

    sigmoid    y = 1 / (1 + e**-x)      dy/dx = y (1 - y)
    tanh       y = tanh x               dy/dx = 1 - y**2
    ReLU       y = max(0, x)            dy/dx = 1 where y > 0, else 0
    leaky      y = max(x, s x), s < 1   dy/dx = 1 where y > 0, else s   (the sign of y is the sign of x)
    ELU        y = x where x > 0, else s (e**x - 1)          dy/dx = 1 where y > 0, else y + s

and of the input x in the others, P being the normal distribution's P(x) and p its density:

    GELU       y = x P(x)                                    dy/dx = P(x) + x p(x)
    GELU'      y = x (1 + t) / 2,                            dy/dx = (1 + t) / 2 + x (1 - t**2) u' / 2
               t = tanh u, u = sqrt(2/pi) (x + 0.044715 x**3)
    SiLU       y = x q, q = sigmoid(x)                       dy/dx = q (1 + x (1 - q))
    softplus   y = log(1 + e**(b x)) / b,                    dy/dx = sigmoid(b x),
               x itself where b x > the threshold            1 there

NaN stays NaN in all of them: a comparison that turns NaN into 0 would make a lost network look healthy.
Far to the left GELU and SiLU are 0, at -infinity too.
"""

import math

from unstuck.nn.kernels.functions import exp, expm1, log1p_exp, normal_below, sigmoid, tanh
from unstuck.nn.kernels.jit import inlined, kernel
from unstuck.nn.kernels.rows import three
from unstuck.nn.kernels.table import (
    COPY,
    ELU,
    GELU,
    GELU_TANH,
    LEAKY,
    PRODUCT,
    RELU,
    SIGMOID,
    SILU,
    SOFTPLUS,
    SUM,
    TANH,
)
from unstuck.nn.kernels.vectors import (
    BYTES,
    at,
    fma,
    greater,
    less,
    like,
    load,
    negative,
    select,
    splat,
    store,
)

_DENSITY = 1 / math.sqrt(2 * math.pi)
_STEEP = math.sqrt(2 / math.pi)
_CUBE = 0.044715
_GELU_LEFT, _SILU_LEFT = -38.0, -87.0
"""GELU and SiLU are 0 to the left of these, for a float32; further left x times 0 might be NaN."""

# fields of FORWARD: kind, from, to, three lengths, three strides of each
KIND, SOURCE, TARGET, CHANNELS, LINES, POSITIONS = range(1, 7)
SOURCE_STRIDES, TARGET_STRIDES = 7, 10
# fields of BACKWARD: kind, output (or input), its gradient, input gradient, lengths, strides of each
OUTPUT, DELTA, RESULT = 2, 3, 4
BACK_CHANNELS, BACK_LINES, BACK_POSITIONS = 5, 6, 7
OUTPUT_STRIDES, DELTA_STRIDES, RESULT_STRIDES = 8, 11, 14


@kernel
def not_below(x, limit):
    """The larger of x and a number; NaN stays NaN."""
    return select(less(x, like(x, limit)), like(x, limit), x)


@kernel
def steep_tanh(x):
    """GELU's t: tanh of sqrt(2/pi) (x + 0.044715 x**3)."""
    return tanh(like(x, _STEEP) * x * fma(like(x, _CUBE) * x, x, like(x, 1.0)))


@kernel
def same(x, a, b):
    """The same."""
    return x


@kernel
def logistic(x, a, b):
    """Sigmoid."""
    return sigmoid(x)


@kernel
def hyperbolic_tangent(x, a, b):
    """Tanh."""
    return tanh(x)


@kernel
def rectified(x, a, b):
    """ReLU."""
    return select(less(x, like(x, 0.0)), like(x, 0.0), x)


@kernel
def leaky(x, a, b):
    """Leaky ReLU of slope a."""
    return select(less(x, like(x, 0.0)), x * like(x, a), x)


@kernel
def exponential_linear(x, a, b):
    """ELU down to -a."""
    return select(greater(x, like(x, 0.0)), x, like(x, a) * expm1(x))


@kernel
def gelu(x, a, b):
    """GELU."""
    x = not_below(x, _GELU_LEFT)
    return x * normal_below(x)


@kernel
def gelu_by_tanh(x, a, b):
    """GELU'."""
    x = not_below(x, _GELU_LEFT)
    return x * like(x, 0.5) * (like(x, 1.0) + steep_tanh(x))


@kernel
def silu(x, a, b):
    """SiLU."""
    x = not_below(x, _SILU_LEFT)
    return x * sigmoid(x)


@kernel
def softplus(x, a, b):
    """Softplus of steepness a, x itself beyond b."""
    z = x * like(x, a)
    return select(greater(z, like(x, b)), x, log1p_exp(z) / like(x, a))


VALUES = {
    COPY: same,
    SIGMOID: logistic,
    TANH: hyperbolic_tangent,
    RELU: rectified,
    LEAKY: leaky,
    ELU: exponential_linear,
    GELU: gelu,
    GELU_TANH: gelu_by_tanh,
    SILU: silu,
    SOFTPLUS: softplus,
}
"""f(x) by the kind of f; a and b are the function's constants."""


@kernel
def logistic_slope(y, d, a, b):
    """Of sigmoid."""
    return fma(negative(y), y, y) * d


@kernel
def hyperbolic_slope(y, d, a, b):
    """Of tanh."""
    return fma(negative(y), y, like(y, 1.0)) * d


@kernel
def rectified_slope(y, d, a, b):
    """Of ReLU."""
    zero = like(y, 0.0)
    return select(greater(y, zero), d, zero * y)


@kernel
def leaky_slope(y, d, a, b):
    """Of leaky ReLU."""
    return select(greater(y, like(y, 0.0)), d, d * like(y, a))


@kernel
def exponential_slope(y, d, a, b):
    """Of ELU."""
    return select(greater(y, like(y, 0.0)), d, d * (y + like(y, a)))


@kernel
def product(y, d, a, b):
    """No slope: y * d."""
    return y * d


@kernel
def plus(y, d, a, b):
    """No slope: y + d."""
    return y + d


@kernel
def gelu_slope(x, d, a, b):
    """Of GELU, from x."""
    x = not_below(x, _GELU_LEFT)
    right = select(greater(x, like(x, -_GELU_LEFT)), like(x, -_GELU_LEFT), x)
    return d * fma(right * like(x, _DENSITY), exp(right * right * like(x, -0.5)), normal_below(x))


@kernel
def gelu_slope_by_tanh(x, d, a, b):
    """Of GELU', from x."""
    one, half = like(x, 1.0), like(x, 0.5)
    x = not_below(x, _GELU_LEFT)
    x = select(greater(x, like(x, -_GELU_LEFT)), like(x, -_GELU_LEFT), x)
    t = steep_tanh(x)
    rise = like(x, _STEEP) * fma(like(x, 3 * _CUBE) * x, x, one)
    return d * (half * (one + t) + half * x * (one - t * t) * rise)


@kernel
def silu_slope(x, d, a, b):
    """Of SiLU, from x."""
    x = not_below(x, _SILU_LEFT)
    q = sigmoid(x)
    rest = sigmoid(like(x, 0.0) - x)
    right = select(greater(x, like(x, -_SILU_LEFT)), like(x, -_SILU_LEFT), x)
    return d * (q * fma(right, rest, like(x, 1.0)))


@kernel
def softplus_slope(x, d, a, b):
    """Of softplus, from x."""
    z = x * like(x, a)
    return d * select(greater(z, like(x, b)), like(x, 1.0), sigmoid(z))


SLOPES = {
    SIGMOID: logistic_slope,
    TANH: hyperbolic_slope,
    RELU: rectified_slope,
    LEAKY: leaky_slope,
    ELU: exponential_slope,
    GELU: gelu_slope,
    GELU_TANH: gelu_slope_by_tanh,
    SILU: silu_slope,
    SOFTPLUS: softplus_slope,
    PRODUCT: product,
    SUM: plus,
}
"""f'(x) * d by the kind of f, from y = f(x), or from x itself for GELU, SiLU and softplus.

A product and a sum of two buffers are rows of this form too.
"""


@inlined
def forward(value, memory, table, t, a, b):
    """Run a FORWARD row, whose kind has this formula."""
    source, target = at(table, t + SOURCE), at(table, t + TARGET)
    channels, lines, positions = at(table, t + CHANNELS), at(table, t + LINES), at(table, t + POSITIONS)
    sc, sy, sx = three(table, t + SOURCE_STRIDES)
    tc, ty, tx = three(table, t + TARGET_STRIDES)
    for c in range(channels):
        for y in range(lines):
            s, r = source + c * sc + y * sy, target + c * tc + y * ty
            for x in range(positions):
                store(memory, r + x * tx, value(load(memory, s + x * sx), a, b))


@inlined
def backward(slope, memory, table, t, a, b):
    """Run a BACKWARD row, whose kind has this formula."""
    output, delta, result = at(table, t + OUTPUT), at(table, t + DELTA), at(table, t + RESULT)
    channels, lines, positions = (
        at(table, t + BACK_CHANNELS),
        at(table, t + BACK_LINES),
        at(table, t + BACK_POSITIONS),
    )
    oc, oy, ox = three(table, t + OUTPUT_STRIDES)
    dc, dy, dx = three(table, t + DELTA_STRIDES)
    rc, ry, rx = three(table, t + RESULT_STRIDES)
    for c in range(channels):
        for y in range(lines):
            o, d, r = output + c * oc + y * oy, delta + c * dc + y * dy, result + c * rc + y * ry
            for x in range(positions):
                gradient = slope(load(memory, o + x * ox), load(memory, d + x * dx), a, b)
                store(memory, r + x * rx, gradient)


@inlined
def clear(memory, start, length):
    """Set `length` numbers (a multiple of the vector width) to zero."""
    zero = splat(memory, 0.0)
    for i in range(start, start + length, memory_lanes(memory)):
        store(memory, i, zero)


@inlined
def memory_lanes(memory):
    """Lanes of a vector of the memory's type."""
    return BYTES // memory.itemsize
