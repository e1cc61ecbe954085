"""Batch normalisation at initialisation: how much the gradient grows with every layer.

References:
    G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. Schoenholz (2019), arXiv 1902.08129.
"""

import math
from typing import Final

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.theory.functions import Activation, function
from unstuck.nn.theory.gauss import Floats, cut, mean

WIDE: Final = 12.0
"""Standard deviations of a normalised number beyond which nothing counts."""


def batch_norm_growth(activation: Activation, batch: float, gamma: float = 1.0) -> float:
    """Factor of the squared gradient per layer (Linear, BatchNorm, activation), going back.

    Wide layers with zero-mean weights, whose variance drops out. Over the B samples of a batch a unit's
    normalised numbers û are √B times a uniformly random direction among the B - 1 that sum to 0. With
    d = phi'(û), G the projection that takes the mean off, P = G - û ûᵀ / B, and a the part of
    E[phi(û) phi(û)ᵀ] in each of those directions:

        growth = B E[tr(P diag(d) G diag(d))] / (a (B - 3) (B - 1))

    B/(a χ²) is what normalising multiplies squared gradients by, and 1/(B - 3) the mean of 1/χ² with B - 1
    degrees of freedom. For no activation it is (B - 2)/(B - 3). For large batches it tends to
    E[phi'²] / Var phi over a standard normal number, which is π/(π - 1) for ReLU.

    Args:
        activation: phi, see `function`.
        batch: B, samples in a batch, at least 4; `math.inf` for the limit.
        gamma: the normalisation's scale: phi(gamma û). Its shift is 0.

    Returns:
        The factor; over L layers the squared norm changes by its L-th power, the norm by the root of that.

    Raises:
        UnstuckError: an unknown activation, a batch below 4 (the mean is infinite), or gamma = 0.

    Example:
        >>> round(batch_norm_growth("Identity", batch=6), 6)  # 4/3
        1.333333
        >>> round(batch_norm_growth("ReLU", math.inf), 4)
        1.4669

    References:
        G. Yang et al. (2019), arXiv 1902.08129, prove the explosion; the formula is derived above.
    """
    if not batch >= 4:
        msg = f"batch must be at least 4 samples, found {batch!r}: with fewer, the mean growth is infinite"
        raise UnstuckError(msg)
    phi, scale = function(activation), abs(real("gamma", gamma))
    if scale == 0:
        msg = "gamma must not be 0: nothing would pass"
        raise UnstuckError(msg)

    def value(u: Floats) -> Floats:
        return phi.value(scale * u)

    def slope(u: Floats) -> Floats:
        return scale * phi.slope(scale * u)

    if math.isinf(batch):
        return mean(lambda u: slope(u) ** 2) / (mean(lambda u: value(u) ** 2) - mean(value) ** 2)
    one, two, weights = _pairs(batch)
    first, second = slope(one)[:, np.newaxis], slope(two)
    square = _over(weights, first * first)
    product = _over(weights, first * second)
    # of û d, for one sample and for two
    lengths = _over(weights, (one[:, np.newaxis] * first) ** 2)
    mixed = _over(weights, one[:, np.newaxis] * first * two * second)
    rest = (batch - 1) / batch
    trace = (batch - 2 + 1 / batch) * square + rest * (product - lengths + mixed)
    values = value(one)[:, np.newaxis]
    a = _over(weights, values * values) - _over(weights, values * value(two))
    return batch * trace / (a * (batch - 3) * (batch - 1))


def _pairs(batch: float) -> tuple[Floats, Floats, Floats]:
    """Values of two of B normalised numbers, and how likely they are.

    û₁ = √(B-1) sin θ with density cos^(B-3) θ; û₂ = √(B-1) (r sin θ + √(1-r²) cos θ sin φ) with
    r = -1/(B-1) and density cos^(B-4) φ.

    Returns:
        û₁ (N,), û₂ (N, M), weights (N, M) that sum to 1; cut where either is 0.
    """
    reach = min(math.pi / 2, WIDE / math.sqrt(batch - 3))
    r = -1 / (batch - 1)
    rest = math.sqrt(1 - r * r)
    places, widths = cut(-reach, np.zeros(1), reach)
    theta = places[0]
    zero = np.arcsin(np.clip(-r * np.tan(theta) / rest, -1.0, 1.0))
    phi, breadths = cut(-reach, zero, reach)
    weights = (
        (widths[0] * np.cos(theta) ** (batch - 3))[:, np.newaxis] * breadths * np.cos(phi) ** (batch - 4)
    )
    size = math.sqrt(batch - 1)
    other = r * np.sin(theta)[:, np.newaxis] + rest * np.cos(theta)[:, np.newaxis] * np.sin(phi)
    return size * np.sin(theta), size * other, weights / weights.sum()


def _over(weights: Floats, values: Floats) -> float:
    return float((weights * values).sum())
