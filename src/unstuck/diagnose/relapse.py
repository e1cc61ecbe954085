"""A training that lost again what it had learned, while large steps carried all layers far away."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import moving
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.trace.recording import Recording

_STRETCHES = 20
_SURE = 3.0
"""Standard errors."""


def relapse(trace: Recording, bounds: Bounds) -> list[Finding]:
    """LRN001 of steps that are too large without blowing up.

    A warm-up, or an optimiser whose steps do not grow with the gradient, keeps the loss finite: it falls at
    first, rises, and stays up, in a region that the large steps led to.

    Args:
        trace: what was measured.
        bounds: when a step is large, a layer far away, and a loss lost.
    """
    ended = outcome(trace, bounds.outcome)
    losses = trace.series("loss").values
    if trace.meta.examined or not falls_short(ended, bounds.outcome) or ended.word == "diverged":
        return []
    if losses.size < 5 * bounds.outcome.few_steps or not np.isfinite(losses).all() or not ended.baseline > 0:
        return []
    ways = [trace.last("drift", node.name) for node in moving(trace) if node.trainable]
    known = [way for way in ways if way is not None and math.isfinite(way)]
    step, largest = _largest_step(trace)
    if len(known) < 2 or float(np.median(known)) < bounds.rate.away or largest < bounds.gradient.calm:
        return []
    parts = np.array_split(losses, _STRETCHES)
    means = np.array([float(np.mean(part)) for part in parts])
    errors = np.array([float(np.std(part)) / math.sqrt(part.size) for part in parts])
    low = int(np.argmin(means))
    after = (low + 1) * losses.size // _STRETCHES
    end, error = float(np.mean(means[-3:])), math.hypot(float(errors[low]), float(np.mean(errors[-3:])))
    risen, gained = end - float(means[low]), ended.baseline - float(means[low])
    if low > _STRETCHES // 2 or gained < bounds.output.some * ended.baseline:
        return []  # it hardly got anywhere before, or stayed there for long
    if risen < max(bounds.rate.lost * gained, _SURE * error):
        return []
    return [
        Finding(
            code="LRN001",
            name="learning-rate-too-high",
            severity="warning",
            layer=None,
            step=step,
            confidence=0.75,
            summary=(
                f"The loss was down at {means[low]:.3g} after {after} steps, then rose and stayed up: it "
                f"ended at {end:.3g}. Steps of up to {largest:.2g} of the weights (median over the layers, "
                f"at step {step}) carried them away from where they began by {float(np.median(known)):.2g} "
                "times their size. Usual are steps of 0.001 to 0.05."
            ),
            evidence=(
                Evidence("update_ratio", largest, ">=", bounds.gradient.calm),
                Evidence("drift", float(np.median(known)), ">=", bounds.rate.away),
            ),
            rival=(
                "DAT006 unshuffled: there the loss goes up and down with the order of the samples, and the "
                "layers stay nearby. A tenth of the rate would make it sure."
            ),
        )
    ]


def _largest_step(trace: Recording) -> tuple[int, float]:
    """The step with the largest update, over the weights, as a median over the layers; and that."""
    by_step: dict[int, list[float]] = {}
    for node in moving(trace):
        series = trace.series("update_ratio", node.name)
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            if math.isfinite(value):
                by_step.setdefault(step, []).append(value)
    medians = {step: float(np.median(values)) for step, values in by_step.items()}
    step = max(medians, key=lambda one: medians[one], default=0)
    return step, medians.get(step, 0.0)
