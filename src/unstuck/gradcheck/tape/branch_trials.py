"""Several ways back to one array that are forgotten together, as those of one term of a loss."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Place, Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import LAST, THIRD, Trial
from unstuck.gradcheck.tree import Array

MOST_WAYS = 5
MOST_STEPS = 2_000
Ways = dict[Place, list[Record]]
"""Place to the steps there that use an array."""


def of_branches(graph: Graph) -> Iterator[Trial]:
    """Some of the ways from one array to the output, forgotten or with the wrong sign, but not all."""
    if len(graph.records) > MOST_STEPS:
        return
    for name, ids in graph.tape.leaves.items():
        if ids.size:
            span = np.array([[int(ids.flat[0]), int(ids.flat[-1])]])
            yield from _of(graph, _ways(graph, span), span, frozenset({name}))
    for site in graph.sites.values():
        span = np.array([[record.first, record.first + record.value.size - 1] for record in site])
        tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
        numbers = set[int]().union(*(graph.users[record.number] for record in site))
        ways: Ways = {}
        for number in sorted(numbers):
            ways.setdefault(graph.records[number].place, []).append(graph.records[number])
        yield from _of(graph, ways, span, tensors)


def _ways(graph: Graph, span: Array) -> Ways:
    low, high = span[0]
    ways: Ways = {}
    for record in graph.records:
        if any(((edge.ids >= low) & (edge.ids <= high)).any() for edge in record.edges):
            ways.setdefault(record.place, []).append(record)
    return ways


def _of(graph: Graph, ways: Ways, span: Array, tensors: frozenset[str]) -> Iterator[Trial]:
    if not 1 < len(ways) <= MOST_WAYS:
        return
    for count in range(1, len(ways)):
        for chosen in itertools.combinations(ways, count):
            users = [record for place in chosen for record in ways[place]]
            line = graph.said(chosen[-1])
            # others are tried as operands of their step, but for those that are parts of an operand
            if count > 1 or len(users[0].edges) == 1 or not _wholly(users[0], span):
                overrides = dict.fromkeys((user.number for user in users), _times(span, 0.0))
                text = f"ways on which the gradient comes back are forgotten, the last of them here{line}"
                yield Trial("path-forgotten", text, overrides, THIRD, tensors)
            if count > 1:
                overrides = dict.fromkeys((user.number for user in users), _times(span, -1.0))
                text = f"the gradient has the wrong sign on some of its ways, the last of them here{line}"
                yield Trial("sign-flipped", text, overrides, LAST, tensors)


def _wholly(user: Record, span: Array) -> bool:
    """Whether no operand of a step has other entries beside some of these."""
    inside = [_inside(edge.ids, span) for edge in user.edges]
    return all(some.all() or not some.any() for some in inside)


def _inside(ids: Array, span: Array) -> Array:
    found = np.zeros(ids.shape, dtype=bool)
    for low, high in span:
        found |= (ids >= low) & (ids <= high)
    return found


def _times(span: Array, times: float) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for edge in record.edges:
            gradient = edge.pull(dy, None)
            passed.append((edge.ids, np.where(_inside(edge.ids, span), times * gradient, gradient)))
        return passed

    return override
