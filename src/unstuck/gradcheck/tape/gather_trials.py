"""Entries that were repeated or put together, and get another gradient going back than they should."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import GATHERED, JOINED, Record
from unstuck.gradcheck.tape.reverse import Override
from unstuck.gradcheck.tape.trial import SECOND, THIRD, Trial, changed
from unstuck.gradcheck.tree import Array

MOST_PARTS = 6
Weigh = Callable[[Array], Array]
"""Numbers of entries to what the gradient of each of them is multiplied with."""


def of_gathers(graph: Graph) -> Iterator[Trial]:
    """Copies of which one counts, or whose mean is taken; parts that are exchanged or left out."""
    for place, site in graph.sites.items():
        if place.step.startswith(GATHERED):
            yield from _repeated(graph, site)
        elif place.step.startswith(JOINED):
            yield from _joined(graph, site)


def _repeated(graph: Graph, site: list[Record]) -> Iterator[Trial]:
    line = graph.said(site[0].place)
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
    of_table = all(graph.tape.owner(record.edges[0].ids) for record in site)
    assigned = "overwritten" if of_table else "not-summed"
    ways: list[tuple[str, str, Weigh]] = [
        (assigned, "of entries that are taken several times only the last use counts", _one_of(last=True)),
        ("not-summed", "of entries that are repeated only the first copy counts", _one_of(last=False)),
        (
            "mean-instead-of-sum",
            "the gradient of entries that are repeated is a mean over the copies",
            _share,
        ),
    ]
    chain = _chain(graph, site)
    for kind, text, weigh in ways:
        for some in (site, chain) if len(chain) > len(site) else (site,):
            overrides = {record.number: _weighed(weigh(record.edges[0].ids)) for record in some}
            yield Trial(kind, text + line, overrides, SECOND, tensors)


def _chain(graph: Graph, site: list[Record]) -> list[Record]:
    """With what these were repeated of, where that had been repeated before, as along another axis."""
    found, front = list(site), list(site)
    while front:
        makers = [np.unique(graph.maker[record.edges[0].ids]) for record in front]
        before = [graph.records[int(maker[0])] for maker in makers if maker.size == 1 and maker[0] >= 0]
        front = [record for record in before if record.place.step.startswith(GATHERED)]
        found += [record for record in front if record not in found]
    return found


def _weighed(weights: Array) -> Override:
    return changed(lambda _, dy: dy * weights)


def _one_of(*, last: bool) -> Weigh:
    def weigh(ids: Array) -> Array:
        flat = ids.reshape(-1)
        order = flat[::-1] if last else flat
        firsts = np.unique(order, return_index=True)[1]
        kept = np.zeros(flat.size)
        kept[flat.size - 1 - firsts if last else firsts] = 1.0
        return kept.reshape(ids.shape)

    return weigh


def _share(ids: Array) -> Array:
    _, at, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return 1.0 / counts[at].reshape(ids.shape)


def _joined(graph: Graph, site: list[Record]) -> Iterator[Trial]:
    line = graph.said(site[0].place)
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
    shape = site[0].value.shape
    if any(record.value.shape != shape for record in site):
        return
    for axis in range(len(shape)):
        bounds = _bounds(graph, site[0], axis)
        if not 1 < len(bounds) <= MOST_PARTS:
            continue
        for one, two in itertools.combinations(bounds, 2):
            order = np.arange(shape[axis])
            if one[1] - one[0] == two[1] - two[0]:
                order[slice(*one)], order[slice(*two)] = np.arange(*two), np.arange(*one)
                text = "two parts that are put together get each other's gradient"
                overrides = dict.fromkeys((r.number for r in site), _taken(order, axis))
                yield Trial("shifted", text + line, overrides, THIRD, tensors)
        for start, stop in bounds:
            weights = np.ones(shape[axis])
            weights[start:stop] = 0.0
            wide = weights.reshape([-1 if k == axis else 1 for k in range(len(shape))])
            text = "one of the parts that are put together gets no gradient from there"
            overrides = dict.fromkeys((r.number for r in site), _weighed(wide))
            yield Trial("path-forgotten", text + line, overrides, THIRD, tensors)


def _taken(order: Array, axis: int) -> Override:
    return changed(lambda _, dy: dy.take(order, axis=axis))


def _bounds(graph: Graph, record: Record, axis: int) -> list[tuple[int, int]]:
    """Where along an axis the parts begin and end; nothing where they are not put together along it."""
    ids = np.moveaxis(record.edges[0].ids, axis, 0).reshape(record.value.shape[axis], -1)
    owners = [graph.tape.owner(row) or tuple(np.unique(graph.maker[row]).tolist()) for row in ids]
    found: list[tuple[int, int]] = []
    for _, group in itertools.groupby(range(len(owners)), key=lambda k: owners[k]):
        rows = list(group)
        found.append((rows[0], rows[-1] + 1))
    return found
