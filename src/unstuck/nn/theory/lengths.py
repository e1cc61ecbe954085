"""Mean field of wide networks: how long signals are, layer by layer.

z_l = W_l a_(l-1) + b_l and a = phi(z), with Var W = sw2 / fan_in and Var b = sb2: the letters of the papers.

References:
    B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli (2016), arXiv 1606.05340.
"""

import math
from typing import Final

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.theory.functions import Activation, Function, function
from unstuck.nn.theory.gauss import mean
from unstuck.nn.theory.roots import bisect

SMALLEST: Final = 1e-12
LARGEST: Final = 1e12
"""Lengths beyond are 0 and infinity, for which these two stand in a limit: at 0 itself ReLU has no slope."""
EXACT: Final = 1e-13
"""Relative change below which a length is a fixed point."""


def length_map(activation: Activation, q: float, sw2: float, sb2: float = 0.0) -> float:
    """Variance of the next layer's z, from this layer's.

    q' = sw2 E[phi(√q z)²] + sb2, z standard normal.

    Args:
        activation: phi, see `function`.
        q: mean square of z in this layer.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.

    Returns:
        q'.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> round(length_map("ReLU", 3.0, sw2=2.0), 9)
        3.0

    References:
        Poole et al. (2016), arXiv 1606.05340.
    """
    check_variances(sw2, sb2, q)
    return next_length(function(activation), q, sw2, sb2)


def length_fixed_point(activation: Activation, sw2: float, sb2: float = 0.0, start: float = 1.0) -> float:
    """Variance q* of z that the length map tends to, from a start.

    q* = sw2 E[phi(√q* z)²] + sb2. The map rises with q, so it tends to the nearest fixed point in the
    direction of its first step; that is looked for directly, as at criticality the way there is endless.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.
        start: q of the first layer. It matters where there are several fixed points: for ReLU with sw2 = 2
            and sb2 = 0 every q is one.

    Returns:
        q*: 0 where signals die out, infinity where they grow without bound.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> round(length_fixed_point("Tanh", sw2=1.5, sb2=0.05), 4)
        0.418
        >>> length_fixed_point("ReLU", sw2=2.5)
        inf

    References:
        Poole et al. (2016), arXiv 1606.05340.
    """
    check_variances(sw2, sb2, start)
    phi = function(activation)

    def gain(q: float) -> float:
        return next_length(phi, q, sw2, sb2) - q

    q = min(max(start, SMALLEST), LARGEST)
    first = gain(q)
    if abs(first) <= EXACT * q:
        return q
    factor = 1.1 if first > 0 else 1 / 1.1
    while SMALLEST <= q <= LARGEST:
        if gain(q) * first <= 0:
            return bisect(gain, q / factor, q)
        q *= factor
    return math.inf if factor > 1 else 0.0


def check_variances(sw2: float, sb2: float, q: float) -> None:
    """Raise UnstuckError where one of these is no variance."""
    for name, value in (("sw2", sw2), ("sb2", sb2), ("q", q)):
        if real(name, value) < 0:
            msg = f"{name} is a variance and must be at least 0, found {value!r}"
            raise UnstuckError(msg)


def prepared(activation: Activation, sw2: float, sb2: float, q: float | None) -> tuple[Function, float]:
    """The function, and a length at which both it and its slope say what they tend to."""
    if q is None:
        q = length_fixed_point(activation, sw2, sb2)
    else:
        check_variances(sw2, sb2, q)
    return function(activation), min(max(q, SMALLEST), LARGEST)


def next_length(phi: Function, q: float, sw2: float, sb2: float) -> float:
    """The length map without checks."""
    return sw2 * mean(lambda z: phi.value(z) ** 2, math.sqrt(q)) + sb2
