"""Typical mistakes with a parameter as a whole: transposed, or a kernel the wrong way round."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.rules import PARTIALS
from unstuck.gradcheck.tape.trial import FIRST, Trial
from unstuck.gradcheck.tree import Array


def moved_tensor(graph: Graph, name: str, value: Array) -> tuple[dict[int, Override], frozenset[str]]:
    """Gradients that pass through a tensor as if it had another value."""
    own = graph.tape.leaves[name]
    base, flat = int(own.flat[0]), value.reshape(-1)
    overrides: dict[int, Override] = {}
    tensors: set[str] = set()

    def override(record: Record, dy: Array) -> Passed:
        passed: Passed = []
        for number, edge in enumerate(record.edges):
            other = record.edges[1 - number]
            if graph.tape.owner(other.ids) == name:
                passed.append((edge.ids, edge.pull(dy, flat[other.ids - base])))
            else:
                passed.append((edge.ids, edge.pull(dy, None)))
        return passed

    for record in graph.records:
        if len(record.edges) == 2 and name in graph.owners(record) and record.name in {"product", *PARTIALS}:
            overrides[record.number] = override
            tensors |= graph.tensors[record.number] - {name}
    return overrides, frozenset(tensors)


def of_tensors(graph: Graph, inputs: set[str]) -> Iterator[tuple[str, Trial]]:
    """Parameters that are used with their axes exchanged, or the wrong way round, going back.

    Args:
        graph: the forward pass.
        inputs: tensors that are no parameters.

    Yields:
        The parameter's name, and what is tried.
    """
    for name, ids in graph.tape.leaves.items():
        if name in inputs or ids.ndim < 2:
            continue
        value = np.zeros(graph.tape.count)
        for record in graph.records:
            for edge in record.edges:
                if graph.tape.owner(edge.ids) == name:
                    value[edge.ids] = edge.value
        for kind, text, moved in _moves(name, value[ids]):
            overrides, tensors = moved_tensor(graph, name, moved)
            if overrides:
                yield name, Trial(kind, text, overrides, FIRST, tensors)


def _moves(name: str, value: Array) -> Iterator[tuple[str, str, Array]]:
    shape = value.shape
    for a, b in itertools.combinations(range(value.ndim), 2):
        if shape[a] != shape[b] or shape[a] < 2:
            continue
        if value.ndim == 2 or (value.ndim == 3 and a == 1):
            yield (
                "transposed",
                f"{name} is transposed where the gradient is passed on through it",
                value.swapaxes(a, b),
            )
        else:
            text = f"input and output channels of {name} are exchanged where the gradient is passed on"
            kind = "channels-swapped" if (a, b) in {(0, 1), (2, 3)} else "transposed"
            yield kind, text, value.swapaxes(a, b)
    if value.ndim == 2 and min(shape) > 1:
        text = f"{name} is reshaped, not transposed, where the gradient is passed on through it"
        yield "transposed", text, value.reshape(shape[::-1]).T
    sets = [(0, 1)]
    if value.ndim > 2:
        sets = [(2, 3), (0, 1), (1, 2)] if value.ndim == 4 else [(2,), (0,), (1, 2), (0, 1)]
    for axes in sets:
        if all(shape[axis] > 1 for axis in axes):
            text = (
                f"the kernel {name} is the wrong way round (flipped, or not) where the gradient is passed on"
            )
            yield "kernel-not-flipped", text, np.flip(value, axes)
