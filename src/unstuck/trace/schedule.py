"""Which steps are measured in full, and which of them more closely."""

import math

DENSE = 128
"""The first steps are all measured: what goes wrong at the start passes quickly."""
SPACING = 5
"""Measured steps for every factor of ten."""


def due(step: int) -> bool:
    """Whether a step of a loop of one's own is measured: each of the first 128, then 64 of every doubling.

    What a measurement costs is so paid a few hundred times in a run, however long it is.

    Example:
        >>> sum(due(step) for step in range(100_000))
        738
    """
    return step < DENSE or step % (1 << (step.bit_length() - DENSE.bit_length() + 1)) == 0


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


def measured_steps(last: int) -> list[int]:
    """The steps that are measured of a training whose end is known: the last one too.

    Example:
        >>> measured_steps(100)
        [0, 1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 99]
    """
    powers = range(1 + math.ceil(SPACING * math.log10(max(last, 2))))
    steps = {round(10 ** (power / SPACING)) for power in powers}
    return sorted(({0, 1, 2, 3, last - 1} | steps) & set(range(last)))


def _power(step: int) -> int | None:
    """The whole number p for which the step is 10^(p / 5), rounded; None for a step in between."""
    power = round(SPACING * math.log10(step))
    return power if round(10 ** (power / SPACING)) == step else None
