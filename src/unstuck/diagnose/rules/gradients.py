"""Rules on the gradient: lost on the way back, or never there."""

import msgspec
import numpy as np

from unstuck.diagnose import cuts, reach, terms
from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import (
    BUT_REMADE,
    is_zero,
    multiplying,
    names,
    on_one_way,
    per_layer,
    position,
    typical,
    weight_layers,
)
from unstuck.diagnose.outcome import falls_short, learning_curve, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.diagnose.reliance import unneeded
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node

# derivative of an activation where it is steepest
_STEEPEST = {"Sigmoid": 0.25, "Tanh": 1.0}

_LOOKS = 5
"""Measured steps without any gradient, at least, of layers that move all the same."""


@rule(
    "GRD001",
    "vanishing-gradient",
    severity="error",
    needs=("grad_norm",),
    explains={
        "ARC001": "any",
        "INI003": "any",
        "ACT005": "any",
        "OUT004": "any",
        "OUT010": "any",
        "LRN002": "any",
    },
)
def vanishing_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The gradient falls geometrically towards the input, so that early layers hardly move."""
    in_time = _through_time(trace, bounds)
    if in_time is not None:
        return [in_time]
    layers = on_one_way(trace, [node for node in weight_layers(trace) if node.trainable])
    if len(layers) < 3:
        raise NotChecked("it needs three trained layers at least: a trend over depth")
    # At the start: later, once the mean of the targets is learned, the last layer's gradient is small too.
    # Exactly 0 is no gradient (GRD003), not a small one.
    norms = [trace.first("grad_norm", node.name) or 0.0 for node in layers]
    if not all(np.isfinite(norms)) or min(norms) <= 0:
        return []
    first, last = layers[0], layers[-1]
    total = norms[0] / norms[-1]
    factor = per_layer(norms[-1], norms[0], len(layers))
    if not (total <= bounds.gradient.total and factor <= bounds.gradient.factor):
        return []
    ended = outcome(trace, bounds.outcome)
    moves = typical(trace, "update_ratio", first.name)
    if ended.word == "diverged" or (ended.word == "learned" and not falls_short(ended, bounds.outcome)):
        return []  # it healed, or did no harm
    # small for its size perhaps, but the first layer does move; or none can, whatever its gradient is
    if moves > bounds.gradient.moves or reach.by_rate(trace) <= bounds.rate.straight_still:
        return []
    # inputs of any size fill up the first layer only, and stop the gradient there
    behind = (
        len(norms) > 3
        and not _full(trace, layers[1:], bounds)
        and norms[1] <= bounds.gradient.total * norms[-1]
        and per_layer(norms[-1], norms[1], len(norms) - 1) <= bounds.gradient.factor
    )
    evidence = [
        Evidence("grad_norm", norms[0], "<=", bounds.gradient.total * norms[-1], first.name),
        Evidence("grad_norm", norms[-1], layer=last.name),
    ]
    if moves == moves:  # noqa: PLR0124  (not NaN)
        evidence.append(Evidence("update_ratio", moves, "<=", bounds.gradient.moves, first.name))
    return [
        Finding(
            code="GRD001",
            name="vanishing-gradient",
            severity="warning" if ended.word == "learned" else "error",
            layer=first.name,
            step=0,
            confidence=0.9 if ended.word == "not learned" else 0.6,
            summary=(
                f"The gradient shrinks by a factor of {1 / factor:.1f} per layer on its way back: its norm "
                "is "
                f"{norms[-1]:.2g} at {last.name} and {norms[0]:.2g} at {first.name}.{_share(trace, layers)}"
            ),
            evidence=tuple(evidence),
            rival=(
                "LRN002 learning-rate-too-low makes all layers slow alike, "
                f"here the first gets {total:.1g} of the last one's gradient; "
                "GRD003 no-gradient is exactly 0, this one is not."
            ),
            location=first.location,
            apart=("DAT001", "ACT003") if behind else (),
        )
    ]


def _through_time(trace: Recording, bounds: Bounds) -> Finding | None:
    """What a recurrent layer reads gets next to nothing of the gradient that its own weights get.

    Both matrices are used in each step of a sequence. Only where all that was read lies many steps before
    the answer, behind padding for instance, has the gradient faded by the time it gets there.
    """
    if outcome(trace, bounds.outcome).word != "not learned":
        return None
    for node in trace.structure.nodes:
        for name in node.parameters:
            if not name.startswith("weight_ih") or not node.connected or not node.trainable:
                continue
            reads, own = f"{node.name}.{name}", f"{node.name}.{name.replace('_ih', '_hh')}"
            given, kept = trace.series("grad_norm", reads).values, trace.series("grad_norm", own).values
            if not given.size or given.size != kept.size or not (given > 0).all() or not (kept > 0).all():
                continue
            share = float(np.max(given / kept))
            if share > bounds.gradient.total**3:
                continue
            return Finding(
                code="GRD001",
                name="vanishing-gradient",
                severity="error",
                layer=node.name,
                step=0,
                confidence=0.85,
                summary=(
                    f"What {node.name} reads gets hardly any of the gradient: {reads} at most {share:.1g} "
                    f"times that of {own}. All that tells inputs apart lies too many steps before the "
                    "answer, behind padding perhaps. Take the state at each sequence's own last step "
                    "(pack_padded_sequence, or its length as an index), pad in front, or pool over the steps."
                ),
                evidence=(Evidence("grad_norm", share, "<=", bounds.gradient.total**3, reads),),
                rival=(
                    "LRN002 learning-rate-too-low: that makes all weights slow alike. DAT001 unscaled-input: "
                    "inputs would have to be as small as this share."
                ),
                location=node.location,
                apart=("DAT001", "LRN"),
            )
    return None


def _full(trace: Recording, layers: list[Node], bounds: Bounds) -> bool:
    """Whether the activation of any of these layers stands at its ends at the start."""
    found = [trace.structure.activation(node.name) for node in layers]
    shares = [trace.first("saturated", node.name) or 0.0 for node in found if node is not None]
    return max(shares, default=0.0) >= bounds.signal.saturated


def _share(trace: Recording, layers: list[Node]) -> str:
    """How much of the loss of gradient the activations' slopes account for."""
    slopes: list[float] = []
    kinds: set[str] = set()
    for node in layers[:-1]:
        activation = trace.structure.activation(node.name)
        relative = trace.first("slope", activation.name) if activation is not None else None
        if activation is not None and relative is not None and activation.type in _STEEPEST:
            slopes.append(relative * _STEEPEST[activation.type])
            kinds.add(activation.type)
    if not slopes:
        return ""
    mean = float(np.exp(np.mean(np.log(np.maximum(slopes, 1e-300)))))
    return f" The slope of {' and '.join(sorted(kinds))} alone gives a factor of {mean:.2g} per layer."


