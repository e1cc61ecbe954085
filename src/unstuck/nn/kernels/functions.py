# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Functions of whole vectors, to the last bits of their type (about 2e-7 and 4e-16 relative)."""

import decimal
import math

from numba import types
from numba.extending import overload

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import (
    Vector,
    fma,
    fraction_part,
    fused,
    greater,
    intrinsic,
    less,
    like,
    negative,
    power_of_two,
    power_part,
    rough_reciprocal,
    scale_by_power,
    select,
    spread,
)


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


def _atanh_part(z):
    """Inverse hyperbolic tangent of the root of z, divided by it."""
    root = z.sqrt()
    return ((1 + root) / (1 - root)).ln() / (2 * root)


_TAIL_MIDDLE = 4.0


def _tail_part(t):
    """(1 + a) e**(a**2 / 2) P(normal < -a), which hardly varies, at t = (a - 4) / (a + 4).

    Below 3 from the power series of P(normal < a) - 1/2, above from Laplace's continued fraction.
    """
    a = decimal.Decimal(_TAIL_MIDDLE) * (1 + t) / (1 - t)
    two_pi = 8 * (_acot(2) + _acot(3))
    if a > 3:
        fraction = a
        for n in range(600, 0, -1):
            fraction = a + n / fraction
        return (1 + a) / fraction / two_pi.sqrt()
    term = total = a
    n = 1
    while term > total * decimal.Decimal(10) ** -45:
        n += 2
        term = term * a * a / n
        total += term
    return (1 + a) * ((a * a / 2).exp() / 2 - total / two_pi.sqrt())


def _acot(n):
    """Angle whose tangent is 1/n."""
    step = decimal.Decimal(1) / n
    terms = ((-1) ** k * step ** (2 * k + 1) / (2 * k + 1) for k in range(100))
    return sum(terms, decimal.Decimal(0))


def _middle(a):
    """The t of `_tail_part` at a."""
    return (a - _TAIL_MIDDLE) / (a + _TAIL_MIDDLE)


_HALF_LN2 = math.log(2) / 2
_SMALL = 0.55
_EXP = {
    types.float32: _polynomial(decimal.Decimal.exp, -_HALF_LN2, _HALF_LN2, 6),
    types.float64: _polynomial(decimal.Decimal.exp, -_HALF_LN2, _HALF_LN2, 12),
}
_TANH = {
    types.float32: _polynomial(_tanh_part, 0.0, _SMALL**2, 5),
    types.float64: _polynomial(_tanh_part, 0.0, _SMALL**2, 11),
}
_ATANH = {
    types.float32: _polynomial(_atanh_part, 0.0, 1 / 9, 5),
    types.float64: _polynomial(_atanh_part, 0.0, 1 / 9, 12),
}
_FAR = {types.float32: 13.1, types.float64: 37.6}
"""Beyond it the normal law's tail is smaller than the smallest number of the type."""
_TAIL = {
    types.float32: _polynomial(_tail_part, -1.0, _middle(_FAR[types.float32]), 10),
    types.float64: _polynomial(_tail_part, -1.0, _middle(_FAR[types.float64]), 22),
}
# 1.5 * 2**mantissa bits: adding it rounds to the nearest integer. ln 2 in two parts, n * the first exact
_RANGE = {
    types.float32: (12582912.0, 0.693359375, math.log(2) - 0.693359375, 87.0),
    types.float64: (6755399441055744.0, 0.6931471803691238, 1.9082149292705877e-10, 708.0),
}


def _series(by_type):
    """A polynomial with the coefficients of the vector's type: pairs of terms, then Horner's rule in x**2.

    Horner's rule alone needs a multiplication less, but half of it waits for the other half.
    """

    @intrinsic
    def series(typingctx, x):
        def emit(context, builder, signature, args):
            terms = [spread(builder, x.llvm, x.llvm.element(c)) for c in by_type[x.scalar]]
            square = builder.fmul(args[0], args[0])
            pairs = [
                fused(builder, x.llvm, terms[i + 1], args[0], terms[i]) if i + 1 < len(terms) else terms[i]
                for i in range(0, len(terms), 2)
            ]
            total = pairs.pop()
            for pair in reversed(pairs):
                total = fused(builder, x.llvm, total, square, pair)
            return total

        return x(x), emit

    return series


_LOGISTIC = {
    types.float32: tuple(
        c * (-1) ** k for k, c in enumerate(_polynomial(decimal.Decimal.exp, -_HALF_LN2, _HALF_LN2, 5))
    ),
    types.float64: tuple(c * (-1) ** k for k, c in enumerate(_EXP[types.float64])),
}
_logistic_series = _series(_LOGISTIC)
_exp_series, _tanh_series, _atanh_series, _tail_series = map(_series, (_EXP, _TANH, _ATANH, _TAIL))


