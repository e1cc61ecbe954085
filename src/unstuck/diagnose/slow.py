"""LRN002 without a probe: a rate at which nothing could be learned in the steps that there were."""

import math
import re
from typing import Final

import numpy as np

from unstuck.diagnose import cuts, reach
from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import cells, moving, output_layer, straight_way, tables, typical, used
from unstuck.diagnose.outcome import Outcome, falls_short, learning_curve, outcome, stands_still
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.undone import put_back
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

NO_PROBES: Final = (
    "no paired probes of the learning rate were run (the same batches at a tenth and at ten times of it)"
)
_NUMBERED = re.compile(r"_\d+$")


def hardly_moved(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Sound gradients, many steps, and no layer has moved by more than next to nothing, nor could have.

    Args:
        trace: what was measured.
        bounds: how far is next to nothing, and what counts as learned.

    Raises:
        NotChecked: without probes and steps enough, or where ways were not measured.
    """
    ended = outcome(trace, bounds.outcome)
    if trace.steps < 5 * bounds.outcome.few_steps:
        raise NotChecked(NO_PROBES)
    if put_back(trace):
        return []  # they moved, and the program undid it
    if cuts.cleared(trace, bounds) is not None:
        return []  # no gradient is left when it steps: no rate would help
    unknown = stands_still(trace, ended, bounds.rate.gain) or _creeps(trace, ended, bounds)
    failed = unknown or ended.word in {"diverged", "not learned"}
    if failed and reach.by_rate(trace) <= bounds.rate.reached:
        return [_out_of_reach(trace, ended)]
    if ended.word == "diverged" or not (unknown or falls_short(ended, bounds.outcome)):
        return []
    trained = _trained(trace)
    drifts = {node.name: reach.way(trace, node) for node in trained}
    if not drifts or not all(map(math.isfinite, drifts.values())):
        raise NotChecked(NO_PROBES)
    driven = all(typical(trace, "grad_norm", node.name) > 0 for node in trained)
    straight = all(straight_way(trace, node.name, bounds.rate.straight) for node in trained)
    limit = bounds.rate.straight_still if straight else bounds.rate.still
    creeps = unknown and _creeps(trace, ended, bounds)
    last = output_layer(trace)
    # the last layer learns the mean of the answers first: where all steps lead the same way, that is no more
    but_last = {name: drift for name, drift in drifts.items() if last is None or name != last.name}
    beyond = max(drifts.values()) > limit
    if beyond and straight and but_last:
        drifts, limit = but_last, bounds.rate.still
    near = max(drifts.values()) <= limit
    if not driven or not near or (unknown and not straight and not creeps):
        return _promised_too_little(trace, ended, bounds) if driven and not near else []
    way = " Its steps all lead the same way: larger ones would only get there sooner." if straight else ""
    because = ended.because
    if unknown:
        because = (
            "the loss goes on as it began, no slower"
            if not stands_still(trace, ended, bounds.rate.gain)
            else "the loss is where it was at the start"
        )
    most = max(drifts, key=lambda name: drifts[name])
    return [
        Finding(
            code="LRN002",
            name="learning-rate-too-low",
            severity="warning",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.75,
            summary=(
                f"In {trace.steps} steps no layer{' but the last' if beyond else ''} moved by more than "
                f"{drifts[most]:.1g} of its weights ({most}), "
                f"though all get a gradient, and {because}.{way}"
            ),
            evidence=tuple(Evidence("drift", drift, "<=", limit, name) for name, drift in drifts.items()),
            rival=(
                "GRD001 vanishing-gradient: then the last layers move and the first do not; here none does. "
                "Probes at ten times the rate would make it sure."
            ),
            apart=("",) if _rate_alone(trace, bounds) else (),
        )
    ]


def _promised_too_little(trace: Recording, ended: Outcome, bounds: Bounds) -> list[Finding]:
    """Plain steps, none of them clipped, that add up to less of the loss than has to be learned."""
    promised = reach.promised(trace)
    needed = 1 - bounds.outcome.well_learned
    if ended.word != "not learned" or not promised < needed or not _rate_alone(trace, bounds):
        return []
    rate = typical(trace, "lr")
    return [
        Finding(
            code="LRN002",
            name="learning-rate-too-low",
            severity="warning",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.65,
            summary=(
                f"At a learning rate of {rate:.2g} a step of SGD takes about rate times squared gradient off "
                f"the loss of its batch. Over all {trace.steps} steps that is {promised:.0%} of the first "
                f"loss, though the gradient is of a usual size, and {ended.because}. SGD wants rates 10 to "
                "100 times those of Adam."
            ),
            evidence=(Evidence("lr", rate), Evidence("grad_norm", promised, "<", needed)),
            rival="GRD001 vanishing-gradient: then the gradient is next to nothing beside weights and loss.",
        )
    ]


def _rate_alone(trace: Recording, bounds: Bounds) -> bool:
    """Whether the steps are small by the rate alone: sound gradients reach the optimiser and do not help."""
    ratio = typical(trace, "clip_ratio")
    clipped = math.isfinite(ratio) and ratio < bounds.steps.clipped
    if trace.meta.optimizer in reach.SCALED:
        return reach.by_rate(trace) <= bounds.rate.reached
    return not clipped and reach.sensitivity(trace) >= bounds.rate.sensitive


def _out_of_reach(trace: Recording, ended: Outcome) -> Finding:
    """No gradient at all could have moved a weight by much at this rate."""
    rate, way = typical(trace, "lr"), reach.by_rate(trace)
    return Finding(
        code="LRN002",
        name="learning-rate-too-low",
        severity="warning",
        layer=None,
        step=max(trace.steps - 1, 0),
        confidence=0.8,
        summary=(
            f"{trace.meta.optimizer} moves a weight by about the learning rate in a step, {rate:.2g} here. "
            f"Even if all {trace.steps} steps had gone the same way, no layer would have got farther than "
            f"{way:.1g} of its usual size; {ended.because or 'it did not learn'}."
        ),
        evidence=(Evidence("lr", rate),),
        rival=(
            "GRD001 vanishing-gradient: this optimiser's steps do not depend on the gradient's size, so that "
            "none, however small, is to blame."
        ),
        apart=("",),
    )


def _trained(trace: Recording) -> list[Node]:
    """Layers that are to move; tables of rows, where there is nothing else.

    A graph that holds derivatives has further places, without a measurement of their own, for the same layer.
    """
    held = [
        node
        for node in [*trace.structure.layers, *cells(trace)] or tables(trace)
        if node.trainable and node.optimised is not False
    ]
    names = {node.name for node in held}
    known = {node.name for node in moving(trace)}
    once = [node for node in held if _NUMBERED.sub("", node.name) not in names - {node.name}]
    return [node for node in once if node.name in known] or once


def _creeps(trace: Recording, ended: Outcome, bounds: Bounds) -> bool:
    """Whether a loss of unknown kind shows no bend yet, and all steps together could not have led anywhere.

    Even if every step led the same way, no layer would have moved by more than next to nothing: whatever the
    loss is, this training has not begun.
    """
    curve = learning_curve(trace).values
    if ended.word != "unknown" or not math.isnan(ended.baseline) or curve.size < 6:
        return False
    ways = [
        typical(trace, "update_ratio", node.name) * trace.steps / math.sqrt(used(trace, node))
        for node in _trained(trace)
    ]
    third = curve.size // 3
    first, middle, last = (
        float(np.mean(part)) for part in (curve[:third], curve[third:-third], curve[-third:])
    )
    slows = first - middle > 0 and middle - last < 0.5 * (first - middle)
    noise = float(np.std(np.diff(curve))) / math.sqrt(third)  # of the mean of a third
    return bool(ways) and max(ways) <= bounds.rate.still and not (slows and first - last > 4 * noise)
