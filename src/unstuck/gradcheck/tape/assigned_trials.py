"""An engine that sets gradients instead of adding them up: of several uses of an array one alone counts."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import LAST, Trial
from unstuck.gradcheck.tree import Array

MOST_STEPS = 2_000
SLOTS = 4
"""No step has more operands."""


def of_assigned(graph: Graph) -> Iterator[Trial]:
    """The gradient that comes last, or the one that comes first, stands alone wherever there are several."""
    if len(graph.records) > MOST_STEPS:
        return
    needed = _needed(graph)
    for last in (True, False):
        counts = np.full(graph.tape.count, -1, dtype=np.int64)
        """Entry to the use of it that counts."""
        for record in reversed(graph.records) if last else graph.records:
            if needed[record.number]:
                for edge in record.edges if last else reversed(record.edges):
                    counts[edge.ids] = record.number * SLOTS + edge.slot
        counts[0] = -1
        lost = [record for record in graph.records if needed[record.number] and _loses(record, counts)]
        if len(lost) < 2:
            continue  # one use that is lost is tried elsewhere
        which = "last" if last else "first"
        text = (
            f"where something is used several times, its gradients are not added up: the {which} one stands"
        )
        tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in lost))
        yield Trial("overwritten", text, {r.number: _alone(counts) for r in lost}, LAST, tensors)


def _needed(graph: Graph) -> Array:
    """Which steps the output depends on."""
    needed = np.zeros(len(graph.records), dtype=bool)
    reached = np.zeros(graph.tape.count, dtype=bool)
    reached[graph.made.ids] = True
    reached[0] = False
    for record in reversed(graph.records):
        if reached[record.first : record.first + record.value.size].any():
            needed[record.number] = True
            for edge in record.edges:
                reached[edge.ids] = True
            reached[0] = False
    return needed


def _loses(record: Record, counts: Array) -> bool:
    uses = [(edge.ids[edge.ids > 0], record.number * SLOTS + edge.slot) for edge in record.edges]
    return any((counts[ids] != use).any() for ids, use in uses)


def _alone(counts: Array) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        return [
            (
                edge.ids,
                np.where(counts[edge.ids] == record.number * SLOTS + edge.slot, edge.pull(dy, None), 0.0),
            )
            for edge in record.edges
        ]

    return override
