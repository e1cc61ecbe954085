"""Where along a numeric factor success turns into failure: the value at which half of the seeds succeed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.study.statistics import Count

Floats = NDArray[np.float64]
Direction = Literal["rising", "falling"]

GRID = 240
"""Places at which the likelihood is looked at, over three times the width of the data."""
STEEPEST = 400.0
"""Slope, over the width of the data, that stands for a sudden step."""
FLAT = 1e-6
"""Differences of log-likelihood below this are none: separable data leave the boundary open in a gap."""


@dataclass(frozen=True)
class Boundary:
    """The value of a factor at which half of the seeds succeed; None is "outside of what was tried"."""

    value: float | None
    """Most likely value; the middle of the gap where the data leave a gap. None: no crossing was seen."""
    low: float | None
    """Lower end of the interval; None: it may lie anywhere below."""
    high: float | None
    """Upper end; None: it may lie anywhere above."""
    direction: Direction
    """Whether success becomes more frequent ("rising") or less ("falling") as the factor grows."""
    separable: bool
    """Whether all cells on one side failed and all on the other succeeded: the slope is then unknown."""

    def __contains__(self, value: float) -> bool:
        """Whether a value lies in the interval, ends included."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


def logistic_boundary(
    values: Sequence[float],
    counts: Sequence[Count],
    *,
    log: bool = True,
    direction: Direction | None = None,
    confidence: float = 0.95,
) -> Boundary:
    r"""Fit a logistic curve to success rates along a factor, and give the place where it crosses one half.

    $$\mathrm{logit}\,p = s\,(x - m),\qquad x = \log(\text{value})$$

    The boundary is m. Its interval is that of the profile likelihood: all m for which

    $$2\,\bigl(\max_{m,s} \ell - \max_s \ell(m, s)\bigr) \le \chi^2_1(\mathrm{confidence})$$

    which, unlike the standard error of a quotient, holds for separable data too, where no finite slope fits
    best. Seeds count as independent: for values tried on the same seeds the interval is a little too wide.

    Success may rise and then fall again (too slow, right, too fast). A direction looks at one side only: at
    the values up to the best one for "rising", from the best one on for "falling".

    Args:
        values: (n,) distinct values of the factor, in any order; positive on a log scale.
        counts: (n,) successes of each value.
        log: whether the factor acts by its logarithm, as a learning rate does.
        direction: by default that in which the first and the last value differ.
        confidence: between 0 and 1.

    Returns:
        The boundary in units of the factor.

    Raises:
        UnstuckError: fewer than two values, values that repeat, are not finite or not positive on a log
            scale, or a confidence outside (0, 1).

    Example:
        >>> rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]
        >>> seen = [Count(k, 100) for k in (96, 92, 76, 47, 19, 0)]
        >>> found = logistic_boundary(rates, seen)
        >>> round(found.value, 2), round(found.low, 2), round(found.high, 2), found.direction
        (0.37, 0.35, 0.39, 'falling')

    References:
        D. J. Finney, 1971, Probit Analysis, 3rd ed., Cambridge University Press.
        D. Collett, 2002, Modelling Binary Data, 2nd ed., ch. 4 (effective doses, profile likelihood).
    """
    if not 0 < confidence < 1:
        raise UnstuckError(f"confidence: found {confidence}, expected a number in (0, 1)")
    x, wins, trials = _read(values, counts, log=log)
    rates = wins / trials
    way: Direction = direction or ("falling" if rates[-1] < rates[0] else "rising")
    kept = _side(rates, way)
    x, wins, trials = x[kept], wins[kept], trials[kept]
    back = math.exp if log else float
    if len(x) < 2:
        return _open(way, rates, back(float(x[0])))
    curve = _Curve(x, wins, trials, 1.0 if way == "rising" else -1.0)
    from scipy.special import chdtri

    return _interval(curve, float(chdtri(1, 1 - confidence)) / 2, way, back)


