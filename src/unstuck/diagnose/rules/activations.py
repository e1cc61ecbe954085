"""Rules on what the layers pass on: saturated, or the same for every input."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import (
    activation_place,
    first_step,
    names,
    output_layer,
    typical,
    weight_layers,
)
from unstuck.diagnose.outcome import outcome, unproven
from unstuck.diagnose.paths import into_loss
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import SATURATING

_SEEN = 3
"""Measured steps at which all answers must have stood there."""


@rule(
    "ACT003",
    "saturated-units",
    severity="warning",
    needs=("saturated", "slope"),
    explains={
        "ARC001": "any",
        "ACT003": "after",
        "ACT005": "from",
        "GRD001": "up to",
        "GRD003": "lasting",
        "INI003": "any",
        "OUT010": "any",
    },
)
def saturated_units(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Hidden sigmoid or tanh units stand at their ends on most inputs, where their slope is nearly zero."""
    ended = outcome(trace, bounds.outcome)
    if ended.word in {"learned", "diverged"}:
        return []  # units at their ends are a code that works, or the least of the problems
    findings = _answers_at_one_end(trace, bounds) if ended.word == "not learned" else []
    for node in weight_layers(trace)[:-1]:  # the last layer's ends are answers
        activation = trace.structure.activation(node.name)
        if activation is None or activation.type not in SATURATING:
            continue
        share, slope = trace.last("saturated", activation.name), trace.last("slope", activation.name)
        usual = typical(trace, "saturated", activation.name)
        if share is None or slope is None or min(share, usual) < bounds.signal.saturated:
            continue
        if slope > bounds.signal.slope:
            continue
        step = (
            first_step(trace, "saturated", activation.name, lambda value: value >= bounds.signal.saturated)
            or 0
        )
        if step:
            cause = f"They got there at step {step}, through the updates: these are too large."
        else:
            cause = "They stand there from the start: weights or inputs are too large, or do not cancel."
        findings.append(
            Finding(
                code="ACT003",
                name="saturated-units",
                severity="info" if unproven(trace, ended, bounds.outcome) else "warning",
                layer=node.name,
                step=step,
                confidence=0.8 if ended.word == "not learned" else 0.6,
                summary=(
                    f"{share:.0%} of the outputs of {activation.name} are at an end of the "
                    f"{activation.type.lower()}, "
                    f"where its slope is {slope:.1%} of the steepest. {cause}"
                ),
                evidence=(
                    Evidence("saturated", share, ">=", bounds.signal.saturated, activation.name),
                    Evidence("slope", slope, "<=", bounds.signal.slope, activation.name),
                ),
                rival=(
                    "GRD001 vanishing-gradient by small weights: there the units stand in the middle, "
                    "where their slope is largest."
                ),
                location=node.location,
            )
        )
    return findings


def _answers_at_one_end(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The last activation stands at its end for every input and output, from the first step to the last."""
    node, activation = output_layer(trace), into_loss(trace)
    if node is None or activation is None or activation.type not in SATURATING:
        return []
    if trace.structure.activation(node.name) != activation:
        return []
    shares = trace.series("saturated", activation.name).values
    slope = trace.last("slope", activation.name)
    varies = trace.series("output_variation").values
    if shares.size < _SEEN or not (shares == 1).all() or slope is None or not slope <= bounds.signal.slope:
        return []
    if varies.size and float(np.max(varies)) > bounds.signal.collapsed:
        return []  # at both ends: answers, if wrong ones
    return [
        Finding(
            code="ACT003",
            name="saturated-units",
            severity="error",
            layer=node.name,
            step=0,
            confidence=0.9,
            summary=(
                f"Every answer of {activation.name} is at the same end of the {activation.type.lower()}, "
                f"from the first step on, whatever the input: its slope there is {slope:.1g} of the "
                f"steepest, and hardly a gradient gets past it. The weights or the bias of {names([node])} "
                "are too large at the start."
            ),
            evidence=(
                Evidence("saturated", float(shares[-1]), ">=", 1.0, activation.name),
                Evidence("slope", slope, "<=", bounds.signal.slope, activation.name),
            ),
            rival=(
                "GRD003 no-gradient: that is what follows, in every layer before it. OUT001 output-range: "
                "there the targets lie where this activation cannot get."
            ),
            location=node.location,
        )
    ]


@rule(
    "ACT005",
    "collapsed-representation",
    severity="error",
    needs=("act_variation",),
    explains={"ARC001": "any", "GRD003": "lasting", "OUT010": "any"},
)
def collapsed_representation(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A layer's output is the same for every input, so that nothing after it can tell inputs apart."""
    ended = outcome(trace, bounds.outcome)
    if ended.word == "diverged" or (ended.word == "learned" and not _constant_output(trace, bounds)):
        return []
    varies = trace.last("output_variation")
    if varies is not None and varies > bounds.output.constant:
        return []  # another path carries the input past this layer
    data = _input_variation(trace)
    if data is not None and data <= bounds.signal.collapsed:
        raise NotChecked("the inputs themselves hardly vary beside their mean; centre them first")
    for node in weight_layers(trace)[:-1]:
        place = activation_place(trace, node)
        value = trace.last("act_variation", place)
        if value is None or value > bounds.signal.collapsed:
            continue
        if typical(trace, "act_variation", place) > bounds.signal.collapsed:
            continue  # one odd batch
        return [
            Finding(
                code="ACT005",
                name="collapsed-representation",
                severity="error" if ended.word == "not learned" else "warning",
                layer=node.name,
                step=first_step(trace, "act_variation", place, lambda v: v <= bounds.signal.collapsed) or 0,
                confidence=0.9 if ended.word == "not learned" else 0.6,
                summary=(
                    f"What {node.name} passes on is nearly the same for every input: only {value:.1g} of its "
                    "mean "
                    "square varies from input to input. It is the first layer where this happens."
                ),
                evidence=(Evidence("act_variation", value, "<=", bounds.signal.collapsed, place),),
                rival=(
                    "INI002 identical-units: there all units are the same as each other but still depend on "
                    "the "
                    "input; here they do not depend on it."
                ),
                location=node.location,
            )
        ]
    return []


def _constant_output(trace: Recording, bounds: Bounds) -> bool:
    value = trace.last("output_variation")
    return value is not None and value <= bounds.signal.collapsed * bounds.output.constant


def _input_variation(trace: Recording) -> float | None:
    """Variance of the inputs over their mean square."""
    std, mean = trace.first("data.std"), trace.first("data.mean")
    if std is None or mean is None:
        return None
    square = std * std + mean * mean
    return std * std / square if square > 0 and math.isfinite(square) else None
