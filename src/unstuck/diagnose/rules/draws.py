"""Rules on the random generator: weights that are called random but were drawn twice from one seed."""

from collections.abc import Sequence

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import multiplying, names, output_layer, weight_layers
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import rule
from unstuck.diagnose.rules.initialisation import identical_units
from unstuck.trace.draws import ROW
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_RIVAL = (
    "INI002 identical-units of a constant: there all weights of a unit are one number, here they differ from "
    "input to input as random numbers do."
)


@rule(
    "INI005",
    "reseeded-weights",
    severity="error",
    needs=("same_draws", "unit_values"),
    explains={"INI002": "from", "ACT001": "from", "ACT005": "from", "OUT010": "any"},
)
def reseeded_weights(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The random generator was seeded again on the way: neurons, or layers, got the same random numbers."""
    rows = _equal_neurons(trace, bounds)
    if rows is not None:
        return [rows]
    layers = [
        node
        for node in multiplying(trace)
        if node.connected and node.trainable and node.optimised is not False
    ]
    groups: dict[float, list[Node]] = {}
    for node in layers:
        number = trace.first("same_draws", node.name)
        if number is not None:
            groups.setdefault(number, []).append(node)
    found = [_equal_layers(trace, group, bounds) for group in groups.values() if len(group) > 1]
    return [finding for finding in found if finding is not None]


def _equal_neurons(trace: Recording, bounds: Bounds) -> Finding | None:
    """All neurons of a layer are the same although their weights are no constant.

    They may part at the first update, where the layer after them tells them apart; but the network began as
    one of a single neuron.
    """
    alike = [
        node
        for node in weight_layers(trace)
        if node.units > 1
        and node.trainable
        and trace.first("distinct_units", node.name) == 1
        and _random(trace, node)
    ]
    hidden = [node for node in alike if node != output_layer(trace)]
    if not hidden:
        return None
    first, word = hidden[0], outcome(trace, bounds.outcome).word
    stay = {finding.layer: finding for finding in identical_units(trace, bounds)}.get(first.name)
    severity: Severity = "info" if word == "learned" else "error" if word == "not learned" else "warning"
    kept = "They get the same gradient and stay equal." if stay else "They begin as one and the same neuron."
    others = [node for node in alike if node != first]
    words = f" So do those of {names(others)}." if others else ""
    return Finding(
        code="INI005",
        name="reseeded-weights",
        severity=stay.severity if stay else severity,
        layer=first.name,
        step=0,
        # a single weight and a bias may be two constants; several such layers are no accident
        confidence=0.95 if others or first.fan_in > 2 else 0.7,
        summary=(
            f"All {first.units} neurons of {first.name} start with the same weights, and these are no "
            f"constant: the random generator was seeded again for each neuron.{words} {kept} Seed it once, "
            "before the first weight is drawn."
        ),
        evidence=(
            Evidence("distinct_units", 1.0, "=", 1.0, first.name),
            Evidence("unit_values", trace.first("unit_values", first.name), ">=", _needed(first), first.name),
        ),
        rival=_RIVAL,
        location=first.location,
    )


def _equal_layers(trace: Recording, group: Sequence[Node], bounds: Bounds) -> Finding | None:
    """Layers that begin with the same draws.

    Layers of one shape may be copies of each other, as those of a transformer's encoder are in PyTorch: that
    alone is no fault. A layer of another shape is no copy.
    """
    shapes = {node.parameters["weight"] for node in group}
    copies = len(shapes) == 1
    if copies and len({node.name.rpartition(".")[2] for node in group}) == 1:
        return None  # the same place in blocks that are copies
    failed = outcome(trace, bounds.outcome).word == "not learned"
    first = group[0]
    if copies:
        words = (
            "They may be copies on purpose, or the random generator was seeded again before each: then they "
            "are less different than they should be."
        )
    else:
        words = (
            "Their shapes differ, so they are no copies: the random generator was seeded again for each "
            "layer. Seed it once, before the first weight is drawn."
        )
    return Finding(
        code="INI005",
        name="reseeded-weights",
        severity="warning" if failed and not copies else "info",
        layer=first.name,
        step=0,
        confidence=0.5 if copies else 0.95,
        summary=f"The weights of {names(list(group))} start with the same random numbers. {words}",
        evidence=tuple(
            Evidence(
                "same_draws",
                trace.first("same_draws", node.name),
                "=",
                trace.first("same_draws", first.name),
                node.name,
            )
            for node in group
        ),
        rival=(
            "One tensor used in several places counts once and is no fault; copies of blocks are none either."
        ),
        location=first.location,
    )


def _random(trace: Recording, node: Node) -> bool:
    """Whether a unit's weights differ as draws do.

    A unit has no more values than inputs. Where more were measured, the graph shows the layer from its other
    side (a derivative of the network in the loss uses the weights transposed): then units are not rows.
    """
    values = trace.first("unit_values", node.name)
    return values is not None and _needed(node) <= values <= max(node.fan_in, 2)


def _needed(node: Node) -> float:
    """Different values of a unit whose weights were drawn: all, but for a few that are equal by chance."""
    return float(max(2, round(0.9 * min(node.fan_in, ROW))))
