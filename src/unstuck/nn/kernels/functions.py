# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""exp, sigmoid and tanh of whole vectors, to the last bits of their type (about 2e-7 and 4e-16 relative)."""

import decimal
import math

from numba import types
from numba.extending import overload

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import Vector, fma, greater, less, like, scale_by_power, select


def _polynomial(function, low, high, degree):
    """Coefficients, constant first, of the polynomial that meets a function at Chebyshev's points.

    Computed with 50 digits: in float64 the change to powers would lose the last ones.
    """
    with decimal.localcontext(prec=50):
        middle, half = (low + high) / 2, (high - low) / 2
        turns = [math.pi * (k + 0.5) / (degree + 1) for k in range(degree + 1)]
        nodes = [decimal.Decimal(middle + half * math.cos(turn)) for turn in turns]
        divided = [function(node) for node in nodes]  # Newton's divided differences
        for order in range(1, degree + 1):
            for k in range(degree, order - 1, -1):
                divided[k] = (divided[k] - divided[k - 1]) / (nodes[k] - nodes[k - order])
        powers = [divided[degree]]
        for node, difference in zip(nodes[-2::-1], divided[-2::-1], strict=True):
            shifted = [decimal.Decimal(0), *powers]  # times (x - node), plus the next difference
            powers = [up - node * same for up, same in zip(shifted, [*powers, 0], strict=True)]
            powers[0] += difference
        return tuple(float(power) for power in powers)


def _tanh_part(z):
    """Tanh of the root of z, divided by it."""
    root = z.sqrt()
    squared = (2 * root).exp()
    return (squared - 1) / (squared + 1) / root


_HALF_LN2 = math.log(2) / 2
_EXP = {
    types.float32: _polynomial(decimal.Decimal.exp, -_HALF_LN2, _HALF_LN2, 6),
    types.float64: _polynomial(decimal.Decimal.exp, -_HALF_LN2, _HALF_LN2, 12),
}
_SMALL = 0.55
_TANH = {
    types.float32: _polynomial(_tanh_part, 0.0, _SMALL**2, 5),
    types.float64: _polynomial(_tanh_part, 0.0, _SMALL**2, 11),
}
# 1.5 * 2**mantissa bits: adding it rounds to the nearest integer. ln 2 in two parts, n * the first exact
_RANGE = {
    types.float32: (12582912.0, 0.693359375, math.log(2) - 0.693359375, 87.0),
    types.float64: (6755399441055744.0, 0.6931471803691238, 1.9082149292705877e-10, 708.0),
}


def _series(coefficients):
    """Horner's rule, unrolled for these coefficients."""
    if len(coefficients) == 1:
        constant = coefficients[0]

        @kernel
        def last(x):
            return like(x, constant)

        return last
    constant, rest = coefficients[0], _series(coefficients[1:])

    @kernel
    def term(x):
        return fma(rest(x), x, like(x, constant))

    return term


_EXP_SERIES = {scalar: _series(coefficients) for scalar, coefficients in _EXP.items()}
_TANH_SERIES = {scalar: _series(coefficients) for scalar, coefficients in _TANH.items()}


def exp(x):
    """e**x, clipped to the largest and smallest normal numbers; NaN stays NaN."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(exp)
def _exp(x):
    if not isinstance(x, Vector):
        return None
    magic, ln2_high, ln2_low, limit = _RANGE[x.scalar]
    per_ln2 = 1 / math.log(2)
    series = _EXP_SERIES[x.scalar]

    def implementation(x):
        x = select(greater(x, like(x, limit)), like(x, limit), x)
        x = select(less(x, like(x, -limit)), like(x, -limit), x)
        shifted = fma(x, like(x, per_ln2), like(x, magic))
        n = shifted - like(x, magic)
        rest = fma(n, like(x, -ln2_high), x)
        rest = fma(n, like(x, -ln2_low), rest)
        return scale_by_power(series(rest), shifted)

    return implementation


@kernel
def sigmoid(x):
    """1 / (1 + e**-x)."""
    one = like(x, 1.0)
    return one / (one + exp(like(x, 0.0) - x))


def tanh(x):
    """Hyperbolic tangent, accurate near 0 as well."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(tanh)
def _tanh(x):
    if not isinstance(x, Vector):
        return None
    series = _TANH_SERIES[x.scalar]

    def implementation(x):
        zero, one = like(x, 0.0), like(x, 1.0)
        negative = less(x, zero)
        size = select(negative, zero - x, x)
        small = x * series(x * x)
        large = one - like(x, 2.0) / (exp(size + size) + one)
        large = select(negative, zero - large, large)
        return select(less(size, like(x, _SMALL)), small, large)

    return implementation
