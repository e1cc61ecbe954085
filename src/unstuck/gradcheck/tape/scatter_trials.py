"""Windows added up where they overlap, as in a transposed convolution, and read elsewhere going back."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.geometry_trials import elsewhere
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import SECOND, Trial
from unstuck.gradcheck.tape.window_grid import grid_in
from unstuck.gradcheck.tree import Array

LONGEST = 10_000
NAMES = {"product", "multiply"}


def of_scatters(graph: Graph) -> Iterator[Trial]:
    """Products whose results are added to an array at places that overlap, or of which parts are cut off."""
    following = _following(graph)
    if following is None:
        return
    for site in graph.sites.values():
        if site[0].name not in NAMES or len({record.value.shape for record in site}) > 1:
            continue
        sums = _ends(following, np.stack([record.ids for record in site]))
        if sums is None:
            continue
        whole = _holder(graph, sums, after=site[-1].number)
        if whole is None:
            continue
        position = np.zeros(graph.tape.count, dtype=np.int64)
        position[whole.reshape(-1)] = np.arange(1, whole.size + 1)
        position[0] = 0
        grid = grid_in(1, whole.shape, position[sums])
        if grid is None:
            continue
        entries = np.concatenate([[0], whole.reshape(-1)])
        line = graph.said(site[0].place)
        tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
        for kind, text, places in elsewhere(grid):
            read = entries[grid.numbers(places)].reshape(sums.shape)
            for slots in ({0}, {1}, {0, 1}):
                overrides = {
                    record.number: _reading(graph, slots, row) for record, row in zip(site, read, strict=True)
                }
                yield Trial(kind, text + line, overrides, SECOND, tensors)


def _following(graph: Graph) -> Array | None:
    """Entry to the sum that it is added to; 0: to none, or to several."""
    following = np.zeros(graph.tape.count, dtype=np.int64)
    uses = np.zeros(graph.tape.count, dtype=np.int64)
    for record in graph.records:
        for edge in record.edges:
            if edge.once:
                uses[edge.ids] += 1
            else:
                np.add.at(uses, edge.ids, 1)
            if record.name == "add" and edge.ids.shape == record.value.shape and edge.once:
                following[edge.ids] = record.ids
    following[uses > 1] = 0
    following[0] = 0
    return following if following.any() else None


def _ends(following: Array, ids: Array) -> Array | None:
    """The last sums that entries are added to; None: there are none."""
    if not following[ids].any():
        return None
    for _ in range(LONGEST):
        later = following[ids]
        if not later.any():
            return ids
        ids = np.where(later > 0, later, ids)
    return None


def _holder(graph: Graph, sums: Array, after: int) -> Array | None:
    """The first array, beside the sums themselves, that holds them: numbers of its entries."""
    wanted = np.zeros(graph.tape.count, dtype=bool)
    wanted[sums] = True
    operands = [edge.ids for record in graph.records[after + 1 :] for edge in record.edges]
    for ids in (*operands, graph.made.ids):
        if ids.size > sums[0].size and wanted[ids].all() and np.unique(ids).size == ids.size:
            return ids
    return None


def _reading(graph: Graph, slots: set[int], ids: Array) -> Override:
    """As if the gradient by what a step made stood at other entries."""

    def override(record: Record, dy: Array) -> Passed:
        other = np.where(ids > 0, graph.tape.gradients[ids], 0.0)
        return [(edge.ids, edge.pull(other if edge.slot in slots else dy, None)) for edge in record.edges]

    return override