@rule(
    "GRD003",
    "no-gradient",
    severity="error",
    needs=("grad_norm",),
    explains={"ARC001": "any", "OUT010": "any"},
    preview=False,
)
def no_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A layer that should be trained gets a gradient of exactly zero."""
    whole = cuts.cleared(trace, bounds) or cuts.whole_network(trace, bounds)
    if whole is not None:
        return [whole]
    layers = [node for node in multiplying(trace) if node.connected or _cut_off(trace, node, bounds)]
    zeros = [node for node in layers if is_zero(trace, node)]
    findings: list[Finding] = []
    ended = outcome(trace, bounds.outcome)
    whole_silent = ended.word == "not learned" and _never_any(trace, layers)
    quiet = [node for node in layers if node.trainable and (whole_silent or _silent_at_the_end(trace, node))]
    if len(quiet) == len(layers) and ended.word == "learned":
        return []  # nothing left to learn: the loss is exactly at its floor
    for node in layers:
        if not node.trainable or not trace.has("grad_norm", node.name):
            continue
        series = trace.series("grad_norm", node.name)
        missing = not series.values.size  # measured, and None each time: no gradient reached it at all
        if node in quiet:
            nonzero = np.flatnonzero(series.values != 0)
            since = int(series.steps[nonzero[-1] + 1]) if nonzero.size else 0
            words = "none at all" if missing else "exactly 0"
            when = f"from step {since} on" if since else f"in all {trace.steps} steps seen"
            look = f" Between it and the loss, {cuts.LOOK_FOR}." if missing and not node.connected else ""
            summary = (
                f"The gradient of {node.name} is {words} {when}: nothing that it does reaches the loss.{look}"
            )
            sure = 0.97 if trace.steps > 1 else 0.9
            # features may have been left as they are on purpose, if the rest learns from them
            harm: Severity = "warning" if not node.connected and ended.word == "learned" else "error"
            found = _zero_gradient(trace, node, harm, step=since, summary=summary, confidence=sure)
            # none at all, in every step: the program cuts the path, and no fault of the training does
            apart = BUT_REMADE if missing and not node.connected else ()
            findings.append(msgspec.structs.replace(found, apart=apart))
            continue
        behind = [zero for zero in zeros if position(trace, zero.name) >= position(trace, node.name)]
        if series.values.size and series.values[0] == 0 and behind:
            # the last zero layer gets a gradient at once, so a layer's own zero weights are no reason
            lasted = int(series.steps[np.flatnonzero(series.values != 0)[0]])
            summary = (
                f"The gradient of {node.name} is exactly 0 until step {lasted}, "
                f"because the weights of {names(behind)} start at 0."
            )
            findings.append(_zero_gradient(trace, node, "info", step=0, summary=summary, confidence=0.99))
    if findings:
        return findings
    part = cuts.features(trace, ended) or terms.cut(trace, bounds) or terms.forgotten(trace, bounds)
    return [] if part is None else [part]


def _cut_off(trace: Recording, node: Node, bounds: Bounds) -> bool:
    """Whether a layer that no gradient reaches does feed the loss, so that something cut its path.

    A side branch that nothing uses (a second head, a pooler) is no cut, and neither is a layer that the
    optimiser was not given (features computed without gradient, on purpose). A cut tensor forgets where it
    came from: then all before the cut stands first, and a layer after it seems to read the network's input,
    but takes another number of inputs. Where it takes the same number, only the loss can tell.
    """
    if node.optimised is False or not node.trainable:
        return False
    after = {node.name}
    for other in trace.structure.nodes:
        if after.intersection(other.inputs):
            if other.connected:
                return True
            after.add(other.name)
    layers = multiplying(trace)
    before, behind = layers[: layers.index(node)], layers[layers.index(node) + 1 :]
    if any(other.connected for other in before):
        # another input's layers stand there: what was learned needs this one not
        spare = unneeded(trace, learning_curve(trace), bounds.outcome)
        return spare is not None and bool(spare.name) and (trace.last("calls", node.name) or 0) > 0
    readers = [other for other in behind if other.connected and INPUT in other.inputs]
    if any(other.fan_in != layers[0].fan_in for other in readers):
        return True
    return bool(readers) and outcome(trace, bounds.outcome).word == "not learned"


def _silent_at_the_end(trace: Recording, node: Node) -> bool:
    """Whether the gradient was 0 in the whole last third of what was measured, and the layer stood still.

    The second matters with samples in fixed order: the measured steps may all fall on one sample, and an
    input of 0 gives the first layer no gradient. A layer that moves in between gets one.
    """
    if not trace.has("grad_norm", node.name):
        return False
    values = trace.series("grad_norm", node.name).values
    if not values.size:
        return trace.is_null("grad_norm", node.name)
    tail = -(-values.size // 3)
    way = trace.series("drift_norm", node.name).values[-tail:]
    return bool((values[-tail:] == 0).all()) and (way.size < 2 or bool((way == way[0]).all()))


def _never_any(trace: Recording, layers: list[Node]) -> bool:
    """Whether no layer ever got a gradient but 0: what moves them then is a decay, or momentum."""
    values = [trace.series("grad_norm", node.name).values for node in layers if node.trainable]
    return bool(values) and all(one.size >= _LOOKS and bool((one == 0).all()) for one in values)


def _zero_gradient(
    trace: Recording, node: Node, severity: Severity, *, step: int, summary: str, confidence: float
) -> Finding:
    evidence = [Evidence("grad_norm", trace.at("grad_norm", node.name, step), "=", 0.0, node.name)]
    if trace.has("zero_grad", node.name):
        evidence.append(Evidence("zero_grad", trace.at("zero_grad", node.name, step), "=", 1.0, node.name))
    return Finding(
        code="GRD003",
        name="no-gradient",
        severity=severity,
        layer=node.name,
        step=step,
        confidence=confidence,
        summary=summary,
        evidence=tuple(evidence),
        rival="GRD001 vanishing-gradient: that one is small in every entry, this one is 0 in every entry.",
        location=node.location,
    )
