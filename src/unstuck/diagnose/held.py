"""Whether what was learned holds for the samples that a program evaluates its network with."""

import math
from typing import Final, NamedTuple

import numpy as np

from unstuck.trace.recording import Recording

_LAST: Final = 2
"""Last looks at each of the program's numbers that count: the one in which answers fit better."""
_LEAST: Final = 0.25
"""Correlation between answers and samples that any network has which learned something to be used elsewhere:
squared, so much of the variance is explained; for two classes of equal size, 62 % are right."""
_PART: Final = 0.5
"""... and part of the correlation that there is where it was trained."""
_SURE: Final = 1.0
"""Standard errors by which it must be below both."""
_CHANCE: Final = 1.96
"""Deviations that chance explains in 95 of 100 cases: overfitting leaves more than that."""


class Unheld(NamedTuple):
    """An evaluation in which answers hardly belong to the samples."""

    place: str
    fit: float
    """|The program's number - its mean with answers of other samples| / its deviation over these."""
    weak: float
    """What it would be were they related weakly."""
    samples: int


def unheld(trace: Recording, fraction: float) -> Unheld | None:
    """An evaluation late in the training that comes out as if the answers were others'; None if none does.

    With n samples, `evaluation.fit` is about the correlation between answers and samples times the root of n,
    give or take 1.

    Args:
        trace: what was measured.
        fraction: loss at the end of the training / loss of the best constant answer.
    """
    trained = math.sqrt(max(1 - fraction, 0))
    for place in trace.layers("evaluation.fit"):
        fits, samples = (trace.series(f"evaluation.{name}", place) for name in ("fit", "samples"))
        if not fits.values.size or not samples.values.size or fits.steps[-1] < trace.steps / 2:
            continue
        fit, count = float(np.max(np.abs(fits.values[-_LAST:]))), float(samples.values[-1])
        weak = min(_LEAST, _PART * trained) * math.sqrt(max(count, 0))
        if fit <= min(weak - _SURE, _CHANCE):
            return Unheld(place, fit, weak, int(count))
    return None
