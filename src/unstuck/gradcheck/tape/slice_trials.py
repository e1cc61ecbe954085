"""Parts of one array that were given each other's gradients, as the gates of an LSTM in another order."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import THIRD, Trial
from unstuck.gradcheck.tree import Array

MOST = 8
"""With more parts of one array it is no list of gates."""
Part = tuple[list[Record], int]
"""The steps of one place, and the slot of the operand that is a part of an array."""


def of_slices(graph: Graph) -> Iterator[Trial]:
    """Two parts of one array, of one shape, that are exchanged on the way back."""
    for parts in _parts(graph).values():
        if not 1 < len(parts) <= MOST:
            continue
        for one, two in itertools.combinations(parts, 2):
            pairs = list(zip(_ids(one), _ids(two), strict=True))
            if any(np.intersect1d(a, b).size for a, b in pairs):
                continue
            overrides: dict[int, Override] = {}
            for (records, slot), others in ((one, [b for _, b in pairs]), (two, [a for a, _ in pairs])):
                for record, ids in zip(records, others, strict=True):
                    overrides[record.number] = _to(slot, ids)
            if len(overrides) < 2 * len(pairs):
                continue  # both are operands of one step
            first, second = (graph.said(records[0].place) for records, _ in (one, two))
            text = (
                f"two parts of an array stand in another order going back: that of{first} and that of{second}"
            )
            tensors = frozenset[str]().union(*(graph.tensors[number] for number in overrides))
            yield Trial("shifted", text, overrides, THIRD, tensors)


def _parts(graph: Graph) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[Part]]:
    """Operands that are parts of what one step made, by that step (one a turn of a loop) and their shape."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Part]] = {}
    for site in graph.sites.values():
        for slot in range(2):
            edges = [edge for record in site for edge in record.edges if edge.slot == slot]
            if len(edges) < len(site) or any(not edge.once or edge.ids.size < 2 for edge in edges):
                continue
            makers = [np.unique(graph.maker[edge.ids]) for edge in edges]
            if any(maker.size != 1 or maker[0] < 0 for maker in makers):
                continue
            numbers = tuple(int(maker[0]) for maker in makers)
            if any(
                2 * edge.ids.size > graph.records[n].value.size or edge.ids.shape != edges[0].ids.shape
                for edge, n in zip(edges, numbers, strict=True)
            ):
                continue
            found.setdefault((numbers, edges[0].ids.shape), []).append((site, slot))
    return found


def _ids(part: Part) -> list[Array]:
    records, slot = part
    return [edge.ids for record in records for edge in record.edges if edge.slot == slot]


def _to(slot: int, ids: Array) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        return [(ids if edge.slot == slot else edge.ids, edge.pull(dy, None)) for edge in record.edges]

    return override
