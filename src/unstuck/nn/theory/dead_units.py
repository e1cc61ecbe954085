"""Dead ReLU units at initialisation: single units on an interval, and whole networks born dead.

References:
    L. Lu, Y. Shin, Y. Su, G. Karniadakis (2019), arXiv 1903.06733.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.checks import whole
from unstuck.nn.schemes import ParameterSpec, Scheme
from unstuck.nn.theory.functions import error_function

Floats = NDArray[np.float64]

CELLS: Final = 20_000
"""Equally likely biases over which a unit's odds are averaged: errors stay below 1e-4."""


class UnitOdds(NamedTuple):
    """What a ReLU unit of one input may be on an interval; the three sum to 1."""

    dead: float
    """0 everywhere on it: no gradient reaches the unit."""
    linear: float
    """Above 0 everywhere on it: the unit adds nothing non-linear."""
    kink: float
    """Its bend lies inside."""


def unit_on_interval(
    weight: Scheme | str, bias: Scheme | str = "zeros", low: float = 0.0, high: float = 1.0
) -> UnitOdds:
    """Probabilities that max(0, w x + b) is dead, linear or bent on low < x < high.

    Dead where w x + b <= 0 at both ends, linear where it is >= 0 at both, else bent: an end is not inside.

    Args:
        weight: law of w, as in `nn.Scheme` (fan_in and fan_out are 1); one that has a density.
        bias: law of b.
        low: lower end of the inputs.
        high: upper end.

    Returns:
        The three probabilities, to 1e-4.

    Raises:
        UnstuckError: a law that is no law of single numbers, or an empty interval.

    Example:
        >>> both = Scheme("uniform", low=-1.0, high=1.0)
        >>> tuple(round(odds, 3) for odds in unit_on_interval(both, both))
        (0.375, 0.375, 0.25)
        >>> tuple(round(odds, 3) for odds in unit_on_interval("he"))  # without a bias no unit bends inside
        (0.5, 0.5, 0.0)

    References:
        Elementary; it is the case of one layer of L. Lu et al. (2019), arXiv 1903.06733.
    """
    if not low < high:
        msg = f"low {low!r} must be below high {high!r}"
        raise UnstuckError(msg)
    w = _law("weight", weight)
    b = _law("bias", bias).quantiles((np.arange(CELLS) + 0.5) / CELLS)
    # as a function of w, w x + b <= 0 at x = low is one half-line and at x = high another
    below, above = np.full(b.shape, -np.inf), np.full(b.shape, np.inf)
    under, over = below.copy(), above.copy()
    for x in (low, high):
        if x == 0:
            above = np.where(b <= 0, above, -np.inf)
            over = np.where(b >= 0, over, -np.inf)
        elif x > 0:
            above = np.minimum(above, -b / x)
            under = np.maximum(under, -b / x)
        else:
            below = np.maximum(below, -b / x)
            over = np.minimum(over, -b / x)
    dead = float(np.maximum(w.below(above) - w.below(below), 0).mean())
    linear = float(np.maximum(w.below(over) - w.below(under), 0).mean())
    return UnitOdds(dead, linear, max(0.0, 1 - dead - linear))


def born_dead_three_layers(width: int) -> float:
    """Probability that a ReLU network of one input and two hidden layers is born dead.

    4^-N (3 - 2^(1-N)): constant over -1 and 1, as one hidden layer is 0 for both, with zero biases and
    weights of a law symmetric about 0 without an atom there. Every first unit lives on one side. Where all
    N live on the same one (probability 2^(1-N)) the other is silent, and the second layer dies with 2^-N;
    otherwise its units see two independent sums, and it dies with 4^-N.

    Args:
        width: N, units in each of the two hidden layers.

    Returns:
        The probability; the network has L = 3 layers of weights.

    Raises:
        UnstuckError: the width is no whole number of at least 1.

    Example:
        >>> born_dead_three_layers(2)
        0.15625

    References:
        L. Lu et al. (2019), arXiv 1903.06733, give bounds; the formula is derived above.
    """
    n = whole("width", width, 1)
    return 4.0**-n * (3 - 2.0 ** (1 - n))


def born_dead_bound(width: int, layers: int) -> float:
    """Upper bound of the probability that a ReLU network is born dead.

    1 - (1 - 2^-N)^(L-1): while one input is still alive, all N units of a layer die for it with 2^-N.

    Args:
        width: N, units in every hidden layer.
        layers: L, layers of weights, so L - 1 hidden layers.

    Returns:
        The bound. The probability itself is lower, mostly because the first layer cannot die and two inputs
        must.

    Raises:
        UnstuckError: a size is no whole number of at least 1.

    Example:
        >>> round(born_dead_bound(width=3, layers=10), 3)
        0.699

    References:
        L. Lu, Y. Shin, Y. Su, G. Karniadakis (2019), arXiv 1903.06733.
    """
    n, depth = whole("width", width, 1), whole("layers", layers, 1)
    return -math.expm1((depth - 1) * math.log1p(-(2.0**-n)))


class _Law(NamedTuple):
    """Uniform or normal numbers, or one number."""

    normal: bool
    mean: float
    std: float

    def quantiles(self, shares: Floats) -> Floats:
        """Numbers below which those shares lie."""
        if self.normal:
            from scipy.special import ndtri

            return self.mean + self.std * np.asarray(ndtri(shares))
        return self.mean + self.std * math.sqrt(3) * (2 * shares - 1)

    def below(self, at: Floats) -> Floats:
        """Shares below these numbers."""
        place = (at - self.mean) / self.std
        if self.normal:
            return (1 + error_function(place / math.sqrt(2))) / 2
        return np.clip((place / math.sqrt(3) + 1) / 2, 0.0, 1.0)


def _law(what: str, given: Scheme | str) -> _Law:
    scheme = given if isinstance(given, Scheme) else Scheme(given)
    moments = scheme.moments(ParameterSpec.weight("", (1, 1)))
    if scheme.ties_units or moments is None or (what == "weight" and moments[1] == 0):
        msg = f"{what}: scheme {scheme.scheme!r} is no law of single numbers with a density"
        raise UnstuckError(msg)
    return _Law(scheme.draws == "normal", *moments)
