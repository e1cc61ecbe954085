"""The rule on a start with weights far too large: answers far out of range before the first update."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import activation_place, names, weight_layers
from unstuck.diagnose.outcome import constant_loss, falls_short, outcome
from unstuck.diagnose.registry import rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, Node

_TREND = 3
"""Layers from which on it is a trend over depth, which does harm although a part is learned."""


@rule(
    "INI004",
    "signal-grows",
    severity="warning",
    needs=("weight_norm", "loss"),
    explains={
        "LRN007": "any",
        "ACT001": "any",
        "ACT002": "any",
        "ACT003": "any",
        "GRD001": "any",
        "GRD002": "any",
        "GRD004": "any",
        "GRD007": "any",
        "LRN001": "any",
        "LRN002": "any",
        "OUT004": "any",
        "LRN003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def signal_grows(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The weights start so large that every layer makes the signal several times larger, or saturates."""
    ended = outcome(trace, bounds.outcome)
    if not falls_short(ended, bounds.outcome):
        return []
    gains = _gains(trace)
    rounds = _recurrent_gains(trace)
    if rounds and max(rounds.values()) >= bounds.signal.gain:
        return [_grows_in_time(trace, max(rounds, key=lambda name: rounds[name]), rounds)]
    if not gains:
        return []
    usual = math.exp(float(np.mean(np.log(list(gains.values())))))
    if usual < bounds.signal.gain or (ended.word == "learned" and len(gains) < _TREND):
        return []
    first, baseline = _first_loss(trace), constant_loss(trace)
    # what learns a part all the same need not start as far away: such weights are never usual
    start = baseline * (1.0 if ended.word == "learned" else bounds.signal.far_start)
    far = first > start > 0
    ends = [node for node in weight_layers(trace) if _saturated(trace, node) > bounds.signal.saturated]
    hidden = not trace.series("loss").values[:1].size or not math.isfinite(trace.series("loss").values[0])
    hidden = hidden and (trace.first("data.nonfinite") or 0) > 0
    if not far and not ends and not hidden:
        return []
    worst = max(gains, key=lambda name: gains[name])
    node = trace.structure.node(worst)
    seen = (
        f"the loss starts at {first:.3g}, where the best constant answer has {baseline:.3g}"
        if far
        else f"{names(ends)} starts at the ends of its activation"
        if ends
        else "what comes of it is hidden by NaN among the inputs"
    )
    return [
        Finding(
            code="INI004",
            name="signal-grows",
            severity="warning",
            layer=worst,
            step=0,
            confidence=0.85,
            summary=(
                f"The weights start so large that a layer makes its input {usual:.1f} times as large "
                "(usual: 0.5 "
                f"to 1.5; most in {worst}, {gains[worst]:.1f} times), and {seen}."
            ),
            evidence=(
                Evidence("weight_norm", trace.first("weight_norm", worst), layer=worst),
                Evidence("loss", first, ">" if far else "", start if far else None),
            ),
            rival=(
                "LRN001 learning-rate-too-high: there the start is sound and the first steps spoil it; "
                "this was "
                "measured before any step."
            ),
            location=node.location if node is not None else None,
        )
    ]


def _gains(trace: Recording) -> dict[str, float]:
    """By how much a layer makes inputs of no special direction larger: |W| / sqrt(units).

    Layers whose size a normalisation takes out again are left out.
    """
    found: dict[str, float] = {}
    for node in weight_layers(trace):
        after = next(trace.structure.after(node.name), None)
        norm = trace.first("weight_norm", node.name)
        if norm and math.isfinite(norm) and not (after is not None and after.type in NORMALISING):
            found[node.name] = norm / math.sqrt(node.units)
    return found


def _recurrent_gains(trace: Recording) -> dict[str, float]:
    """The same of the matrices by which a recurrent layer's state comes back to it, from step to step."""
    found: dict[str, float] = {}
    for node in trace.structure.nodes:
        for name, shape in node.parameters.items():
            norm = trace.first("weight_norm", f"{node.name}.{name}")
            if name.startswith("weight_hh") and norm and math.isfinite(norm) and shape:
                found[f"{node.name}.{name}"] = norm / math.sqrt(shape[0])
    return found


def _grows_in_time(trace: Recording, worst: str, gains: dict[str, float]) -> Finding:
    node = trace.structure.node(worst.rsplit(".", 1)[0])
    return Finding(
        code="INI004",
        name="signal-grows",
        severity="warning",
        layer=None if node is None else node.name,
        step=0,
        confidence=0.85,
        summary=(
            f"The recurrent weights {worst} start so large that a state is made {gains[worst]:.1f} times as "
            "large from one step of the sequence to the next (usual: 0.5 to 1). Its units stand at their "
            "ends after a few steps, and what came in before is lost."
        ),
        evidence=(Evidence("weight_norm", trace.first("weight_norm", worst), layer=worst),),
        rival=(
            "LRN001 learning-rate-too-high: there the start is sound and the first steps spoil it; this was "
            "measured before any step."
        ),
        location=None if node is None else node.location,
    )


def _first_loss(trace: Recording) -> float:
    values = [trace.first(name) for name in ("full_loss", "loss")]
    return next((value for value in values if value is not None and math.isfinite(value)), math.nan)


def _saturated(trace: Recording, node: Node) -> float:
    return trace.first("saturated", activation_place(trace, node)) or 0.0
