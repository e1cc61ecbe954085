"""Arrays whose axes are exchanged before they are used, as for heads, and not exchanged back going back."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import SECOND, THIRD, Trial
from unstuck.gradcheck.tree import Array

FEWEST_AXES = 3
"""Of fewer axes it is a matrix that is transposed."""
Spot = tuple[Record, Edge, bool]
"""A step, its operand, and whether its last two axes are exchanged for a product."""


def of_orders(graph: Graph) -> Iterator[Trial]:
    """Gradients that are reshaped to what an array was before its axes were exchanged."""
    alike: dict[tuple[int, ...], list[Spot]] = {}
    for record in graph.records:
        for edge in record.edges:
            found = _exchanged(edge)
            if found is not None:
                alike.setdefault(found[0], []).append((record, edge, found[1]))
    for spots in alike.values():
        if len(spots) > 1:
            yield _reshaped(graph, spots, f", for {len(spots)} arrays alike", THIRD)
        for spot in spots:
            yield _reshaped(graph, [spot], "", SECOND)


def _exchanged(edge: Edge) -> tuple[tuple[int, ...], bool] | None:
    """What tells how the axes were exchanged; None: they were not, or it is no whole array."""
    ids = edge.ids
    if ids.ndim < FEWEST_AXES or not edge.once or int(ids.min()) == 0:
        return None
    low = int(ids.min())
    if int(ids.max()) - low != ids.size - 1:
        return None
    turned = ids.shape[-1] > 1 and ids.shape[-2] > 1 and _step(ids, -1) > _step(ids, -2)
    laid = ids.swapaxes(-1, -2) if turned else ids
    if np.array_equal(laid.reshape(-1), np.arange(low, low + ids.size)):
        return None
    return (*laid.shape, *(_step(laid, axis) for axis in range(laid.ndim))), turned


def _step(ids: Array, axis: int) -> int:
    """How far entries that are next to each other lie apart."""
    first = ids.take(0, axis=axis).flat[0]
    return int(ids.take(1, axis=axis).flat[0] - first) if ids.shape[axis] > 1 else 0


def _reshaped(graph: Graph, spots: list[Spot], where: str, rank: int) -> Trial:
    text = "the gradient is reshaped without its axes being exchanged back"
    turned: dict[int, dict[int, bool]] = {}
    for record, edge, swapped in spots:
        turned.setdefault(record.number, {})[edge.slot] = swapped
    overrides = {number: _override(slots) for number, slots in turned.items()}
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record, _, _ in spots))
    return Trial("shifted", f"{text}{where}{graph.said(spots[0][0].place)}", overrides, rank, tensors)


def _override(slots: dict[int, bool]) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for edge in record.edges:
            gradient = edge.pull(dy, None)
            if edge.slot not in slots:
                passed.append((edge.ids, gradient))
                continue
            laid = gradient.swapaxes(-1, -2) if slots[edge.slot] else gradient
            passed.append((np.sort(edge.ids, axis=None), laid.reshape(-1)))
        return passed

    return override
