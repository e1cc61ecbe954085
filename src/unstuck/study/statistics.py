"""Intervals and tests for success rates: what a trial may claim from its counts, and nothing more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Interval:
    """A closed confidence interval."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Count:
    """How many of `trials` succeeded.

    Raises:
        UnstuckError: no trials, or counts that are not whole numbers with 0 <= successes <= trials.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        """Refuse counts that no experiment can give."""
        _whole("trials", self.trials)
        _whole("successes", self.successes)
        if self.trials == 0:
            raise UnstuckError("trials: found 0, expected at least 1: nothing can be said without a trial")
        if self.successes > self.trials:
            raise UnstuckError(f"successes: found {self.successes}, expected at most trials = {self.trials}")

    @property
    def rate(self) -> float:
        """The observed success rate, successes / trials."""
        return self.successes / self.trials


class PairedTable(NamedTuple):
    """The four counts of paired outcomes: the same seed before and after a change.

    Its order is that of `newcombe_paired`, whose interval is for *first minus second*. What a change gained
    is *after minus before*: ask `gain` for that one.
    """

    both: int
    only_before: int
    only_after: int
    neither: int

    def gain(self, confidence: float = 0.95) -> Interval:
        """Interval of P(success after) - P(success before); above 0 when the change helped.

        Example:
            >>> gain = PairedTable(both=0, only_before=0, only_after=63, neither=1).gain()
            >>> round(gain.low, 3), round(gain.high, 3)
            (0.896, 0.997)
        """
        return newcombe_paired(self.both, self.only_after, self.only_before, self.neither, confidence)


@dataclass(frozen=True)
class Equivalence:
    """The answer of two one-sided tests: `interval` is the one at confidence 1 - 2 alpha."""

    equivalent: bool
    interval: Interval
    margin: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    r"""Wilson's score interval of a success rate.

    $$\frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}$$

    with $z$ the normal quantile at $1-(1-\mathrm{confidence})/2$. At 0 or n successes one end is exactly 0
    or 1.

    Args:
        successes: number of successes, 0..trials.
        trials: number of trials, at least 1.
        confidence: between 0 and 1.

    Returns:
        The interval, inside [0, 1].

    Raises:
        UnstuckError: no trials, impossible counts, or a confidence outside (0, 1).

    Example:
        >>> interval = wilson(81, 263)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.2553, 0.3662)

    References:
        E. B. Wilson, 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    count = Count(successes, trials)
    z = _quantile(confidence)
    p, n = count.rate, count.trials
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # In exact arithmetic the ends are 0 and 1 there; rounding must not turn them into 1e-17 or 1 - 1e-16.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return Interval(low, high)


def newcombe_difference(a: Count, b: Count, confidence: float = 0.95) -> Interval:
    r"""Newcombe's interval of the difference of two independent success rates, $p_a - p_b$.

    With the Wilson limits $l, u$ of each rate and $d = \hat p_a - \hat p_b$ ("square and add"):

    $$d - \sqrt{(\hat p_a-l_a)^2 + (u_b-\hat p_b)^2},\qquad
      d + \sqrt{(u_a-\hat p_a)^2 + (\hat p_b-l_b)^2}$$

    Args:
        a: the first group.
        b: the second group, of other seeds than the first (for the same seeds use `newcombe_paired`).
        confidence: between 0 and 1.

    Returns:
        The interval, inside [-1, 1].

    Raises:
        UnstuckError: a confidence outside (0, 1).

    Example:
        >>> interval = newcombe_difference(Count(56, 70), Count(48, 80))
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.0524, 0.3339)

    References:
        R. G. Newcombe, 1998, Statistics in Medicine 17:873-890, method 10.
    """
    return _square_and_add(a, b, 0.0, confidence)