class _Curve:
    """Log-likelihoods of the boundary, at its best slope of the given sign."""

    def __init__(self, x: Floats, wins: Floats, trials: Floats, sign: float) -> None:
        self.x, self.wins, self.trials = x, wins, trials
        self.sign, self.width = sign, float(x[-1] - x[0])

    def at(self, m: float) -> float:
        """The best log-likelihood with the boundary at m; a slope of 0 says that all rates are one half."""
        from scipy.optimize import minimize_scalar

        def worse(log_slope: float) -> float:
            return -self.likelihood(m, math.exp(log_slope))

        most = math.log(STEEPEST)
        found: Any = minimize_scalar(worse, bounds=(-most, most), method="bounded", options={"xatol": 1e-7})
        return max(-float(found.fun), self.likelihood(m, STEEPEST), self.likelihood(m, 0.0))

    def below(self, m: float) -> float:
        """Its negative, for what minimises."""
        return -self.at(m)

    def likelihood(self, m: float, slope: float) -> float:
        """At one slope, over the width of the data."""
        z = self.sign * slope * (self.x - m) / self.width
        return float(
            -np.sum(self.wins * np.logaddexp(0, -z) + (self.trials - self.wins) * np.logaddexp(0, z))
        )

    @property
    def separable(self) -> bool:
        """Whether every rate is 0 or 1, and both are there."""
        rates = set((self.wins / self.trials).tolist())
        return rates == {0.0, 1.0}


def _interval(curve: _Curve, drop: float, way: Direction, back: Callable[[float], float]) -> Boundary:
    from scipy.optimize import brentq, minimize_scalar

    x = curve.x
    places = np.linspace(x[0] - curve.width, x[-1] + curve.width, GRID + 1)
    heights = np.array([curve.at(float(place)) for place in places])
    top = np.flatnonzero(heights >= heights.max() - FLAT)
    if len(top) > 1:
        best, height = float(places[top].mean()), float(heights.max())
    else:
        ends = float(places[max(top[0] - 1, 0)]), float(places[min(top[0] + 1, GRID)])
        found: Any = minimize_scalar(curve.below, bounds=ends, method="bounded")
        best, height = float(found.x), max(float(heights.max()), -float(found.fun))
    level = height - drop

    def above(m: float) -> float:
        return curve.at(m) - level

    def end(indices: range) -> float | None:
        """Where the likelihood falls below the level, going outwards."""
        before = best
        for i in indices:
            if heights[i] < level:
                crossing: Any = brentq(above, before, float(places[i]))
                return back(float(crossing))
            before = float(places[i])
        return None

    start = int(np.searchsorted(places, best))
    seen = x[0] <= best <= x[-1]
    return Boundary(
        value=back(best) if seen else None,
        low=end(range(start - 1, -1, -1)),
        high=end(range(start, GRID + 1)),
        direction=way,
        separable=curve.separable,
    )


def _side(rates: Floats, way: Direction) -> slice:
    """Up to the best value, or from it on; of several best ones the one nearest the boundary."""
    best = np.flatnonzero(rates == rates.max())
    return slice(0, int(best[0]) + 1) if way == "rising" else slice(int(best[-1]), None)


def _open(way: Direction, rates: Floats, best: float) -> Boundary:
    """The best value is the last on its side: nothing was tried beyond it."""
    beyond = rates.max() > 0.5
    below = best if beyond and way == "falling" else None
    above = best if beyond and way == "rising" else None
    return Boundary(None, below, above, way, separable=False)


def _read(values: Sequence[float], counts: Sequence[Count], *, log: bool) -> tuple[Floats, Floats, Floats]:
    given: ArrayLike = list(values)
    x = np.asarray(given, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or x.size != len(counts):
        raise UnstuckError(
            f"values and counts: found {x.size} and {len(counts)}, expected one count a value, "
            "two values at least"
        )
    if not np.isfinite(x).all() or (log and bool(np.any(x <= 0))):
        raise UnstuckError(
            f"values: found {list(values)}, expected {'positive ' if log else ''}finite numbers"
        )
    if np.unique(x).size < x.size:
        raise UnstuckError("values: found one twice, expected distinct values: add their counts up first")
    order = np.argsort(x)
    wins = np.array([counts[i].successes for i in order], dtype=np.float64)
    trials = np.array([counts[i].trials for i in order], dtype=np.float64)
    return (np.log(x[order]) if log else x[order]), wins, trials
