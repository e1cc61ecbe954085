"""Rules on units that give 0 whatever the input: silent from the start, or killed by an update."""

import math
from typing import TypeGuard

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import USUAL_WEIGHTS, activation_place, output_layer, weight_layers
from unstuck.diagnose.outcome import Outcome, outcome, unproven
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_TOGETHER = 0.9
"""|mean| / root mean square from which on numbers are about equal."""
_EARLY, _BORN = 0.2, 0.5
"""Part of a training that counts as its beginning, and share of a layer's units that may never have lived."""
_TOO_FEW = (
    "too few samples were seen to tell dead units from units that these did not reach: "
    "it takes 64 samples and three measured steps"
)


@rule(
    "ACT001",
    "born-dead-units",
    severity="error",
    needs=("never_active",),
    explains={
        "ARC001": "any",
        "ACT001": "after",
        "ACT005": "from",
        "GRD001": "up to",
        "GRD003": "any",
        "INI003": "any",
        "LRN002": "any",
        "OUT010": "any",
    },
    preview=False,
)
def born_dead_units(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Units are 0 on all data from the first step on: no gradient ever reaches them."""
    findings: list[Finding] = []
    ended = outcome(trace, bounds.outcome)
    for node, place in _followed(trace):
        never, dead = _shares(trace, place)
        if never < dead - never:
            continue  # most of them were alive once: ACT002's
        severity = _severity(trace, ended, dead, bounds)
        if severity is None:
            continue
        findings.append(
            Finding(
                code="ACT001",
                name="born-dead-units",
                severity=severity,
                layer=node.name,
                step=0,
                confidence=_confidence(ended, dead, bounds),
                summary=(
                    f"{_count(never, node)} of {node.name} {_be(never, node)} never anything but 0, on "
                    "no sample that was seen: a ReLU that is 0 everywhere gets no gradient and stays so."
                    f"{_left(dead, node, trace)}{_why(trace, node)}"
                ),
                evidence=(
                    Evidence("never_active", never, ">=", bounds.dead.share / 2, place),
                    Evidence("dead_lately", dead, ">=", bounds.dead.share, place),
                ),
                rival=(
                    "ACT002 killed-units: there the units were active at first. Half of all single outputs "
                    "at 0 is usual, these units are 0 on every sample."
                ),
                location=node.location,
                apart=("INI",) if _held_down(trace, node) else (),
            )
        )
    return findings


@rule(
    "ACT002",
    "killed-units",
    severity="error",
    needs=("never_active", "dead_lately"),
    # nothing of the start: what is dead or without a gradient before the first step was not killed by steps
    explains={
        "ACT002": "after",
        "ACT005": "from",
        "GRD003": "any",
        "LRN002": "any",
        "OUT010": "any",
    },
    from_step_0=False,
)
def killed_units(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Units that were active at first are 0 on all data now: an update pushed them there."""
    findings: list[Finding] = []
    ended = outcome(trace, bounds.outcome)
    for node, place in _followed(trace):
        never, dead = _shares(trace, place)
        killed = dead - never
        severity = None if killed <= never else _severity(trace, ended, dead, bounds)
        if severity is None:
            continue
        before, step = _death(trace, place, dead)
        largest = _largest_update(trace, step)
        jumped = largest is not None and largest > bounds.gradient.calm
        if largest is not None and jumped:
            how = f" Up to then one update changed a layer by up to {largest:.2g} of its weights: too large."
        else:
            how = " No single update was large: they drifted there."
        findings.append(
            Finding(
                code="ACT002",
                name="killed-units",
                severity=severity,
                layer=node.name,
                step=step,
                confidence=_confidence(ended, dead, bounds) if jumped else 0.6,
                summary=(
                    f"{_count(killed, node)} of {node.name} {_be(killed, node)} active at first, and 0 "
                    f"on every sample since a step between {before} and {step}: no gradient reaches them "
                    f"any more.{_left(dead, node, trace)}{how}"
                ),
                evidence=(
                    Evidence("dead_lately", dead, ">=", bounds.dead.share, place),
                    Evidence("never_active", never, "<", killed, place),
                    Evidence("update_ratio", largest, ">", bounds.gradient.calm)
                    if jumped
                    else Evidence("update_ratio", largest),
                ),
                rival=(
                    "ACT001 born-dead-units: those were never active. LRN002 learning-rate-too-low looks "
                    "alike in the loss, but a larger rate only kills more."
                ),
                location=node.location,
            )
        )
    return findings


def died_early(trace: Recording, bounds: Bounds) -> tuple[Node, int, float] | None:
    """A layer all of whose units died early in a training that learned nothing, through large updates.

    Returns:
        The layer, the step by which it was dead, and the largest update before, over the weights.
    """
    if outcome(trace, bounds.outcome).word != "not learned":
        return None
    for node, place in _followed(trace):
        never, dead = _shares(trace, place)
        if dead != 1 or never >= _BORN or not trace.has("dead_lately", place):
            continue
        _, step = _death(trace, place, dead)
        largest = _largest_update(trace, step, usual=True)
        inside = node != output_layer(trace)  # answers that a ReLU cuts off die for other reasons
        if step <= trace.steps * _EARLY and inside and largest is not None:
            return (node, step, largest) if largest > bounds.gradient.calm else None
    return None


def _held_down(trace: Recording, node: Node) -> bool:
    """Whether all units start about equally far below 0: their biases do that, whatever the weights are."""
    mean, size = trace.first("act_mean", node.name), trace.first("act_rms", node.name)
    return mean is not None and size is not None and mean < 0 and -mean >= _TOGETHER * size


def _followed(trace: Recording) -> list[tuple[Node, str]]:
    """Layers whose ReLU was followed, and where."""
    places = [(node, activation_place(trace, node)) for node in weight_layers(trace)]
    followed = [
        (node, place) for node, place in places if place != node.name and trace.has("never_active", place)
    ]
    if followed and all(trace.last("never_active", place) is None for _, place in followed):
        raise NotChecked(_TOO_FEW)
    return [(node, place) for node, place in followed if _is_share(trace.last("never_active", place))]


def _is_share(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 <= value <= 1


def _shares(trace: Recording, place: str) -> tuple[float, float]:
    """Units that were never active, and units that are dead now, those included."""
    never, lately = trace.last("never_active", place), trace.last("dead_lately", place)
    never = never if _is_share(never) else math.nan
    return never, max(never, lately) if _is_share(lately) else never


def _severity(trace: Recording, ended: Outcome, dead: float, bounds: Bounds) -> Severity | None:
    """How bad a layer's dead units are for this training; None: no harm was shown.

    A layer that is dead as a whole lets nothing pass. Of a layer that is partly dead nobody can say that the
    rest is too small for the task, unless the training failed.
    """
    finite = not trace.series("loss").values.size or math.isfinite(float(trace.series("loss").values[-1]))
    if not finite:
        return None  # the least of the problems
    if dead == 1:
        varies = trace.last("output_variation")
        other_way = varies is not None and varies > bounds.output.constant
        if ended.word == "learned":
            return "info"
        return "warning" if other_way or unproven(trace, ended, bounds.outcome) else "error"
    if ended.word == "not learned" and dead >= bounds.dead.share:
        return "error" if dead >= bounds.dead.most else "warning"
    poor = ended.word == "learned" and ended.fraction > bounds.outcome.well_learned
    return "warning" if poor and dead >= bounds.dead.most else None


def _confidence(ended: Outcome, dead: float, bounds: Bounds) -> float:
    if dead == 1:
        return 0.95
    return 0.8 if ended.word == "not learned" and dead >= bounds.dead.most else 0.6


def _count(share: float, node: Node) -> str:
    if share == 1:
        return f"All {node.units} units" if node.units > 1 else "The only unit"
    whole = share * node.units
    return (
        f"{whole:.0f} of {node.units} units"
        if abs(whole - round(whole)) < 1e-6
        else f"{share:.0%} of the units"
    )


def _be(share: float, node: Node) -> str:
    return "was" if share * node.units == 1 else "were"


def _left(dead: float, node: Node, trace: Recording) -> str:
    if dead == 1:
        return " Nothing of the input passes this layer." if node != output_layer(trace) else ""
    if node == output_layer(trace):
        return " An output that is dead answers 0 for ever."
    return f" {(1 - dead):.0%} of its units are left for the task, which was not learned well."


def _why(trace: Recording, node: Node) -> str:
    """What in the data makes dead units likely, if this is the first layer."""
    low, high = trace.first("data.min"), trace.first("data.max")
    if node != next(iter(weight_layers(trace)), None) or low is None or high is None:
        return ""
    if low >= 0 or high <= 0:
        sign = "negative" if low >= 0 else "positive"
        return (
            f" The inputs are never {sign}: then a unit whose weights and bias have the wrong sign is dead "
            "from birth, half of all without a bias and one input."
        )
    return ""


def _death(trace: Recording, place: str, dead: float) -> tuple[int, int]:
    """The measured steps between which the units that are dead now died."""
    series = trace.series("dead", place)
    if not series.steps.size:
        series = trace.series("dead_lately", place)
    there = series.values >= dead - 1e-9
    away = np.flatnonzero(~there)
    first = int(away[-1]) + 1 if away.size else 0
    first = min(first, len(series.steps) - 1)
    return int(series.steps[max(first - 1, 0)]), int(series.steps[first])


def _largest_update(trace: Recording, until: int, *, usual: bool = False) -> float | None:
    """Largest update of a weight layer, over its weights, before a step; `usual`: of those of usual size."""
    found: list[float] = []
    for node in weight_layers(trace):
        # beside weights that are next to nothing any step is large
        if usual and (trace.first("weight_norm", node.name) or 0.0) < USUAL_WEIGHTS * math.sqrt(node.units):
            continue
        series = trace.series("update_ratio", node.name)
        values = series.values[series.steps < max(until, 1)]
        found += [float(value) for value in values if math.isfinite(value)]
    return max(found, default=None)