def newcombe_paired(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> Interval:
    r"""Newcombe's interval of the difference of two paired success rates, $p_1 - p_2$.

    Square and add as for independent rates, less the correlation of the pairs. With $a, b, c, d$ = both,
    only_first, only_second, neither and $\delta$ the distances from each rate to its Wilson limits:

    $$d - \sqrt{\delta_{l1}^2 - 2\varphi\,\delta_{l1}\delta_{u2} + \delta_{u2}^2},\qquad
      d + \sqrt{\delta_{u1}^2 - 2\varphi\,\delta_{u1}\delta_{l2} + \delta_{l2}^2}$$

    $$\varphi = \frac{\kappa(ad-bc)}{\sqrt{(a+b)(c+d)(a+c)(b+d)}},\qquad
      \kappa(x) = \max(x - n/2,\,0)\ \text{if}\ x>0,\ \text{else}\ x$$

    and $\varphi = 0$ where a margin is empty. The correction $\kappa$ keeps a correlation seen in few
    pairs from narrowing the interval too much.

    Args:
        both: pairs in which both succeeded.
        only_first: pairs in which only the first succeeded.
        only_second: pairs in which only the second succeeded.
        neither: pairs in which neither succeeded.
        confidence: between 0 and 1.

    Returns:
        The interval of (only_first - only_second) / n, inside [-1, 1].

    Raises:
        UnstuckError: no pairs, counts that are not whole numbers, or a confidence outside (0, 1).

    Example:
        >>> interval = newcombe_paired(59, 6, 16, 80)
        >>> round(interval.low, 4), round(interval.high, 4)
        (-0.1186, -0.0046)

    References:
        R. G. Newcombe, 1998, Statistics in Medicine 17:2635-2650, method 10.
        M. W. Fagerland, S. Lydersen, P. Laake, 2017, Statistical Analysis of Contingency Tables, ch. 8 (the
            example).
    """
    table = {"both": both, "only_first": only_first, "only_second": only_second, "neither": neither}
    # Python's integers do not overflow where NumPy's would: a million pairs give products of 1e24.
    a, b, c, d = (_whole(name, value) for name, value in table.items())
    n = a + b + c + d
    if n == 0:
        raise UnstuckError("both + only_first + only_second + neither: found 0 pairs, expected at least 1")
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    association: float = a * d - b * c
    if association > 0:
        association = max(association - n / 2, 0.0)
    phi = association / math.sqrt(margins) if margins else 0.0
    return _square_and_add(Count(a + b, n), Count(a + c, n), phi, confidence)


def paired_table(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> PairedTable:
    """Count the four outcomes of paired trials.

    Args:
        before: (n,) bool, success of each seed unchanged.
        after: (n,) bool, success of the same seeds, in the same order, after the change.

    Returns:
        The counts, by name; its `gain` is the interval of after minus before.

    Raises:
        UnstuckError: arrays that are not boolean, not of one axis, of different lengths, or empty.

    Example:
        >>> paired_table(np.array([True, False, False]), np.array([True, True, False]))
        PairedTable(both=1, only_before=0, only_after=1, neither=1)
    """
    for name, outcome in {"before": before, "after": after}.items():
        # Checked at run time because an array of NaN or of 0.0 and 1.0 would be cast to bool without a word.
        if outcome.dtype != np.bool_ or outcome.ndim != 1:
            found = f"{outcome.dtype} of shape {outcome.shape}"
            raise UnstuckError(f"{name}: found an array of {found}, expected bool of shape (n,)")
    if before.size != after.size:
        raise UnstuckError(
            f"before and after: found {before.size} and {after.size} outcomes, expected one of each a pair"
        )
    if before.size == 0:
        raise UnstuckError("before and after: found 0 pairs, expected at least 1")
    return PairedTable(
        both=int(np.count_nonzero(before & after)),
        only_before=int(np.count_nonzero(before & ~after)),
        only_after=int(np.count_nonzero(~before & after)),
        neither=int(np.count_nonzero(~before & ~after)),
    )


def mcnemar_exact(only_before: int, only_after: int, alternative: Alternative = "two-sided") -> float:
    r"""McNemar's exact test: of the pairs that changed, did more change for the better than chance gives?

    Under the null hypothesis only_after is Binomial(only_before + only_after, 1/2); pairs that did not change
    say nothing about it.

    Args:
        only_before: pairs that succeeded only before the change.
        only_after: pairs that succeeded only after it.
        alternative: "greater": successes are more frequent *after*; "less": less frequent; or "two-sided".

    Returns:
        The p-value; 1.0 when no pair changed.

    Raises:
        UnstuckError: counts that are not whole numbers >= 0, or an unknown alternative.

    Example:
        >>> round(mcnemar_exact(2, 12), 4)
        0.0129
        >>> mcnemar_exact(0, 0)
        1.0

    References:
        Q. McNemar, 1947, Psychometrika 12:153-157.
    """
    worse, better = _whole("only_before", only_before), _whole("only_after", only_after)
    if alternative not in {"two-sided", "greater", "less"}:
        raise UnstuckError(f'alternative: found {alternative!r}, expected "two-sided", "greater" or "less"')
    if worse + better == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(better, worse + better, 0.5, alternative=alternative).pvalue)


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Holm's step-down adjustment: reject where the result is <= alpha; the family's error is then alpha.

    $$\tilde p_{(i)} = \max_{j \le i}\ \min\bigl(1,\ (m - j + 1)\,p_{(j)}\bigr)$$

    over the m p-values in ascending order. It holds whatever the dependence between the tests.

    Args:
        p_values: (m,) p-values in any order; m may be 0.

    Returns:
        (m,) adjusted p-values, in the order given.

    Raises:
        UnstuckError: a p-value that is NaN or outside [0, 1], or more than one axis.

    Example:
        >>> holm([0.25, 0.0625, 0.015625]).tolist()
        [0.25, 0.125, 0.046875]

    References:
        S. Holm, 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    p = checked(p_values)
    order = np.argsort(p, kind="stable")
    factors = p.size - np.arange(p.size)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def checked(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values as an array (m,).

    Raises:
        UnstuckError: one that is NaN or outside [0, 1], or more than one axis.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise UnstuckError(f"p_values: found shape {p.shape}, expected (m,)")
    # Written so that NaN, which compares false with everything, counts as bad.
    bad = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if bad.size:
        raise UnstuckError(f"p_values[{bad[0]}]: found {p[bad[0]]}, expected a number in [0, 1]")
    return p


def tost_difference(a: Count, b: Count, margin: float, alpha: float = 0.05) -> Equivalence:
    r"""Two one-sided tests: are two independent success rates the same within a margin?

    Equivalent at level alpha when the interval of $p_a - p_b$ at confidence $1 - 2\alpha$ lies strictly
    inside (-margin, margin). A difference that is merely "not significant" is no equivalence; this is.

    Args:
        a: the first group.
        b: the second group.
        margin: the largest difference of no importance, in (0, 1].
        alpha: the chance of calling rates equivalent that are `margin` apart, in (0, 0.5).

    Returns:
        The answer with its interval.

    Raises:
        UnstuckError: a margin or an alpha out of range.

    Example:
        >>> tost_difference(Count(500, 1000), Count(503, 1000), margin=0.05).equivalent
        True
        >>> tost_difference(Count(5, 10), Count(5, 10), margin=0.05).equivalent
        False

    References:
        D. J. Schuirmann, 1987, J. Pharmacokinetics and Biopharmaceutics 15:657-680.
        R. G. Newcombe, 1998, Statistics in Medicine 17:873-890 (the interval).
    """
    _require_equivalence(margin, alpha)
    return _equivalence(newcombe_difference(a, b, 1 - 2 * alpha), margin)


def tost_paired(table: PairedTable, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided tests for paired success rates: `tost_difference` on the same seeds before and after.

    Args:
        table: counts of the pairs, as from `paired_table`.
        margin: the largest difference of no importance, in (0, 1].
        alpha: the chance of calling rates equivalent that are `margin` apart, in (0, 0.5).

    Returns:
        The answer with the interval of after minus before.

    Raises:
        UnstuckError: a margin or an alpha out of range, or impossible counts.

    Example:
        >>> table = PairedTable(both=480, only_before=8, only_after=9, neither=503)
        >>> tost_paired(table, margin=0.05).equivalent
        True
    """
    _require_equivalence(margin, alpha)
    return _equivalence(table.gain(1 - 2 * alpha), margin)


def _equivalence(interval: Interval, margin: float) -> Equivalence:
    return Equivalence(-margin < interval.low and interval.high < margin, interval, margin)


def _square_and_add(a: Count, b: Count, phi: float, confidence: float) -> Interval:
    """The distances to the Wilson limits, added like the sides of a triangle whose angle has cosine phi."""
    ends_a = wilson(a.successes, a.trials, confidence)
    ends_b = wilson(b.successes, b.trials, confidence)
    difference = a.rate - b.rate
    below = _third_side(a.rate - ends_a.low, ends_b.high - b.rate, phi)
    above = _third_side(ends_a.high - a.rate, b.rate - ends_b.low, phi)
    return Interval(max(difference - below, -1.0), min(difference + above, 1.0))


def _third_side(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UnstuckError(f"confidence: found {confidence}, expected a number in (0, 1)")
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def _require_equivalence(margin: float, alpha: float) -> None:
    if not 0 < margin <= 1:
        raise UnstuckError(f"margin: found {margin}, expected a number in (0, 1]")
    if not 0 < alpha < 0.5:
        raise UnstuckError(f"alpha: found {alpha}, expected a number in (0, 0.5)")


def _whole(name: str, value: Any) -> int:
    """`value` as Python's integer; NaN, fractions and negative numbers are refused by name."""
    if not isinstance(value, Integral) or int(value) < 0:
        raise UnstuckError(f"{name}: found {value!r}, expected a whole number >= 0")
    return int(value)
