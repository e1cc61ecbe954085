"""Whether a program's success depends on its seed: what many runs of it say that no single one can."""

from unstuck.diagnose.bounds import Bounds, load_bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.study.statistics import Count, wilson


def lottery_of(count: Count, *, confidence: float = 0.95, bounds: Bounds | None = None) -> Finding | None:
    """LRN013 for a program that was run with several seeds.

    Args:
        count: how many of the seeds succeeded.
        confidence: of the interval of the chance of success.
        bounds: those of the package by default.

    Returns:
        The finding, with p, low and high as evidence: a warning where the program fails for more than a tenth
        of the seeds for sure, else information. None where all seeds agree, or too few were tried.

    Example:
        >>> found = lottery_of(Count(37, 64))
        >>> found.severity, [(item.quantity, round(item.value, 2)) for item in found.evidence]
        ('warning', [('p', 0.58), ('low', 0.46), ('high', 0.69)])
        >>> lottery_of(Count(64, 64)) is None
        True

    References:
        E. B. Wilson, 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    sure = (bounds or load_bounds()).lottery
    if count.trials < sure.seeds or count.successes in {0, count.trials}:
        return None
    interval = wilson(count.successes, count.trials, confidence)
    return Finding(
        code="LRN013",
        name="lottery",
        severity="warning" if interval.high < sure.reliable else "info",
        layer=None,
        step=0,
        confidence=0.99,
        summary=(
            f"The same program succeeds for {count.successes} of {count.trials} seeds and fails for the "
            f"others: its chance of success is {count.rate:.2f} ({confidence:.0%} interval "
            f"{interval.low:.2f} to {interval.high:.2f}). A single run of it, good or bad, proves nothing; "
            "compare changes over many seeds."
        ),
        evidence=(
            Evidence("p", count.rate, "<", sure.reliable),
            Evidence("low", interval.low),
            Evidence("high", interval.high, "<", sure.reliable),
        ),
        rival=(
            "A change that seems to help or harm after one run each: with these odds two runs of the "
            f"unchanged program differ in {2 * count.rate * (1 - count.rate):.0%} of all cases."
        ),
    )
