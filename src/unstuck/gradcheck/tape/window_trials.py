"""Poolings that choose by comparing, as `if a > best` or `argmax` do: no step of arithmetic tells of them."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import FIRST, Trial
from unstuck.gradcheck.tree import Array

LARGEST = 64
"""Entries in a window."""


def of_windows(graph: Graph) -> Iterator[Trial]:
    """The gradient of the entry that was chosen, given to the first that it was compared with, or to all."""
    windows = _windows(graph)
    if not windows or len({len(window) for window in windows}) > 1:
        return
    used = np.zeros(graph.tape.count, dtype=bool)
    for record in graph.records:
        for edge in record.edges:
            used[edge.ids] = True
    chosen = [[entry for entry in window if used[entry]] for window in windows]
    if any(len(found) != 1 for found in chosen):
        return
    taken = np.array([found[0] for found in chosen])
    members = np.array(windows)
    to_first = np.arange(graph.tape.count)
    to_first[taken] = members[:, 0]
    others: list[Array] = []
    for place in range(members.shape[1]):
        other = np.zeros(graph.tape.count, dtype=np.int64)
        other[taken] = np.where(members[:, place] == taken, 0, members[:, place])
        others.append(other)
    is_taken = np.zeros(graph.tape.count, dtype=bool)
    is_taken[taken] = True
    users = [r for r in graph.records if any(is_taken[edge.ids].any() for edge in r.edges)]
    if not users:
        return
    line = graph.said(users[0].place)
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in users))
    for kind, text, override in (
        (
            "pooling-to-first",
            "the gradient of the largest goes to the first that it was compared with",
            _moved(to_first),
        ),
        (
            "pooling-to-all",
            "the gradient of the largest goes to all that it was compared with",
            _spread(others),
        ),
    ):
        yield Trial(kind, text + line, {record.number: override for record in users}, FIRST, tensors)


def _windows(graph: Graph) -> list[list[int]]:
    """Entries that were compared with each other, in the order in which they were made."""
    root: dict[int, int] = {}

    def find(entry: int) -> int:
        while root.setdefault(entry, entry) != entry:
            root[entry] = root[root[entry]]
            entry = root[entry]
        return entry

    for one, two in graph.tape.compared:
        for a, b in zip(one.tolist(), two.tolist(), strict=True):
            root[find(a)] = find(b)
    groups: dict[int, list[int]] = {}
    for entry in root:
        groups.setdefault(find(entry), []).append(entry)
    windows = [sorted(group) for group in groups.values() if len(group) > 1]
    return [] if any(len(window) > LARGEST for window in windows) else windows


def _moved(to: Array) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        return [(to[edge.ids], edge.pull(dy, None)) for edge in record.edges]

    return override


def _spread(others: list[Array]) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for edge in record.edges:
            gradient = edge.pull(dy, None)
            passed.append((edge.ids, gradient))
            passed += [(other[edge.ids], gradient) for other in others]
        return passed

    return override
