"""Two arms of a trial side by side: the same seeds, with and without one change."""

from dataclasses import dataclass
from functools import lru_cache

from unstuck.prove.subject import Runs
from unstuck.study.statistics import Interval, PairedTable, mcnemar_exact, paired_table


@dataclass(frozen=True)
class Comparison:
    """What changed from one arm to the other, seed by seed.

    Args:
        table: the four counts of the pairs.
        interval: of P(success after) - P(success before).
        helps: one-sided exact p-value that success became more frequent.
        harms: the same that it became less frequent.
    """

    table: PairedTable
    interval: Interval
    helps: float
    harms: float


def compare(before: Runs, after: Runs, confidence: float = 0.95) -> Comparison:
    r"""Compare two arms run on the same seeds.

    Only pairs that changed count: of $b + c$ of them, $c$ for the better, the one-sided p-values are

    $$p_\text{helps} = P(X \ge c),\quad p_\text{harms} = P(X \le c),\quad X \sim B(b + c, \tfrac12)$$

    Args:
        before: the control arm, one entry a seed.
        after: the other arm, the same seeds in the same order.
        confidence: of the interval.

    Returns:
        The counts, the interval of the difference and both p-values.

    Raises:
        UnstuckError: arms of different length, or empty.

    References:
        Q. McNemar, 1947, Psychometrika 12:153-157.
        R. G. Newcombe, 1998, Statistics in Medicine 17:2635-2650, method 10.
    """
    return _of_table(paired_table(before.success, after.success), confidence)


@lru_cache(maxsize=4096)
def _of_table(table: PairedTable, confidence: float) -> Comparison:
    """Many arms give the same four counts, and an exact test takes a while."""
    return Comparison(
        table=table,
        interval=table.gain(confidence),
        helps=mcnemar_exact(table.only_before, table.only_after, "greater"),
        harms=mcnemar_exact(table.only_before, table.only_after, "less"),
    )
