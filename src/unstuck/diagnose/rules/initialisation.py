"""Rules on the weights that a training starts from: zero, equal to each other, too small for the depth."""

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import (
    AFTER_THE_START,
    LOOKS_UP,
    activation_place,
    is_zero,
    names,
    on_one_way,
    output_layer,
    per_layer,
    saw,
    weight_layers,
)
from unstuck.diagnose.outcome import falls_short, outcome, unproven
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, Node


@rule(
    "INI001",
    "zero-weights",
    severity="error",
    needs=("weight_norm", "distinct_units"),
    explains={
        "ARC001": "any",
        "ACT001": "from",
        "GRD003": "any",
        "GRD001": "up to",
        "INI002": "from",
        "ACT005": "from",
        "INI003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def zero_weights(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Layers in series start at zero, so that what lies before them stays without gradient or equal."""
    layers = weight_layers(trace)
    zeros = [node for node in layers if is_zero(trace, node)]
    locked = _locked(trace)
    ended = outcome(trace, bounds.outcome)
    if any(node not in layers for node in locked) and (
        ended.word != "learned" or falls_short(ended, bounds.outcome)
    ):
        return [_locked_zeros(trace, locked, "warning" if ended.word == "learned" else "error")]
    tables = _frozen_zeros(trace)
    if tables and outcome(trace, bounds.outcome).word in {"not learned", "diverged"}:
        return [_frozen_zero(tables[0])]
    if not zeros or len(layers) < 2:
        return []
    through = _zeros_on_every_path(trace, {node.name for node in zeros})
    closed = [node for node in zeros if through[node.name] >= 2]
    series = [node for node in zeros if node in closed or _leads_to(trace, node, closed)]
    findings = [_zero_series(trace, series, bounds)] if series else []
    output = output_layer(trace)
    for node in zeros:
        if node in series:
            continue
        blocks = output is not None and _zeros_on_every_path(trace, {node.name})[output.name] >= 1
        if blocks and layers[0] != node:
            findings.append(_single_zero(trace, node))
    return findings


def _locked(trace: Recording) -> list[Node]:
    """Zero layers, tables among them, that never got a gradient: each waits for another to leave 0 first.

    A product of two zeros has slope 0 in both: a table into a zero layer, or two tables multiplied.
    """
    zeros = [
        node
        for node in trace.structure.layers
        if node.connected and node.trainable and node.type not in NORMALISING and is_zero(trace, node)
    ]
    still = [
        node
        for node in zeros
        if (grads := trace.series("grad_norm", node.name).values).size and bool((grads == 0).all())
    ]
    return still if len(still) >= 2 else []


def _locked_zeros(trace: Recording, locked: list[Node], severity: Severity) -> Finding:
    first = locked[0]
    return Finding(
        code="INI001",
        name="zero-weights",
        severity=severity,
        layer=first.name,
        step=0,
        confidence=0.98 if trace.steps > 1 else 0.9,
        summary=(
            f"{names(locked)} all start at 0 and are multiplied with each other: the slope of a product of "
            "two zeros is 0 in both, so that each gets a gradient of exactly 0 and never leaves 0. Let one "
            "of them start with small random numbers."
        ),
        evidence=tuple(Evidence("weight_norm", 0.0, "=", 0.0, node.name) for node in locked),
        rival=("GRD003 no-gradient: there a path is cut; here it is whole, and every factor on it is 0."),
        location=first.location,
        apart=AFTER_THE_START,
    )


def _frozen_zeros(trace: Recording) -> list[Node]:
    """Tables of zeros that are not trained: every word or sample that is looked up is the same."""
    return [
        node
        for node in trace.structure.layers
        if node.type in LOOKS_UP and node.connected and not node.trainable and is_zero(trace, node)
    ]


def _frozen_zero(node: Node) -> Finding:
    return Finding(
        code="INI001",
        name="zero-weights",
        severity="error",
        layer=node.name,
        step=0,
        confidence=0.95,
        summary=(
            f"All numbers of {node.name} are 0, and it is frozen: whatever is looked up there is the same, "
            "and nothing after it can tell inputs apart. Were its vectors loaded at all?"
        ),
        evidence=(Evidence("weight_norm", 0.0, "=", 0.0, node.name),),
        rival="GRD003 no-gradient: weights after it get a gradient of 0, because all that they read is 0.",
        location=node.location,
        apart=AFTER_THE_START,
    )


def _zeros_on_every_path(trace: Recording, zeros: set[str]) -> dict[str, int]:
    """For each operation, the fewest zero layers that any path from the input to its output goes through."""
    fewest: dict[str, int] = {}
    for node in trace.structure.nodes:
        before = min((fewest.get(name, 0) for name in node.inputs), default=0)
        fewest[node.name] = before + (node.name in zeros)
    return fewest


def _leads_to(trace: Recording, node: Node, targets: list[Node]) -> bool:
    reached = {node.name}
    for following in trace.structure.nodes:
        if reached.intersection(following.inputs):
            reached.add(following.name)
    return any(target.name in reached and target != node for target in targets)


def _zero_series(trace: Recording, series: list[Node], bounds: Bounds) -> Finding:
    first = series[0]
    hidden = [node for node in series if node != output_layer(trace)] or series[:1]
    alike = [node for node in hidden if node.units > 1 and trace.last("distinct_units", node.name) == 1]
    still = [node for node in hidden if trace.last("grad_norm", node.name) == 0]
    steps = trace.series("weight_norm", first.name).steps
    start_only = len(steps) < 2
    held = bool(alike) if start_only else bool(alike or still)
    ended = outcome(trace, bounds.outcome)
    suspect = not held and ended.word != "diverged" and falls_short(ended, bounds.outcome)
    summary = f"The weights of {names(series)}, layers in series, all start at 0."
    if alike:
        summary += (
            f" All {alike[0].units} units of {alike[0].name} then do the same, get the same gradient and "
            "stay equal"
            f"{'' if start_only else f' (still so at step {steps[-1]})'}; what lies before learns next to "
            "nothing."
        )
    elif held:
        summary += f" The gradient of {names(still)} is exactly 0 and stays so."
    elif suspect:
        summary += " Their units are different by now, yet nothing was learned: such a start is left slowly."
    else:
        summary += " Here the units became different all the same, and it did no lasting harm."
    evidence = [Evidence("weight_norm", 0.0, "=", 0.0, node.name) for node in series]
    evidence += [Evidence("distinct_units", 1.0, "=", 1.0, node.name) for node in alike]
    return Finding(
        code="INI001",
        name="zero-weights",
        severity="error" if held else "warning" if suspect else "info",
        layer=first.name,
        step=0,
        confidence=(0.9 if start_only else 0.99) if held else 0.6,
        summary=summary,
        evidence=tuple(evidence),
        rival=(
            "GRD001 vanishing-gradient: there the gradient of early layers is small but never exactly 0; "
            "here it is 0 for as many steps as zero layers follow."
        ),
        location=first.location,
        apart=AFTER_THE_START if held else (),  # no update made them so
    )


def _single_zero(trace: Recording, node: Node) -> Finding:
    """One zero layer alone: a usual choice, unless it can't move itself."""
    steps = trace.series("grad_norm", node.name)
    stays = bool(steps.values.size) and bool((steps.values == 0).all()) and node != output_layer(trace)
    upstream = [
        layer for layer in weight_layers(trace) if layer.trainable and _leads_to(trace, layer, [node])
    ]
    if not node.trainable and upstream:
        held, words = True, f"and is frozen there, so no gradient ever reaches {names(upstream)}."
    elif stays and node.trainable:
        held = True
        words = "and what follows has slope 0 there: its gradient is exactly 0, it can never leave 0."
    else:
        held = False
        words = (
            "alone. For one step nothing before it gets a gradient; then training goes on as with a random "
            "one. "
            "A usual choice for a last layer, not a fault."
        )
    return Finding(
        code="INI001",
        name="zero-weights",
        severity="error" if held else "info",
        layer=node.name,
        step=0,
        confidence=0.95,
        summary=f"The weights of {node.name} start at 0, {words}",
        evidence=(Evidence("weight_norm", 0.0, "=", 0.0, node.name), saw(trace, "grad_norm", node.name)),
        rival="INI002 identical-units: one zero layer only does harm when the units before it are copies.",
        location=node.location,
    )


@rule(
    "INI002",
    "identical-units",
    severity="error",
    needs=("distinct_units", "unit_spread"),
    explains={
        "ARC001": "any",
        "ACT001": "from",
        "INI002": "after",
        "ACT003": "same",
        "ACT005": "from",
        "GRD001": "up to",
        "GRD002": "any",
        "GRD003": "lasting",
        "ACT002": "any",
        "LRN001": "any",
        "LRN003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def identical_units(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Units of a layer start equal, get equal gradients and stay equal: many units work as one."""
    findings: list[Finding] = []
    for node in weight_layers(trace):
        # the targets tell the units of the last layer apart; a frozen layer was meant to be as it is
        if node.units < 2 or node == output_layer(trace) or not node.trainable:
            continue
        different = trace.first("distinct_units", node.name)
        if different is None or not different >= 1:
            continue
        if different == 1 and trace.first("unit_spread", node.name) is None and not is_zero(trace, node):
            continue  # one unit; the graph of a derivative runs through its layer the other way
        if different == 1:
            finding = _all_alike(trace, node, bounds)
        elif different <= bounds.units.tiled * node.units:
            finding = _tiled(trace, node, int(different))
        else:
            finding = _one_number(trace, node, bounds)
        if finding is not None:
            findings.append(finding)
    return findings


def _all_alike(trace: Recording, node: Node, bounds: Bounds) -> Finding | None:
    zero = is_zero(trace, node)
    # two in series part late or never, rounding alone can part copies: so the end decides, not the start
    spread = trace.last("unit_spread", node.name)
    remain = trace.last("distinct_units", node.name) == 1 or (
        spread is not None and spread <= bounds.units.gradient
    )
    start_only = trace.series("distinct_units", node.name).steps.size < 2
    gradients = trace.series("grad_spread", node.name).values
    gradients = gradients[np.isfinite(gradients)]
    moved = (trace.last("drift_norm", node.name) or 0.0) > 0
    if gradients.size and gradients[0] > bounds.units.gradient:
        return None  # equal weights, different gradients: they part at the first update
    if start_only:
        if zero:
            return None  # a zero layer parts too unless others are zero: INI001 knows
        seen = bool(gradients.size)
        return _alike_finding(trace, node, "error" if seen else "warning", 0.9 if seen else 0.6, bounds)
    if not gradients.size and not zero and not moved and remain:
        # copies that get no gradient: what follows is constant for them, such as a normalisation over units
        return _alike_finding(trace, node, "error", 0.85, bounds)
    if not moved or not gradients.size or not remain:
        return None  # without a gradient nothing can part them: that is GRD003's; parted: it healed
    return _alike_finding(trace, node, "error", 0.99, bounds)


def _alike_finding(
    trace: Recording, node: Node, severity: Severity, confidence: float, bounds: Bounds
) -> Finding:
    fraction = outcome(trace, bounds.outcome).fraction
    enough = fraction < bounds.outcome.solved
    steps = trace.series("distinct_units", node.name).steps
    kernels = "kernels" if len(node.parameters["weight"]) > 2 else "weights"
    summary = f"All {node.units} units of {node.name} start with the same {kernels}"
    if steps.size > 1:
        summary += f" and are still equal at step {steps[-1]}: equal gradients kept them so."
    elif severity == "error":
        summary += " and get the same gradient, so they will stay equal."
    else:
        summary += "; whether their gradients differ cannot be seen at this step, where they are 0."
    summary += f" The layer does the work of one unit instead of {node.units}."
    return Finding(
        code="INI002",
        name="identical-units",
        severity="warning" if enough or severity == "warning" else "error",
        layer=node.name,
        step=0,
        confidence=confidence,
        summary=summary,
        evidence=(
            Evidence("distinct_units", trace.last("distinct_units", node.name), "=", 1.0, node.name),
            Evidence("grad_spread", _first_defined(trace, node), "<=", bounds.units.gradient, node.name),
        ),
        rival=(
            "INI001 zero-weights: zero units are equal too, but only these start at other values than 0."
            if not is_zero(trace, node)
            else "A single zero layer is harmless, its units part at the first update; these did not."
        ),
        location=node.location,
    )


def _one_number(trace: Recording, node: Node, bounds: Bounds) -> Finding | None:
    """Units whose weights are all one number, and whose biases alone tell them apart.

    They part at the bends of an activation, slowly: worth telling where little was learned.
    """
    ended = outcome(trace, bounds.outcome)
    constant = node.fan_in > 1 and trace.first("unit_values", node.name) == 1 and not is_zero(trace, node)
    if not constant or trace.first("distinct_outputs", node.name) != 1:
        return None
    if not falls_short(ended, bounds.outcome):
        return None
    last = trace.series("distinct_outputs", node.name)
    still = f", and still do at step {last.steps[-1]}" if last.values[-1] == 1 and len(last.steps) > 1 else ""
    return Finding(
        code="INI002",
        name="identical-units",
        severity="warning" if ended.word == "learned" else "error",
        layer=node.name,
        step=0,
        confidence=0.85,
        summary=(
            f"All weights of {node.name} start as one number: its {node.units} units answer the same but for "
            f"their biases{still}. They get nearly the same gradient and part slowly, so the layer does the "
            "work of few."
        ),
        evidence=(
            Evidence("unit_values", 1.0, "=", 1.0, node.name),
            Evidence("distinct_outputs", 1.0, "=", 1.0, node.name),
        ),
        rival="INI001 zero-weights: there the number is 0, and nothing of the input passes.",
        location=node.location,
        apart=AFTER_THE_START,  # no update made them so
    )


def _first_defined(trace: Recording, node: Node) -> float | None:
    values = trace.series("grad_spread", node.name).values
    return float(values[0]) if values.size else None


def _tiled(trace: Recording, node: Node, different: int) -> Finding | None:
    last = trace.last("distinct_units", node.name)
    steps = trace.series("distinct_units", node.name).steps
    moved = (trace.last("drift_norm", node.name) or 0.0) > 0
    if steps.size < 2 or not moved or last is None or not 1 <= last <= different:
        return None
    return Finding(
        code="INI002",
        name="identical-units",
        severity="warning",
        layer=node.name,
        step=0,
        confidence=0.9,
        summary=(
            f"Of {node.units} units of {node.name} only {different} are different at the start, and only "
            f"{int(last)} "
            f"at step {steps[-1]}: copies of a unit get the same gradient and stay copies."
        ),
        evidence=(Evidence("distinct_units", last, "<=", float(different), node.name),),
        rival="Units that were pruned or are dead: those are zero or do not move, these move together.",
        location=node.location,
    )


@rule(
    "INI003",
    "signal-shrinks",
    severity="warning",
    needs=("act_std",),
    # beside next to no signal the biases decide, and units that these switch off are off for every sample
    explains={"ARC001": "any", "ACT002": "else", "ACT005": "any", "OUT010": "any"},
)
def signal_shrinks(trace: Recording, bounds: Bounds) -> list[Finding]:
    """What the activations tell about the input falls geometrically from layer to layer."""
    hidden = on_one_way(trace, weight_layers(trace))[:-1]
    if len(hidden) < 3:
        raise NotChecked("it needs three hidden layers at least: a trend over depth")
    places = [activation_place(trace, node) for node in hidden]
    spreads = [trace.first("act_std", place) for place in places]
    known = [
        (node, place, value) for node, place, value in zip(hidden, places, spreads, strict=True) if value
    ]
    if len(known) < len(hidden):
        return []  # a spread of 0 is no trend: ACT005, INI001 and INI002 know why
    first, last = known[0][2], known[-1][2]
    factor = per_layer(first, last, len(known))
    ended = outcome(trace, bounds.outcome)
    if not factor <= bounds.signal.factor or ended.word in {"learned", "diverged"}:
        return []
    depends = trace.first("act_variation", known[-1][1])
    fades = depends is not None and depends <= bounds.signal.fades and last <= bounds.signal.total * first
    if not fades and last > bounds.signal.tiny * first:
        return []
    node, place, _ = known[-1]
    return [
        Finding(
            code="INI003",
            name="signal-shrinks",
            severity="info" if unproven(trace, ended, bounds.outcome) else "warning",
            layer=node.name,
            step=0,
            confidence=0.85 if ended.word == "not learned" else 0.6,
            summary=(
                "At the start the spread of the activations over the inputs falls by a factor of "
                f"{1 / factor:.1f} "
                f"per layer, from {first:.2g} after {known[0][0].name} to {last:.2g} after {node.name}: "
                "late layers hardly see what the input was."
            ),
            evidence=(
                Evidence("act_std", last, "<=", bounds.signal.total * first, place),
                Evidence("act_variation", depends, "<=", bounds.signal.fades, place),
            ),
            rival=(
                "LRN002 learning-rate-too-low: with a sound start the spread stays within a factor of two "
                "per layer "
                "at any learning rate; it was measured before the first update."
            ),
            location=node.location,
            apart=AFTER_THE_START,
        )
    ]
