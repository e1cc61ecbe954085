"""Where a program cuts the way from the loss back to what should be trained."""

from typing import Final

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import BUT_REMADE, names
from unstuck.diagnose.outcome import falls_short, outcome, part_loss, unproven
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

LOOK_FOR: Final = (
    "look for detach(), .data, .item(), .numpy(), no_grad(), torch.tensor(...) around a tensor, a "
    "comparison, an argmax or a rounding"
)
"""What cuts a graph in PyTorch."""
_LEAF: Final = "accumulate_grad"
"""Type of the node that stands for a tensor of the program's own which asks for a gradient."""
_SEEN: Final = 3
"""Measured steps below which nothing is said."""


def whole_network(trace: Recording, bounds: Bounds) -> Finding | None:
    """Nothing that the optimisers hold ever got a gradient, or moved: the loss does not hang on the network.

    Args:
        trace: what was measured.
        bounds: of steps that are enough to judge.

    Returns:
        GRD003 of the layer nearest the loss, behind which the cut must be; None where anything was trained.
    """
    owners = [node for node in trace.structure.nodes if node.parameters and node.trainable]
    held = [node for node in owners if node.optimised]
    if not held or any(node.connected for node in owners) or trace.steps < bounds.outcome.few_steps:
        return None
    rows = trace.layers("grad_norm")
    if not rows or any(trace.series("remade", row).values.any() for row in trace.layers("remade")):
        return None
    # measured, and None each time: that is another thing than 0
    if any(trace.series("grad_norm", row).values.size or not trace.is_null("grad_norm", row) for row in rows):
        return None
    ways = [trace.series("drift_norm", row).values for row in rows]
    if any(way.size < _SEEN or (way != 0).any() for way in ways):
        return None
    last = held[-1]
    leaf = any(node.type == _LEAF and node.connected for node in trace.structure.nodes)
    ends = (
        " The backward pass ends at a tensor that was told to ask for a gradient (requires_grad_()), "
        "which only hides the error that PyTorch would raise: take that away, too."
        if leaf
        else ""
    )
    return Finding(
        code="GRD003",
        name="no-gradient",
        severity="error",
        layer=last.name,
        step=0,
        confidence=0.97,
        summary=(
            f"No gradient ever reached {_listed(held)}, though the optimiser holds "
            f"{'it' if len(held) == 1 else 'them'}: in {trace.steps} steps no weight moved. The way from "
            f"the loss back to the network is cut behind {names([last])}: {LOOK_FOR}.{ends}"
        ),
        evidence=(
            Evidence("grad_norm", None, layer=last.name),
            Evidence("drift_norm", 0.0, "=", 0.0, last.name),
        ),
        rival=(
            "LRN005 unoptimised-parameters: there a gradient comes and no optimiser uses it; "
            "LRN002 learning-rate-too-low: then the weights move a little. Here there is no gradient at all."
        ),
        location=last.location,
        apart=BUT_REMADE,  # the program cuts the path, and no fault of the training does
    )


def through_copies(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Layers whose numbers were copied out of the graph on their way to others that are trained.

    What they get of a gradient comes by another way (a penalty on a code, say): nothing else would tell.
    Where nobody can say that the training fell short, it is only worth knowing: a path may be cut on purpose.

    Args:
        trace: what was measured.
        bounds: when a training fell short.

    Returns:
        GRD003 of the layer right before each such copy, if a gradient reaches it at all.
    """
    ended = outcome(trace, bounds.outcome)
    if ended.word in {"not learned", "diverged"}:
        severity: Severity = "error"
    else:
        # a sum of losses that is not below what a constant answer has in one term alone
        part = part_loss(trace)
        poor = unproven(trace, ended, bounds.outcome) and ended.final > bounds.outcome.learned * part > 0
        severity = "warning" if poor or falls_short(ended, bounds.outcome) else "info"
    findings: list[Finding] = []
    told: set[str] = set()
    for name in trace.layers("copied"):
        reader = trace.structure.node(name)
        if reader is None or not trace.series("copied", name).values.any() or not reader.connected:
            continue
        wanting = [
            node
            for node in _before(trace, reader)
            if node.parameters and node.connected and node.trainable and node.optimised is not False
        ]
        if not wanting or wanting[-1].name in told:
            continue
        last = wanting[-1]
        made = [node for node in wanting if node.name in reader.inputs] or [last]
        told.add(last.name)
        findings.append(
            Finding(
                code="GRD003",
                name="no-gradient",
                severity=severity,
                layer=last.name,
                step=0,
                confidence=0.9,
                summary=(
                    f"{names([reader])} reads numbers that {_listed(made)} made, but as a new tensor: on the "
                    "way they left the graph (.numpy(), .tolist(), torch.tensor(...)), and no gradient comes "
                    f"back there. {_listed(wanting)} {'gets' if len(wanting) == 1 else 'get'} only what "
                    "other terms of the loss send. Keep to operations of PyTorch between the two."
                ),
                evidence=(Evidence("copied", 1.0, "=", 1.0, reader.name),),
                rival="GRD001 vanishing-gradient: that one is lost by and by, not at one place.",
                location=last.location,
                apart=BUT_REMADE,
            )
        )
    return findings


def _before(trace: Recording, node: Node) -> list[Node]:
    """All operations that feed one, in the order of the data."""
    wanted = set(node.inputs)
    waiting = list(wanted)
    while waiting:
        one = trace.structure.node(waiting.pop())
        fresh = set(one.inputs) - wanted if one is not None else set[str]()
        wanted |= fresh
        waiting += fresh
    return [one for one in trace.structure.nodes if one.name in wanted]


def _listed(nodes: list[Node]) -> str:
    return names(nodes) if len(nodes) <= 4 else f"{names(nodes[:3])} and {len(nodes) - 3} further layers"
