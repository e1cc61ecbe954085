"""Which steps are measured when the end is not known."""

import math

SPACING = 5
"""Measured steps for every factor of ten, as in the engine's recordings."""


def is_measured(step: int, every: int | None = None) -> bool:
    """Whether a step is measured: the first four, then five for every factor of ten, or every n-th.

    Example:
        >>> [step for step in range(100) if is_measured(step)]
        [0, 1, 2, 3, 4, 6, 10, 16, 25, 40, 63]
    """
    if every is not None:
        return step % every == 0
    return step < 4 or _power(step) is not None


def is_close(step: int) -> bool:
    """Whether ranks, cosines and distinct units are measured too: at 0, 1, 4, and then every fourth time.

    Example:
        >>> [step for step in range(2000) if is_close(step)]
        [0, 1, 4, 40, 251, 1585]
    """
    if step < 16:
        return step in {0, 1, 4}
    power = _power(step)
    return power is not None and power % 4 == 0


def _power(step: int) -> int | None:
    """The whole number p for which the step is 10^(p / 5), rounded; None for a step in between."""
    power = round(SPACING * math.log10(step))
    return power if round(10 ** (power / SPACING)) == step else None
