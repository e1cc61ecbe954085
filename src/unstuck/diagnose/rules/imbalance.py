"""Rule on classes that are rare in the data: told apart, and yet never named."""

import math
from statistics import NormalDist

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import by_step
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

_SURE = 0.9999
"""Largest area under a ROC curve that so few samples can show."""
_AFTER = 0.2
"""Share of the steps after which a network may be expected to name them."""


@rule(
    "DAT005",
    "class-imbalance",
    severity="warning",
    needs=("loss", "minority.share"),
    explains={"LRN008": "any"},
    from_step_0=False,
)
def class_imbalance(trace: Recording, bounds: Bounds) -> list[Finding]:
    """One class is so common that the others are never named, though the scores tell them apart."""
    ended = outcome(trace, bounds.outcome)
    shares = trace.series("minority.share").values
    share = float(np.mean(shares)) if shares.size else math.nan
    if trace.meta.examined or not 0 < share <= bounds.data.rare:
        return []
    samples, recall, apart = _late(trace, bounds.data.rare_seen)
    if samples < bounds.data.rare_seen:
        raise NotChecked(
            f"{samples:.0f} samples of the rarer classes were looked at after the start, "
            f"{bounds.data.rare_seen} are needed"
        )
    if trace.steps < bounds.outcome.few_steps or ended.word not in {"not learned", "learned"}:
        return []
    if recall > bounds.data.unnamed or apart < bounds.data.apart:
        return []  # they are named; or the scores know nothing of them, which has another cause
    could = nameable(apart, share)
    harmed = could >= bounds.data.nameable
    return [
        Finding(
            code="DAT005",
            name="class-imbalance",
            severity="warning" if harmed else "info",
            layer=None,
            step=0,
            confidence=0.7,
            summary=(
                f"{1 - share:.0%} of the samples are of one class. Of the others {recall:.0%} are named "
                f"right ({samples:.0f} were looked at), although their scores differ: in {apart:.0%} of "
                "all pairs the sample of the common class has the higher score for it. The common class "
                f"outvotes them: scores that are that far apart could name {could:.0%} of them and be right "
                "more often than not. Weigh the classes in the loss, draw rare ones more often, choose "
                "another threshold, or train longer."
            ),
            evidence=(
                Evidence("minority.share", share, "<=", bounds.data.rare),
                Evidence("minority.recall", recall, "<=", bounds.data.unnamed),
                Evidence("minority.apart", apart, ">=", bounds.data.apart),
            ),
            rival=(
                "OUT010 constant-prediction by any other cause: then the scores do not tell the classes "
                "apart either."
            ),
        )
    ]


def nameable(apart: float, share: float) -> float:
    """Share of the rare samples that could be named rightly, if both kinds of scores were normal.

    Scores whose means are d standard deviations apart have an area Φ(d/√2) under their ROC curve. A sample is
    named when it is more likely rare than common: at a log-likelihood ratio above log((1 − share)/share),
    which is normal with mean d²/2 and standard deviation d for the rare ones.

    Args:
        apart: area under the ROC curve.
        share: of the rare samples.

    Example:
        >>> round(nameable(0.99, 0.05), 2), round(nameable(0.8, 0.05), 2)
        (0.77, 0.03)

    References:
        D. Green, J. Swets (1966), "Signal detection theory and psychophysics".
    """
    normal = NormalDist()
    distance = math.sqrt(2) * normal.inv_cdf(min(max(apart, 0.5), _SURE))
    if distance <= 0:
        return 0.0
    return normal.cdf((distance**2 / 2 - math.log((1 - share) / share)) / distance)


def _late(trace: Recording, enough: int) -> tuple[float, float, float]:
    """Of the last batches that hold enough rare samples: how many, share that is named, how far apart."""
    series = [trace.series(f"minority.{name}") for name in ("samples", "recall", "apart")]
    steps, table = by_step(series, math.nan)  # one may be missing where another was measured
    whole = np.isfinite(table).all(axis=0) & (table[0] > 0)
    steps, (counts, recall, apart) = steps[whole], table[:, whole]
    seen = np.cumsum(counts[::-1])[::-1]
    late = (steps >= _AFTER * trace.steps) & (seen - counts < enough)
    weights = counts[late]
    if not weights.size:
        return 0.0, math.nan, math.nan
    named, area = (float(np.average(values[late], weights=weights)) for values in (recall, apart))
    return float(weights.sum()), named, area
