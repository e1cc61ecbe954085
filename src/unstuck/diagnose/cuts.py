"""Where a program cuts the way from the loss back to what should be trained."""

import math
from typing import Final

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.fresh import fresh
from unstuck.diagnose.measured import BUT_REMADE, names
from unstuck.diagnose.outcome import Outcome
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


def features(trace: Recording, ended: Outcome) -> Finding | None:
    """All that stands before the first trained layer is called, is to be trained, and never gets a gradient.

    That layer seems to read the network's input, since a cut tensor forgets where it came from; but it takes
    as many numbers as come out of the others, and the input has not as many. Where it learns all the same,
    the others must be as they were drawn: trained features may be left as they are on purpose.

    Args:
        trace: what was measured.
        ended: its outcome.
    """
    nodes = [node for node in trace.structure.nodes if node.parameters]
    lost = [node for node in nodes if not node.connected and node.trainable and node.optimised]
    first = next((node for node in nodes if node.connected), None)
    before = lost if first is None else [node for node in lost if nodes.index(node) < nodes.index(first)]
    if first is None or len(before) < len(lost) or not first.fan_in or not before:
        return None
    wide = trace.structure.input_shape
    if not wide or first.fan_in in {wide[-1], math.prod(wide)}:
        return None
    if first.fan_in not in {
        size for node in before if node.shape for size in (node.shape[-1], math.prod(node.shape))
    }:
        return None
    if not all(_without_gradient(trace, node) for node in before):
        return None
    if ended.word not in {"learned", "not learned"} or (ended.word == "learned" and not fresh(trace, before)):
        return None
    last = before[-1]
    return Finding(
        code="GRD003",
        name="no-gradient",
        severity="warning" if ended.word == "learned" else "error",
        layer=last.name,
        step=0,
        confidence=0.9,
        summary=(
            f"No gradient ever reached {_listed(before)}, though the optimiser holds "
            f"{'it' if len(before) == 1 else 'them'}, and what comes out of there is what {first.name} "
            f"reads: only what follows is trained. The way back is cut between {last.name} and {first.name}: "
            f"{LOOK_FOR}."
        ),
        evidence=(
            Evidence("grad_norm", None, layer=last.name),
            Evidence("calls", trace.last("calls", last.name), ">", 0.0, last.name),
        ),
        rival="LRN006 frozen-parameters: those were told not to ask for a gradient; these ask for one.",
        location=last.location,
        apart=BUT_REMADE,
    )


def _without_gradient(trace: Recording, node: Node) -> bool:
    """Called in every step that was measured, and without a gradient for any of its weights."""
    calls = trace.series("calls", node.name).values
    rows = [row for row in trace.layers("grad_norm") if row == node.name or row.startswith(f"{node.name}.")]
    none = all(
        not trace.series("grad_norm", row).values.size and trace.is_null("grad_norm", row) for row in rows
    )
    return bool(rows) and none and calls.size >= _SEEN and bool((calls > 0).all())


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
