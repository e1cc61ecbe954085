"""Trainings that begin below the best constant answer: a way around the layers answers well at once."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import OutcomeBounds
from unstuck.diagnose.fresh import fresh
from unstuck.trace.recording import Recording, Series

_FIRST: Final = 10
"""Steps that count as the start, and at the end."""
_SURE: Final = 0.1
"""Standard error / mean of the losses of so many steps, up to which they tell."""


def got_no_further(trace: Recording, baseline: Series, bounds: OutcomeBounds) -> bool:
    """Whether a new network was below the best constant answer from the start, and got no further.

    A network that adds to a picture what it lacks, and adds next to nothing at first, leaves the picture:
    that is better than any constant, and not what it has learned. One that was trained before may be done.

    Args:
        trace: what was measured.
        baseline: losses of the best constant answer, batch by batch.
        bounds: when a loss counts as below another.
    """
    losses = trace.series("loss").values
    if losses.size < 3 * _FIRST or not baseline.values.size or not np.isfinite(losses).all():
        return False
    first, last = losses[:_FIRST], losses[-max(_FIRST, losses.size // 10) :]
    start, end = float(np.mean(first)), float(np.mean(last))
    error = float(np.std(first, ddof=1)) / math.sqrt(first.size)
    early = baseline.values[baseline.steps < _FIRST]
    constant = min(float(np.median(early)) if early.size else 0.0, float(np.median(baseline.values)))
    if not 0 < start < bounds.well_learned * constant or error > _SURE * start:
        return False
    return end > bounds.learned * start and fresh(trace, trace.structure.layers)
