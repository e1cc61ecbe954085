"""Many cells at once: intervals that hold together, and how many discoveries may be false."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.study.statistics import Count, Interval, checked, newcombe_difference, wilson

Method = Literal["sidak", "bonferroni"]


def single_confidence(cells: int, confidence: float = 0.95, method: Method = "sidak") -> float:
    r"""The confidence of each interval with which all of a family hold together.

    Šidák: $(\mathrm{confidence})^{1/m}$, exact for independent cells. Bonferroni:
    $1 - (1 - \mathrm{confidence})/m$, for cells that share seeds in any way; it is hardly wider.

    Args:
        cells: m, how many intervals the family has.
        confidence: of the family, between 0 and 1.
        method: "sidak" or "bonferroni".

    Returns:
        The confidence of one interval.

    Raises:
        UnstuckError: no cells, a confidence outside (0, 1), or an unknown method.

    Example:
        >>> round(single_confidence(10), 5), round(single_confidence(10, method="bonferroni"), 5)
        (0.99488, 0.995)

    References:
        Z. Šidák, 1967, J. Am. Stat. Assoc. 62:626-633.
    """
    if cells < 1:
        raise UnstuckError(f"cells: found {cells}, expected at least 1")
    if not 0 < confidence < 1:
        raise UnstuckError(f"confidence: found {confidence}, expected a number in (0, 1)")
    if method == "sidak":
        return float(confidence ** (1 / cells))
    if method == "bonferroni":
        return 1 - (1 - confidence) / cells
    raise UnstuckError(f'method: found {method!r}, expected "sidak" or "bonferroni"')


def wilson_family(
    counts: Sequence[Count], confidence: float = 0.95, method: Method = "sidak"
) -> list[Interval]:
    """Wilson's intervals that all hold together with the given confidence.

    Args:
        counts: (m,) of the cells.
        confidence: of the family.
        method: see `single_confidence`.

    Returns:
        (m,) intervals, in the order given; none for no cells.

    Raises:
        UnstuckError: see `single_confidence`.

    Example:
        >>> wide, narrow = wilson_family([Count(50, 100)] * 20)[0], wilson_family([Count(50, 100)])[0]
        >>> round(wide.low, 3), round(narrow.low, 3)
        (0.356, 0.404)
    """
    if not counts:
        return []
    each = single_confidence(len(counts), confidence, method)
    return [wilson(count.successes, count.trials, each) for count in counts]


def difference_family(
    pairs: Sequence[tuple[Count, Count]], confidence: float = 0.95, method: Method = "sidak"
) -> list[Interval]:
    """Newcombe's intervals of several differences of independent rates, that all hold together.

    Where 0 lies in every one of them, two tables of rates agree: so a table is reproduced.

    Args:
        pairs: (m,) first and second group of each cell.
        confidence: of the family.
        method: see `single_confidence`.

    Returns:
        (m,) intervals of first minus second.

    Raises:
        UnstuckError: see `single_confidence`.

    Example:
        >>> [0.0 in interval for interval in difference_family([(Count(55, 100), Count(60, 100))])]
        [True]
    """
    if not pairs:
        return []
    each = single_confidence(len(pairs), confidence, method)
    return [newcombe_difference(first, second, each) for first, second in pairs]


def benjamini_hochberg(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Adjusted p-values that bound the share of false discoveries: reject where the result is <= q.

    $$\tilde p_{(i)} = \min_{j \ge i}\ \min\bigl(1,\ \tfrac{m}{j}\,p_{(j)}\bigr)$$

    over the m p-values in ascending order. Of the cells it names, a share of q at most is named by chance, on
    average, for independent or positively dependent tests: for maps of hundreds of cells, where a single
    false one does no harm. For claims, take `statistics.holm`.

    Args:
        p_values: (m,) p-values in any order; m may be 0.

    Returns:
        (m,) adjusted p-values, in the order given.

    Raises:
        UnstuckError: a p-value that is NaN or outside [0, 1], or more than one axis.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.04, 0.04]

    References:
        Y. Benjamini, Y. Hochberg, 1995, J. R. Stat. Soc. B 57:289-300.
    """
    p = checked(p_values)
    order = np.argsort(p, kind="stable")[::-1]
    adjusted = np.empty_like(p)
    factors = p.size / np.arange(p.size, 0, -1)
    adjusted[order] = np.minimum(np.minimum.accumulate(factors * p[order]), 1.0)
    return adjusted
