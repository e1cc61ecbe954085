"""Mean field of wide networks: how gradients shrink or grow, layer by layer.

z_l = W_l a_(l-1) + b_l and a = phi(z), with Var W = sw2 / fan_in and Var b = sb2: the letters of the papers.

References:
    S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein (2017), arXiv 1611.01232.
"""

import math
from typing import Final, Literal

from unstuck.nn.theory.functions import Activation
from unstuck.nn.theory.gauss import mean
from unstuck.nn.theory.lengths import prepared

Phase = Literal["ordered", "critical", "chaotic"]

CRITICAL: Final = 1e-6
"""|chi1 - 1| below which a network counts as critical."""


def chi1(activation: Activation, sw2: float, sb2: float = 0.0, q: float | None = None) -> float:
    """Factor of the squared gradient from one layer to the layer below; slope of the correlation map at 1.

    chi1 = sw2 E[phi'(√q z)²]. Below 1 gradients vanish and inputs become alike, above 1 gradients explode
    and inputs that differ a little become unlike.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.
        q: variance of z; None: the fixed point.

    Returns:
        chi1.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> round(chi1("Tanh", sw2=1.5, sb2=0.05), 4)
        0.9386

    References:
        Schoenholz et al. (2017), arXiv 1611.01232.
    """
    phi, q = prepared(activation, sw2, sb2, q)
    return sw2 * mean(lambda z: phi.slope(z) ** 2, math.sqrt(q))


def gradient_factor(activation: Activation, sw2: float, sb2: float = 0.0, q: float | None = None) -> float:
    """Factor of the gradient's norm from one layer to the layer below: √chi1.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.
        q: variance of z; None: the fixed point.

    Returns:
        √chi1; over L layers the norm changes by its L-th power.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        Ten layers of logistic units with Glorot's weights lose six digits of the gradient:

        >>> round(gradient_factor("Sigmoid", sw2=1.0), 3), round(10 * math.log10(0.236), 1)
        (0.236, -6.3)

    References:
        Schoenholz et al. (2017), arXiv 1611.01232.
    """
    return math.sqrt(chi1(activation, sw2, sb2, q))


def gradient_depth_scale(activation: Activation, sw2: float, sb2: float = 0.0) -> float:
    """Number of layers over which the squared gradient changes by a factor e: 1 / |ln chi1|.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.

    Returns:
        The scale in layers; in the ordered phase it is xi_c. Infinity at criticality.

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> round(gradient_depth_scale("ReLU", sw2=1.0), 3)  # 1 / ln 2
        1.443

    References:
        Schoenholz et al. (2017), arXiv 1611.01232.
    """
    return scale_of(chi1(activation, sw2, sb2))


def phase(activation: Activation, sw2: float, sb2: float = 0.0) -> Phase:
    """Phase of a network: ordered (gradients vanish), critical, or chaotic (gradients explode).

    chi1 below, at (to 1e-6) or above 1.

    Args:
        activation: phi, see `function`.
        sw2: variance of a weight times fan_in.
        sb2: variance of a bias.

    Returns:
        "ordered", "critical" or "chaotic".

    Raises:
        UnstuckError: an unknown activation, or a number below 0.

    Example:
        >>> phase("Tanh", 1.5, 0.05), phase("ReLU", 2.0), phase("Tanh", 2.5, 0.05)
        ('ordered', 'critical', 'chaotic')

    References:
        Poole et al. (2016), arXiv 1606.05340.
    """
    factor = chi1(activation, sw2, sb2)
    if abs(factor - 1) <= CRITICAL:
        return "critical"
    return "ordered" if factor < 1 else "chaotic"


def scale_of(factor: float) -> float:
    """Layers over which so small or large a factor per layer makes up e."""
    if factor <= 0:
        return 0.0
    return math.inf if abs(factor - 1) <= CRITICAL else 1 / abs(math.log(factor))
