"""Where a network's output meets its loss: the operations in between and the numbers that pass."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.measured import by_step
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import Node

_SAME_NUMBERS: Final = frozenset(
    {
        "alias",
        "clone",
        "contiguous",
        "expand",
        "flatten",
        "gather",
        "identity",
        "index",
        "indexselect",
        "maskedselect",
        "movedim",
        "narrow",
        "permute",
        "reshape",
        "reshapealias",
        "select",
        "slice",
        "split",
        "squeeze",
        "t",
        "take",
        "tocopy",
        "transpose",
        "unflatten",
        "unsafeview",
        "unsqueeze",
        "view",
    }
)
"""Operations that move or choose numbers without changing them."""


def loss_name(trace: Recording) -> str:
    """Class name of the loss, '' when it is not known."""
    return trace.structure.loss or trace.meta.loss or ""


_JOINS: Final = frozenset({"cat", "stack"})
"""Operations that put several outputs side by side."""


def into_loss(trace: Recording) -> Node | None:
    """The operation whose numbers the loss receives, seen through views and the like; None when unknown.

    The engine's networks are chains, whose last operation feeds the loss.
    """
    facts, nodes = trace.structure.loss_facts, trace.structure.nodes
    node: Node | None = None
    if facts is not None and facts.input:
        node = trace.structure.node(facts.input)
    elif trace.meta.kind == "engine" and nodes:
        node = nodes[-1]
    for _ in nodes:  # an operation that is done very often stands before itself
        if node is None:
            break
        joins = node.type in _JOINS
        if not joins and not (keeps_numbers(node) and len(node.inputs) == 1):
            break
        before = [trace.structure.node(name) for name in node.inputs]
        known = [one for one in before if one is not None]
        # steps through time, put side by side, are of one kind
        if not known or len(known) < len(before) or len({one.type for one in known}) > 1:
            break
        node = known[0]
    return node


def keeps_numbers(node: Node) -> bool:
    """Whether an operation only moves or chooses numbers."""
    return node.type.lower().replace("_", "").rstrip("0123456789") in _SAME_NUMBERS


def classes(trace: Recording) -> int:
    """Number of scores of one sample that enter the loss; 0 when unknown."""
    facts = trace.structure.loss_facts
    if facts is not None and len(facts.input_shape) > 1:
        return facts.input_shape[1]
    node = into_loss(trace)
    if node is not None and node.shape:
        return node.shape[0]
    return trace.meta.n_classes or 0


def extreme(trace: Recording, quantity: str, layer: str = "") -> tuple[float, float]:
    """Smallest and largest finite value over the measured steps; NaN when there is none."""
    finite = [value for value in trace.series(quantity, layer).values.tolist() if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (math.nan, math.nan)


def total_gradient(trace: Recording, *, held_only: bool = False) -> Series:
    """Norm of the gradient of all parameters together, at the steps at which it was measured.

    Args:
        trace: what was measured.
        held_only: without layers that no optimiser holds.
    """
    lacked = {node.name for node in trace.structure.nodes if held_only and node.optimised is False}
    layers = [name for name in trace.layers("grad_norm") if name.removesuffix(".bias") not in lacked]
    if not layers:
        return Series(np.zeros(0, dtype=np.int64), np.zeros(0))
    steps, table = by_step([trace.series("grad_norm", layer) for layer in layers], 0.0)
    return Series(steps, np.sqrt((table**2).sum(axis=0)))
