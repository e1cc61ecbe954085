"""A training whose early steps carried the layers many times their size away, and that learned little."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import weight_layers
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.early import unstable_start
from unstuck.trace.recording import Recording

_EARLY = 5
"""One part of so many of the training counts as early."""


def far_off(trace: Recording, bounds: Bounds) -> list[Finding]:
    """LRN001 of steps that a warm-up, or the weights' own growth, keeps from looking large beside them.

    A way is measured in sizes of a usual layer at least, whose rows are of norm 1: weights that begin next to
    nothing go many times their size without getting anywhere unusual.

    Args:
        trace: what was measured.
        bounds: how far is far, and what counts as learned.
    """
    ended = outcome(trace, bounds.outcome)
    if trace.meta.examined or not falls_short(ended, bounds.outcome) or ended.word == "diverged":
        return []
    early = max(trace.steps // _EARLY, bounds.outcome.few_steps)
    if trace.steps <= early:
        return []
    ways: dict[str, float] = {}
    for node in weight_layers(trace):  # vectors that stand in tables may have to grow as large as answers are
        series, norm = trace.series("drift_norm", node.name), trace.first("weight_norm", node.name)
        seen = series.values[series.steps <= early]
        seen = seen[np.isfinite(seen)]
        if node.trainable and seen.size and norm is not None:
            ways[node.name] = float(np.max(seen)) / max(norm, math.sqrt(node.units))
    usual = float(np.median(list(ways.values()))) if len(ways) > 1 else 0.0
    if usual < bounds.rate.far or _ruined(trace, bounds):
        return []
    farthest = max(ways, key=lambda name: ways[name])
    return [
        Finding(
            code="LRN001",
            name="learning-rate-too-high",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.65,
            summary=(
                f"Within the first {early} of {trace.steps} steps the layers went {usual:.2g} times the size "
                f"of usual weights from where they began (median; {farthest} {ways[farthest]:.2g} times), "
                f"and {ended.because}. Trainings that get somewhere stay within about once that size."
            ),
            evidence=(Evidence("drift_norm", usual, ">=", bounds.rate.far),),
            rival=(
                "OUT008 unscaled-target: answers far from 1 need weights far from their start. A tenth of "
                "the rate would make it sure."
            ),
        )
    ]


def _ruined(trace: Recording, bounds: Bounds) -> bool:
    """Whether the first steps alone did it: a start that was ruined is left far behind, too (LRN003)."""
    try:
        return bool(unstable_start(trace, bounds))
    except NotChecked:
        return False
