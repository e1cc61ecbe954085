"""Mean field of wide networks: how alike the signals of two inputs become, layer by layer.

z_l = W_l a_(l-1) + b_l and a = phi(z), with Var W = sw2 / fan_in and Var b = sb2: the letters of the papers.

References:
    B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli (2016), arXiv 1606.05340.
    S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein (2017), arXiv 1611.01232.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.theory.functions import Activation, Function
from unstuck.nn.theory.gauss import mean_of_pair
from unstuck.nn.theory.gradients import CRITICAL, scale_of
from unstuck.nn.theory.lengths import next_length, prepared
from unstuck.nn.theory.roots import bisect


def correlation_map(
    activation: Activation, c: float, sw2: float, sb2: float = 0.0, q: float | None = None
) -> float:
    """Correlation of two inputs' z in the next layer, from that in this layer.

    c' = (sw2 E[phi(√q u) phi(√q v)] + sb2) / q', with E[u v] = c and q' from the length map.

    Args:
        activation: phi, see `function`.
        c: correlation, -1..1.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.
        q: variance of z for both inputs; None: the fixed point.

    Returns:
        c'.

    Raises:
        UnstuckError: an unknown activation, or a number out of range.

    Example:
        >>> round(correlation_map("ReLU", 0.0, sw2=2.0), 4)
        0.3183

    References:
        Poole et al. (2016), arXiv 1606.05340.
    """
    phi, q = prepared(activation, sw2, sb2, q)
    if not -1 <= real("c", c) <= 1:
        msg = f"c must be a correlation between -1 and 1, found {c!r}"
        raise UnstuckError(msg)
    return _correlation(phi, c, q, sw2, sb2)


def correlation_fixed_point(activation: Activation, sw2: float, sb2: float = 0.0) -> float:
    """Correlation c* that any two different inputs tend to, at q*.

    In the ordered phase c* = 1: all inputs look the same. In the chaotic phase c* < 1 is the root of c' = c
    below 1, of which there is one, as the map is convex.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.

    Returns:
        c*, 0..1.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> correlation_fixed_point("Tanh", sw2=1.5, sb2=0.05)
        1.0
        >>> round(correlation_fixed_point("Tanh", sw2=2.5, sb2=0.05), 3)
        0.447

    References:
        Poole et al. (2016), arXiv 1606.05340.
    """
    phi, q = prepared(activation, sw2, sb2, None)

    def gain(c: float) -> float:
        return _correlation(phi, c, q, sw2, sb2) - c

    if _correlation_slope(phi, 1.0, q, sw2, sb2) <= 1 + CRITICAL:
        return 1.0
    if gain(0.0) <= 1e-14:
        return 0.0
    return bisect(gain, 0.0, 1 - 1e-9)


def depth_scale(activation: Activation, sw2: float, sb2: float = 0.0) -> float:
    """Number of layers xi_c over which two inputs' correlation forgets, by a factor e, where it began.

    xi_c = -1 / ln(slope of the correlation map at c*), the slope being sw2 E[phi'(√q* u) phi'(√q* v)].
    A network much deeper than that, about 6 xi_c, tells its last layer nothing about its input.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.

    Returns:
        xi_c in layers: infinity at criticality, and for ReLU from sw2 = 2 on without biases, where inputs
        become alike by a power of the depth; 0 where the slope is 0.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> round(depth_scale("Tanh", sw2=1.5, sb2=0.05), 1)
        15.8

    References:
        Schoenholz et al. (2017), arXiv 1611.01232.
    """
    phi, q = prepared(activation, sw2, sb2, None)
    c = correlation_fixed_point(activation, sw2, sb2)
    return scale_of(_correlation_slope(phi, c, q, sw2, sb2))


def relu_correlation_map(c: ArrayLike) -> NDArray[np.float64]:
    """ReLU's correlation map at sw2 = 2 and sb2 = 0 in closed form, the arc-cosine kernel of degree 1.

    c' = (√(1 - c²) + (π - arccos c) c) / π

    Args:
        c: correlations, -1..1, of any shape.

    Returns:
        c', of the same shape.

    Example:
        >>> float(relu_correlation_map(0.0).round(4))
        0.3183

    References:
        Y. Cho, L. Saul (2009), Kernel methods for deep learning (NIPS). The formula is checked here against
        the integral that it solves.
    """
    c = np.clip(np.asarray(c, dtype=np.float64), -1.0, 1.0)
    return (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / np.pi


def _correlation(phi: Function, c: float, q: float, sw2: float, sb2: float) -> float:
    return (sw2 * mean_of_pair(phi.value, c, math.sqrt(q)) + sb2) / next_length(phi, q, sw2, sb2)


def _correlation_slope(phi: Function, c: float, q: float, sw2: float, sb2: float) -> float:
    """Of c' by c; q over the next q is 1 at a fixed point, but not where lengths die or grow."""
    return sw2 * mean_of_pair(phi.slope, c, math.sqrt(q)) * q / next_length(phi, q, sw2, sb2)
