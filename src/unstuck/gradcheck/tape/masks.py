"""Masks that a forward pass multiplies with: those of dropout, and those that say what counts."""

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge, Record

CONSTANT = 3
"""With more values it is no mask."""
SCALING = {"multiply", "divide"}


def named_mask(graph: Graph, record: Record | None, how: str) -> tuple[str, str]:
    """Kind and text where a mask is left out going back.

    Args:
        graph: the forward pass.
        record: the step that multiplies with the mask.
        how: what is not done with it, such as "used".
    """
    if record is None or _drops(graph, record):
        return "dropout-mask-not-reused", f"the mask of the forward pass is not {how}"
    return "operand-forgotten", f"a mask that says what counts in the forward pass is not {how} going back"


def _drops(graph: Graph, record: Record) -> bool:
    """Whether a mask is that of dropout: drawn by the forward pass, or scaled for what it leaves out."""
    if graph.made.drawn:
        return True
    for edge in record.edges:
        values = np.unique(edge.pull(np.ones(record.value.shape), None))
        if values.size >= CONSTANT or not np.array_equal(values[-1:], [1.0]):
            return True
        if _is_scaled(graph, edge, record):
            return True
    return False


def _is_scaled(graph: Graph, edge: Edge, record: Record) -> bool:
    """Whether a constant number is multiplied in just before, or just after."""
    before = graph.single_maker(edge.ids)
    after = [graph.records[number] for number in graph.users[record.number]]
    for step in (*([before] if before is not None else []), *(after if len(after) == 1 else [])):
        if step.name in SCALING and len(step.edges) == 1:
            share = np.unique(step.edges[0].pull(np.ones(step.value.shape), None))
            if share.size == 1 and step.edges[0].value.shape == step.value.shape:
                return True
    return False
