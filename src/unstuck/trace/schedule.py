"""Which steps are measured in full."""

DENSE = 128
"""The first steps are all measured: what goes wrong at the start passes quickly."""


def due(step: int) -> bool:
    """Whether a step is measured: each of the first 128, then 64 of every doubling, evenly.

    What a measurement costs is so paid a few hundred times in a run, however long it is.

    Example:
        >>> sum(due(step) for step in range(100_000))
        738
    """
    return step < DENSE or step % (1 << (step.bit_length() - DENSE.bit_length() + 1)) == 0
