"""Rule on a layer that is too narrow for what has to pass it."""

import math

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import activation_place, names, weight_layers
from unstuck.diagnose.outcome import constant_loss, falls_short, outcome
from unstuck.diagnose.paths import loss_name
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node


@rule(
    "ARC001",
    "too-narrow",
    severity="warning",
    needs=("probe.capacity", "effective_rank"),
    explains={"OUT010": "any"},
    from_step_0=False,
)
def too_narrow(trace: Recording, bounds: Bounds) -> list[Finding]:
    """One batch cannot be learned at any rate, and a layer has fewer units than the answers need."""
    ended = outcome(trace, bounds.outcome)
    best, constant = trace.first("probe.capacity"), constant_loss(trace)
    if best is None or not math.isfinite(best) or not constant > 0:
        raise NotChecked("the best constant answer's loss, or the least loss on one batch, is not known")
    if trace.meta.examined or not falls_short(ended, bounds.outcome):
        return []
    if best <= bounds.width.held * constant:
        return []  # what learns a batch by heart has room enough
    layers = weight_layers(trace)
    needed = _needed(trace, layers)
    narrow = [node for node in layers[:-1] if _width(node) < needed and not _goes_around(trace, node)]
    if not narrow:
        return []
    node = min(narrow, key=_width)
    width, place = _width(node), activation_place(trace, node)
    rank = trace.first("effective_rank", place)
    # a layer of which little is used fails for another reason: dead, equal, fading units
    if rank is None or not rank >= bounds.width.used * width:
        return []
    return [
        Finding(
            code="ARC001",
            name="too-narrow",
            severity="warning",
            layer=node.name,
            step=0,
            confidence=0.75,
            summary=(
                f"Adam at rates from 0.001 to 0.1 learns one batch to a loss of {best:.3g} at best; the best "
                f"constant answer has {constant:.3g}. All that the answer knows of the input passes "
                f"{names([node])}, {width} number{'s' if width > 1 else ''} wide, and the answers vary in "
                f"{needed} directions. Widen it."
            ),
            evidence=(
                Evidence("probe.capacity", best, ">", bounds.width.held * constant),
                Evidence("effective_rank", rank, ">=", bounds.width.used * width, place),
            ),
            rival=(
                "ACT001 born-dead-units, INI002 identical-units: there a layer is narrow because its units "
                f"are 0 or equal; here it uses all that it has (effective rank {rank:.2g} of {width}). "
                "LRN001 and LRN002: other rates were tried."
            ),
            location=node.location,
        )
    ]


def _needed(trace: Recording, layers: list[Node]) -> int:
    """Directions in which the answers have to vary: outputs, less one where only differences count."""
    if not layers:
        return 0
    outputs = _width(layers[-1])
    if INPUT in layers[0].inputs and outputs >= layers[0].fan_in:
        return 0  # it gives its input back: there a narrow layer is the purpose
    return outputs - 1 if loss_name(trace) in {"CrossEntropyLoss", "NLLLoss"} else outputs


def _width(node: Node) -> int:
    """Numbers that a layer passes on for a sample: units, and positions where it has them."""
    return max(math.prod(node.shape), node.units) if node.shape else node.units


def _goes_around(trace: Recording, narrow: Node) -> bool:
    """Whether something reaches the output without passing the layer."""
    reached = {INPUT}
    for node in trace.structure.nodes:
        if node.name != narrow.name and reached.intersection(node.inputs):
            reached.add(node.name)
    last = next((node for node in reversed(trace.structure.nodes) if node.connected), None)
    return last is None or last.name in reached
