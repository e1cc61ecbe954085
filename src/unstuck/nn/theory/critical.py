"""The critical line: weights and biases at which neither signals nor gradients die or explode."""

import math
from typing import Final, NamedTuple

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.theory.functions import Activation, Function, function
from unstuck.nn.theory.gauss import mean
from unstuck.nn.theory.lengths import length_fixed_point
from unstuck.nn.theory.roots import bisect

NOTHING: Final = 1e-24
"""A length that stands for the limit 0."""
SMALLEST: Final = 1e-10
LARGEST: Final = 1e8
"""Lengths between which other critical points are looked for."""
STEP: Final = 1.1
CLOSE: Final = 1e-9
"""Part of a length that counts as none."""


class Critical(NamedTuple):
    """A point of the critical line."""

    sw2: float
    """Variance of a weight times fan_in."""
    sb2: float
    """Variance of a bias."""
    q: float
    """Variance of z that stays the same from layer to layer."""


def critical(activation: Activation, sb2: float = 0.0) -> Critical:
    """The critical point for a given variance of the biases.

    Where chi1 = sw2 E[phi'(√q z)²] = 1 at a fixed point of the length map:
    sw2 = 1 / E[phi'(√q z)²] and sb2 = q - sw2 E[phi(√q z)²], solved for q: the smallest to which
    lengths beside it tend.

    Args:
        activation: phi, see `function`.
        sb2: variance of a bias.

    Returns:
        (sw2, sb2, q).

    Raises:
        UnstuckError: an unknown activation, a number below 0, or no such point: with ReLU and biases, lengths
            grow for ever at sw2 = 2.

    Example:
        >>> round(critical("Tanh", sb2=0.05).sw2, 4)
        1.761
        >>> round(critical("ReLU").sw2, 9)
        2.0

    References:
        B. Poole et al. (2016), arXiv 1606.05340; S. Schoenholz et al. (2017), arXiv 1611.01232.
    """
    phi = function(activation)
    if real("sb2", sb2) < 0:
        msg = f"sb2 is a variance and must be at least 0, found {sb2!r}"
        raise UnstuckError(msg)

    def missing(q: float) -> float:
        return _point(phi, q).sb2 - sb2

    limit = _point(phi, NOTHING)
    if sb2 == 0 and abs(limit.sb2) <= CLOSE * NOTHING:  # lengths tend to 0, or stay whatever they are
        q = length_fixed_point(phi, limit.sw2)
        if math.isfinite(q):
            return Critical(limit.sw2, sb2, q)
    q = SMALLEST
    while q < LARGEST:
        if missing(q) * missing(q * STEP) < 0:
            root = bisect(missing, q, q * STEP)
            point = Critical(_point(phi, root).sw2, sb2, root)
            if _attracts(phi, point):
                return point
        q *= STEP
    msg = f"{phi.name} has no critical point with sb2 = {sb2:g}: no length that lasts has chi1 = 1"
    raise UnstuckError(msg)


def critical_at(activation: Activation, q: float) -> Critical:
    """The critical point at which z has a given variance.

    sw2 = 1 / E[phi'(√q z)²], sb2 = q - sw2 E[phi(√q z)²].

    Args:
        activation: phi, see `function`.
        q: variance of z, above 0. The smaller, the nearer is a tanh network to a linear one; 1 / depth is a
            common choice.

    Returns:
        (sw2, sb2, q).

    Raises:
        UnstuckError: an unknown activation, a number not above 0, or a point at which sb2 would be negative.

    Example:
        >>> point = critical_at("Tanh", q=1 / 16)
        >>> round(point.sw2, 5), round(point.sb2, 6)
        (1.11538, 0.000237)

    References:
        L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. Schoenholz, J. Pennington (2018), arXiv 1806.05393.
    """
    if real("q", q) <= 0:
        msg = f"q is a variance and must be above 0, found {q!r}"
        raise UnstuckError(msg)
    phi = function(activation)
    point = _point(phi, q)
    if point.sb2 < -CLOSE * q:
        msg = (
            f"{phi.name} has no critical point with q = {q:g}: the biases' variance would be {point.sb2:.3g}"
        )
        raise UnstuckError(msg)
    return point._replace(sb2=max(point.sb2, 0.0))


def _point(phi: Function, q: float) -> Critical:
    """The point with chi1 = 1 that keeps this length; its sb2 may be negative, and then there is none."""
    root = math.sqrt(q)
    sw2 = 1 / mean(lambda z: phi.slope(z) ** 2, root)
    return Critical(sw2, q - sw2 * mean(lambda z: phi.value(z) ** 2, root), q)


def _attracts(phi: Function, point: Critical) -> bool:
    """Whether lengths a little above and below tend to this one."""
    starts = (point.q * 1.01, point.q / 1.01)
    ends = [length_fixed_point(phi, point.sw2, point.sb2, start) for start in starts]
    return all(abs(end / point.q - 1) < 1e-4 for end in ends)
