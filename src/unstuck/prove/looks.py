"""When a trial looks at its results, and how much of the error each look may spend."""

import math
from dataclasses import dataclass

from unstuck.prove.verdict import ALPHA, needed_seeds

SPENT = (0.5, 0.25, 0.25)
"""Parts of the error that the looks spend, the first the largest: most trials should end there."""
FIRST = 4
"""Seeds that every treatment gets before some are left behind."""


@dataclass(frozen=True)
class Look:
    """After so many seeds, with so much of the error."""

    seeds: int
    alpha: float


def plan_looks(seeds: int, treatments: int) -> tuple[Look, ...]:
    r"""The looks of a trial of at most so many seeds.

    The first comes when one treatment could be proved with its part of the error, see `needed_seeds`; then
    one half way, and one at the end. At look $k$ a treatment is judged with Holm over all
    treatments and both directions at level $\alpha_k$; as $\sum_k \alpha_k = 0.05$, the chance that a trial
    of useless treatments proves or condemns any of them stays below 5 %, whenever it stops.

    Args:
        seeds: at most, of every arm.
        treatments: in the family, at least 1.

    Returns:
        Looks in order of their seeds, the last at `seeds`; their levels sum to 0.05.

    Example:
        >>> [(look.seeds, look.alpha) for look in plan_looks(20, 3)]
        [(8, 0.025), (14, 0.0125), (20, 0.0125)]
        >>> plan_looks(7, 3)
        (Look(seeds=7, alpha=0.05),)

    References:
        P. Armitage, C. K. McPherson, B. C. Rowe, 1969, J. R. Stat. Soc. A 132:235-244.
        K. K. G. Lan, D. L. DeMets, 1983, Biometrika 70:659-663 (alpha spending).
    """
    first = math.ceil(math.log2(2 * max(treatments, 1) / (SPENT[0] * ALPHA)))
    if seeds < first + 2 or seeds < needed_seeds(max(treatments, 1)):
        return (Look(seeds, ALPHA),)
    middle = (first + seeds) // 2
    if middle in {first, seeds}:
        return (Look(first, ALPHA * SPENT[0]), Look(seeds, ALPHA * (1 - SPENT[0])))
    sizes = (first, middle, seeds)
    return tuple(Look(size, ALPHA * share) for size, share in zip(sizes, SPENT, strict=True))
