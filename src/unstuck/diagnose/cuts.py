"""Where a program cuts the way from the loss back to what should be trained."""

from typing import Final

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import BUT_REMADE, names
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


def cleared(trace: Recording, bounds: Bounds) -> Finding | None:
    """Gradients come out of every backward pass, and none is left when the optimiser steps.

    Args:
        trace: what was measured.
        bounds: of steps that are enough to judge.

    Returns:
        GRD003 of the whole network; None where any gradient reached the optimiser.
    """
    gone = trace.series("cleared").values
    if gone.size < _SEEN or trace.has("clip_ratio") or trace.steps < bounds.outcome.few_steps:
        return None
    owners = [node for node in trace.structure.nodes if node.parameters and node.trainable]
    if not any((trace.series("grad_norm", node.name).values > 0).any() for node in owners):
        return None  # they are 0 to begin with
    return Finding(
        code="GRD003",
        name="no-gradient",
        severity="error",
        layer=None,
        step=0,
        confidence=0.97,
        summary=(
            "Every backward pass gives a gradient, and none of it is left when the optimiser steps: "
            "it is cleared in between. Put zero_grad() before backward(), or after step(), never between."
        ),
        evidence=(Evidence("cleared", 1.0, "=", 1.0),),
        rival="A path that is cut (detach): there the backward pass gives no gradient in the first place.",
        apart=BUT_REMADE,
    )


def _listed(nodes: list[Node]) -> str:
    return names(nodes) if len(nodes) <= 4 else f"{names(nodes[:3])} and {len(nodes) - 3} further layers"
