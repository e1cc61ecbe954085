"""Parts of one array that were given each other's gradients, as the gates of an LSTM in another order."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import THIRD, Trial, changed
from unstuck.gradcheck.tree import Array

MOST = 8
"""With more parts of one array it is no list of gates."""
MOST_STEPS = 2_000
COUNTS = (2, 3, 4)
"""Of parts: queries, keys and values, or the gates of an LSTM."""
ORDINALS = ("first", "second", "third", "fourth")
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


def of_blocks(graph: Graph) -> Iterator[Trial]:
    """Two of several equal parts of an array that are exchanged, each of which many steps may use."""
    for site in graph.sites.values():
        shape = site[0].value.shape
        if any(record.value.shape != shape for record in site) or len(graph.records) > MOST_STEPS:
            continue
        for axis, count in itertools.product(range(len(shape)), COUNTS):
            if shape[axis] % count or shape[axis] < count or not _apart(graph, site, axis, count):
                continue
            size = shape[axis] // count
            tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
            for one, two in itertools.combinations(range(count), 2):
                order = list(range(count))
                order[one], order[two] = two, one
                taken = np.concatenate([np.arange(k * size, (k + 1) * size) for k in order])
                change = _taking(taken, axis)
                text = f"of {count} parts the {ORDINALS[one]} and the {ORDINALS[two]} are exchanged"
                overrides = dict.fromkeys((record.number for record in site), change)
                line = graph.said(site[0].place)
                yield Trial("shifted", f"{text} going back{line}", overrides, THIRD, tensors)


def _taking(order: Array, axis: int) -> Override:
    return changed(lambda edge, dy: edge.pull(dy.take(order, axis=axis), None))


def _apart(graph: Graph, site: list[Record], axis: int, count: int) -> bool:
    """Whether every step that uses the arrays takes its entries from one part of them."""
    used: set[int] = set()
    for record in site:
        size = record.value.shape[axis] // count
        for number in graph.users[record.number]:
            for edge in graph.records[number].edges:
                ids = edge.ids[record.holds(edge.ids)]
                if ids.size:
                    places = np.unravel_index(ids - record.first, record.value.shape)[axis] // size
                    if places.min() != places.max():
                        return False
                    used.add(int(places.flat[0]))
    return len(used) == count


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
