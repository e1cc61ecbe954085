"""Trainings on one sample at a time: the best constant answer's loss, from the targets of many steps."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.trace import baseline
from unstuck.trace.recording import Recording

FEWEST: Final = 10
"""Targets below which nothing is said."""
_BINARY: Final = frozenset(baseline.BINARY)


class Constant(NamedTuple):
    """The loss of the best constant answer."""

    loss: float
    error: float
    """Its standard error: only some of the steps are measured."""


def of_singles(trace: Recording) -> Constant | None:
    """The best constant answer's loss where every batch is one sample, and where a constant is always right.

    Args:
        trace: what was measured.

    Returns:
        None where batches are larger, a sample has several targets, or too few were seen.
    """
    facts, factors = trace.structure.loss_facts, trace.series("loss_factor").values
    targets = trace.series("target.mean").values
    targets = targets[np.isfinite(targets)]
    if facts is None or not factors.size or targets.size < FEWEST or facts.reduction not in {"mean", "sum"}:
        return None
    found = _of(trace.structure.loss or "", targets, facts.input_shape)
    factor = float(np.median(factors))
    if found is None or not found.loss > 0 or not factor > 0:
        return None
    return Constant(found.loss * factor, found.error * factor)


def _of(loss: str, targets: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Constant | None:
    count = targets.size
    if loss in baseline.CLASSES and len(shape) == 2:
        _, counts = np.unique(targets, return_counts=True)
        shares = counts / count
        entropy = -float(shares @ np.log(shares)) + (counts.size - 1) / (2 * count)  # Miller (1955)
        spread = float(shares @ np.log(shares) ** 2) - float(shares @ np.log(shares)) ** 2
        return Constant(entropy, math.sqrt(max(spread, 0.0) / count) + (counts.size - 1) / (2 * count))
    if math.prod(shape) != 1:
        return None
    if loss in _BINARY:
        share = float(np.mean(targets))
        if not 0 < share < 1:
            return None
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        error = abs(math.log(share / (1 - share))) * math.sqrt(share * (1 - share) / count)
        return Constant(entropy, error + 1 / (2 * count))
    if loss == "MSELoss":
        away = targets - np.mean(targets)
        variance = float(np.var(targets, ddof=1))
        fourth = max(float(np.mean(away**4)) - float(np.mean(away**2)) ** 2, 0.0)
        return Constant(variance, math.sqrt(fourth / count) + variance / (2 * count))
    return None
