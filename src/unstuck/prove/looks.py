"""When a trial looks at its results, and how much of the error each look may spend."""

import math
from dataclasses import dataclass

from unstuck.prove.verdict import ALPHA

SPENT = (0.6, 0.2, 0.2)
"""Parts of the error that the looks spend, the first the largest: most trials should end there."""
SINGLE = 0.8
"""Part of the error for single treatments, where a combination may be tried after them."""
FIRST = 4
"""Seeds that every treatment gets before some are left behind."""


@dataclass(frozen=True)
class Look:
    """After so many seeds, with so much of the error."""

    seeds: int
    alpha: float


def plan_looks(seeds: int, treatments: int, alpha: float = ALPHA) -> tuple[Look, ...]:
    r"""The looks of a trial of at most so many seeds.

    The first comes when one treatment could be proved with its part of the error, see `needed_seeds`; then
    one half way, and one at the end. At look $k$ a treatment is judged with Holm over all
    treatments and both directions at level $\alpha_k$; as $\sum_k \alpha_k = 0.05$, the chance that a trial
    of useless treatments proves or condemns any of them stays below 5 %, whenever it stops.

    Args:
        seeds: at most, of every arm.
        treatments: in the family, at least 1.
        alpha: what all looks may spend together.

    Returns:
        Looks in order of their seeds, the last at `seeds`; their levels sum to alpha.

    Example:
        >>> [(look.seeds, round(look.alpha, 4)) for look in plan_looks(20, 3)]
        [(8, 0.03), (14, 0.01), (20, 0.01)]
        >>> plan_looks(7, 3)
        (Look(seeds=7, alpha=0.05),)

    References:
        P. Armitage, C. K. McPherson, B. C. Rowe, 1969, J. R. Stat. Soc. A 132:235-244.
        K. K. G. Lan, D. L. DeMets, 1983, Biometrika 70:659-663 (alpha spending).
    """
    first = least_seeds(max(treatments, 1), SPENT[0] * alpha)
    if seeds < first + 2:
        return (Look(seeds, alpha),)
    middle = (first + seeds) // 2
    able = least_seeds(max(treatments, 1), SPENT[1] * alpha)  # with fewer, a second look could prove nothing
    if not able <= middle < seeds:
        return (Look(first, alpha * SPENT[0]), Look(seeds, alpha * (1 - SPENT[0])))
    sizes = (first, middle, seeds)
    return tuple(Look(size, alpha * share) for size, share in zip(sizes, SPENT, strict=True))


def least_seeds(treatments: int, alpha: float) -> int:
    """The fewest seeds with which one of so many treatments can be proved at a level, see `needed_seeds`."""
    return math.ceil(math.log2(2 * treatments / alpha))