def exp(x):
    """e**x, clipped to the largest and smallest normal numbers; NaN stays NaN."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(exp)
def _exp(x):
    if not isinstance(x, Vector):
        return None
    magic, ln2_high, ln2_low, limit = _RANGE[x.scalar]
    per_ln2 = 1 / math.log(2)

    def implementation(x):
        x = select(greater(x, like(x, limit)), like(x, limit), x)
        x = select(less(x, like(x, -limit)), like(x, -limit), x)
        shifted = fma(x, like(x, per_ln2), like(x, magic))
        n = shifted - like(x, magic)
        rest = fma(n, like(x, -ln2_high), x)
        rest = fma(n, like(x, -ln2_low), rest)
        return scale_by_power(_exp_series(rest), shifted)

    return implementation


def reciprocal(x):
    """1 / x, to about 1.2e-7 or 3e-16 of it, for positive normal x up to an eighth of the largest number.

    With y within 5.1 % and e = 1 - x y: y / (1 - e) = y (1 + e) (1 + e**2 + e**4) up to e**6 = 1.7e-8.
    Multiplications and additions alone: a quarter of a division's time, and the same bits on every machine.
    """
    raise NotImplementedError(x)  # only exists inside kernels


@overload(reciprocal)
def _reciprocal(x):
    if not isinstance(x, Vector):
        return None
    single = x.scalar is types.float32

    def implementation(x):
        one = like(x, 1.0)
        y = rough_reciprocal(x)
        e = fma(negative(x), y, one)
        square = e * e
        y = fma(fma(y, e, y), fma(square, square, square), fma(y, e, y))
        if not single:
            e = fma(negative(x), y, one)
            y = fma(y, fma(e, e, e), y)
        return y

    return implementation


def sigmoid(x):
    """1 / (1 + e**-x), to about 2e-7 or 4e-16 of it; NaN stays NaN."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(sigmoid)
def _sigmoid(x):
    if not isinstance(x, Vector):
        return None
    magic, ln2_high, ln2_low, limit = _RANGE[x.scalar]
    magic += 127 if x.scalar is types.float32 else 1023
    per_ln2 = 1 / math.log(2)

    def implementation(x):
        # e**-x = 2**n e**-rest with rest = x + n ln 2: minus x needs no instruction of its own
        x = select(greater(x, like(x, limit)), like(x, limit), x)
        x = select(less(x, like(x, -limit)), like(x, -limit), x)
        shifted = fma(x, like(x, -per_ln2), like(x, magic))
        n = shifted - like(x, magic)
        rest = fma(n, like(x, ln2_low), fma(n, like(x, ln2_high), x))
        return reciprocal(fma(_logistic_series(rest), power_of_two(x, shifted), like(x, 1.0)))

    return implementation


def tanh(x):
    """Hyperbolic tangent, accurate near 0 as well."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(tanh)
def _tanh(x):
    if not isinstance(x, Vector):
        return None

    def implementation(x):
        zero, one = like(x, 0.0), like(x, 1.0)
        negative = less(x, zero)
        size = select(negative, zero - x, x)
        small = x * _tanh_series(x * x)
        large = one - like(x, 2.0) * reciprocal(exp(size + size) + one)
        large = select(negative, zero - large, large)
        return select(less(size, like(x, _SMALL)), small, large)

    return implementation


@kernel
def expm1(x):
    """e**x - 1, accurate near 0 as well, from tanh (x / 2); for x up to 0."""
    half = tanh(x * like(x, 0.5))
    return (half + half) / (like(x, 1.0) - half)


@kernel
def log1p_exp(x):
    """log(1 + e**x) = max(x, 0) + log(1 + u), u = e**-|x|, and log(1 + u) = 2 artanh(u / (2 + u))."""
    zero, two = like(x, 0.0), like(x, 2.0)
    positive = less(zero, x)
    u = exp(select(positive, zero - x, x))
    s = u / (two + u)
    return select(less(x, zero), zero, x) + two * s * _atanh_series(s * s)


def log(x):
    """Natural logarithm of positive normal numbers: log f + n log 2 for x = f 2**n, log f = 2 artanh s."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(log)
def _log(x):
    if not isinstance(x, Vector):
        return None
    _, ln2_high, ln2_low, _ = _RANGE[x.scalar]

    def implementation(x):
        f, n = fraction_part(x), power_part(x)
        s = (f - like(x, 1.0)) / (f + like(x, 1.0))
        part = fma(n, like(x, ln2_low), like(x, 2.0) * s * _atanh_series(s * s))
        return fma(n, like(x, ln2_high), part)

    return implementation


def normal_below(x):
    """The probability that a standard normal number is below x: (1 + erf(x / sqrt 2)) / 2."""
    raise NotImplementedError(x)  # only exists inside kernels


@overload(normal_below)
def _normal_below(x):
    if not isinstance(x, Vector):
        return None
    far, middle = _FAR[x.scalar], _TAIL_MIDDLE

    def implementation(x):
        zero, one = like(x, 0.0), like(x, 1.0)
        negative = less(x, zero)
        a = select(negative, zero - x, x)
        a = select(greater(a, like(x, far)), like(x, far), a)
        square = a * a
        lost = fma(a, a, zero - square)  # what rounding took from the square: it would count for much
        density = exp(square * like(x, -0.5)) * (one - lost * like(x, 0.5))
        tail = density * _tail_series((a - like(x, middle)) / (a + like(x, middle))) / (one + a)
        return select(negative, tail, one - tail)

    return implementation
