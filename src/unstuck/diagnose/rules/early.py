"""Rule on a start that large first steps ruin, and that is never made up for."""

import math
from typing import NamedTuple

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import activation_place, by_step, weight_layers
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_FIRST = 5
"""Steps that are looked at for how large they are."""
_LEAST = 10
"""Steps that count as the start, at least."""


class _Loss(NamedTuple):
    """How the loss rises in the first steps, in units of its noise later on."""

    first: float
    peak: float
    noise: float


class _Harm(NamedTuple):
    """A layer that told inputs apart at first, and does no longer after the first steps."""

    node: Node
    step: int
    what: str
    evidence: Evidence


@rule(
    "LRN003",
    "unstable-start",
    severity="warning",
    needs=("loss", "update_ratio"),
    explains={
        "ACT002": "any",
        "ACT003": "any",
        "ACT005": "any",
        "GRD003": "lasting",
        "OUT010": "any",
        "OUT004": "any",
    },
    from_step_0=False,
)
def unstable_start(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The first steps are by far the largest, the loss rises, and layers go dead that do not come back."""
    ended = outcome(trace, bounds.outcome)
    if trace.steps < 5 * bounds.outcome.few_steps:
        raise NotChecked("too few steps were seen to tell the start from the rest")
    if trace.meta.examined or ended.word != "not learned" or ended.fraction < bounds.outcome.learned:
        return []
    start = max(_LEAST, round(bounds.steps.start * trace.steps))
    loss = _rise(trace, start)
    if loss is None or not loss.peak - loss.first >= bounds.steps.surely * loss.noise:
        return []
    early, late = _sizes(trace, start)
    # large steps later on, too: then it is the rate itself
    settles = early >= bounds.gradient.calm and late <= bounds.steps.settles * early
    harm = _harm(trace, start, bounds) if settles else None
    if harm is None:
        return []
    return [
        Finding(
            code="LRN003",
            name="unstable-start",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.8,
            summary=(
                f"The first steps change the layers by {early:.2g} of their weights (median), later ones by "
                f"{late:.1g} at most; the loss rises from {loss.first:.3g} to {loss.peak:.3g}, "
                f"{harm.node.name} {harm.what} by step {harm.step}, and stays so: {ended.because}. Let the "
                "learning rate rise over the first steps (warm-up), or lower it."
            ),
            evidence=(
                Evidence("update_ratio", early, ">=", bounds.gradient.calm),
                Evidence("loss", loss.peak, ">", loss.first + bounds.steps.surely * loss.noise),
                harm.evidence,
            ),
            rival=(
                "LRN001 learning-rate-too-high: then steps stay large or grow later; here only the first "
                "ones were."
            ),
        )
    ]


def _rise(trace: Recording, start: int) -> _Loss | None:
    losses = trace.series("loss")
    first = float(losses.values[0]) if losses.values.size else math.nan
    early = losses.values[(losses.steps > 0) & (losses.steps <= start)]
    late = losses.values[losses.steps >= trace.steps / 2]
    if early.size < 2 or late.size < 2 or not np.isfinite([first, *early, *late]).all():
        return None
    return _Loss(first, float(np.max(early)), float(np.std(late)))


def _sizes(trace: Recording, start: int) -> tuple[float, float]:
    """Steps beside the weights, median over layers: the largest of the first ones, and after the start."""
    series = [trace.series("update_ratio", node.name) for node in weight_layers(trace) if node.trainable]
    if not series:
        return math.nan, math.nan
    steps, table = by_step(series, math.nan)
    table[~np.isfinite(table)] = np.nan
    table.sort(axis=0)  # NaN goes last
    count = np.isfinite(table).sum(axis=0)
    steps, known = steps[count > 0], np.flatnonzero(count)
    usual = (table[(count[known] - 1) // 2, known] + table[count[known] // 2, known]) / 2
    early, late = usual[steps < _FIRST], usual[steps > start]
    return (float(early.max()), float(late.max())) if early.size and late.size else (math.nan, math.nan)


def _harm(trace: Recording, start: int, bounds: Bounds) -> _Harm | None:
    """The first hidden layer that the first steps made deaf to its input, for good."""
    for node in weight_layers(trace)[:-1]:
        place = activation_place(trace, node)
        varies = trace.series("act_variation", place)
        early, late = varies.values[varies.steps < _FIRST], varies.values[varies.steps > start]
        if (
            early.size
            and late.size >= 2
            and float(np.max(late)) <= bounds.signal.fades * float(np.max(early))
        ):
            least = bounds.signal.fades * float(np.max(early))
            step = int(varies.steps[int(np.argmax(varies.values <= least))])
            return _Harm(
                node,
                step,
                "passes on the same for every input",
                Evidence("act_variation", float(np.max(late)), "<=", least, place),
            )
        dead = trace.series("dead_lately", place)
        early, late = dead.values[dead.steps < _FIRST], dead.values[dead.steps > start]
        if early.size and late.size >= 2 and early[0] < bounds.dead.share <= bounds.dead.most <= np.min(late):
            step = int(dead.steps[int(np.argmax(dead.values >= bounds.dead.most))])
            return _Harm(
                node,
                step,
                f"has {float(np.min(late)):.0%} of its units dead",
                Evidence("dead_lately", float(np.min(late)), ">=", bounds.dead.most, place),
            )
    return None
