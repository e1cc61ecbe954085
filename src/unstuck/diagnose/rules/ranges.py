"""Rules on the range of the answers: what the last operation can give against what is wanted."""

import math
from typing import Final

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import typical
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.paths import into_loss, loss_name
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_RANGES: Final = {
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "ReLU": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
    "ReLU6": (0.0, 6.0),
    "Softsign": (-1.0, 1.0),
    "LogSoftmax": (-math.inf, 0.0),
    "LogSigmoid": (-math.inf, 0.0),
}
"""What comes out of an operation, whatever goes in."""
_CUTS: Final = frozenset({"ReLU", "ReLU6"})
"""Operations that give 0 for whatever is negative."""
_STRETCHES: Final = frozenset({"mul", "add", "sub", "div", "rsub"})
"""Operations that give a range another size and place."""
_MOST: Final = 4
"""Of them, one after another, at most."""
_LATE: Final = 3
"""Last measurements that count."""
_DISTANCES: Final = frozenset({"MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"})
"""Losses whose best answer is the target itself."""
_OF_SCORES: Final = {
    "BCEWithLogitsLoss": "only a negative score says no: these are a yes, or one half, for every sample",
    "CrossEntropyLoss": "the scores of all classes end at 0 when their units die, and stay there",
}
"""Losses that make probabilities of scores of either sign, and what comes of scores of 0 or more."""


@rule(
    "OUT001",
    "output-range",
    severity="error",
    needs=("target.min", "target.max"),
    explains={
        "ARC001": "any",
        "ACT001": "any",
        "ACT002": "any",
        "ACT003": "any",
        "ACT005": "any",
        "GRD001": "any",
        "GRD003": "lasting",
        "LRN001": "any",
        "LRN002": "any",
        "OUT010": "any",
    },
    preview=False,
)
def output_range(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The last operation cannot give what the targets ask for."""
    loss, node = loss_name(trace), into_loss(trace)
    if not loss:
        raise NotChecked("it is not known which loss was used")
    if loss not in _DISTANCES and loss not in _OF_SCORES:
        return []
    if node is None:
        raise NotChecked("it was not seen which operation feeds the loss")
    if loss in _OF_SCORES:
        return _never_negative(trace, node, loss, bounds)
    if scaled := _scaled(trace, node, bounds):
        return [scaled]
    low, high = _RANGES.get(node.type, (-math.inf, math.inf))
    least, most = typical(trace, "target.min"), typical(trace, "target.max")
    below, above = max(low - least, 0.0), max(most - high, 0.0)
    if math.isnan(below + above) or most <= least:
        return []
    part = (below + above) / (most - least)
    severity = _severity(trace, part, (low, high), bounds)
    if part <= bounds.output.beyond or severity is None:
        return []
    return [_finding(trace, node, severity, part)]


def _never_negative(trace: Recording, node: Node, loss: str, bounds: Bounds) -> list[Finding]:
    """A ReLU after the last layer, before a loss that wants scores of either sign."""
    ended = outcome(trace, bounds.outcome)
    least = typical(trace, "target.min")
    wanted = loss != "BCEWithLogitsLoss" or least < 0.5
    if node.type not in _CUTS or not wanted or not falls_short(ended, bounds.outcome):
        return []
    return [
        Finding(
            code="OUT001",
            name="output-range",
            severity="error" if ended.word == "not learned" else "warning",
            layer=node.name,
            step=0,
            confidence=0.9,
            summary=(
                f"The {node.type.lower()} at the end ({node.name}) gives numbers of 0 or more, but {loss} "
                f"takes scores of either sign: {_OF_SCORES[loss]}. Leave it out."
            ),
            evidence=(Evidence("output.min", typical(trace, "output.min"), ">=", 0.0),),
            rival="ACT001 born-dead-units: that is what may follow; without this operation no score can die.",
            location=node.location,
            apart=("ACT", "GRD003"),
        )
    ]


def _scaled(trace: Recording, node: Node, bounds: Bounds) -> Finding | None:
    """A sigmoid or tanh that is stretched to a range, stands at its end, and all targets lie beyond."""
    inner: Node | None = node
    for _ in range(_MOST):
        if inner is None or inner.type not in _STRETCHES or len(inner.inputs) != 1:
            break
        inner = trace.structure.node(inner.inputs[0])
    if inner is None or inner is node or inner.type not in {"Sigmoid", "Tanh"}:
        return None
    names = ("output.min", "output.max", "target.min", "target.max")
    full, *ends = (
        trace.series(*place).values[-_LATE:]
        for place in (("saturated", inner.name), *((name, "") for name in names))
    )
    if min(full.size, *(one.size for one in ends)) < _LATE:
        return None
    if outcome(trace, bounds.outcome).word != "not learned":
        return None
    low, high, least, most = (float(one[-1]) for one in ends)
    short = bool((ends[1] < ends[2]).all())
    if not (short or bool((ends[0] > ends[3]).all())) or float(full.mean()) < bounds.signal.saturated:
        return None
    reached, where, wanted = (high, "above", least) if short else (low, "below", most)
    return Finding(
        code="OUT001",
        name="output-range",
        severity="error",
        layer=node.name,
        step=0,
        confidence=0.9,
        summary=(
            f"The answers are made of a {inner.type.lower()} ({inner.name}) that stands at its end: they "
            f"stop at {reached:.3g}, and all targets lie {where} {wanted:.3g}. Give it the range of these "
            "targets."
        ),
        evidence=(
            Evidence("output.max" if short else "output.min", reached, "<" if short else ">", wanted),
            Evidence("saturated", float(full.mean()), ">=", bounds.signal.saturated, inner.name),
        ),
        rival="OUT008 unscaled-target: there the answers still move towards the targets; these cannot.",
        location=node.location,
    )


def _severity(trace: Recording, part: float, reach: tuple[float, float], bounds: Bounds) -> Severity | None:
    """Error where most targets are out of reach or the training failed; a few of them may not matter."""
    mean = typical(trace, "target.mean")
    ended = outcome(trace, bounds.outcome)
    if not math.isnan(mean) and not reach[0] <= mean <= reach[1]:
        return "error"
    if ended.word == "learned" and ended.fraction <= bounds.outcome.solved:
        return None
    return "error" if ended.word == "not learned" or part >= 0.5 else "warning"


def _finding(trace: Recording, node: Node, severity: Severity, part: float) -> Finding:
    low, high = _RANGES[node.type]
    least, most = typical(trace, "target.min"), typical(trace, "target.max")
    bounded = f"from {low:g} to {high:g}"
    reach = "0 or more" if math.isinf(high) else "0 or less" if math.isinf(low) else bounded
    evidence = [Evidence("target.min", least, "<", low)] if least < low else []
    evidence += [Evidence("target.max", most, ">", high)] if most > high else []
    return Finding(
        code="OUT001",
        name="output-range",
        severity=severity,
        layer=node.name,
        step=0,
        confidence=0.95,
        summary=(
            f"The {node.type.lower()} at the end ({node.name}) gives numbers {reach}; the targets lie "
            f"between {least:.3g} and {most:.3g}, and {part:.0%} of that range is out of its reach. Leave "
            "it out, or scale the targets into its range."
        ),
        evidence=tuple(evidence),
        rival=(
            "OUT010 constant-prediction without this: there the targets lie within reach and the network "
            "does not get there."
        ),
        location=node.location,
    )
