"""LRN001 without a probe: how large the early steps were, and how far they led, where little was learned."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import USUAL_WEIGHTS, cells, moving, weight_layers
from unstuck.diagnose.outcome import falls_short, outcome, unproven
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.dead_units import died_early
from unstuck.diagnose.rules.early import unstable_start
from unstuck.trace.recording import Recording

_FIRST = 5
"""Steps whose size is looked at."""
_PART = 5
"""One part of so many of the training counts as its beginning: how far it led is looked at."""
_EARLY = 100
"""... and so many steps in any case: a warm-up may be as long."""


def leaps(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The first steps threw most of the start away, and it did not get far after that.

    Args:
        trace: what was measured.
        bounds: how large a step is too large, and what counts as learned.
    """
    ended = outcome(trace, bounds.outcome)
    unknown = unproven(trace, ended, bounds.outcome) and not trace.meta.examined
    if not (unknown or falls_short(ended, bounds.outcome)):
        return []
    sizes: dict[str, float] = {}
    looked_up = not (weight_layers(trace) or cells(trace))
    for node in moving(trace):
        norm, early = trace.first("weight_norm", node.name), _until(trace, "update_ratio", node.name, _FIRST)
        # beside weights that are next to nothing any step is large: that is no matter of the rate
        if norm and early.size and norm / math.sqrt(node.units) >= USUAL_WEIGHTS:
            # rows of a table begin small on purpose: of size 1 they give answers of that size
            large = max(math.sqrt(node.units) / norm, 1.0) if looked_up else 1.0
            sizes[node.name] = float(np.median(early)) / large
    usual, largest = _middle(sizes)
    if usual < (bounds.rate.gone if unknown else bounds.rate.leap):
        return []
    return [
        _too_high(
            0.7,
            f"Each of the first steps changes the layers by {usual:.2g} of their weights (median; "
            f"{largest} by {sizes[largest]:.2g}): the start is gone after a few of them, and "
            f"{ended.because}. Usual are steps of 0.001 to 0.05.",
            Evidence("update_ratio", usual, ">=", bounds.rate.leap),
            rival=(
                "INI003 signal-shrinks: beside tiny weights usual steps are large, too; these weights are of "
                "usual size. Probes at a tenth of the rate would make it sure."
            ),
        )
    ]


def far_off(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Steps that a warm-up, or growing weights, keep from looking large carried the layers far away.

    A way is measured in sizes of a usual layer at least, whose rows are of norm 1: weights that begin next to
    nothing go many times their size without getting anywhere unusual.

    Args:
        trace: what was measured.
        bounds: how far is far, and what counts as learned.
    """
    ended = outcome(trace, bounds.outcome)
    if trace.meta.examined or not falls_short(ended, bounds.outcome) or ended.word == "diverged":
        return []
    early = max(trace.steps // _PART, _EARLY)
    if trace.steps <= early:
        return []
    ways: dict[str, float] = {}
    for node in [*weight_layers(trace), *cells(trace)]:  # rows of tables may grow as large as answers are
        norm, seen = trace.first("weight_norm", node.name), _until(trace, "drift_norm", node.name, early + 1)
        if node.trainable and seen.size and norm is not None:
            ways[node.name] = float(np.max(seen)) / max(norm, math.sqrt(node.units))
    usual, farthest = _middle(ways)
    if usual < bounds.rate.far or _ruined(trace, bounds):
        return []
    return [
        _too_high(
            0.65,
            f"Within the first {early} of {trace.steps} steps the layers went {usual:.2g} times the size "
            f"of usual weights from where they began (median; {farthest} {ways[farthest]:.2g} times), "
            f"and {ended.because}. Trainings that get somewhere stay within about once that size.",
            Evidence("drift_norm", usual, ">=", bounds.rate.far),
            rival=(
                "OUT008 unscaled-target: answers far from 1 need weights far from their start. A tenth of "
                "the rate would make it sure."
            ),
            step=early,
        )
    ]


def killed(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Early updates, some of them large, left a layer dead for good: nothing passes it, nothing is learned.

    Args:
        trace: what was measured.
        bounds: how large an update is not calm any more, and what counts as learned.
    """
    try:
        found = died_early(trace, bounds)
    except NotChecked:
        return []
    if found is None or trace.meta.examined or _ruined(trace, bounds):
        return []
    node, step, largest = found
    return [
        _too_high(
            0.6,
            f"By step {step} all units of {node.name} were dead, after updates that changed a layer by up to "
            f"{largest:.2g} of its weights: nothing passes there any more, and "
            f"{outcome(trace, bounds.outcome).because}.",
            Evidence("update_ratio", largest, ">", bounds.gradient.calm),
            rival=(
                "ACT001 born-dead-units: those were never active. Inputs or targets far out of range, and "
                "gradients that add up, make large updates, too: mend these first where they are named."
            ),
            step=step,
        )
    ]


def _until(trace: Recording, quantity: str, layer: str, end: int) -> npt.NDArray[np.float64]:
    """What was measured before a step, as far as it is a number."""
    series = trace.series(quantity, layer)
    values = series.values[series.steps < end]
    return values[np.isfinite(values)]


def _middle(sizes: Mapping[str, float]) -> tuple[float, str]:
    """The median over the layers, 0 of a single one, and the layer with the largest."""
    usual = float(np.median(list(sizes.values()))) if len(sizes) > 1 else 0.0
    return usual, max(sizes, key=lambda name: sizes[name], default="")


def _too_high(confidence: float, summary: str, evidence: Evidence, *, rival: str, step: int = 0) -> Finding:
    return Finding(
        code="LRN001",
        name="learning-rate-too-high",
        severity="warning",
        layer=None,
        step=step,
        confidence=confidence,
        summary=summary,
        evidence=(evidence,),
        rival=rival,
    )


def _ruined(trace: Recording, bounds: Bounds) -> bool:
    """Whether the first steps alone did it: a start that was ruined is left far behind, too (LRN003)."""
    try:
        return bool(unstable_start(trace, bounds))
    except NotChecked:
        return False
